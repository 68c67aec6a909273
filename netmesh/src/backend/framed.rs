//! Transports that carry whole messages, dressed as the byte streams of frames that links read and write.
//!
//! ```text
//! link ─► bytes of frames ─► FrameSplitter ─► whole messages ─► datagram, WebSocket message
//! link ◄─ bytes of frames ◄─ Framing       ◄─ whole messages ◄─ datagram, WebSocket message
//! ```
//! A link hands over many frames at a time, and they leave from where they stand: nothing is copied unless a call ends
//! within a frame.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncWrite, ReadBuf};

use crate::wire::frame::MAX_MESSAGE;

/// The length before a message.
const PREFIX: usize = 2;

/// Takes whole messages.
pub(super) trait SendMessages: Unpin {
    /// Takes one message, or none and wakes the caller when it may try again.
    fn poll_send(&mut self, message: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Lets all that was taken go.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Says that nothing more comes.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Cuts the bytes that are written to it into messages.
pub(super) struct FrameSplitter<S> {
    to: S,
    /// The beginning of a frame, or one whole frame that could not be sent yet.
    begun: Vec<u8>,
}

impl<S: SendMessages> FrameSplitter<S> {
    pub(super) fn new(to: S) -> FrameSplitter<S> {
        FrameSplitter { to, begun: Vec::new() }
    }

    /// Sends the frame in `begun` if it is whole. Ready when none is.
    fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(message) = whole(&self.begun)? {
            ready!(self.to.poll_send(message, cx))?;
            self.begun.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: SendMessages> AsyncWrite for FrameSplitter<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_begun(cx))?;
        let mut taken = 0;
        while this.begun.is_empty()
            && let Some(message) = whole(&buf[taken..])?
        {
            match this.to.poll_send(message, cx) {
                Poll::Ready(sent) => sent?,
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(taken)),
            }
            taken += PREFIX + message.len();
        }
        // What is left is less than a frame, or the rest of the one that was begun.
        if this.begun.len() < PREFIX {
            taken += fill(&mut this.begun, &buf[taken..], PREFIX);
        }
        if let Some(prefix) = this.begun.first_chunk::<PREFIX>() {
            let end = PREFIX + usize::from(u16::from_le_bytes(*prefix));
            taken += fill(&mut this.begun, &buf[taken..], end);
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_begun(cx))?;
        this.to.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_begun(cx))?;
        this.to.poll_close(cx)
    }
}

/// The message of the frame that `bytes` begin with, if they hold all of it. An empty one is never sent: a Go node would
/// not survive it.
fn whole(bytes: &[u8]) -> io::Result<Option<&[u8]>> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() else { return Ok(None) };
    match usize::from(u16::from_le_bytes(*prefix)) {
        0 => Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty message is not sent")),
        len => Ok(rest.get(..len)),
    }
}

/// Appends of `bytes` what `begun` lacks to be `end` long; tells how many those were.
fn fill(begun: &mut Vec<u8>, bytes: &[u8], end: usize) -> usize {
    let len = bytes.len().min(end.saturating_sub(begun.len()));
    begun.extend_from_slice(&bytes[..len]);
    len
}

/// Puts messages into the buffer of a reader as frames, and keeps what finds no room there.
#[derive(Debug, Default)]
pub(super) struct Framing {
    left: Vec<u8>,
    given: usize,
}

impl Framing {
    /// Gives what was kept. True when nothing is left of it.
    pub(super) fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let left = &self.left[self.given..];
        let len = left.len().min(buf.remaining());
        buf.put_slice(&left[..len]);
        self.given += len;
        let all = self.given == self.left.len();
        if all {
            self.left.clear();
            self.given = 0;
        }
        all
    }

    /// Puts `message` behind what was given, which must be all. False for one that no frame can hold; nothing is put then.
    pub(super) fn put(&mut self, message: &[u8], buf: &mut ReadBuf<'_>) -> bool {
        debug_assert!(self.left.is_empty(), "frames come in order");
        let Ok(len) = u16::try_from(message.len()) else { return false };
        for part in [&len.to_le_bytes()[..], message] {
            let (fits, rest) = part.split_at(part.len().min(buf.remaining()));
            buf.put_slice(fits);
            self.left.extend_from_slice(rest);
        }
        true
    }
}

/// Tells once that messages are too long for what carries a link.
#[derive(Debug)]
pub(super) struct TooLongFor {
    link: String,
    told: bool,
}

impl TooLongFor {
    /// Of messages on `link`.
    pub(super) fn new(link: String) -> TooLongFor {
        TooLongFor { link, told: false }
    }

    /// What the link is called.
    pub(super) fn link(&self) -> &str {
        &self.link
    }

    /// One of `len` bytes was dropped.
    pub(super) fn dropped(&mut self, len: usize, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            let link = &self.link;
            tracing::warn!(link, len, "dropped a message {why}; further ones are dropped without a word");
        }
    }
}

/// As much as a message can be, with its length before it.
pub(super) const FRAME_MAX: usize = PREFIX + MAX_MESSAGE;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::wire::frame::frame;

    /// Takes messages, every other time only when asked again.
    #[derive(Default)]
    struct Slow {
        taken: Vec<Vec<u8>>,
        asked: usize,
    }

    impl SendMessages for Slow {
        fn poll_send(&mut self, message: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.asked += 1;
            if self.asked.is_multiple_of(2) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.taken.push(message.to_vec());
            Poll::Ready(Ok(()))
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn messages_leave_whole_however_they_are_written_and_however_slowly_they_are_taken() {
        let messages = [b"one".to_vec(), vec![7; MAX_MESSAGE], b"x".to_vec(), vec![9; 300]];
        let stream: Vec<u8> = messages.iter().flat_map(|message| frame(message).unwrap()).collect();
        for step in [1, 2, 3, 100, 70_000, stream.len()] {
            let mut writer = FrameSplitter::new(Slow::default());
            for piece in stream.chunks(step) {
                writer.write_all(piece).await.unwrap();
            }
            writer.flush().await.unwrap();
            assert_eq!(writer.to.taken, messages, "{step} at a time");
        }
    }

    #[tokio::test]
    async fn an_empty_message_never_leaves() {
        let mut writer = FrameSplitter::new(Slow::default());
        assert!(writer.write_all(&[0, 0]).await.is_err());
        let mut writer = FrameSplitter::new(Slow::default());
        writer.write_all(&[0]).await.unwrap();
        writer.write_all(&[0]).await.unwrap();
        assert!(writer.flush().await.is_err());
        assert!(writer.to.taken.is_empty());
    }

    #[test]
    fn messages_that_find_no_room_come_with_the_next_read() {
        let mut framing = Framing::default();
        let mut small = [0; 4];
        let mut buf = ReadBuf::new(&mut small);
        assert!(framing.give(&mut buf) && framing.put(b"hello", &mut buf));
        assert_eq!(buf.filled(), b"\x05\0he");
        let mut rest = [0; 8];
        let mut buf = ReadBuf::new(&mut rest);
        assert!(framing.give(&mut buf) && framing.put(b"x", &mut buf));
        assert_eq!(buf.filled(), b"llo\x01\0x");
        assert!(!framing.put(&vec![0; MAX_MESSAGE + 1], &mut buf));
    }
}
