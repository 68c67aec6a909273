//! DER as certificates need it: elements read one by one, and written inside out.
//!
//! Shape of an element: tag 1 byte, length 1 byte below 128 or `0x80 + n` and n bytes, then the content.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8: u8 = 0x0c;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The first element of `bytes`: its tag, its content, and what follows. `None` for what is cut off or longer than any
/// certificate.
pub(super) fn read(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// An element of the given tag and content.
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut bytes = vec![tag];
    if len < 0x80 {
        bytes.push(len as u8);
    } else {
        let digits = len.to_be_bytes();
        let first = digits.iter().position(|byte| *byte != 0).unwrap_or(digits.len());
        bytes.push(0x80 | (digits.len() - first) as u8);
        bytes.extend_from_slice(&digits[first..]);
    }
    bytes.extend_from_slice(content);
    bytes
}

/// An element that holds others.
pub(super) fn holding(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// A number of any size, from its big-endian bytes without a sign.
pub(super) fn integer(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
    let digits = &bytes[first..];
    // A first bit of 1 would make it negative.
    let sign: &[u8] = if digits.first().is_none_or(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    holding(INTEGER, &[sign, digits])
}

/// Bits that fill whole bytes, `unused` of the last left out.
pub(super) fn bits(unused: u8, bytes: &[u8]) -> Vec<u8> {
    holding(BIT_STRING, &[&[unused], bytes])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_whatever_its_length() {
        for len in [0, 1, 127, 128, 255, 256, 70_000] {
            let content = vec![7; len];
            let mut bytes = element(SEQUENCE, &content);
            bytes.push(9);
            assert_eq!(read(&bytes), Some((SEQUENCE, &content[..], &[9][..])), "{len}");
        }
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        let whole = element(SEQUENCE, &[7; 300]);
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn numbers_are_never_negative() {
        assert_eq!(integer(&[0, 0, 5]), [INTEGER, 1, 5]);
        assert_eq!(integer(&[0x80]), [INTEGER, 2, 0, 0x80]);
        assert_eq!(integer(&[0]), [INTEGER, 1, 0]);
    }
}
