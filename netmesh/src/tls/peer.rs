//! What the certificate of the other end says about who it is.

use std::fmt;

use rustls::pki_types::CertificateDer;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Fingerprint, names::Names};

/// Letters of a name that are kept. Who is refused can write what it likes, and a log line should end.
const LETTERS_MAX: usize = 256;
/// Nodes that a line tells.
const NODES_TOLD: usize = 8;

/// A certificate that the other end has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whom it is for, as text.
    pub subject: String,
    /// The common name in it, if there is one.
    pub common_name: Option<String>,
    /// Who has signed it, as text.
    pub issuer: String,
    /// The nodes that it names, exactly.
    pub nodes: Vec<String>,
    /// Until when it is valid, in seconds of Unix time.
    pub not_after: i64,
    /// Its SHA-256, by which it can be pinned.
    pub sha256: Fingerprint,
}

impl PeerCertificate {
    /// Reads the certificate `der`. One that cannot be read names nobody.
    pub(crate) fn read(der: &CertificateDer<'_>) -> PeerCertificate {
        let mut read = PeerCertificate {
            subject: "unreadable".to_owned(),
            common_name: None,
            issuer: "unreadable".to_owned(),
            nodes: Vec::new(),
            not_after: 0,
            sha256: Fingerprint::sha256(der),
        };
        if let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) {
            read.subject = plain(&certificate.subject().to_string());
            read.issuer = plain(&certificate.issuer().to_string());
            let mut names = certificate.subject().iter_common_name();
            read.common_name = names.next().and_then(|name| name.as_str().ok()).map(plain);
            read.not_after = certificate.validity().not_after.timestamp();
            read.nodes = Names::of_certificate(der).unwrap_or_default().nodes;
        }
        read
    }

    /// Whom it stands for: the first node that it names, else its common name, else its SHA-256.
    pub fn name(&self) -> String {
        let known = self.nodes.first().or(self.common_name.as_ref()).filter(|name| !name.is_empty());
        known.map_or_else(|| self.sha256.to_string(), |name| plain(name))
    }

    /// The same as a principal: `cert:NAME`.
    pub fn principal(&self) -> String {
        format!("cert:{}", self.name())
    }
}

/// Prints what tells it from others: `CN=b, node b, signed by CN=ca, until 2030-01-31T00:00:00Z, SHA-256 AB:CD:...`.
impl fmt::Display for PeerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerCertificate { subject, issuer, nodes, not_after, sha256, .. } = self;
        write!(f, "{}", if subject.is_empty() { "without a subject" } else { subject })?;
        for node in nodes.iter().take(NODES_TOLD) {
            write!(f, ", node {}", plain(node))?;
        }
        if nodes.len() > NODES_TOLD {
            write!(f, " and {} more", nodes.len() - NODES_TOLD)?;
        }
        let until = OffsetDateTime::from_unix_timestamp(*not_after).ok();
        let until = until.and_then(|until| until.format(&Rfc3339).ok()).unwrap_or_default();
        write!(f, ", signed by {issuer}, until {until}, SHA-256 {sha256}")
    }
}

/// Without what could forge a line of a log, and not for ever.
fn plain(text: &str) -> String {
    let visible = |letter: char| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter };
    text.chars().take(LETTERS_MAX).map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::issue::{Key, KeyKind, Request, Validity, authority, request};

    fn made(common_name: &str, nodes: &[&str]) -> PeerCertificate {
        let key = Key::generate(KeyKind::Ecdsa).unwrap();
        let ca = authority("ca", &key, Validity::default()).unwrap();
        let names = Names {
            dns: vec!["localhost".to_owned()],
            ips: Vec::new(),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        };
        let asked = request(common_name, &names, &key).unwrap();
        let pem = Request::from_pem(asked.as_bytes()).unwrap().sign(ca.as_bytes(), &key, Validity::default());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.pem");
        std::fs::write(&file, pem.unwrap()).unwrap();
        PeerCertificate::read(&crate::tls::certificates_in(&file).unwrap().remove(0).0)
    }

    #[test]
    fn it_stands_for_its_first_node_or_else_for_its_common_name() {
        assert_eq!(made("somebody", &["b", "c"]).name(), "b");
        assert_eq!(made("somebody", &[]).name(), "somebody");
        let broken = PeerCertificate::read(&CertificateDer::from(b"no certificate".to_vec()));
        assert_eq!(broken.name(), Fingerprint::sha256(b"no certificate").to_string());
    }

    #[test]
    fn nothing_in_it_can_end_a_line_or_fill_a_disk() {
        let certificate = made(&format!("x\nadmin {}", "y".repeat(60_000)), &["n\r\nq"]);
        let text = certificate.to_string();
        assert!(!text.contains(['\n', '\r']), "{text}");
        assert!(text.chars().count() < 1_000, "{text}");
        assert!(text.contains("signed by CN=ca") && text.contains("SHA-256 "), "{text}");
        let long = "n".repeat(300);
        assert_eq!(made("x", &[&long]).nodes, [long], "a link goes by the whole name, not by how it begins");
        let many = made("x", &["n"; 3_000]);
        assert_eq!(many.nodes.len(), 3_000);
        assert!(many.to_string().contains("node n and 2992 more") && many.to_string().len() < 300, "{many}");
    }
}
