//! Bytes to messages and back; no state.
//!
//! A message is one whole unit that crosses a link. Its first byte says which kind it is:
//!
//! ```text
//! 0  data            35 more bytes of header, then payload     datagram.rs
//! 1  routing update  a JSON object                             gossip.rs
//! 2  advert          a JSON object                             gossip.rs
//! 3  reject          `[]`: the sender ends the link
//! 4  beat            one byte: 0 "I live", 1 "do you?"; between netmesh nodes that agreed on it
//! ```

mod datagram;
pub mod frame;
mod gossip;
mod timestamp;

use bytes::Bytes;

pub use datagram::{Datagram, HEADER_LEN, Header, MAX_PAYLOAD, TooShort, Unreachable};
pub use frame::{MAX_MESSAGE, TooLong};
pub use gossip::{Advert, ConnType, Offer, Rhythm, RoutingUpdate, WorkCommand};
pub use timestamp::{BadTimestamp, Timestamp};

/// One message between two neighbours.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A datagram on its way.
    Data(Datagram),
    /// What a node says about its links.
    Routing(RoutingUpdate),
    /// What a node says about one of its services.
    Advert(Advert),
    /// The neighbour wants no link with us. What stands in it is not looked at.
    Reject,
    /// The neighbour lives, and may want to know whether we do.
    Beat {
        /// It has heard nothing from us for too long: answer at once.
        asks: bool,
    },
}

/// The kinds of message, by their first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A datagram.
    Data = 0,
    /// A routing update.
    Routing = 1,
    /// A service advertisement.
    Advert = 2,
    /// A refusal.
    Reject = 3,
    /// A heartbeat, which a Receptor node is never sent, and would skip.
    Beat = 4,
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// No bytes at all.
    #[error("a message of no bytes")]
    Empty,
    /// The first byte names no kind we know.
    #[error("unknown kind of message {0}")]
    UnknownKind(u8),
    /// A datagram without a whole header.
    #[error(transparent)]
    TooShort(#[from] TooShort),
    /// JSON that does not read, or reads as something else.
    #[error("malformed {what}: {source}")]
    Json {
        /// Which kind of message it claims to be.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A field holds what it cannot mean, for instance an empty node ID.
    #[error("malformed {what}: {field} {problem}")]
    Field {
        /// Which kind of message it claims to be.
        what: &'static str,
        /// Which field, as it is spelled on the wire.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl Kind {
    /// The kind that `message` claims to be.
    ///
    /// # Errors
    /// [`BadMessage::Empty`] and [`BadMessage::UnknownKind`].
    pub fn of(message: &[u8]) -> Result<Kind, BadMessage> {
        match message.first() {
            Some(0) => Ok(Kind::Data),
            Some(1) => Ok(Kind::Routing),
            Some(2) => Ok(Kind::Advert),
            Some(3) => Ok(Kind::Reject),
            Some(4) => Ok(Kind::Beat),
            Some(other) => Err(BadMessage::UnknownKind(*other)),
            None => Err(BadMessage::Empty),
        }
    }
}

impl Message {
    /// Reads one whole message; a datagram's payload is copied.
    ///
    /// # Errors
    /// [`BadMessage`] says what is wrong; the link it came by is none the worse for it.
    pub fn decode(message: &[u8]) -> Result<Message, BadMessage> {
        Ok(match Kind::of(message)? {
            Kind::Data => Message::Data(Datagram::decode(message)?),
            Kind::Routing => Message::Routing(RoutingUpdate::decode(message)?),
            Kind::Advert => Message::Advert(Advert::decode(message)?),
            Kind::Reject => Message::Reject,
            // What a later version may put behind the first byte means nothing to us.
            Kind::Beat => Message::Beat { asks: message.get(1).is_some_and(|flags| flags & 1 == 1) },
        })
    }

    /// Writes the message as it crosses a link.
    ///
    /// # Errors
    /// [`TooLong`] above [`MAX_MESSAGE`] bytes.
    pub fn encode(&self) -> Result<Bytes, TooLong> {
        match self {
            Message::Data(datagram) => datagram.encode(),
            Message::Routing(update) => update.encode(),
            Message::Advert(advert) => advert.encode(),
            Message::Reject => Ok(Bytes::from_static(b"\x03[]")),
            Message::Beat { asks: false } => Ok(Bytes::from_static(b"\x04\0")),
            Message::Beat { asks: true } => Ok(Bytes::from_static(b"\x04\x01")),
        }
    }
}
