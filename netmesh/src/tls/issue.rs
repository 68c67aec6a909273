//! Certificates made: an authority, a request for a certificate, a request signed.
//!
//! They look as Receptor makes them (a common name, the names in the subject alternative name, digital signatures for
//! servers and clients), but for three things: keys are ECDSA unless RSA is asked for, serial numbers are random, and the
//! start of the validity lies a few minutes back, since clocks differ.

use std::{sync::Arc, time::SystemTime};

use aws_lc_rs::{
    encoding::AsDer as _,
    rsa::{self, KeySize},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use rustls::{
    SignatureScheme,
    pki_types::{
        AlgorithmIdentifier, CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        alg_id, pem::PemObject as _,
    },
    sign::SigningKey,
};
use time::{Duration, OffsetDateTime, macros::format_description};

use super::{
    der::{self, BIT_STRING, OCTET_STRING, OID, SEQUENCE, SET, UTF8},
    fingerprint::Fingerprint,
    names::Names,
    provider, random,
};

const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const BASIC_CONSTRAINTS: [u8; 3] = [0x55, 0x1d, 0x13];
const KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x0f];
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];
const SUBJECT_KEY_ID: [u8; 3] = [0x55, 0x1d, 0x0e];
const AUTHORITY_KEY_ID: [u8; 3] = [0x55, 0x1d, 0x23];
const SUBJECT_ALT_NAME: [u8; 3] = [0x55, 0x1d, 0x11];
const CLIENT_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const SERVER_AUTH: [u8; 8] = [0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const EXTENSION_REQUEST: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];
const BOOLEAN_TRUE: [u8; 3] = [0x01, 0x01, 0xff];

/// How far back the validity begins unless told otherwise.
const BACK: Duration = Duration::minutes(5);
/// How many years an authority is good for unless told otherwise, and how many any other certificate.
const AUTHORITY_YEARS: i32 = 10;
const YEARS: i32 = 1;

/// Why no certificate was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// RSA keys have one of a few sizes.
    #[error("an RSA key of {0} bits cannot be made: give 2048, 3072, 4096 or 8192, or none for an ECDSA key")]
    Bits(u32),
    /// What should have been a key is none.
    #[error("there is no private key in it that can be used: {0}")]
    Key(String),
    /// What should have been a certificate is none.
    #[error("there is no certificate in it: {0}")]
    Certificate(String),
    /// What should have been a request is none.
    #[error("there is no certificate request in it")]
    Request,
    /// Whoever made the request does not have its key.
    #[error("it was not signed with its own key")]
    Signature,
    /// There is nothing that the certificate could prove. The words are Receptor's.
    #[error("cannot sign: no names found in certificate")]
    NoNames,
    /// The certificate may not sign others.
    #[error("it is no authority: it may sign no others")]
    NoAuthority,
    /// The key is that of another certificate.
    #[error("it is not the key of the authority's certificate")]
    OtherKey,
    /// It would never be good.
    #[error("it would end before it begins")]
    Validity,
    /// The cryptography failed.
    #[error("the key could not be made or used: {0}")]
    Crypto(String),
}

/// What kind of key to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA on the curve P-256.
    #[default]
    Ecdsa,
    /// RSA with so many bits.
    Rsa(u32),
}

/// From when until when a certificate is good; what is not given has a default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Option<OffsetDateTime>,
    /// The last one.
    pub not_after: Option<OffsetDateTime>,
}

/// A private key.
pub struct Key {
    signing: Arc<dyn SigningKey>,
    /// The same as PKCS#8.
    pkcs8: Option<Vec<u8>>,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The whole subject, for people to read.
    pub subject: String,
    /// The kind of its key, for people to read.
    pub key: String,
    /// The names that it asks for.
    pub names: Names,
    subject_der: Vec<u8>,
    public_key: Vec<u8>,
    /// The content of the extension, as it was asked for.
    names_der: Vec<u8>,
}

