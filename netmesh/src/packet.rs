//! Datagrams to and from one service of this node.
//!
//! A datagram may be lost, doubled or overtaken, and nothing proves who has sent it. What arrives waits in a bounded
//! queue; when it is full, newer ones are dropped. Sending waits while the link is full.

use std::{future::poll_fn, sync::Arc, task::Poll};

use bytes::Bytes;

use crate::{
    id::{Address, ServiceName},
    logic::HOPS_MAX,
    node::{Inbox, Node, Notice, Sent},
    tls,
    wire::{Header, MAX_PAYLOAD},
};

/// An open service. Dropping it closes the service.
#[derive(Debug)]
pub struct PacketSocket {
    node: Node,
    service: ServiceName,
    inbox: Arc<Inbox>,
    hops: u8,
}

/// Why a service cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Somebody has it already, or the node keeps it for itself.
    #[error("service {0} is already listening")]
    Taken(ServiceName),
}

/// Why a datagram was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No way leads to the node now.
    #[error("no route to node {}", to.node)]
    NoRoute {
        /// Where it should have gone.
        to: Address,
    },
    /// It does not fit a frame.
    #[error("a datagram holds at most {MAX_PAYLOAD} bytes, this one has {len}: send less at a time")]
    TooLong {
        /// How long it was.
        len: usize,
    },
}

impl PacketSocket {
    pub(crate) fn open(node: &Node, service: Option<ServiceName>) -> Result<PacketSocket, OpenError> {
        let (service, inbox) = match service {
            Some(name) if name.is_reserved() => return Err(OpenError::Taken(name)),
            Some(name) => (name, node.plane().open(name).ok_or(OpenError::Taken(name))?),
            None => loop {
                let name = ephemeral();
                if let Some(inbox) = node.plane().open(name) {
                    break (name, inbox);
                }
            },
        };
        Ok(PacketSocket { node: node.clone(), service, inbox, hops: HOPS_MAX })
    }

    /// The name of the service.
    pub fn service(&self) -> ServiceName {
        self.service
    }

    /// The node it is on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// From now on datagrams may cross `hops` links; the default is 30.
    pub fn set_hops(&mut self, hops: u8) {
        self.hops = hops;
    }

    /// The next datagram and who claims to have sent it. `None` when the node has stopped. One task at a time may wait.
    pub async fn recv(&self) -> Option<(Address, Bytes)> {
        poll_fn(|cx| {
            let mut got = None;
            let more = self.inbox.poll_packets(cx, |packet| {
                let first = got.is_none();
                if first {
                    let from = Address { node: packet.from.clone(), service: packet.from_service };
                    got = Some((from, packet.payload.clone()));
                }
                first
            });
            more.map(|_| got)
        })
        .await
    }

    /// The next notice that a datagram of ours did not arrive. `None` when the node has stopped. One task at a time may
    /// wait.
    pub async fn notice(&self) -> Option<Notice> {
        poll_fn(|cx| self.inbox.poll_notice(cx)).await
    }

    /// Sends a datagram, and waits while the link toward `to` is full.
    pub async fn send(&self, to: &Address, payload: &[u8]) -> Result<(), SendError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(SendError::TooLong { len: payload.len() });
        }
        let header = Header {
            hops: self.hops,
            from: self.node.plane().hash,
            to: to.node.hash(),
            from_service: self.service,
            to_service: to.service,
        };
        poll_fn(|cx| match self.node.plane().send_one(header, payload, cx.waker()) {
            Sent::Yes => Poll::Ready(Ok(())),
            Sent::NoRoute => Poll::Ready(Err(SendError::NoRoute { to: to.clone() })),
            Sent::Full => Poll::Pending,
        })
        .await
    }

    pub(crate) fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        self.node.plane().close(self.service);
    }
}

/// Eight letters and digits that nobody can guess.
fn ephemeral() -> ServiceName {
    const ALPHABET: &[u8; 62] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let dice: [u64; 8] = tls::random::<64>()
        .chunks_exact(8)
        .map(|chunk| chunk.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        .collect::<Vec<_>>()
        .try_into()
        .expect("64 bytes are eight times eight");
    ServiceName::from_wire(dice.map(|roll| ALPHABET[(roll % 62) as usize]))
}
