//! Which names a certificate holds, those of nodes among them.
//!
//! A node's name stands in the subject alternative name as an otherName of Receptor's own kind, the OID
//! 1.3.6.1.4.1.2312.19.1 (docs/wire.md, “Certificates”). A certificate may name several nodes; names compare byte for
//! byte.

use std::net::IpAddr;

use super::der::{self, OID, SEQUENCE, UTF8};

/// The content of the OID 1.3.6.1.4.1.2312.19.1.
const NODE_ID: [u8; 9] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0x92, 0x08, 0x13, 0x01];
/// The OID of the subject alternative name, 2.5.29.17, as text.
pub(super) const SUBJECT_ALT_NAME: &str = "2.5.29.17";

const DNS: u8 = 0x82;
const IP: u8 = 0x87;
/// otherName, and what it holds its value in.
const OTHER: u8 = 0xa0;
const EXPLICIT: u8 = 0xa0;

/// The names in a subject alternative name. Those of other kinds are not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Host names.
    pub dns: Vec<String>,
    /// Addresses of hosts.
    pub ips: Vec<IpAddr>,
    /// Nodes of a mesh.
    pub nodes: Vec<String>,
}

/// Bytes that should have been a certificate, a request or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its names cannot be read")]
pub struct BadNames;

impl Names {
    /// The names of the certificate `der`; none if it has no subject alternative name.
    pub fn of_certificate(der: &[u8]) -> Result<Names, BadNames> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).map_err(|_| BadNames)?;
        let mut names = Names::default();
        for extension in certificate.extensions() {
            if extension.oid.to_id_string() == SUBJECT_ALT_NAME {
                names.read(extension.value)?;
            }
        }
        Ok(names)
    }

    /// Adds the names in `value`, the content of the extension.
    pub(crate) fn read(&mut self, value: &[u8]) -> Result<(), BadNames> {
        let Some((SEQUENCE, mut rest, &[])) = der::read(value) else { return Err(BadNames) };
        while !rest.is_empty() {
            let (tag, content, after) = der::read(rest).ok_or(BadNames)?;
            rest = after;
            match tag {
                DNS => self.dns.push(String::from_utf8_lossy(content).into_owned()),
                IP => self.ips.extend(address(content)),
                OTHER => self.nodes.extend(node(content)?),
                _ => {}
            }
        }
        Ok(())
    }

    /// The content of the extension, in Receptor's order.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for name in &self.dns {
            all.extend(der::element(DNS, name.as_bytes()));
        }
        for address in &self.ips {
            match address {
                IpAddr::V4(address) => all.extend(der::element(IP, &address.octets())),
                IpAddr::V6(address) => all.extend(der::element(IP, &address.octets())),
            }
        }
        for node in &self.nodes {
            let value = der::element(EXPLICIT, &der::element(UTF8, node.as_bytes()));
            all.extend(der::holding(OTHER, &[&der::element(OID, &NODE_ID), &value]));
        }
        der::element(SEQUENCE, &all)
    }

    /// True when there is none of any kind.
    pub fn is_empty(&self) -> bool {
        self.dns.is_empty() && self.ips.is_empty() && self.nodes.is_empty()
    }
}

fn address(content: &[u8]) -> Option<IpAddr> {
    match content.len() {
        4 => <[u8; 4]>::try_from(content).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(content).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The node that an otherName names; `None` if it is one of another kind.
fn node(other: &[u8]) -> Result<Option<String>, BadNames> {
    let Some((OID, kind, value)) = der::read(other) else { return Err(BadNames) };
    if kind != NODE_ID {
        return Ok(None);
    }
    let Some((EXPLICIT, text, &[])) = der::read(value) else { return Err(BadNames) };
    let Some((tag, text, &[])) = der::read(text) else { return Err(BadNames) };
    /// UTF8String, NumericString, PrintableString, T61String, IA5String, GeneralString: bytes that a Go node takes as they are.
    const TEXTS: [u8; 6] = [UTF8, 0x12, 0x13, 0x14, 0x16, 0x1b];
    if !TEXTS.contains(&tag) {
        return Err(BadNames);
    }
    String::from_utf8(text.to_vec()).map(Some).map_err(|_| BadNames)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receptor's own test vector.
    const HYBRID: &str = "3031820c6879627269645f6e6f6465318704c0a80401a01b06092b060104019208130\
                          1a00e0c0c6879627269645f6e6f646531";

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        hex.chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn names_are_read_and_written_as_receptor_does() {
        let mut names = Names::default();
        names.read(&bytes(HYBRID)).unwrap();
        let expected = Names {
            dns: vec!["hybrid_node1".into()],
            ips: vec![[192, 168, 4, 1].into()],
            nodes: vec!["hybrid_node1".into()],
        };
        assert_eq!(names, expected);
        assert_eq!(expected.write(), bytes(HYBRID));
    }

    #[test]
    fn a_long_name_has_its_true_length() {
        let long = Names { nodes: vec!["n".repeat(300)], ..Names::default() };
        let mut names = Names::default();
        names.read(&long.write()).unwrap();
        assert_eq!(names, long);
    }

    #[test]
    fn other_names_are_skipped_and_broken_ones_refused() {
        let mut names = Names::default();
        // An otherName of another kind, and an e-mail address.
        names.read(&bytes("3011 a00c 0603 2a0304 a005 0c03 666f6f 8101 78")).unwrap();
        assert!(names.is_empty());
        for broken in ["", "30", "3003a00106", "3002820561", "300da00b06092b060104019208130101"] {
            assert_eq!(Names::default().read(&bytes(broken)), Err(BadNames), "{broken}");
        }
    }
}