impl Key {
    /// Makes a new one.
    pub fn generate(kind: KeyKind) -> Result<Key, IssueError> {
        let failed = |_| IssueError::Crypto("the system could not make one".to_owned());
        let pkcs8 = match kind {
            KeyKind::Ecdsa => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
                pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec()
            }
            KeyKind::Rsa(bits) => {
                let size = match bits {
                    2048 => KeySize::Rsa2048,
                    3072 => KeySize::Rsa3072,
                    4096 => KeySize::Rsa4096,
                    8192 => KeySize::Rsa8192,
                    other => return Err(IssueError::Bits(other)),
                };
                rsa::KeyPair::generate(size).map_err(failed)?.as_der().map_err(failed)?.as_ref().to_vec()
            }
        };
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.clone()));
        Ok(Key { signing: load(der)?, pkcs8: Some(pkcs8) })
    }

    /// Reads one of PEM text: PKCS#8, PKCS#1 or SEC1.
    pub fn from_pem(text: &[u8]) -> Result<Key, IssueError> {
        let der = PrivateKeyDer::from_pem_slice(text).map_err(|error| IssueError::Key(error.to_string()))?;
        Ok(Key { signing: load(der)?, pkcs8: None })
    }

    /// A key that was made, as PEM text (PKCS#8); nothing for one that was read.
    pub fn to_pem(&self) -> Option<String> {
        self.pkcs8.as_deref().map(|der| pem("PRIVATE KEY", der))
    }

    /// The public half, as a certificate holds it.
    fn public(&self) -> Result<Vec<u8>, IssueError> {
        let public =
            self.signing.public_key().ok_or_else(|| IssueError::Key("its kind is unknown".to_owned()))?;
        Ok(public.as_ref().to_vec())
    }

    /// `body`, its algorithm and its signature: what a certificate and a request are made of.
    fn sign(&self, body: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<Vec<u8>, IssueError> {
        let schemes = KNOWN.map(|(scheme, _)| scheme);
        let signer = self.signing.choose_scheme(&schemes);
        let signer = signer.ok_or_else(|| IssueError::Key("its kind is unknown".to_owned()))?;
        let known = KNOWN.iter().find(|(scheme, _)| *scheme == signer.scheme());
        let (_, algorithm) = known.ok_or_else(|| IssueError::Key("its kind is unknown".to_owned()))?;
        let algorithm = der::element(SEQUENCE, algorithm.as_ref());
        let body = body(&algorithm);
        let signature = signer.sign(&body).map_err(|error| IssueError::Crypto(error.to_string()))?;
        Ok(der::holding(SEQUENCE, &[&body, &algorithm, &der::bits(0, &signature)]))
    }
}

/// The ways to sign that everyone understands.
const KNOWN: [(SignatureScheme, AlgorithmIdentifier); 5] = [
    (SignatureScheme::RSA_PKCS1_SHA256, alg_id::RSA_PKCS1_SHA256),
    (SignatureScheme::ECDSA_NISTP256_SHA256, alg_id::ECDSA_SHA256),
    (SignatureScheme::ECDSA_NISTP384_SHA384, alg_id::ECDSA_SHA384),
    (SignatureScheme::ECDSA_NISTP521_SHA512, alg_id::ECDSA_SHA512),
    (SignatureScheme::ED25519, alg_id::ED25519),
];

