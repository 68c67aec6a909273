//! A made-up IPv6 address for each mesh address, and back.
//!
//! QUIC knows its peers by socket address. Ours is stable for the life of the node, and never leaves it:
//!
//! ```text
//! fd6e:6d00 | node, numbered as met, 32 bits | service, 64 bits     port 1
//! ```

use std::{
    collections::HashMap,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::id::{NodeHash, ServiceName};

/// Nodes that can be numbered. The mesh tells of fewer; this bounds what forged datagrams can take.
const NODES_MAX: usize = 1 << 16;

/// Makes the first 32 bits of an address: unique local, and not assigned by anybody else here.
const PREFIX: u32 = 0xfd6e_6d00;

/// The numbers of the nodes that have been met.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<NodeHash, u32>,
    nodes: Vec<NodeHash>,
}

impl Aliases {
    /// The address that stands for a service on a node. `None` when too many nodes have been met.
    pub(crate) fn alias(&self, node: NodeHash, service: ServiceName) -> Option<SocketAddr> {
        let mut known = self.lock();
        let number = match known.numbers.get(&node) {
            Some(number) => *number,
            None if known.nodes.len() == NODES_MAX => return None,
            None => {
                let number = known.nodes.len() as u32;
                known.nodes.push(node);
                known.numbers.insert(node, number);
                number
            }
        };
        let bits = u128::from(PREFIX) << 96
            | u128::from(number) << 64
            | u128::from(u64::from_be_bytes(service.to_wire()));
        // Port 0 would be refused.
        Some(SocketAddrV6::new(Ipv6Addr::from_bits(bits), 1, 0, 0).into())
    }

    /// What an address stands for; `None` if it was not made here.
    pub(crate) fn resolve(&self, alias: SocketAddr) -> Option<(NodeHash, ServiceName)> {
        let SocketAddr::V6(alias) = alias else { return None };
        let bits = alias.ip().to_bits();
        let number = (bits >> 64) as u32;
        let node = *self.lock().nodes.get(number as usize)?;
        ((bits >> 96) as u32 == PREFIX).then_some((node, ServiceName::from_wire((bits as u64).to_be_bytes())))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing under this lock can panic between the two inserts.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_leads_back_to_its_address_and_stays_the_same() {
        let aliases = Aliases::default();
        for (node, service) in [("a", "control"), ("b", "control"), ("a", "x"), ("a", "")] {
            let (node, service) = (NodeHash::of(node), ServiceName::new(service).unwrap());
            let alias = aliases.alias(node, service).unwrap();
            assert_eq!(aliases.resolve(alias), Some((node, service)));
            assert_eq!(aliases.alias(node, service), Some(alias));
        }
        assert_eq!(aliases.resolve("[fd6e:6d00:0:9::1]:1".parse().unwrap()), None);
        assert_eq!(aliases.resolve("127.0.0.1:1".parse().unwrap()), None);
    }

    #[test]
    fn forged_names_take_a_bounded_amount_of_memory() {
        let aliases = Aliases::default();
        let made = (0..NODES_MAX as u64 + 5).filter_map(|n| aliases.alias(NodeHash(n), ServiceName::CONTROL));
        assert_eq!(made.count(), NODES_MAX);
    }
}
