//! What waits to go out on one link.
//!
//! A reader of another link appends a frame straight to a buffer here, and the writer swaps the buffer for an empty one
//! and writes it whole: many frames per system call, one copy, one short lock. Control messages have a buffer of their own
//! and go first; data waits in two [lanes](super::lanes), so that bulk holds up nothing else. All are bounded; who finds no
//! room is told, and then a relay drops, since waiting would stall every other flow, while a local sender waits, since it
//! can.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lanes::{Flow, Lanes, Source, Taken};
use crate::wire::{HEADER_LEN, frame};

/// Relayed bulk that may wait here, and local bulk.
const RELAY_BYTES: usize = 256 * 1024;
const LOCAL_BYTES: usize = 192 * 1024;
/// Local senders that found no room go on when no more than this of theirs waits: not at each block that leaves, since to wake them
/// costs more than that.
const RESUME_BYTES: usize = LOCAL_BYTES / 2;

/// Control messages that may wait: several floods of a large mesh. They are repeated, so what does not fit is dropped.
const CONTROL_BYTES: usize = 4 * 1024 * 1024;

/// The buffers between everyone who sends on a link and the tasks that write to it.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    /// Wakes the task that writes control messages, or both classes.
    control_ready: Notify,
    /// Wakes the task that writes data alone.
    data_ready: Notify,
    /// Cancelled when it was closed.
    closing: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    control: Vec<u8>,
    data: Lanes,
    /// Local senders that found no room.
    parked: Vec<Waker>,
    /// Nothing more is taken in; what waits is still written.
    closed: bool,
}

/// What is written at once, in this order. Its buffers go round: they come back with the next [`Outbox::take`].
#[derive(Debug, Default)]
pub(crate) struct Batch {
    control: Vec<u8>,
    data: Taken,
}

impl Batch {
    /// The bytes.
    pub(crate) fn parts(&self) -> [&[u8]; 3] {
        [&self.control, &self.data.thin, &self.data.fat]
    }

    /// It has been written. What has grown beyond `kept` bytes is given back.
    pub(crate) fn clear(&mut self, kept: usize) {
        for part in [&mut self.control, &mut self.data.thin, &mut self.data.fat] {
            part.clear();
            part.shrink_to(kept);
        }
    }
}

/// Which buffers a writer empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// Both, control first: the link has one channel.
    All,
    /// The control buffer alone.
    Control,
    /// The data buffer alone.
    Data,
}

impl Outbox {
    /// Appends a control message. False when it was dropped.
    pub(crate) fn push_control(&self, message: &[u8]) -> bool {
        let mut state = self.lock();
        let fits = !state.closed
            && state.control.len() + message.len() <= CONTROL_BYTES
            && frame::append(&mut state.control, &[message]).is_ok();
        if fits {
            drop(state);
            self.control_ready.notify_one();
        }
        fits
    }

    /// Appends a datagram that is passed on for others, `head` and `rest` together, the header whole in `rest` from where
    /// `head` has ended; it leaves after [`Outbox::wake`]. False when it was dropped.
    pub(crate) fn push_relayed(&self, head: &[u8], rest: &[u8]) -> bool {
        let mut state = self.lock();
        !state.closed
            && state.data.push(&flow_of(head.len(), rest), &[head, rest], Source::Relayed, RELAY_BYTES)
    }

    /// Has what waits written: once for many messages, since each time may wake another thread.
    pub(crate) fn wake(&self) {
        // Which of the two is waiting depends on the link; the permit that nobody takes is harmless.
        self.data_ready.notify_one();
        self.control_ready.notify_one();
    }

