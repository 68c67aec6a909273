//! A datagram: a header of 36 bytes (from, to, hops left) and a payload.
//!
//! ```text
//! 0     1     2      4            12          20            28          36
//! | 0   |hops | 0 0  | from node  | to node   | from service| to service| payload
//!                      64-bit hashes, big-endian   names, padded with NUL
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::MapAccess};

use super::{BadMessage, Kind, MAX_MESSAGE, TooLong, frame};
use crate::{
    id::{NodeHash, ServiceName},
    json::{self, GoObject},
};

/// How many bytes of a data message are header, its kind included.
pub const HEADER_LEN: usize = 36;

/// The longest payload, in bytes: what a frame holds less the header.
pub const MAX_PAYLOAD: usize = MAX_MESSAGE - HEADER_LEN;

/// Where a datagram goes, whence, and how many more links it may cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// How many more links it may cross after this one. A datagram with 0 is still delivered where it is.
    pub hops: u8,
    /// The node that claims to have sent it.
    pub from: NodeHash,
    /// The node it is for.
    pub to: NodeHash,
    /// The service that claims to have sent it.
    pub from_service: ServiceName,
    /// The service it is for.
    pub to_service: ServiceName,
}

/// A message that claims to be a datagram and has no whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a data message of {len} bytes is shorter than its header of {HEADER_LEN}")]
pub struct TooShort {
    /// How long it was, in bytes.
    pub len: usize,
}

impl Header {
    /// Reads the header of a data message; the kind byte and the two reserved bytes are not looked at.
    ///
    /// # Errors
    /// [`TooShort`] below [`HEADER_LEN`] bytes.
    pub fn decode(message: &[u8]) -> Result<Header, TooShort> {
        let Some(head) = message.first_chunk::<HEADER_LEN>() else {
            return Err(TooShort { len: message.len() });
        };
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&head[at..at + 8]);
            bytes
        };
        Ok(Header {
            hops: head[1],
            from: NodeHash(u64::from_be_bytes(word(4))),
            to: NodeHash(u64::from_be_bytes(word(12))),
            from_service: ServiceName::from_wire(word(20)),
            to_service: ServiceName::from_wire(word(28)),
        })
    }

    /// The header as it stands at the start of a data message, kind byte included.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut head = [0; HEADER_LEN];
        head[0] = Kind::Data as u8;
        head[1] = self.hops;
        head[4..12].copy_from_slice(&self.from.0.to_be_bytes());
        head[12..20].copy_from_slice(&self.to.0.to_be_bytes());
        head[20..28].copy_from_slice(&self.from_service.to_wire());
        head[28..36].copy_from_slice(&self.to_service.to_wire());
        head
    }
}

/// A header and its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it goes.
    pub header: Header,
    /// What it carries; may be empty.
    pub payload: Bytes,
}

impl Datagram {
    pub(super) fn decode(message: &[u8]) -> Result<Datagram, TooShort> {
        let header = Header::decode(message)?;
        Ok(Datagram { header, payload: Bytes::copy_from_slice(&message[HEADER_LEN..]) })
    }

    /// The whole message, header first.
    ///
    /// # Errors
    /// [`TooLong`] for a payload above [`MAX_PAYLOAD`] bytes.
    pub fn encode(&self) -> Result<Bytes, TooLong> {
        let len = HEADER_LEN + self.payload.len();
        frame::length(len)?;
        let mut out = BytesMut::with_capacity(len);
        out.put_slice(&self.header.encode());
        out.put_slice(&self.payload);
        Ok(out.freeze())
    }
}

/// What a notice says: which datagram did not arrive, and why. It travels as the payload of a datagram from and to
/// the service `unreach`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Unreachable {
    /// The node that sent the lost datagram, as text that nobody has checked.
    pub from_node: String,
    /// The node it was for.
    pub to_node: String,
    /// The service that sent it.
    pub from_service: String,
    /// The service it was for.
    pub to_service: String,
    /// Why it did not arrive, for instance `service unknown`.
    pub problem: String,
}

impl Unreachable {
    /// Reads the payload of a notice.
    ///
    /// # Errors
    /// [`BadMessage::Json`] when it is no JSON object of texts.
    pub fn decode(payload: &[u8]) -> Result<Unreachable, BadMessage> {
        json::from_go_slice(payload).map_err(|source| BadMessage::Json { what: "unreachable notice", source })
    }

    /// The payload of a notice.
    pub fn encode(&self) -> Bytes {
        Bytes::from(json::to_go_string(self))
    }
}

impl GoObject for Unreachable {
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        let slot = match key {
            k if k.eq_ignore_ascii_case("FromNode") => &mut self.from_node,
            k if k.eq_ignore_ascii_case("ToNode") => &mut self.to_node,
            k if k.eq_ignore_ascii_case("FromService") => &mut self.from_service,
            k if k.eq_ignore_ascii_case("ToService") => &mut self.to_service,
            k if k.eq_ignore_ascii_case("Problem") => &mut self.problem,
            _ => return Ok(false),
        };
        json::read_into(slot, map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_request_has_the_bytes_that_receptor_sends() {
        let header = Header {
            hops: 29,
            from: NodeHash::of("node2"),
            to: NodeHash::of("node1"),
            from_service: ServiceName::new("Xy12AbCd").unwrap(),
            to_service: ServiceName::PING,
        };
        let bytes = Datagram { header, payload: Bytes::new() }.encode().unwrap();
        let expected = b"\x00\x1d\x00\x00\x51\xbc\xc6\xe1\x4e\xb3\xfe\xe1\x61\x05\x2d\x2b\x58\x2e\xb1\x5eXy12AbCdping\0\0\0\0";
        assert_eq!(&bytes[..], &expected[..]);
        assert_eq!(Header::decode(&bytes), Ok(header));
    }

    #[test]
    fn a_datagram_without_a_whole_header_is_refused() {
        assert_eq!(Header::decode(&[0; 35]), Err(TooShort { len: 35 }));
    }

    #[test]
    fn a_payload_that_fits_no_frame_is_refused() {
        let header = Header::decode(&[0; 36]).unwrap();
        let of = |len: usize| Datagram { header, payload: Bytes::from(vec![0; len]) };
        assert!(of(MAX_PAYLOAD).encode().is_ok());
        assert_eq!(of(MAX_PAYLOAD + 1).encode(), Err(TooLong { len: 65_536 }));
    }

    #[test]
    fn a_notice_reads_in_any_case_and_prints_in_receptors() {
        let text = br#"{"fromnode":"node2","TONODE":"node1","FromService":"Xy12AbCd","ToService":"nosvc","Problem":"service unknown","New":[1]}"#;
        let notice = Unreachable::decode(text).unwrap();
        let expected = r#"{"FromNode":"node2","ToNode":"node1","FromService":"Xy12AbCd","ToService":"nosvc","Problem":"service unknown"}"#;
        assert_eq!(notice.encode(), expected);
        assert!(Unreachable::decode(b"[]").is_err());
    }
}
