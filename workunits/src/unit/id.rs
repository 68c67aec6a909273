//! What a unit's id may look like.

use std::{fmt, str::FromStr};

/// Eight letters or digits that name a unit on its node. Nothing else ever becomes a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId([u8; 8]);

/// Why a text is no [`UnitId`]: it is not eight ASCII letters or digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown work unit {0}")]
pub struct BadUnitId(pub String);

impl UnitId {
    /// The one that comes before all others.
    pub const FIRST: UnitId = UnitId([b'0'; 8]);

    /// Makes an id of 64 random bits; each call with fresh bits gives a fresh, near enough uniform id.
    pub fn from_random(mut bits: u64) -> UnitId {
        const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        UnitId(std::array::from_fn(|_| {
            let letter = ALPHABET[(bits % 62) as usize];
            bits /= 62;
            letter
        }))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default() // always ASCII: checked in `from_str`
    }
}

impl FromStr for UnitId {
    type Err = BadUnitId;
    fn from_str(text: &str) -> Result<UnitId, BadUnitId> {
        match <[u8; 8]>::try_from(text.as_bytes()) {
            Ok(bytes) if bytes.iter().all(u8::is_ascii_alphanumeric) => Ok(UnitId(bytes)),
            _ => Err(BadUnitId(text.to_owned())),
        }
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_eight_letters_or_digits_and_nothing_that_leaves_the_directory() {
        assert_eq!("aB3dEf9Z".parse::<UnitId>().unwrap().as_str(), "aB3dEf9Z");
        for bad in ["", "../x", "short", "123456789", "abc/efgh", "aB3dEf9\0", "äöü12"] {
            assert_eq!(bad.parse::<UnitId>(), Err(BadUnitId(bad.to_owned())), "{bad:?}");
        }
        assert!(UnitId::from_random(u64::MAX).as_str().parse::<UnitId>().is_ok());
    }
}
