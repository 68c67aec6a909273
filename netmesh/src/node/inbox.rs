//! What has arrived for one service and waits to be read.
//!
//! The readers of links put packets in and never wait: a service that nobody reads loses its own packets and holds up no
//! link. Notices about packets that the service sent in vain wait beside them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

use crate::{
    id::{NodeHash, NodeId, ServiceName},
    wire::Unreachable,
};

/// Packets that may wait. A stream's window must fit.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// The same as a count, since small packets have a cost too.
const PACKETS_MAX: usize = 16 * 1024;
/// Notices that may wait; one tells as much as many.
const NOTICES_MAX: usize = 16;

/// One packet for a service.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    /// The node that sent it, as the header claims.
    pub(crate) from: NodeId,
    /// The hash of `from`.
    pub(crate) from_hash: NodeHash,
    /// The service that sent it.
    pub(crate) from_service: ServiceName,
    /// What it carries.
    pub(crate) payload: Bytes,
}

/// A notice that a packet did not arrive.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Which packet, and why.
    pub unreachable: Unreachable,
    /// The node that noticed.
    pub reporter: NodeId,
}

/// The queue of one service.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<Packet>,
    bytes: usize,
    packet_reader: Option<Waker>,
    notices: VecDeque<Notice>,
    notice_reader: Option<Waker>,
    closed: bool,
}

impl Inbox {
    /// Puts a packet in. False when it was dropped for want of room.
    pub(crate) fn push(&self, packet: Packet) -> bool {
        let mut state = self.lock();
        let fits = state.packets.len() < PACKETS_MAX && state.bytes + packet.payload.len() <= BYTES_MAX;
        if fits && !state.closed {
            state.bytes += packet.payload.len();
            state.packets.push_back(packet);
            let reader = state.packet_reader.take();
            drop(state);
            reader.into_iter().for_each(Waker::wake);
        }
        fits
    }

    /// Puts a notice in; the oldest goes when there are too many.
    pub(crate) fn push_notice(&self, notice: Notice) {
        let mut state = self.lock();
        if state.notices.len() == NOTICES_MAX {
            state.notices.pop_front();
        }
        state.notices.push_back(notice);
        let reader = state.notice_reader.take();
        drop(state);
        reader.into_iter().for_each(Waker::wake);
    }

    /// The next packets: calls `take` for each until it says that it wants no more. Pending when there is none, ready with
    /// false when there will be none.
    pub(crate) fn poll_packets(
        &self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&Packet) -> bool,
    ) -> Poll<bool> {
        let mut state = self.lock();
        let mut taken = false;
        while let Some(packet) = state.packets.front() {
            if !take(packet) {
                return Poll::Ready(true);
            }
            taken = true;
            let len = packet.payload.len();
            state.packets.pop_front();
            state.bytes -= len;
        }
        if taken {
            Poll::Ready(true)
        } else if state.closed {
            Poll::Ready(false)
        } else {
            state.packet_reader = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    /// The next notice, or `None` when there will be none.
    pub(crate) fn poll_notice(&self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        let mut state = self.lock();
        match state.notices.pop_front() {
            Some(notice) => Poll::Ready(Some(notice)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.notice_reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes in no more packets, and wakes whoever waits for one.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let readers = [state.packet_reader.take(), state.notice_reader.take()];
        drop(state);
        readers.into_iter().flatten().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The only foreign code under this lock is `take`, which sees packets and changes none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_nobody_reads_loses_its_own_packets() {
        let inbox = Inbox::default();
        let from = NodeId::new("a").unwrap();
        let packet = Packet {
            from_hash: from.hash(),
            from,
            from_service: ServiceName::CONTROL,
            payload: Bytes::from_static(&[0; 60_000]),
        };
        let taken = (0..1_000).filter(|_| inbox.push(packet.clone())).count();
        assert_eq!(taken, BYTES_MAX / 60_000);
    }
}
