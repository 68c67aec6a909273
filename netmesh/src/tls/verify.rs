//! Whether the certificate that the other end shows is good enough, and which check it failed.
//!
//! In Receptor's order: pinned fingerprints, then the chain to an authority, then the name. Pins add to the other
//! checks; they hold where the others are switched off, too.

use std::sync::{Arc, OnceLock};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    PeerCertificate,
    fingerprint::Fingerprint,
    names::Names,
    profile::{ClientSettings, NodeIdRule, ServerSettings},
};
use crate::{id::NodeId, logic::Identity};

/// Why the certificate of the other end was refused, once it was. A handshake's own error says less.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said(Arc<OnceLock<Verdict>>);

#[derive(Debug)]
struct Verdict {
    text: String,
    certificate: PeerCertificate,
}

/// Whom a caller wants to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The host or address that was dialled.
    Host,
    /// A node, by the name that Receptor puts into certificates.
    Node(NodeId),
}

/// A check that is ours and not the library's.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("it is none of the pinned certificates")]
    NotPinned,
    #[error("it is valid for node {}, not for {wanted}", .named.join(", "))]
    OtherNode { named: Vec<String>, wanted: NodeId },
    #[error("it names no node, and should name {0}")]
    NoNode(NodeId),
    #[error("its names cannot be read")]
    BadNames,
}

impl Said {
    /// Which check the certificate failed, and which certificate that is, if it was refused.
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.get().map(|verdict| verdict.text.as_str())
    }

    /// The certificate that was refused.
    pub(crate) fn certificate(&self) -> Option<&PeerCertificate> {
        self.0.get().map(|verdict| &verdict.certificate)
    }

    fn note(&self, error: Error, certificate: &CertificateDer<'_>) -> Error {
        let certificate = PeerCertificate::read(certificate);
        let text = format!("{} ({certificate})", explain(&error));
        let _ = self.0.set(Verdict { text, certificate }); // the first reason counts
        error
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        CertificateError::Other(OtherError(Arc::new(fault))).into()
    }
}

/// What was wrong with a certificate, and what to do.
fn explain(error: &Error) -> String {
    use CertificateError as Bad;
    let Error::InvalidCertificate(bad) = error else { return format!("it cannot be used ({error})") };
    match bad {
        Bad::Expired | Bad::ExpiredContext { .. } => "it has expired: renew it".to_owned(),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
            "it is not valid yet: look at the clocks of both ends".to_owned()
        }
        // A wrong signature: an authority of the same name and with another key.
        Bad::UnknownIssuer | Bad::BadSignature => {
            "it was signed by none of the authorities that this end accepts".to_owned()
        }
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
            format!("it is for another host ({bad})")
        }
        Bad::Other(OtherError(fault)) => fault.to_string(),
        _ => format!("it cannot be used ({bad})"),
    }
}

fn check_pins(pinned: &[Fingerprint], certificate: &CertificateDer<'_>) -> Result<(), Fault> {
    let good = pinned.is_empty() || pinned.iter().any(|pin| pin.is_of(certificate));
    if good { Ok(()) } else { Err(Fault::NotPinned) }
}

fn check_node(wanted: &NodeId, certificate: &CertificateDer<'_>) -> Result<(), Fault> {
    let named = Names::of_certificate(certificate).map_err(|_| Fault::BadNames)?.nodes;
    match named.iter().any(|node| node == wanted.as_str()) {
        true => Ok(()),
        false if named.is_empty() => Err(Fault::NoNode(wanted.clone())),
        false => Err(Fault::OtherNode { named, wanted: wanted.clone() }),
    }
}

/// Looks at the certificate of whoever was called.
#[derive(Debug)]
pub(super) struct ServerCheck {
    /// `None` when only pins are looked at.
    roots: Option<Arc<RootCertStore>>,
    pinned: Vec<Fingerprint>,
    expected: Expect,
    said: Said,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCheck {
    pub(super) fn new(
        roots: Option<Arc<RootCertStore>>,
        pinned: Vec<Fingerprint>,
        expected: Expect,
        said: Said,
        provider: &CryptoProvider,
    ) -> ServerCheck {
        let algorithms = provider.signature_verification_algorithms;
        ServerCheck { roots, pinned, expected, said, algorithms }
    }

    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        check_pins(&self.pinned, end_entity)?;
        let Some(roots) = &self.roots else { return Ok(()) };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        match &self.expected {
            Expect::Host => verify_server_name(&parsed, name),
            Expect::Node(node) => Ok(check_node(node, end_entity)?),
        }
    }
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.check(end_entity, intermediates, name, now);
        checked.map(|()| ServerCertVerified::assertion()).map_err(|error| self.said.note(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Looks at the certificate of a caller, if it shows one.
#[derive(Debug)]
pub(super) struct ClientCheck {
    chain: Arc<dyn ClientCertVerifier>,
    pinned: Vec<Fingerprint>,
    mandatory: bool,
    node: Option<NodeId>,
    said: Said,
}

impl ClientCheck {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        pinned: Vec<Fingerprint>,
        mandatory: bool,
        node: Option<NodeId>,
        said: Said,
        provider: &Arc<CryptoProvider>,
    ) -> Result<ClientCheck, String> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(ClientCheck { chain, pinned, mandatory, node, said })
    }

    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        check_pins(&self.pinned, end_entity)?;
        self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.node.as_ref().map_or(Ok(()), |node| Ok(check_node(node, end_entity)?))
    }
}

impl ClientCertVerifier for ClientCheck {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    /// None: a caller with one certificate shows it, and need not guess whether it will do.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let checked = self.check(end_entity, intermediates, now);
        checked.map(|()| ClientCertVerified::assertion()).map_err(|error| self.said.note(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The certificate with which the other end has proved who it is, if it has.
pub(crate) fn proved(side: Side<'_>, shown: Option<&[CertificateDer<'_>]>) -> Option<PeerCertificate> {
    let verified = match side {
        Side::Called(settings) => settings.asks_callers(),
        // Without a chain of signatures a certificate may say what it likes, unless it is a certain one.
        Side::Calling(settings) => !settings.insecure_skip_verify || !settings.pinned.is_empty(),
    };
    shown.filter(|_| verified).and_then(<[_]>::first).map(PeerCertificate::read)
}

/// The same of the other end of a QUIC connection.
pub(crate) fn proved_by(side: Side<'_>, connection: &quinn::Connection) -> Option<PeerCertificate> {
    let shown: Option<Box<Vec<CertificateDer<'static>>>> =
        connection.peer_identity().and_then(|shown| shown.downcast().ok());
    proved(side, shown.as_ref().map(|shown| shown.as_slice()))
}

/// What it means for a link that its other end has `proved` who it is, under the settings of this end.
pub(crate) fn identity_of(side: Side<'_>, proved: Option<&PeerCertificate>) -> Identity {
    let rule = match side {
        Side::Called(settings) => settings.node_id_rule,
        Side::Calling(settings) => settings.node_id_rule,
    };
    match (rule, proved) {
        (NodeIdRule::Off, _) | (NodeIdRule::IfNamed, None) => Identity::Unchecked,
        (rule, proved) => {
            let nodes = proved.map(|certificate| certificate.nodes.clone()).unwrap_or_default();
            Identity::Certified { nodes, required: rule == NodeIdRule::Required }
        }
    }
}

/// Which end of a link this is, with its settings.
#[derive(Clone, Copy)]
pub(crate) enum Side<'s> {
    Called(&'s ServerSettings),
    Calling(&'s ClientSettings),
}
