//! What waits to go out on one link.
//!
//! A reader of another link appends a frame straight to the buffer here, and the writer swaps the buffer for an empty one
//! and writes it whole: many frames per system call, one copy, one short lock. There is a buffer for each class of
//! message, and the control buffer goes first. Both are bounded; who finds no room is told, and then a relay drops,
//! since waiting would stall every other flow, while a local sender waits, since it can.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::wire::frame;

/// Data that a relay may have waiting here. Local senders stop at half of it, so that they cannot crowd out the relayed.
const RELAY_BYTES: usize = 256 * 1024;
const LOCAL_BYTES: usize = RELAY_BYTES / 2;

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
    data: Vec<u8>,
    /// Local senders that found no room.
    parked: Vec<Waker>,
    /// Nothing more is taken in; what waits is still written.
    closed: bool,
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

    /// Appends a message that is passed on for others, `head` and `rest` together; it leaves after [`Outbox::wake`]. False
    /// when it was dropped.
    pub(crate) fn push_relayed(&self, head: &[u8], rest: &[u8]) -> bool {
        let mut state = self.lock();
        !state.closed
            && state.data.len() < RELAY_BYTES
            && frame::append(&mut state.data, &[head, rest]).is_ok()
    }

    /// Has what waits written: once for many messages, since each time may wake another thread.
    pub(crate) fn wake(&self) {
        // Which of the two is waiting depends on the link; the permit that nobody takes is harmless.
        self.data_ready.notify_one();
        self.control_ready.notify_one();
    }

    /// Appends messages of this node, each made of `header` and one of `payloads`. False, with `waker` parked until there is
    /// room, when the buffer is full; then none of them was taken. On a closed link they are lost, like any datagram; so
    /// is a payload that fits no frame.
    pub(crate) fn push_local<'a>(
        &self,
        header: &[u8],
        payloads: impl Iterator<Item = &'a [u8]>,
        waker: &Waker,
    ) -> bool {
        let mut state = self.lock();
        if state.closed {
            return true;
        }
        if state.data.len() >= LOCAL_BYTES {
            if !state.parked.iter().any(|parked| parked.will_wake(waker)) {
                state.parked.push(waker.clone());
            }
            return false;
        }
        for payload in payloads {
            let _ = frame::append(&mut state.data, &[header, payload]);
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

    /// Waits for frames of `share` and swaps them into `out`, which must be empty. False when there will be no more.
    pub(crate) async fn take(&self, share: Share, out: &mut Vec<u8>) -> bool {
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

    fn swap(&self, share: Share, out: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        if share != Share::Data && !state.control.is_empty() {
            std::mem::swap(&mut state.control, out);
            return true;
        }
        if share != Share::Control && !state.data.is_empty() {
            std::mem::swap(&mut state.data, out);
            let parked = std::mem::take(&mut state.parked);
            drop(state);
            parked.into_iter().for_each(Waker::wake);
            return true;
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock, and a buffer of whole frames is valid at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Outbox {
        let outbox = Outbox::default();
        while outbox.push_relayed(b"", &[0; 60_000]) {}
        outbox
    }

    #[tokio::test]
    async fn control_messages_overtake_data() {
        let outbox = full();
        assert!(outbox.push_control(b"now"));
        let mut out = Vec::new();
        assert!(outbox.take(Share::All, &mut out).await);
        assert_eq!(out, [3, 0, b'n', b'o', b'w']);
    }

    #[tokio::test]
    async fn a_full_box_drops_for_a_relay_and_wakes_the_local_sender_when_it_has_room() {
        let outbox = std::sync::Arc::new(full());
        assert!(!outbox.push_relayed(b"", b"x"));
        let sender = tokio::spawn({
            let outbox = outbox.clone();
            std::future::poll_fn(move |cx| {
                let sent = outbox.push_local(b"head", [&b"body"[..]].into_iter(), cx.waker());
                if sent { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
        });
        tokio::task::yield_now().await;
        let mut out = Vec::new();
        assert!(outbox.take(Share::Data, &mut out).await);
        sender.await.unwrap();
        out.clear();
        assert!(outbox.take(Share::Data, &mut out).await);
        assert_eq!(out, b"\x08\0headbody");
    }

    #[tokio::test]
    async fn a_closed_box_gives_what_it_holds_and_then_ends() {
        let outbox = Outbox::default();
        outbox.push_control(b"bye");
        outbox.close();
        assert!(!outbox.push_control(b"late"));
        let mut out = Vec::new();
        assert!(outbox.take(Share::All, &mut out).await);
        out.clear();
        assert!(!outbox.take(Share::All, &mut out).await);
    }
}
