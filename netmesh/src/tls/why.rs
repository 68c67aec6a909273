//! Why a handshake failed, in words.

use std::{fmt, io};

use quinn::ConnectionError;
use rustls::AlertDescription;

/// Says why a handshake failed.
pub(crate) trait Cause {
    /// In words, without the names of the two ends.
    fn reason(&self) -> String;
}

const NO_CERTIFICATE: &str = "it shows no certificate, and `requireclientcert` asks for one";

impl Cause for io::Error {
    fn reason(&self) -> String {
        let inner =
            self.get_ref().and_then(|inner| (inner as &(dyn std::error::Error + 'static)).downcast_ref());
        match inner {
            Some(rustls::Error::AlertReceived(alert)) => refusal_of(*alert).to_string(),
            Some(rustls::Error::NoCertificatesPresented) => NO_CERTIFICATE.to_owned(),
            Some(rustls::Error::InvalidMessage(_)) => {
                format!("what it says is no TLS ({self}): see that both ends have a profile")
            }
            _ if self.kind() == io::ErrorKind::UnexpectedEof => {
                "it hung up in the middle of the handshake: its log says why".to_owned()
            }
            _ => self.to_string(),
        }
    }
}

impl Cause for ConnectionError {
    fn reason(&self) -> String {
        match alert_in(self) {
            Some((alert, true)) => refusal_of(alert).to_string(),
            Some((AlertDescription::CertificateRequired, false)) => NO_CERTIFICATE.to_owned(),
            _ => self.to_string(),
        }
    }
}

/// Why the other end broke off a session over bytes in order, if it has said so. It may do that after the handshake: TLS
/// lets a caller go on before its certificate was looked at.
pub fn told_by_peer(error: &io::Error) -> Option<String> {
    let inner = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static))?;
    match inner.downcast_ref() {
        Some(rustls::Error::AlertReceived(alert)) => Some(refusal_of(*alert).to_string()),
        _ => None,
    }
}

/// The TLS alert that ended a QUIC connection, and whether the other end sent it.
pub(crate) fn alert_in(error: &ConnectionError) -> Option<(AlertDescription, bool)> {
    let (code, theirs) = match error {
        ConnectionError::TransportError(error) => (u64::from(error.code), false),
        ConnectionError::ConnectionClosed(close) => (u64::from(close.error_code), true),
        _ => return None,
    };
    // Alerts are codes 0x100 to 0x1ff. Source: RFC 9000, 20.1.
    let alert = u8::try_from(code.checked_sub(0x100)?).ok()?;
    Some((AlertDescription::from(alert), theirs))
}

/// What an alert of the other end says about us.
pub(crate) fn refusal_of(alert: AlertDescription) -> Refusal {
    Refusal(alert)
}

/// Prints what an alert means to whoever got it.
pub(crate) struct Refusal(AlertDescription);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use AlertDescription as Alert;
        let alert = self.0;
        match alert {
            Alert::CertificateRequired => {
                write!(f, "it wants a certificate of us: give the profile `cert` and `key`")
            }
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied => write!(
                f,
                "it does not accept our certificate ({alert:?}): see that one of its authorities signed it, for this node, and that it has not expired"
            ),
            _ => write!(f, "it broke off the TLS handshake ({alert:?})"),
        }
    }
}
