//! May this HTTP request become a WebSocket, and what is it told if not? As Receptor answers, which asks Go's request
//! multiplexer and the gorilla library.

use httparse::{EMPTY_HEADER, Header, Request, Status};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The longest head of a request that is read.
pub(crate) const HEAD_MAX: usize = 16 * 1024;
/// Headers that a request may have.
const HEADERS_MAX: usize = 64;
/// The letters of a key: 16 bytes in Base64.
const KEY_LETTERS: usize = 24;

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its head has not all come.
    Incomplete,
    /// It becomes a WebSocket; so many bytes were its head, and this is to be answered.
    Welcome { head: usize, answer: String },
    /// It does not.
    Refused(Refusal),
}

/// Why a request does not become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: &'static str,
    pub(crate) why: &'static str,
}

impl Refusal {
    const TOO_LARGE: Refusal =
        Refusal { status: "431 Request Header Fields Too Large", why: "the head of its request is too long" };

    /// All that is sent before the connection is closed.
    pub(crate) fn answer(self) -> String {
        let Refusal { status, why } = self;
        let body = format!("{why}\n");
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n\
             Sec-WebSocket-Version: 13\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// Looks at what a caller has sent so far, for a listener at `path`.
pub(crate) fn look(sent: &[u8], path: &str) -> Verdict {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    match request.parse(sent) {
        Ok(Status::Partial) if sent.len() >= HEAD_MAX => Verdict::Refused(Refusal::TOO_LARGE),
        Ok(Status::Partial) => Verdict::Incomplete,
        Err(httparse::Error::TooManyHeaders) => Verdict::Refused(Refusal::TOO_LARGE),
        Err(_) => refused("400 Bad Request", "this is no HTTP request"),
        Ok(Status::Complete(head)) => match accept_key(&request, path) {
            Err(refusal) => Verdict::Refused(refusal),
            Ok(key) => Verdict::Welcome {
                head,
                answer: format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {key}\r\n\r\n"
                ),
            },
        },
    }
}

fn refused(status: &'static str, why: &'static str) -> Verdict {
    Verdict::Refused(Refusal { status, why })
}

/// What proves to the caller that its request was understood.
fn accept_key(request: &Request<'_, '_>, path: &str) -> Result<String, Refusal> {
    let refuse = |status, why| Err(Refusal { status, why });
    let headers = &*request.headers;
    let Some(host) = header(headers, "Host") else {
        return refuse("400 Bad Request", "the request names no host");
    };
    if !is_at(request.path.unwrap_or_default(), path) {
        return refuse("404 Not Found", "404 page not found");
    }
    if !has_token(headers, "Connection", "upgrade") || !has_token(headers, "Upgrade", "websocket") {
        return refuse("400 Bad Request", "this address speaks WebSocket only");
    }
    if request.method != Some("GET") {
        return refuse("405 Method Not Allowed", "a WebSocket begins with GET");
    }
    // What is newer than HTTP/1.0 and written like this is 1.1.
    if request.version != Some(1) {
        return refuse("505 HTTP Version Not Supported", "a WebSocket needs HTTP/1.1");
    }
    if !has_token(headers, "Sec-WebSocket-Version", "13") {
        return refuse("400 Bad Request", "version 13 of WebSocket is spoken here");
    }
    if header(headers, "Origin").is_some_and(|origin| !is_origin_of(origin, host)) {
        return refuse("403 Forbidden", "the request comes from a page of another host");
    }
    match header(headers, "Sec-WebSocket-Key") {
        Some(key) if is_key(key) => Ok(derive_accept_key(key)),
        _ => refuse("400 Bad Request", "Sec-WebSocket-Key does not hold 16 bytes in Base64"),
    }
}

/// Whether a request for `target` is one for `path`. A path that ends in `/` stands for all below it.
fn is_at(target: &str, path: &str) -> bool {
    let target = target.split(['?', '#']).next().unwrap_or_default();
    let asked = percent_decoded(target);
    if path.ends_with('/') { asked.starts_with(path.as_bytes()) } else { asked == path.as_bytes() }
}

pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().iter();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(&byte) = bytes.next() {
        let digits = bytes.as_slice().first_chunk::<2>();
        let escaped = digits.filter(|_| byte == b'%').and_then(|digits| {
            let digit = |at: usize| (digits[at] as char).to_digit(16);
            Some((digit(0)? * 16 + digit(1)?) as u8)
        });
        match escaped {
            Some(escaped) => {
                decoded.push(escaped);
                bytes.nth(1);
            }
            None => decoded.push(byte),
        }
    }
    decoded
}

/// The value of the first header called `name`, without the blanks around it.
fn header<'h>(headers: &[Header<'h>], name: &str) -> Option<&'h [u8]> {
    let found = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    found.map(|header| header.value.trim_ascii())
}

