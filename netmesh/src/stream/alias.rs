//! A made-up IPv6 address for each mesh address, and back.
//!
//! QUIC knows its peers by socket address, and compares these whole. Ours hold a mesh address whole, so nothing need be
//! remembered or forgotten. They never leave the node:
//!
//! ```text
//! fd6e:6d00 | node, first half of its hash | service, 64 bits    port 1    scope: node, second half
//! ```

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::id::{NodeHash, ServiceName};

/// Makes the first 32 bits of an address: unique local, and not assigned by anybody else here.
const PREFIX: u32 = 0xfd6e_6d00;

/// The address that stands for a service on a node.
pub(crate) fn alias(node: NodeHash, service: ServiceName) -> SocketAddr {
    let bits = u128::from(PREFIX) << 96
        | u128::from(node.0 >> 32) << 64
        | u128::from(u64::from_be_bytes(service.to_wire()));
    // Port 0 would be refused.
    SocketAddrV6::new(Ipv6Addr::from_bits(bits), 1, 0, node.0 as u32).into()
}

/// What an address stands for; `None` if it was not made here.
pub(crate) fn resolve(alias: SocketAddr) -> Option<(NodeHash, ServiceName)> {
    let SocketAddr::V6(alias) = alias else { return None };
    let bits = alias.ip().to_bits();
    let node = NodeHash(u64::from((bits >> 64) as u32) << 32 | u64::from(alias.scope_id()));
    ((bits >> 96) as u32 == PREFIX).then_some((node, ServiceName::from_wire((bits as u64).to_be_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_leads_back_to_its_address_and_no_other() {
        let mut seen = std::collections::HashSet::new();
        for (node, service) in
            [("a", "control"), ("b", "control"), ("a", "x"), ("a", ""), ("nœud", "12345678")]
        {
            let (node, service) = (NodeHash::of(node), ServiceName::new(service).unwrap());
            assert_eq!(resolve(alias(node, service)), Some((node, service)));
            assert!(seen.insert(alias(node, service)));
        }
        let near = NodeHash(NodeHash::of("a").0 ^ 1);
        assert!(seen.insert(alias(near, ServiceName::CONTROL)), "the second half of a hash counts too");
        assert_eq!(resolve("[fd6e:6d01:0:9::1]:1".parse().unwrap()), None);
        assert_eq!(resolve("127.0.0.1:1".parse().unwrap()), None);
    }
}
