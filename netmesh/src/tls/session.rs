//! A handshake over bytes that come in order, such as those of TCP: both ends of it, and what it has proved.

use std::{io, sync::Arc};

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{
    ClientProfile, PeerCertificate, Protocols, ServerProfile, provider,
    verify::{Expect, Said, Side, proved},
    why::Cause,
};

/// A session that the other end began.
pub type Called<S> = server::TlsStream<S>;

/// Why a handshake came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotAccepted {
    /// Which check failed, on which certificate, or what else went wrong.
    pub reason: String,
    /// The certificate that was refused, if one was.
    pub certificate: Option<PeerCertificate>,
}

impl NotAccepted {
    /// `who` is the other end.
    pub(crate) fn new(who: &str, said: &Said, error: &impl Cause) -> NotAccepted {
        let reason = match said.get() {
            Some(why) => format!("the certificate of {who} is not accepted: {why}"),
            None => format!("TLS with {who} failed: {}", error.reason()),
        };
        NotAccepted { reason, certificate: said.certificate().cloned() }
    }

    pub(crate) fn local(reason: impl ToString) -> NotAccepted {
        NotAccepted { reason: reason.to_string(), certificate: None }
    }
}

/// Answers the handshake of the caller `from`. With the session comes the certificate with which the caller has proved
/// who it is, if it was asked to and did. The time that this may take is up to who calls it.
///
/// # Errors
/// [`NotAccepted`], to be told to a [`Witness`](super::Witness).
pub async fn accept<S>(
    profile: &Arc<ServerProfile>,
    stream: S,
    from: &str,
) -> Result<(Called<S>, Option<PeerCertificate>), NotAccepted>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (config, said) = profile.handshake(plain(), None).await.map_err(NotAccepted::local)?;
    let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
    let stream = stream.map_err(|error| NotAccepted::new(from, &said, &error))?;
    let certificate = proved(Side::Called(profile.settings()), stream.get_ref().1.peer_certificates());
    Ok((stream, certificate))
}

/// A call that is ready to be made: files are read before there is a connection, since some who are called do not wait.
pub struct Connector {
    profile: Arc<ClientProfile>,
    config: Arc<rustls::ClientConfig>,
    said: Said,
    name: ServerName<'static>,
    address: String,
}

/// Prepares a call to `address`, `host:port`. The certificate of whoever is there must be for that host.
///
/// # Errors
/// When no certificate can be for it, or the settings cannot be used.
pub async fn connector(profile: Arc<ClientProfile>, address: &str) -> io::Result<Connector> {
    let (config, said) = profile.handshake(plain(), Expect::Host).await.map_err(io::Error::other)?;
    let name = ServerName::try_from(host_of(address).to_owned()).map_err(|error| {
        io::Error::other(format!("no certificate can be for the host of {address}: {error}"))
    })?;
    Ok(Connector { profile, config: Arc::new(config), said, name, address: address.to_owned() })
}

impl Connector {
    /// Makes the handshake over `stream`. With the session comes the certificate with which the other end has proved
    /// who it is, if it was asked to.
    ///
    /// # Errors
    /// [`NotAccepted`], when either end did not accept the other.
    pub async fn connect<S>(
        self,
        stream: S,
    ) -> Result<(client::TlsStream<S>, Option<PeerCertificate>), NotAccepted>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Connector { profile, config, said, name, address } = self;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|error| NotAccepted::new(&address, &said, &error))?;
        let shown: Option<&[CertificateDer<'_>]> = stream.get_ref().1.peer_certificates();
        let certificate = proved(Side::Calling(profile.settings()), shown);
        Ok((stream, certificate))
    }
}

/// The host of `host:port`, an IPv6 address without its brackets.
pub(crate) fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

/// Over TCP what is spoken has no name.
fn plain() -> Protocols {
    Protocols { names: Vec::new(), quic: false, provider: Arc::new(provider()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        for (address, host) in [("a.b:1", "a.b"), ("10.0.0.1:1", "10.0.0.1"), ("[::1]:27199", "::1")] {
            assert_eq!(host_of(address), host);
        }
    }
}
