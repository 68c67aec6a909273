//! What is answered to a request for work before bytes follow: the lines, and the frames of a watch.

/// The line, without its line feed, that asks for the payload of a new unit.
pub fn created(unit: &str) -> String {
    format!("Work unit created with ID {unit}. Send stdin data and EOF.")
}

/// The same line for a submission that may be gone on with: it says from which byte.
pub fn created_from(unit: &str, byte: u64) -> String {
    format!("{} From byte {byte}.", created(unit))
}

/// The byte that a line of [`created_from`] names; 0 in any other line.
pub fn created_byte(line: &str) -> u64 {
    let byte = line.rsplit_once(" From byte ").and_then(|(_, rest)| rest.strip_suffix('.')?.parse().ok());
    byte.unwrap_or(0)
}

/// The unit that a line of [`created`] names, if it is one.
pub fn created_unit(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("with ID ")?;
    let (unit, _) = rest.split_once('.')?;
    (!unit.is_empty() && unit.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(unit)
}

/// What a frame of a watch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// The status as JSON.
    Status,
    /// Output.
    Stdout,
    /// Error output.
    Stderr,
    /// Nothing: the unit has ended, and all of it was told.
    End,
}

impl FrameKind {
    /// How long the head of a frame is, in bytes.
    pub const HEAD_BYTES: usize = 5;

    /// The head of a frame. Shape: kind (one letter), `length: u32, big-endian`; then come `length` bytes.
    pub fn head(self, length: u32) -> [u8; FrameKind::HEAD_BYTES] {
        let kind = match self {
            FrameKind::Status => b's',
            FrameKind::Stdout => b'o',
            FrameKind::Stderr => b'e',
            FrameKind::End => b'z',
        };
        let [a, b, c, d] = length.to_be_bytes();
        [kind, a, b, c, d]
    }

    /// Reads the head of a frame: its kind, and how many bytes follow.
    ///
    /// # Errors
    /// [`BadFrame`] for a kind that this version does not know.
    pub fn of_head(head: [u8; FrameKind::HEAD_BYTES]) -> Result<(FrameKind, u32), BadFrame> {
        let [kind, length @ ..] = head;
        let length = u32::from_be_bytes(length);
        match kind {
            b's' => Ok((FrameKind::Status, length)),
            b'o' => Ok((FrameKind::Stdout, length)),
            b'e' => Ok((FrameKind::Stderr, length)),
            b'z' => Ok((FrameKind::End, length)),
            kind => Err(BadFrame { kind, length }),
        }
    }
}

/// A frame of a kind that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of kind {kind:#04x} and length {length}")]
pub struct BadFrame {
    kind: u8,
    length: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_from_the_line_that_asks_for_the_payload() {
        assert_eq!(created_unit(&created("aB3dEf9Z")), Some("aB3dEf9Z"));
        let from = created_from("aB3dEf9Z", 1 << 40);
        assert_eq!((created_unit(&from), created_byte(&from)), (Some("aB3dEf9Z"), 1 << 40));
        assert_eq!(created_byte(&created("aB3dEf9Z")), 0);
        // A Go node's ids may have another length; what is no id at all must not become a path or a request.
        assert_eq!(created_unit("Work unit created with ID abc. Send stdin data and EOF."), Some("abc"));
        for bad in ["", "with ID .", "with ID ../x.", "Work unit created", "with ID abc"] {
            assert_eq!(created_unit(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_head_reads_as_it_was_written_and_an_unknown_kind_is_an_error() {
        use FrameKind::{End, Status, Stderr, Stdout};
        for (kind, length) in [(Status, 0), (Stdout, 1), (Stderr, 0x0102_0304), (End, u32::MAX)] {
            assert_eq!(FrameKind::of_head(kind.head(length)), Ok((kind, length)));
        }
        assert_eq!(Stdout.head(0x0102_0304), *b"o\x01\x02\x03\x04");
        assert!(FrameKind::of_head(*b"?\0\0\0\0").is_err());
    }
}
