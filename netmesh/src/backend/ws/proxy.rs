//! Which proxy does the environment name for an address? As Go's `ProxyFromEnvironment` has it: `HTTP_PROXY` is for `ws`,
//! `HTTPS_PROXY` for `wss`, `NO_PROXY` lists exceptions, and this machine itself is never reached through a proxy.

use std::{io, net::IpAddr};

use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Uri;

use super::{WsUrl, door::percent_decoded};
use crate::backend::tcp::connected;

/// What the environment says about proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    except: Vec<Exception>,
    /// A web server has started this program, whose callers can say what `HTTP_PROXY` is.
    cgi: bool,
}

/// A proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(super) kind: Kind,
    /// `host:port`.
    pub(super) address: String,
    /// A name and a password.
    pub(super) user: Option<(Vec<u8>, Vec<u8>)>,
}

/// How a proxy is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// By `CONNECT`.
    Http,
    Socks5,
    /// In a way that neither Receptor knows.
    Unknown(String),
}

/// An address that is reached without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exception {
    host: Host,
    /// At this port only.
    port: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Any,
    Network(IpAddr, u8),
    /// With a dot in front. Names that end in it; and the name without the dot, if so.
    Domain(String, bool),
}

impl Proxies {
    /// Those that the environment of this process names.
    pub fn from_environment() -> Proxies {
        Proxies::read(|name| std::env::var(name).ok())
    }

    /// Those that `variables` name.
    pub fn read(variables: impl Fn(&str) -> Option<String>) -> Proxies {
        let first =
            |names: [&str; 2]| names.into_iter().filter_map(&variables).find(|value| !value.is_empty());
        let of = |names| first(names).as_deref().and_then(Proxy::read);
        let except = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        Proxies {
            http: of(["HTTP_PROXY", "http_proxy"]),
            https: of(["HTTPS_PROXY", "https_proxy"]),
            except: except.split(',').filter_map(Exception::read).collect(),
            cgi: variables("REQUEST_METHOD").is_some_and(|method| !method.is_empty()),
        }
    }

    /// A connection to where `url` leads, through the proxy that is for it, if one is.
    pub(super) async fn connect(&self, url: &WsUrl) -> io::Result<TcpStream> {
        match self.of(url)? {
            None => connected(&url.host_and_port()).await,
            Some(proxy) => proxy.connect(url).await.map_err(|error| {
                io::Error::new(error.kind(), format!("through the proxy {}: {error}", proxy.address))
            }),
        }
    }

    fn of(&self, url: &WsUrl) -> io::Result<Option<&Proxy>> {
        let proxy = if url.is_tls() { &self.https } else { &self.http };
        let Some(proxy) = proxy else { return Ok(None) };
        if self.cgi && !url.is_tls() {
            let text =
                "HTTP_PROXY is not used where REQUEST_METHOD is set, as in a CGI environment: unset one";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let host = url.host().to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let here = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let port = url.port().to_string();
        let excepted = self.except.iter().any(|except| except.is_for(&host, address, &port));
        Ok((!here && !excepted).then_some(proxy))
    }
}

impl Proxy {
    /// A URL, or `host:port` of an HTTP proxy. What is neither is not there, as in Go.
    pub(crate) fn read(text: &str) -> Option<Proxy> {
        let whole = |text: &str| text.parse::<Uri>().ok().filter(|uri| uri.scheme().is_some());
        let uri = match text.contains("://") {
            true => whole(text)?,
            false => whole(&format!("http://{text}"))?,
        };
        let authority = uri.authority()?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let (kind, port) = match scheme {
            "http" => (Kind::Http, 80),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            other => (Kind::Unknown(other.to_owned()), 443),
        };
        let user = authority.as_str().rsplit_once('@').map(|(user, _)| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (percent_decoded(name), percent_decoded(password))
        });
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port));
        (!authority.host().is_empty()).then_some(Proxy { kind, address, user })
    }
}

impl Exception {
    /// `*`, a network, an address, a name and all below it, `.name` or `*.name` for those below it alone; all but the
    /// first two perhaps with a port.
    fn read(text: &str) -> Option<Exception> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Exception { host: Host::Any, port: None });
        }
        if let Some((address, bits)) = text.split_once('/')
            && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
            && bits <= if address.is_ipv4() { 32 } else { 128 }
        {
            return Some(Exception { host: Host::Network(address, bits), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port.to_owned())),
            _ => (&text[..], None),
        };
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            return Some(Exception { host: Host::Network(address, bits), port });
        }
        let below = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let host = match below {
            "" => return None,
            below if below.starts_with('.') => Host::Domain(below.to_owned(), false),
            name => Host::Domain(format!(".{name}"), true),
        };
        Some(Exception { host, port })
    }

    fn is_for(&self, host: &str, address: Option<IpAddr>, port: &str) -> bool {
        let host = match &self.host {
            Host::Any => true,
            Host::Network(network, bits) => address.is_some_and(|address| within(address, *network, *bits)),
            Host::Domain(domain, itself) => host.ends_with(domain) || (*itself && host == &domain[1..]),
        };
        host && self.port.as_deref().is_none_or(|only| only == port)
    }
}

