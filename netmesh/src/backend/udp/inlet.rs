//! What waits to be read on one session of a listener.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::is_farewell;
use crate::wire::{Kind, frame};

/// Data that may wait for a link that is slow.
const DATA_BYTES: usize = 256 * 1024;
/// The same with routing and liveness, which should not be lost for want of the room that data has taken.
const ALL_BYTES: usize = 2 * DATA_BYTES;
/// A buffer that has grown beyond this is given back when it was read to its end.
const KEPT_BYTES: usize = 64 * 1024;

/// Between the one task that receives for all sessions and the link of this one.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<u8>,
    /// The neighbour has ended the session, or will never be read again.
    ended: bool,
    reader: Option<Waker>,
}

impl Inlet {
    /// Appends a message; it is lost where there is no room, and after the end.
    pub(super) fn push(&self, message: &[u8]) {
        let bound = if matches!(Kind::of(message), Ok(Kind::Data)) { DATA_BYTES } else { ALL_BYTES };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ended || state.frames.len() + message.len() > bound {
            return;
        }
        // No datagram is longer than a frame can hold.
        if frame::append(&mut state.frames, &[message]).is_ok() {
            state.ended = is_farewell(message);
            let reader = state.reader.take();
            drop(state);
            reader.into_iter().for_each(Waker::wake);
        }
    }
}

/// Reads what comes in at an inlet.
#[derive(Debug)]
pub(super) struct InletReader {
    inlet: Arc<Inlet>,
    taken: Vec<u8>,
    given: usize,
}

impl InletReader {
    pub(super) fn new(inlet: Arc<Inlet>) -> InletReader {
        InletReader { inlet, taken: Vec::new(), given: 0 }
    }
}

impl AsyncRead for InletReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.given == this.taken.len() {
            this.taken.clear();
            this.taken.shrink_to(KEPT_BYTES);
            this.given = 0;
            let mut state = this.inlet.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.frames.is_empty() && !state.ended {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            std::mem::swap(&mut state.frames, &mut this.taken);
        }
        let left = &this.taken[this.given..];
        let len = left.len().min(buf.remaining());
        buf.put_slice(&left[..len]);
        this.given += len;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_slow_link_loses_data_but_not_what_keeps_it_alive() {
        let inlet = Arc::new(Inlet::default());
        for _ in 0..100 {
            inlet.push(&[0; 10_000]);
        }
        inlet.push(b"\x01{}");
        let mut reader = InletReader::new(inlet.clone());
        let mut all = vec![0; 1_000_000];
        let len = reader.read(&mut all).await.unwrap();
        assert!(len < DATA_BYTES + 100, "{len} bytes waited");
        assert!(all[..len].ends_with(b"\x03\0\x01{}"));
        inlet.push(b"\x00more");
        assert_eq!(reader.read(&mut all).await.unwrap(), 7, "there is room again");
    }

    #[tokio::test]
    async fn after_the_farewell_nothing_more_is_read() {
        let inlet = Arc::new(Inlet::default());
        inlet.push(b"\x03[]");
        inlet.push(b"\x01{}");
        let mut read = Vec::new();
        InletReader::new(inlet).read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"\x03\0\x03[]");
    }
}
