//! Calls over WebSocket: through a proxy where there is one, under TLS where it is asked for, then the request.

use std::{io, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{
        Error,
        handshake::client::{Request, generate_key},
        http::{HeaderName, HeaderValue, header},
    },
};

use super::{
    Proxies, WsUrl,
    messages::{config, in_words},
    transport,
};
use crate::{
    backend::{BoxFuture, Dialer, Transport, answered_within, tcp::CONNECT_LIMIT, tls::Proof},
    tls::{ClientProfile, connector},
};

/// Calls a neighbour over WebSocket.
#[derive(Clone, Debug)]
pub struct WsDial {
    url: WsUrl,
    profile: Option<Arc<ClientProfile>>,
    extra: Option<ExtraHeader>,
    proxies: Proxies,
}

impl WsDial {
    /// Will call `url`, of the kind `ws`; the host is resolved anew at each call.
    pub fn new(url: WsUrl) -> WsDial {
        WsDial { url, profile: None, extra: None, proxies: Proxies::default() }
    }

    /// Will call `url`, of the kind `wss`; the other end's certificate must be for its host.
    pub fn with_tls(url: WsUrl, profile: Arc<ClientProfile>) -> WsDial {
        WsDial { profile: Some(profile), ..WsDial::new(url) }
    }

    /// Sends one more header.
    pub fn extra_header(self, extra: ExtraHeader) -> WsDial {
        WsDial { extra: Some(extra), ..self }
    }

    /// Goes through whichever of `proxies` is for its address.
    pub fn through(self, proxies: Proxies) -> WsDial {
        WsDial { proxies, ..self }
    }

    async fn connect(&self) -> io::Result<Transport> {
        let address = self.url.host_and_port();
        let call = match (&self.profile, self.url.is_tls()) {
            (Some(profile), true) => Some((profile, connector(profile.clone(), &address).await?)),
            (None, false) => None,
            (Some(_), false) => return Err(mismatch("a TLS profile is for wss, and this is ws")),
            (None, true) => return Err(mismatch("wss needs a TLS profile")),
        };
        let stream = self.proxies.connect(&self.url).await?;
        let Some((profile, call)) = call else {
            return self.upgrade(stream, Proof::none()).await;
        };
        let (stream, certificate) = call.connect(stream).await.map_err(io::Error::other)?;
        self.upgrade(stream, Proof::calling(profile.settings(), certificate)).await
    }

    async fn upgrade<S>(&self, stream: S, proof: Proof) -> io::Result<Transport>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let request = self.request().map_err(io::Error::other)?;
        match client_async_with_config(request, stream, Some(config())).await {
            Ok((socket, _)) => Ok(transport(socket, self.url.to_string(), true, proof)),
            Err(Error::Http(answer)) => {
                let hint = if answer.status() == 404 { ": is the path right?" } else { "" };
                Err(io::Error::other(format!(
                    "{} answered {} and speaks no WebSocket there{hint}",
                    self.url,
                    answer.status()
                )))
            }
            Err(error) => Err(in_words(error)),
        }
    }

    fn request(&self) -> Result<Request, tokio_tungstenite::tungstenite::http::Error> {
        let authority = self.url.authority();
        let scheme = if self.url.is_tls() { "https" } else { "http" };
        let mut request = Request::builder()
            .uri(self.url.uri().clone())
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("netmesh/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .header(header::ORIGIN, format!("{scheme}://{authority}"))
            .body(())?;
        if let Some(ExtraHeader { name, value }) = &self.extra {
            request.headers_mut().insert(name, value.clone());
        }
        Ok(request)
    }
}

impl Dialer for WsDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(answered_within(CONNECT_LIMIT, &self.url, self.connect()))
    }

    fn describe(&self) -> String {
        format!("ws {}", self.url)
    }
}

/// A header of the request that opens a link, beside those that the protocol needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHeader {
    name: HeaderName,
    value: HeaderValue,
}

/// Why a text is no [`ExtraHeader`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// It has no colon.
    #[error("extra header must be in the form key:value; write `Name: value`")]
    NoColon,
    /// It cannot stand in a request.
    #[error("`{0}` cannot be sent as a header; write `Name: value`")]
    NotSendable(String),
    /// The protocol itself says what it is.
    #[error("the header {0} belongs to the protocol; name another")]
    OfTheProtocol(String),
}

impl std::str::FromStr for ExtraHeader {
    type Err = BadHeader;
    fn from_str(text: &str) -> Result<ExtraHeader, BadHeader> {
        let (name, value) = text.split_once(':').ok_or(BadHeader::NoColon)?;
        let not_sendable = || BadHeader::NotSendable(name.to_owned());
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| not_sendable())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| not_sendable())?;
        let ours = [
            header::CONNECTION,
            header::UPGRADE,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_EXTENSIONS,
        ];
        if ours.contains(&name) {
            return Err(BadHeader::OfTheProtocol(name.to_string()));
        }
        Ok(ExtraHeader { name, value })
    }
}

fn mismatch(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_header_is_a_name_and_a_value() {
        let header: ExtraHeader = "X-Extra-Data: SomeData:1".parse().unwrap();
        assert_eq!((header.name.as_str(), header.value.as_bytes()), ("x-extra-data", &b"SomeData:1"[..]));
        assert_eq!("none".parse::<ExtraHeader>(), Err(BadHeader::NoColon));
        for bad in [": x", "a b: x", "X: y\r\nZ: w", "Upgrade: x", "sec-websocket-key: x"] {
            assert!(bad.parse::<ExtraHeader>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_request_names_its_origin_as_a_go_node_does() {
        let dial = WsDial::new("ws://[::1]:7/mesh?x=1".parse().unwrap());
        let request = dial.extra_header("X-Extra: yes".parse().unwrap()).request().unwrap();
        let of = |name: &str| request.headers()[name].to_str().unwrap();
        assert_eq!((of("host"), of("origin"), of("x-extra")), ("[::1]:7", "http://[::1]:7", "yes"));
        assert_eq!(request.uri().path_and_query().unwrap().as_str(), "/mesh?x=1");
    }
}