fn load(der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, IssueError> {
    provider().key_provider.load_private_key(der).map_err(|error| IssueError::Key(error.to_string()))
}

/// Makes the certificate of an authority that signs itself, as PEM text.
pub fn authority(common_name: &str, key: &Key, validity: Validity) -> Result<String, IssueError> {
    let public = key.public()?;
    let id = key_id(&public)?;
    let subject = name(common_name);
    let extensions = [
        extension(&KEY_USAGE, true, &der::bits(2, &[0x84])), // digital signature, certificate signing
        extended_usage(),
        extension(&BASIC_CONSTRAINTS, true, &der::element(SEQUENCE, &BOOLEAN_TRUE)),
        extension(&SUBJECT_KEY_ID, false, &der::element(OCTET_STRING, &id)),
    ];
    let when = period(validity, AUTHORITY_YEARS)?;
    let der = key.sign(|algorithm| body(algorithm, &subject, &when, &subject, &public, &extensions))?;
    Ok(pem("CERTIFICATE", &der))
}

/// Makes a request for a certificate that holds `names`, as PEM text.
pub fn request(common_name: &str, names: &Names, key: &Key) -> Result<String, IssueError> {
    let public = key.public()?;
    let extensions = der::element(SEQUENCE, &extension(&SUBJECT_ALT_NAME, false, &names.write()));
    let values = der::element(SET, &extensions);
    let attribute = der::holding(SEQUENCE, &[&der::element(OID, &EXTENSION_REQUEST), &values]);
    let subject = name(common_name);
    let der = key.sign(|_| {
        der::holding(SEQUENCE, &[&der::integer(&[0]), &subject, &public, &der::element(0xa0, &attribute)])
    })?;
    Ok(pem("CERTIFICATE REQUEST", &der))
}

impl Request {
    /// Reads one of PEM text, and sees that whoever made it has its key.
    pub fn from_pem(text: &[u8]) -> Result<Request, IssueError> {
        let der = CertificateSigningRequestDer::from_pem_slice(text).map_err(|_| IssueError::Request)?;
        Self::from_der(&der)
    }

    pub(crate) fn from_der(der: &[u8]) -> Result<Request, IssueError> {
        use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer as _};
        let parts = parts(der).ok_or(IssueError::Request)?;
        let (_, parsed) = X509CertificationRequest::from_der(der).map_err(|_| IssueError::Request)?;
        verify(&parts)?;
        let mut names = Names::default();
        if let Some(value) = parts.names {
            names.read(value).map_err(|_| IssueError::Request)?;
        }
        Ok(Request {
            subject: parsed.certification_request_info.subject.to_string(),
            key: key_of(&parsed.certification_request_info.subject_pki),
            names,
            subject_der: parts.subject.to_vec(),
            public_key: parts.public_key.to_vec(),
            names_der: parts.names.unwrap_or_default().to_vec(),
        })
    }

    /// Signs it with the authority whose certificate is the first in `ca`, PEM text; gives the certificate as PEM text.
    pub fn sign(&self, ca: &[u8], ca_key: &Key, validity: Validity) -> Result<String, IssueError> {
        if self.names.is_empty() {
            return Err(IssueError::NoNames);
        }
        let bad = |error: &dyn std::fmt::Display| IssueError::Certificate(error.to_string());
        let ca = CertificateDer::from_pem_slice(ca).map_err(|error| bad(&error))?;
        let (_, ca) = x509_parser::parse_x509_certificate(&ca).map_err(|error| bad(&error))?;
        if !ca.is_ca() {
            return Err(IssueError::NoAuthority);
        }
        if ca.public_key().raw != ca_key.public()? {
            return Err(IssueError::OtherKey);
        }
        let mut extensions = vec![
            extension(&KEY_USAGE, true, &der::bits(7, &[0x80])), // digital signature
            extended_usage(),
        ];
        let named = ca.extensions().iter().find(|extension| extension.oid.as_bytes() == SUBJECT_KEY_ID);
        if let Some((OCTET_STRING, id, _)) = named.and_then(|extension| der::read(extension.value)) {
            let id = der::element(SEQUENCE, &der::element(0x80, id));
            extensions.push(extension(&AUTHORITY_KEY_ID, false, &id));
        }
        extensions.push(extension(&SUBJECT_ALT_NAME, false, &self.names_der));
        let when = period(validity, YEARS)?;
        let issuer = ca.subject().as_raw();
        let der = ca_key.sign(|algorithm| {
            body(algorithm, issuer, &when, &self.subject_der, &self.public_key, &extensions)
        })?;
        Ok(pem("CERTIFICATE", &der))
    }
}

/// What the parts of a request are, each as it stands there.
struct Parts<'r> {
    signed: &'r [u8],
    subject: &'r [u8],
    public_key: &'r [u8],
    names: Option<&'r [u8]>,
    algorithm: &'r [u8],
    signature: &'r [u8],
}

/// The first element of `bytes` with its header, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, _, rest) = der::read(bytes)?;
    Some((&bytes[..bytes.len() - rest.len()], rest))
}

fn parts(der: &[u8]) -> Option<Parts<'_>> {
    let (SEQUENCE, whole, _) = der::read(der)? else { return None };
    let (signed, rest) = split(whole)?;
    let (SEQUENCE, algorithm, rest) = der::read(rest)? else { return None };
    let (BIT_STRING, [0, signature @ ..], _) = der::read(rest)? else { return None };
    let (_, info, _) = der::read(signed)?;
    let (_, info) = split(info)?; // the version
    let (subject, info) = split(info)?;
    let (public_key, info) = split(info)?;
    let names = match der::read(info) {
        Some((0xa0, attributes, _)) => requested_names(attributes),
        _ => None,
    };
    Some(Parts { signed, subject, public_key, names, algorithm, signature })
}