/// Whether one of the words of the headers called `name`, with commas between them, is `token` in any case.
fn has_token(headers: &[Header<'_>], name: &str, token: &str) -> bool {
    let of_name = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let mut words = of_name.flat_map(|header| header.value.split(|&byte| byte == b','));
    words.any(|word| word.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether the page `origin`, a URL, was had from `host`.
fn is_origin_of(origin: &[u8], host: &[u8]) -> bool {
    let at = origin.windows(3).position(|part| part == b"://").map(|at| at + 3);
    let rest = &origin[at.unwrap_or(origin.len())..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    rest[..end].eq_ignore_ascii_case(host)
}

fn is_key(key: &[u8]) -> bool {
    let letters = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == KEY_LETTERS && key.ends_with(b"==") && key[..KEY_LETTERS - 2].iter().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a Go node sent it, with an extra header.
    const RECORDED: &[u8] = include_bytes!("../../../tests/golden/ws-request.txt");

    /// The same with the key of the standard's example.
    const GO: &str = "GET /mesh?x=1 HTTP/1.1\r\nHost: localhost:7\r\nUser-Agent: Go-http-client/1.1\r\n\
                      Connection: Upgrade\r\nOrigin: http://localhost:7\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                      Upgrade: websocket\r\n\r\n";

    fn status(request: &str, path: &str) -> String {
        match look(request.as_bytes(), path) {
            Verdict::Incomplete => "incomplete".to_owned(),
            Verdict::Welcome { head, answer } => {
                assert_eq!(head, request.len());
                answer[9..12].to_owned()
            }
            Verdict::Refused(refusal) => refusal.answer()[9..12].to_owned(),
        }
    }

    #[test]
    fn the_request_of_a_go_node_is_answered_as_the_standard_says() {
        let Verdict::Welcome { answer, .. } = look(GO.as_bytes(), "/mesh") else { panic!() };
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
        assert!(matches!(look(RECORDED, "/mesh"), Verdict::Welcome { head, .. } if head == RECORDED.len()));
        for cut in 0..GO.len() {
            assert_eq!(look(&GO.as_bytes()[..cut], "/mesh"), Verdict::Incomplete, "after {cut} bytes");
        }
    }

    #[test]
    fn a_path_is_exact_unless_it_ends_in_a_slash() {
        for (asked, path, answer) in [
            ("/", "/", "101"),
            ("/any/thing", "/", "101"),
            ("/mesh", "/mesh", "101"),
            ("/mes%68?q", "/mesh", "101"),
            ("/mesh/", "/mesh", "404"),
            ("/mesh", "/mesh/", "404"),
            ("/mesh/x", "/mesh/", "101"),
            ("/other", "/mesh", "404"),
            ("/%", "/%", "101"),
        ] {
            assert_eq!(status(&GO.replace("/mesh?x=1", asked), path), answer, "{asked} at {path}");
        }
    }

    #[test]
    fn whatever_is_no_websocket_gets_a_clear_answer() {
        for (from, to, answer) in [
            ("GET", "POST", "405"),
            ("HTTP/1.1", "HTTP/1.0", "505"),
            ("Upgrade: websocket", "Upgrade: h2c", "400"),
            ("Connection: Upgrade", "Connection: keep-alive", "400"),
            ("Connection: Upgrade", "Connection: keep-alive, upgrade", "101"),
            ("Version: 13", "Version: 8", "400"),
            ("Origin: http://localhost:7", "Origin: http://evil:7", "403"),
            ("Origin: http://localhost:7", "Origin: https://LOCALHOST:7/x", "101"),
            ("Origin: http://localhost:7", "Origin: null", "403"),
            ("Origin: http://localhost:7\r\n", "", "101"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short", "400"),
            ("Host: localhost:7\r\n", "", "400"),
            ("GET", "\u{16}\u{3}\u{1}", "400"),
        ] {
            assert_eq!(status(&GO.replace(from, to), "/mesh"), answer, "{from} → {to}");
        }
        assert_eq!(status("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "/"), "400");
    }

    #[test]
    fn no_request_however_broken_gets_more_than_an_answer() {
        let mut dice = 7_u64;
        let mut roll = |below: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % below
        };
        let mut welcome = 0;
        for _ in 0..20_000 {
            let mut bytes = GO.as_bytes().to_vec();
            for _ in 0..roll(4) {
                let at = roll(bytes.len());
                match roll(3) {
                    0 => bytes[at] = roll(256) as u8,
                    1 => drop(bytes.drain(at..(at + 1 + roll(9)).min(bytes.len()))),
                    _ => bytes.insert(at, b" \r\n:%\0,/"[roll(8)]),
                }
            }
            match look(&bytes, "/mesh") {
                Verdict::Incomplete => {}
                Verdict::Welcome { head, answer } => {
                    welcome += 1;
                    assert!(head <= bytes.len() && answer.ends_with("\r\n\r\n"));
                }
                Verdict::Refused(refusal) => {
                    let answer = refusal.answer();
                    assert!(
                        answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505 "),
                        "{answer}"
                    );
                }
            }
        }
        assert!(welcome > 0, "some were whole");
    }

    #[test]
    fn an_endless_head_is_not_read() {
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(HEAD_MAX));
        assert_eq!(status(&endless, "/"), "431");
        let many = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(HEADERS_MAX + 1));
        assert_eq!(status(&format!("{many}\r\n"), "/"), "431");
    }
}