    /// Appends messages of this node, each made of `header` and one of `payloads`. False, with `waker` parked until there is
    /// room, when there is none for bulk and this is; then none of them was taken. On a closed link they are lost, like any
    /// datagram; so is a payload that fits no frame.
    pub(crate) fn push_local<'a>(
        &self,
        header: &[u8; HEADER_LEN],
        payloads: impl Iterator<Item = &'a [u8]> + Clone,
        waker: &Waker,
    ) -> bool {
        let flow = flow_of(0, header);
        let mut state = self.lock();
        if state.closed {
            return true;
        }
        if state.data.fat_bytes(Source::Local) >= LOCAL_BYTES {
            let bytes = payloads.clone().map(|payload| 2 + HEADER_LEN + payload.len()).sum();
            if !state.data.is_thin(&flow, bytes) {
                if !state.parked.iter().any(|parked| parked.will_wake(waker)) {
                    state.parked.push(waker.clone());
                }
                return false;
            }
        }
        for payload in payloads {
            state.data.push(&flow, &[header, payload], Source::Local, usize::MAX);
        }
        drop(state);
        self.wake();
        true
    }

    /// Takes in nothing more. Writers end when they have written what waits, and parked senders go on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        parked.into_iter().for_each(Waker::wake);
        self.closing.cancel();
        self.control_ready.notify_one();
        self.data_ready.notify_one();
    }

    /// Returns when it was closed.
    pub(crate) async fn closed(&self) {
        self.closing.cancelled().await;
    }

    /// Waits for frames of `share` and swaps them into `out`, whose own have been written. False when there will be no more.
    pub(crate) async fn take(&self, share: Share, out: &mut Batch) -> bool {
        loop {
            if self.swap(share, out) {
                return true;
            }
            if self.lock().closed {
                // Something may have come between the two looks.
                return self.swap(share, out);
            }
            match share {
                Share::All | Share::Control => self.control_ready.notified().await,
                Share::Data => self.data_ready.notified().await,
            }
        }
    }

    fn swap(&self, share: Share, out: &mut Batch) -> bool {
        let mut state = self.lock();
        let mut some = false;
        if share != Share::Data {
            out.control.clear();
            std::mem::swap(&mut state.control, &mut out.control);
            some = !out.control.is_empty();
        }
        if share != Share::Control {
            some |= state.data.take(&mut out.data);
            if state.data.fat_bytes(Source::Local) <= RESUME_BYTES {
                let parked = std::mem::take(&mut state.parked);
                drop(state);
                parked.into_iter().for_each(Waker::wake);
            }
        }
        some
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock, and a buffer of whole frames is valid at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who talks to whom: the header of a datagram from its fourth byte, where `rest` begins at byte `at`. A shorter one, which
/// nobody sends, is of the flow of what there is.
fn flow_of(at: usize, rest: &[u8]) -> Flow {
    let mut flow = [0; 32];
    let from = rest.get(4_usize.saturating_sub(at)..).unwrap_or_default();
    flow.iter_mut().zip(from).for_each(|(to, byte)| *to = *byte);
    flow
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Outbox {
        let outbox = Outbox::default();
        while outbox.push_relayed(b"", &[0; 60_000]) {}
        while outbox.push_local(&[7; HEADER_LEN], [&[0; 60_000][..]].into_iter(), Waker::noop()) {}
        outbox
    }

    #[tokio::test]
    async fn control_messages_overtake_data() {
        let outbox = full();
        assert!(outbox.push_control(b"now"));
        let mut out = Batch::default();
        assert!(outbox.take(Share::All, &mut out).await);
        assert_eq!(out.parts()[0], [3, 0, b'n', b'o', b'w']);
    }

    #[tokio::test]
    async fn bulk_that_finds_no_room_is_dropped_for_a_relay_and_waits_for_a_local_sender() {
        let outbox = std::sync::Arc::new(full());
        assert!(!outbox.push_relayed(b"", &[0; 60_000]));
        let send = |header: [u8; HEADER_LEN], bytes: usize| {
            let outbox = outbox.clone();
            std::future::poll_fn(move |cx| {
                let payload = vec![9; bytes];
                let sent = outbox.push_local(&header, [&payload[..]].into_iter(), cx.waker());
                if sent { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
        };
        let little = [1; HEADER_LEN];
        send(little, 4).await;
        let bulk = tokio::spawn(send([2; HEADER_LEN], 60_000));
        tokio::task::yield_now().await;
        assert!(!bulk.is_finished());
        let mut out = Batch::default();
        assert!(outbox.take(Share::Data, &mut out).await);
        assert_eq!(out.parts()[1], [&[40, 0][..], &little, &[9; 4]].concat());
        let mut blocks = 1;
        while !bulk.is_finished() {
            assert!(outbox.take(Share::Data, &mut out).await, "everything has left and nobody was woken");
            blocks += 1;
            tokio::task::yield_now().await;
        }
        assert!(blocks > 2, "woken for each block");
    }

    #[tokio::test]
    async fn a_closed_box_gives_what_it_holds_and_then_ends() {
        let outbox = Outbox::default();
        outbox.push_control(b"bye");
        outbox.close();
        assert!(!outbox.push_control(b"late"));
        let mut out = Batch::default();
        assert!(outbox.take(Share::All, &mut out).await);
        assert!(!outbox.take(Share::All, &mut out).await);
    }
}