/// The content of the subject alternative name that the attributes of a request ask for.
fn requested_names(mut attributes: &[u8]) -> Option<&[u8]> {
    while let Some((SEQUENCE, attribute, rest)) = der::read(attributes) {
        attributes = rest;
        let (OID, EXTENSION_REQUEST_SLICE, values) = der::read(attribute)? else { continue };
        let (SET, values, _) = der::read(values)? else { return None };
        let (SEQUENCE, mut extensions, _) = der::read(values)? else { return None };
        while let Some((SEQUENCE, extension, rest)) = der::read(extensions) {
            extensions = rest;
            let (OID, kind, mut value) = der::read(extension)? else { return None };
            if kind == SUBJECT_ALT_NAME {
                if let Some((0x01, _, after)) = der::read(value) {
                    value = after; // whether it is critical
                }
                let (OCTET_STRING, value, _) = der::read(value)? else { return None };
                return Some(value);
            }
        }
    }
    None
}

const EXTENSION_REQUEST_SLICE: &[u8] = &EXTENSION_REQUEST;

fn verify(parts: &Parts<'_>) -> Result<(), IssueError> {
    let Some((SEQUENCE, key, _)) = der::read(parts.public_key) else { return Err(IssueError::Request) };
    let Some((SEQUENCE, kind, rest)) = der::read(key) else { return Err(IssueError::Request) };
    let Some((BIT_STRING, [0, public @ ..], _)) = der::read(rest) else { return Err(IssueError::Request) };
    let good = provider().signature_verification_algorithms.all.iter().any(|algorithm| {
        algorithm.signature_alg_id().as_ref() == parts.algorithm
            && algorithm.public_key_alg_id().as_ref() == kind
            && algorithm.verify_signature(public, parts.signed, parts.signature).is_ok()
    });
    if good { Ok(()) } else { Err(IssueError::Signature) }
}

/// The kind of a public key, for people to read.
pub(super) fn key_of(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> String {
    use x509_parser::public_key::PublicKey;
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA ({} bits)", rsa.key_size()),
        Ok(PublicKey::EC(point)) => format!("ECDSA ({} bits)", point.key_size()),
        _ if key.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".to_owned(),
        _ => "another kind".to_owned(),
    }
}

/// What of a certificate is signed.
fn body(
    algorithm: &[u8],
    issuer: &[u8],
    period: &[u8],
    subject: &[u8],
    public_key: &[u8],
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    let version = der::element(0xa0, &der::integer(&[2]));
    // Twenty bytes at most, and none that others may guess or use again.
    let serial = der::integer(&random::<16>());
    let extensions = der::element(0xa3, &der::element(SEQUENCE, &extensions.concat()));
    let parts: [&[u8]; 8] = [&version, &serial, algorithm, issuer, period, subject, public_key, &extensions];
    der::holding(SEQUENCE, &parts)
}

fn name(common_name: &str) -> Vec<u8> {
    let parts = [der::element(OID, &COMMON_NAME), der::element(UTF8, common_name.as_bytes())];
    der::element(SEQUENCE, &der::element(SET, &der::element(SEQUENCE, &parts.concat())))
}

fn extension(kind: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &BOOLEAN_TRUE } else { &[] };
    der::holding(SEQUENCE, &[&der::element(OID, kind), critical, &der::element(OCTET_STRING, value)])
}

fn extended_usage() -> Vec<u8> {
    let usages = [der::element(OID, &CLIENT_AUTH), der::element(OID, &SERVER_AUTH)].concat();
    extension(&EXTENDED_KEY_USAGE, false, &der::element(SEQUENCE, &usages))
}

/// A name for the key: the first 20 bytes of the SHA-256 of its bits. Source: RFC 7093, 2.
fn key_id(public: &[u8]) -> Result<Vec<u8>, IssueError> {
    let bits =
        der::read(public).and_then(|(_, key, _)| der::read(key)).and_then(|(_, _, rest)| der::read(rest));
    let Some((BIT_STRING, [_, bits @ ..], _)) = bits else {
        return Err(IssueError::Key("its public half cannot be read".to_owned()));
    };
    Ok(Fingerprint::sha256(bits).bytes()[..20].to_vec())
}

fn period(validity: Validity, years: i32) -> Result<Vec<u8>, IssueError> {
    let now = OffsetDateTime::from(SystemTime::now());
    let from = validity.not_before.unwrap_or(now - BACK);
    let until = validity.not_after.unwrap_or_else(|| {
        // The 29th of February has no counterpart in most years.
        let year = now.year() + years;
        now.replace_year(year).or_else(|_| (now - Duration::days(1)).replace_year(year)).unwrap_or(now)
    });
    if until <= from {
        return Err(IssueError::Validity);
    }
    Ok(der::holding(SEQUENCE, &[&moment(from)?, &moment(until)?]))
}

