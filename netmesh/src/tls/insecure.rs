//! Certificates that prove nothing: self-signed, and accepted for their key or their common name alone.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};

/// A self-signed certificate and its key.
#[derive(Debug)]
pub(crate) struct SelfSigned {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl SelfSigned {
    /// Makes a new P-256 key and a certificate for the common name `name`, with no other name in it.
    pub(crate) fn new(name: &str) -> Result<SelfSigned, rcgen::Error> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key)?;
        Ok(SelfSigned { certificate: certificate.der().clone(), key: key.serialize_der().into() })
    }

    /// The chain, of one certificate.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    /// The private key.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }
}

/// Accepts any certificate whose key the server holds, or only one with a certain common name.
///
/// Chain, time and host name are not looked at.
#[derive(Debug)]
pub(crate) struct AcceptSelfSigned {
    common_name: Option<&'static str>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AcceptSelfSigned {
    /// A verifier; `common_name` must be the certificate's when it is given.
    pub(crate) fn new(common_name: Option<&'static str>, provider: &CryptoProvider) -> Arc<AcceptSelfSigned> {
        let algorithms = provider.signature_verification_algorithms;
        Arc::new(AcceptSelfSigned { common_name, algorithms })
    }
}

impl ServerCertVerifier for AcceptSelfSigned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(expected) = self.common_name else { return Ok(ServerCertVerified::assertion()) };
        // Receptor looks for the name in every certificate shown.
        let named =
            std::iter::once(end_entity).chain(intermediates).any(|der| has_common_name(der, expected));
        if named {
            Ok(ServerCertVerified::assertion())
        } else {
            // The alert for this is `bad_certificate`, as a Go node sends it.
            Err(rustls::CertificateError::BadEncoding.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

fn has_common_name(der: &CertificateDer<'_>, expected: &str) -> bool {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else { return false };
    certificate.subject().iter_common_name().any(|name| name.as_str() == Ok(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_common_name_decides_where_one_is_asked_for() {
        let ours = SelfSigned::new("expected").unwrap();
        let other = SelfSigned::new("other").unwrap();
        assert!(has_common_name(&ours.chain()[0], "expected"));
        assert!(!has_common_name(&other.chain()[0], "expected"));
        assert!(!has_common_name(&CertificateDer::from(b"garbage".to_vec()), "expected"));
    }
}
