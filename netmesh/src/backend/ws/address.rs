//! Where a WebSocket peer is: `ws://host:port/path` or `wss://host:port/path`.

use std::{fmt, str::FromStr};

use tokio_tungstenite::tungstenite::http::Uri;

/// The address of a WebSocket peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsUrl {
    uri: Uri,
    tls: bool,
    host: String,
    port: u16,
}

/// Why a text is no [`WsUrl`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {text} is not a valid URL: {why}; write ws://host:port/path or wss://host:port/path")]
pub struct BadWsUrl {
    text: String,
    why: String,
}

impl FromStr for WsUrl {
    type Err = BadWsUrl;
    fn from_str(text: &str) -> Result<WsUrl, BadWsUrl> {
        let bad = |why: &str| BadWsUrl { text: text.to_owned(), why: why.to_owned() };
        let uri: Uri = text.parse().map_err(|error| bad(&format!("{error}")))?;
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(bad("it begins with neither ws:// nor wss://")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("a user cannot stand in it"));
        }
        let host = authority.host();
        if host.is_empty() || host == "[]" {
            return Err(bad("it names no host"));
        }
        let written = &authority.as_str()[host.len()..];
        let port = match written.strip_prefix(':') {
            None | Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(bad(&format!("`{port}` is no port"))),
            },
        };
        Ok(WsUrl { host: host.to_owned(), port, tls, uri })
    }
}

impl WsUrl {
    /// True for `wss`.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// `host:port`, whether or not the port was written.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The host, an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&self.host)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The host, and the port if it was written, as the headers `Host` and `Origin` have them.
    pub(super) fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }
}

impl fmt::Display for WsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_that_of_the_scheme_unless_it_is_written() {
        for (text, address, tls) in [
            ("ws://a.b", "a.b:80", false),
            ("wss://a.b/x?y=1", "a.b:443", true),
            ("ws://a.b:27199/", "a.b:27199", false),
            ("wss://[::1]:7/", "[::1]:7", true),
        ] {
            let url: WsUrl = text.parse().unwrap();
            assert_eq!((url.host_and_port().as_str(), url.is_tls()), (address, tls), "{text}");
        }
        let url: WsUrl = "ws://[::1]/".parse().unwrap();
        assert_eq!((url.host(), url.authority()), ("::1", "[::1]"));
    }

    #[test]
    fn what_is_no_websocket_address_is_refused() {
        for text in [
            "",
            "a:1",
            "http://a:1",
            "ws://",
            "ws:///x",
            "ws://u@a:1",
            "ws://a:0",
            "ws://a:99999",
            "ws://a b/",
        ] {
            assert!(text.parse::<WsUrl>().is_err(), "{text}");
        }
    }
}
