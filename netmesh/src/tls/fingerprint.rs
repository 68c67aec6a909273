//! Pinned certificates: the hash of one, as hexadecimal digits with or without colons.

use std::fmt;

use aws_lc_rs::digest::{SHA256, SHA512, digest};

/// The SHA-256 or SHA-512 of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(Vec<u8>);

/// Why a text is no [`Fingerprint`]. The texts are Receptor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFingerprint {
    /// Something else than pairs of hexadecimal digits and colons.
    #[error("error decoding fingerprint")]
    NotHex,
    /// A hash of another kind.
    #[error("fingerprints must be 32 or 64 bytes for sha256 or sha512")]
    Length,
}

impl Fingerprint {
    /// Reads hexadecimal digits; colons may stand anywhere.
    pub fn parse(text: &str) -> Result<Fingerprint, BadFingerprint> {
        let digits: Vec<u8> = text
            .chars()
            .filter(|c| *c != ':')
            .map(|c| c.to_digit(16).map(|digit| digit as u8).ok_or(BadFingerprint::NotHex))
            .collect::<Result<_, _>>()?;
        if !digits.len().is_multiple_of(2) {
            return Err(BadFingerprint::NotHex);
        }
        match digits.len() / 2 {
            32 | 64 => Ok(Fingerprint(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())),
            _ => Err(BadFingerprint::Length),
        }
    }

    /// The SHA-256 of the certificate `der`.
    pub fn sha256(der: &[u8]) -> Fingerprint {
        Fingerprint(digest(&SHA256, der).as_ref().to_vec())
    }

    /// The hash itself.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// True when it is the certificate's.
    pub(super) fn is_of(&self, der: &[u8]) -> bool {
        let algorithm = if self.0.len() == 32 { &SHA256 } else { &SHA512 };
        digest(algorithm, der).as_ref() == self.0
    }
}

/// Prints pairs of digits with colons between them, as OpenSSL does.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colons_and_case_mean_nothing() {
        let made = Fingerprint::sha256(b"x");
        let text = made.to_string();
        assert_eq!(text.len(), 95);
        assert_eq!(Fingerprint::parse(&text).unwrap(), made);
        assert_eq!(Fingerprint::parse(&text.replace(':', "").to_lowercase()).unwrap(), made);
        assert!(made.is_of(b"x") && !made.is_of(b"y"));
    }

    #[test]
    fn what_is_no_sha_256_or_512_is_refused() {
        assert_eq!(Fingerprint::parse(&"ab".repeat(20)), Err(BadFingerprint::Length));
        assert_eq!(Fingerprint::parse("xx"), Err(BadFingerprint::NotHex));
        assert_eq!(Fingerprint::parse("abc"), Err(BadFingerprint::NotHex));
        assert!(Fingerprint::parse(&"ab".repeat(64)).is_ok());
    }
}
