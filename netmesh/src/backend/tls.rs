//! What TCP, WebSocket and QUIC links have in common where a TLS profile protects them.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{ReadError, WriteError};
use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    logic::Identity,
    tls::{self, ClientSettings, PeerCertificate, Protocols, ServerSettings, Side, identity_of, refusal_of},
};

/// What a handshake has shown of the other end.
pub(super) struct Proof {
    pub(super) insecure: bool,
    pub(super) identity: Identity,
    pub(super) certificate: Option<PeerCertificate>,
}

impl Proof {
    /// There is no profile.
    pub(super) fn none() -> Proof {
        Proof { insecure: true, identity: Identity::Unchecked, certificate: None }
    }

    /// To whoever called; the certificate is that of the end that was called.
    pub(super) fn calling(settings: &ClientSettings, certificate: Option<PeerCertificate>) -> Proof {
        let insecure = settings.insecure_skip_verify && settings.pinned.is_empty();
        Proof { insecure, identity: identity_of(Side::Calling(settings), certificate.as_ref()), certificate }
    }

    /// To whoever was called; the certificate is the caller's.
    pub(super) fn called(settings: &ServerSettings, certificate: Option<PeerCertificate>) -> Proof {
        // Callers that need not show one have proved nothing unless they did.
        let insecure = certificate.is_none();
        Proof { insecure, identity: identity_of(Side::Called(settings), certificate.as_ref()), certificate }
    }
}

/// What is spoken on a link over QUIC: its name.
pub(super) fn protocols(name: &[u8]) -> Protocols {
    Protocols { names: vec![name.to_vec()], quic: true, provider: Arc::new(tls::provider()) }
}

/// Reads from the other end. TLS lets a caller go on before the other end has looked at its certificate, so that what it
/// thinks of it may come in the place of the first message; here that is put into words.
pub(super) struct Explained<R>(pub(super) R);

impl<R: AsyncRead + Unpin> AsyncRead for Explained<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf).map_err(explained)
    }
}

/// `error`, in words if it is an alert of the other end.
pub(super) fn explained(error: io::Error) -> io::Error {
    let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
    let alert = inner.and_then(|inner| {
        if let Some(rustls::Error::AlertReceived(alert)) = inner.downcast_ref() {
            return Some(*alert);
        }
        let lost = match (inner.downcast_ref(), inner.downcast_ref(), inner.downcast_ref()) {
            (Some(lost), _, _) => lost,
            (_, Some(ReadError::ConnectionLost(lost)), _) => lost,
            (_, _, Some(WriteError::ConnectionLost(lost))) => lost,
            _ => return None,
        };
        tls::alert_in(lost).and_then(|(alert, theirs)| theirs.then_some(alert))
    });
    match alert {
        Some(alert) => io::Error::new(error.kind(), refusal_of(alert).to_string()),
        None => error,
    }
}
