//! Who is who: text becomes a type here, at the door, so that the rest of the code need not ask again.

use std::{
    borrow::{Borrow, Cow},
    fmt,
    sync::Arc,
};

use highway::{HighwayHash, HighwayHasher, Key};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The name of a node: non-empty UTF-8, at most [`NodeId::MAX_LEN`] bytes, case-sensitive.
///
/// `localhost` in any case is refused: as a destination it means “this node”, so it names none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Why a text is no [`NodeId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNodeId {
    /// The text was empty.
    #[error("a node ID must not be empty")]
    Empty,
    /// The text was `localhost`.
    #[error("node ID \"localhost\" is reserved")]
    Localhost,
    /// The text was too long.
    #[error("a node ID has at most {max} bytes, this one has {len}", max = NodeId::MAX_LEN)]
    TooLong {
        /// How long it was.
        len: usize,
    },
    /// The text holds a control character, which would break the line-based control protocol.
    #[error("a node ID must not contain control characters")]
    Control,
}

impl NodeId {
    /// The longest name accepted, in bytes. Receptor knows no limit; a host name has at most 253.
    pub const MAX_LEN: usize = 512;

    /// Checks `text` and makes it a node ID.
    pub fn new(text: &str) -> Result<NodeId, BadNodeId> {
        match text {
            "" => Err(BadNodeId::Empty),
            _ if text.len() > Self::MAX_LEN => Err(BadNodeId::TooLong { len: text.len() }),
            _ if text.eq_ignore_ascii_case("localhost") => Err(BadNodeId::Localhost),
            _ if text.chars().any(char::is_control) => Err(BadNodeId::Control),
            _ => Ok(NodeId(text.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as it stands in the header of a datagram.
    pub fn hash(&self) -> NodeHash {
        NodeHash::of(&self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::str::FromStr for NodeId {
    type Err = BadNodeId;
    fn from_str(text: &str) -> Result<NodeId, BadNodeId> {
        NodeId::new(text)
    }
}

impl Borrow<str> for NodeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<NodeId, D::Error> {
        NodeId::new(&String::deserialize(d)?).map_err(de::Error::custom)
    }
}

/// The 64-bit HighwayHash of a node's name, under the zero key.
///
/// Source: mesh-protocol, “Node hash”; on the wire it is big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeHash(pub u64);

impl NodeHash {
    /// Hashes the UTF-8 bytes of `name`.
    pub fn of(name: &str) -> NodeHash {
        NodeHash(HighwayHasher::new(Key([0; 4])).hash64(name.as_bytes()))
    }
}

/// The name of a service on a node: at most 8 bytes, padded with NUL on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName([u8; 8]);

/// Why a text is no [`ServiceName`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("service name {0} too long")]
pub struct BadServiceName(pub String);

impl ServiceName {
    /// Answers probes; no one else may listen on it.
    pub const PING: ServiceName = ServiceName(*b"ping\0\0\0\0");
    /// Receives notices about datagrams that did not arrive; no one else may listen on it.
    pub const UNREACH: ServiceName = ServiceName(*b"unreach\0");
    /// Where a node's control service listens by default.
    pub const CONTROL: ServiceName = ServiceName(*b"control\0");

    /// Makes `name` a service name; an error above 8 bytes.
    pub fn new(name: &str) -> Result<ServiceName, BadServiceName> {
        let mut padded = [0; 8];
        match padded.get_mut(..name.len()) {
            Some(start) => start.copy_from_slice(name.as_bytes()),
            None => return Err(BadServiceName(name.to_owned())),
        }
        Ok(ServiceName(padded))
    }

    /// The name as it stands on the wire.
    pub const fn from_wire(bytes: [u8; 8]) -> ServiceName {
        ServiceName(bytes)
    }

    /// The eight bytes for the wire.
    pub const fn to_wire(self) -> [u8; 8] {
        self.0
    }

    /// True for the names that a node keeps for itself.
    pub fn is_reserved(self) -> bool {
        self == Self::PING || self == Self::UNREACH
    }

    /// The name as text, without its padding.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.trimmed())
    }

    fn trimmed(&self) -> &[u8] {
        let end = self.0.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        &self.0[..end]
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

/// Where a datagram comes from or goes to: a service on a node. Prints as `node:service`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The node.
    pub node: NodeId,
    /// The service on it.
    pub service: ServiceName,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.service)
    }
}

/// What it costs to cross a link: finite and above zero. Both ends of a link must agree on it exactly.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Cost(f64);

/// Why a number is no [`Cost`].
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("connection cost must be positive")]
pub struct BadCost;

impl Cost {
    /// What a link costs when nobody says otherwise.
    pub const ONE: Cost = Cost(1.0);

    /// Checks `value` and makes it a cost.
    pub fn new(value: f64) -> Result<Cost, BadCost> {
        if value.is_finite() && value > 0.0 { Ok(Cost(value)) } else { Err(BadCost) }
    }

    /// The number.
    pub const fn value(self) -> f64 {
        self.0
    }
}

impl Default for Cost {
    fn default() -> Cost {
        Cost::ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hash_as_the_go_node_hashes_them() {
        for (name, hash) in [
            ("", 0x7035da75b9d54469),
            ("a", 0xbd6efba9eb78e61f),
            ("foo", 0xef7a78b67f92bdf7),
            ("controller", 0xbac03aa9a8a96ddc),
            ("12345678901234567", 0xe38ff9175cca1559),
            ("abcdefghijklmnopqrstuvwxyz012345", 0xdd0cf3d150e732be),
            ("a-very-long-node-name-that-exceeds-32-bytes.example.com", 0xec803350a1ec7dce),
            ("nœud-α", 0x3cc39e890ca32449),
        ] {
            assert_eq!(NodeHash::of(name), NodeHash(hash), "{name}");
        }
    }

    #[test]
    fn text_that_names_no_node_is_refused() {
        assert_eq!(NodeId::new(""), Err(BadNodeId::Empty));
        assert_eq!(NodeId::new("LocalHost"), Err(BadNodeId::Localhost));
        assert_eq!(NodeId::new("a\nb"), Err(BadNodeId::Control));
        assert!(NodeId::new(&"x".repeat(513)).is_err());
    }

    #[test]
    fn a_service_name_has_at_most_eight_bytes() {
        assert_eq!(ServiceName::new("control").unwrap(), ServiceName::CONTROL);
        assert_eq!(ServiceName::CONTROL.to_string(), "control");
        assert_eq!(ServiceName::new("123456789").unwrap_err().to_string(), "service name 123456789 too long");
    }

    #[test]
    fn a_cost_is_positive_and_finite() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Cost::new(bad).is_err(), "{bad}");
        }
    }
}
