//! How is a proxy gone through? As the gorilla library does it.

use std::{io, net::IpAddr};

use data_encoding::BASE64;
use httparse::{EMPTY_HEADER, Response, Status};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    WsUrl,
    door::HEAD_MAX,
    proxy::{Kind, Proxy},
};
use crate::backend::tcp::connected;

/// Headers that a proxy's answer may have.
const HEADERS_MAX: usize = 64;
/// Letters of its reason that are told.
const REASON_MAX: usize = 100;

impl Proxy {
    /// A connection to where `url` leads.
    pub(super) async fn connect(&self, url: &WsUrl) -> io::Result<TcpStream> {
        if let Kind::Unknown(scheme) = &self.kind {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("proxies of the kind `{scheme}` are not known: name one of http or socks5"),
            ));
        }
        let mut stream = connected(&self.address).await?;
        self.go_through(&mut stream, url).await?;
        Ok(stream)
    }

    /// Asks the proxy at the other end of `stream` for a way to `url`. What comes on it next is said by whoever is there.
    pub(crate) async fn go_through<S>(&self, stream: &mut S, url: &WsUrl) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match &self.kind {
            Kind::Http => self.ask_http(stream, &url.host_and_port()).await,
            Kind::Socks5 => self.ask_socks(stream, url).await,
            Kind::Unknown(_) => Err(invalid("nobody knows how to ask it".to_owned())),
        }
    }

    async fn ask_http<S>(&self, stream: &mut S, to: &str) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
        if let Some((name, password)) = &self.user {
            let user = BASE64.encode(&[&name[..], b":", password].concat());
            request.push_str(&format!("Proxy-Authorization: Basic {user}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(1024);
        loop {
            let room = HEAD_MAX.saturating_sub(answer.len()) as u64;
            if (&mut *stream).take(room).read_buf(&mut answer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it gave no whole answer"));
            }
            let mut headers = [EMPTY_HEADER; HEADERS_MAX];
            let mut parsed = Response::new(&mut headers);
            match parsed
                .parse(&answer)
                .map_err(|error| invalid(format!("it gave no HTTP answer: {error}")))?
            {
                Status::Partial => {}
                Status::Complete(_) if parsed.code != Some(200) => {
                    let code = parsed.code.unwrap_or_default();
                    let reason = plain(parsed.reason.unwrap_or_default());
                    return Err(invalid(format!("it does not connect to {to}: {code} {reason}")));
                }
                // The neighbour waits for us to speak first.
                Status::Complete(head) if head < answer.len() => {
                    return Err(invalid("it said more than its answer".to_owned()));
                }
                Status::Complete(_) => return Ok(()),
            }
        }
    }

    /// Source: RFC 1928 and RFC 1929. The proxy looks the name up.
    async fn ask_socks<S>(&self, stream: &mut S, url: &WsUrl) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let methods: &[u8] = if self.user.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
        stream.write_all(methods).await?;
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen).await?;
        match (chosen, &self.user) {
            ([5, 0], _) => {}
            ([5, 2], Some((name, password))) => {
                let (name, password) = (with_length(name)?, with_length(password)?);
                stream.write_all(&[&[1][..], &name, &password].concat()).await?;
                let mut answer = [0; 2];
                stream.read_exact(&mut answer).await?;
                if answer[1] != 0 {
                    return Err(invalid("it does not accept the name and password".to_owned()));
                }
            }
            _ => return Err(invalid("it is no SOCKS5 proxy that lets us in".to_owned())),
        }
        let target = match url.host().parse() {
            Ok(IpAddr::V4(address)) => [&[1][..], &address.octets()].concat(),
            Ok(IpAddr::V6(address)) => [&[4][..], &address.octets()].concat(),
            Err(_) => [&[3][..], &with_length(url.host().as_bytes())?].concat(),
        };
        stream.write_all(&[&[5, 1, 0][..], &target, &url.port().to_be_bytes()].concat()).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        if answer[1] != 0 {
            return Err(invalid(format!(
                "it does not connect to {}: code {}",
                url.host_and_port(),
                answer[1]
            )));
        }
        // Where it has connected from is not of interest.
        let len = match answer[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(stream.read_u8().await?),
            other => return Err(invalid(format!("it answers with an address of the unknown kind {other}"))),
        };
        stream.read_exact(&mut vec![0; len + 2]).await?;
        Ok(())
    }
}

/// As much of a proxy's words as a line of a log bears.
fn plain(text: &str) -> String {
    let visible = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().take(REASON_MAX).map(visible).collect()
}

fn with_length(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let len = u8::try_from(bytes.len()).map_err(|_| invalid("a name of more than 255 letters".to_owned()))?;
    Ok([&[len][..], bytes].concat())
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxys_words_neither_fill_a_log_nor_break_its_lines() {
        assert_eq!(plain("407 Proxy\tAuthentication"), "407 Proxy Authentication");
        assert_eq!(plain(&"x".repeat(10_000)).len(), REASON_MAX);
    }
}