/// Up to 2049 a year has two digits. Source: RFC 5280, 4.1.2.5.
fn moment(at: OffsetDateTime) -> Result<Vec<u8>, IssueError> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let at = at.to_offset(time::UtcOffset::UTC);
    let (tag, text) = match at.year() {
        1950..=2049 => (
            UTC_TIME,
            at.format(format_description!("[year repr:last_two][month][day][hour][minute][second]Z")),
        ),
        0..=9999 => {
            (GENERALIZED_TIME, at.format(format_description!("[year][month][day][hour][minute][second]Z")))
        }
        _ => return Err(IssueError::Validity),
    };
    Ok(der::element(tag, text.map_err(|_| IssueError::Validity)?.as_bytes()))
}

/// PEM text of `der`, 64 characters a line.
fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let bits =
                three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for digit in 0..4 {
                let at = bits >> (18 - 6 * digit) & 0x3f;
                text.push(if digit <= three.len() { char::from(DIGITS[at as usize]) } else { '=' });
            }
        }
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            dns: vec!["a.example".into()], ips: vec![[10, 0, 0, 1].into()], nodes: vec!["nœud 1".into()]
        }
    }

    fn signed(kind: KeyKind) -> (CertificateDer<'static>, CertificateDer<'static>) {
        let (ca_key, key) = (Key::generate(kind).unwrap(), Key::generate(kind).unwrap());
        let ca = authority("ca", &ca_key, Validity::default()).unwrap();
        let request = Request::from_pem(request("a", &names(), &key).unwrap().as_bytes()).unwrap();
        let certificate = request.sign(ca.as_bytes(), &ca_key, Validity::default()).unwrap();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        (der(&ca), der(&certificate))
    }

    #[test]
    fn a_signed_request_is_a_certificate_for_its_names_that_its_authority_vouches_for() {
        for kind in [KeyKind::Ecdsa, KeyKind::Rsa(2048)] {
            let (ca, certificate) = signed(kind);
            assert_eq!(Names::of_certificate(&certificate).unwrap(), names());
            let mut roots = rustls::RootCertStore::empty();
            roots.add(ca).unwrap();
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &rustls::server::ParsedCertificate::try_from(&certificate).unwrap(),
                &roots,
                &[],
                rustls::pki_types::UnixTime::now(),
                provider().signature_verification_algorithms.all,
            )
            .unwrap();
        }
    }

    #[test]
    fn a_request_that_was_changed_on_the_way_is_refused() {
        let key = Key::generate(KeyKind::Ecdsa).unwrap();
        let text = request("a", &names(), &key).unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).unwrap();
        assert!(Request::from_der(&der).is_ok());
        let at = der.windows(9).position(|bytes| bytes == b"a.example").unwrap();
        let mut changed = der.to_vec();
        changed[at] = b'b';
        assert_eq!(Request::from_der(&changed), Err(IssueError::Signature));
        for cut in 0..der.len() {
            assert!(Request::from_der(&der[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn only_an_authority_with_its_own_key_signs_and_only_what_names_somebody() {
        let [ca_key, key] = [(); 2].map(|()| Key::generate(KeyKind::Ecdsa).unwrap());
        let ca = authority("ca", &ca_key, Validity::default()).unwrap();
        let asked = |names: &Names| Request::from_pem(request("a", names, &key).unwrap().as_bytes()).unwrap();
        let sign =
            |names: &Names, ca: &str, key: &Key| asked(names).sign(ca.as_bytes(), key, Validity::default());
        assert_eq!(sign(&Names::default(), &ca, &ca_key), Err(IssueError::NoNames));
        assert_eq!(sign(&names(), &ca, &key), Err(IssueError::OtherKey));
        let leaf = sign(&names(), &ca, &ca_key).unwrap();
        assert_eq!(sign(&names(), &leaf, &key), Err(IssueError::NoAuthority));
    }

    #[test]
    fn a_validity_may_reach_beyond_2049_but_not_back() {
        let key = Key::generate(KeyKind::Ecdsa).unwrap();
        let at = |year| OffsetDateTime::UNIX_EPOCH.replace_year(year).ok();
        let ca = authority("ca", &key, Validity { not_before: at(2000), not_after: at(2100) }).unwrap();
        let der = CertificateDer::from_pem_slice(ca.as_bytes()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert_eq!(parsed.validity().not_after.timestamp(), at(2100).unwrap().unix_timestamp());
        let back = Validity { not_before: at(2001), not_after: at(2000) };
        assert_eq!(authority("ca", &key, back), Err(IssueError::Validity));
    }
}