/// Whether `address` and `network` begin with the same `bits`.
fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let number = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 4),
        IpAddr::V6(address) => (u128::from(address), 6),
    };
    let ((address, family), (network, other)) = (number(address.to_canonical()), number(network));
    family == other && (address ^ network).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let value = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        Proxies::read(|name| value(name).map(str::to_owned))
    }

    fn of<'p>(proxies: &'p Proxies, url: &str) -> Option<&'p str> {
        proxies.of(&url.parse().unwrap()).unwrap().map(|proxy| &*proxy.address)
    }

    #[test]
    fn each_kind_of_address_has_its_proxy_and_this_machine_has_none() {
        let both =
            proxies(&[("HTTP_PROXY", "http://p:1"), ("http_proxy", "q:9"), ("https_proxy", "s.example")]);
        assert_eq!(of(&both, "ws://far/"), Some("p:1"));
        assert_eq!(of(&both, "wss://far/"), Some("s.example:80"));
        for here in ["ws://localhost/", "ws://LocalHost:7/", "wss://127.0.0.9/", "ws://[::1]:1/"] {
            assert_eq!(of(&both, here), None, "{here}");
        }
        assert_eq!(of(&proxies(&[("HTTP_PROXY", ""), ("http_proxy", "q:9")]), "ws://far/"), Some("q:9"));
        assert_eq!(of(&proxies(&[]), "ws://far/"), None);
    }

    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        for (except, without, with) in [
            ("far.example", "ws://far.example/ ws://x.far.example/", "ws://sofar.example/ ws://example/"),
            (".far.example", "ws://x.far.example/", "ws://far.example/"),
            ("*.far.example", "ws://x.far.example/", "ws://far.example/"),
            ("other, FAR:81", "ws://far:81/ ws://x.far:81/", "ws://far/"),
            ("10.1.2.3", "ws://10.1.2.3/", "ws://10.1.2.4/"),
            ("10.1.2.3:81", "ws://10.1.2.3:81/", "ws://10.1.2.3/"),
            ("10.1.0.0/16", "ws://10.1.9.9/", "ws://10.2.0.1/ ws://ten/"),
            ("2001:db8::/32", "ws://[2001:db8:1::1]/", "ws://[2001:db9::1]/"),
            ("2001:db8::1", "ws://[2001:db8::1]/", "ws://[2001:db8::2]/"),
            ("[2001:db8::1]:81", "ws://[2001:db8::1]:81/", "ws://[2001:db8::1]/"),
            ("0.0.0.0/0", "ws://1.2.3.4/", "ws://name/"),
            ("*", "ws://any/ ws://1.2.3.4/", ""),
            (" , ,", "", "ws://any/"),
        ] {
            let proxies = proxies(&[("HTTP_PROXY", "p:1"), ("NO_PROXY", except)]);
            for url in without.split_whitespace() {
                assert_eq!(of(&proxies, url), None, "{url} with NO_PROXY={except}");
            }
            for url in with.split_whitespace() {
                assert_eq!(of(&proxies, url), Some("p:1"), "{url} with NO_PROXY={except}");
            }
        }
    }

    #[test]
    fn a_proxy_is_a_url_or_an_address() {
        let read = |text: &str| Proxy::read(text).map(|proxy| (proxy.kind, proxy.address, proxy.user));
        let user = Some((b"me".to_vec(), b"p@ss".to_vec()));
        assert_eq!(read("http://me:p%40ss@p:1/"), Some((Kind::Http, "p:1".to_owned(), user)));
        assert_eq!(read("p:1"), Some((Kind::Http, "p:1".to_owned(), None)));
        assert_eq!(read("10.0.0.1"), Some((Kind::Http, "10.0.0.1:80".to_owned(), None)));
        assert_eq!(read("socks5://p"), Some((Kind::Socks5, "p:1080".to_owned(), None)));
        assert!(matches!(read("https://p"), Some((Kind::Unknown(_), ..))));
        assert_eq!(read("http://"), None);
    }

    #[test]
    fn what_a_web_server_lets_its_callers_say_is_no_proxy() {
        let cgi = proxies(&[("HTTP_PROXY", "p:1"), ("HTTPS_PROXY", "p:1"), ("REQUEST_METHOD", "GET")]);
        assert!(cgi.of(&"ws://far/".parse().unwrap()).is_err());
        assert_eq!(of(&cgi, "wss://far/"), Some("p:1"));
    }
}
