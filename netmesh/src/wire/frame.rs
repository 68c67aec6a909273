//! Whole messages out of a byte stream: a length of 16 bits, little-endian, then the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest message that a frame can hold, in bytes.
pub const MAX_MESSAGE: usize = 65_535;

/// A message longer than [`MAX_MESSAGE`]: send less at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a message of {len} bytes does not fit a frame, which holds at most {MAX_MESSAGE}: send smaller datagrams"
)]
pub struct TooLong {
    /// How long it was, in bytes.
    pub len: usize,
}

/// A frame of no bytes: the sender is broken, and its link should be closed.
///
/// Receptor neither sends one nor survives one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer sent an empty frame")]
pub struct EmptyFrame;

/// Puts `message` into a frame, ready for a byte stream.
///
/// Shape: `length: u16, little-endian`, then the message; one copy.
///
/// # Errors
/// [`TooLong`] above [`MAX_MESSAGE`] bytes. Nothing is written.
pub fn frame(message: &[u8]) -> Result<Bytes, TooLong> {
    let mut out = BytesMut::with_capacity(2 + message.len());
    out.put_u16_le(length(message.len())?);
    out.put_slice(message);
    Ok(out.freeze())
}

/// Appends a frame to `out`; its message is `parts`, one after the other.
///
/// # Errors
/// [`TooLong`] above [`MAX_MESSAGE`] bytes in all. Nothing is appended.
pub fn append(out: &mut Vec<u8>, parts: &[&[u8]]) -> Result<(), TooLong> {
    let len = length(parts.iter().map(|part| part.len()).sum())?;
    out.extend_from_slice(&len.to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
    Ok(())
}

/// Cuts a byte stream into messages, however it arrives.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: BytesMut,
}

impl Deframer {
    /// A deframer that holds nothing yet.
    pub fn new() -> Deframer {
        Deframer::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The buffer itself, to read a socket straight into its end.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole message, without copying it; `None` until more bytes come.
    ///
    /// # Errors
    /// [`EmptyFrame`] for a length of zero, now and on every later call.
    pub fn pop(&mut self) -> Result<Option<Bytes>, EmptyFrame> {
        let Some(len) = self.first()?.map(<[u8]>::len) else { return Ok(None) };
        self.buffer.advance(2);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }

    /// The same, to look at only: it stays the first until it is [skipped](Deframer::skip).
    ///
    /// # Errors
    /// As [`Deframer::pop`].
    pub fn first(&self) -> Result<Option<&[u8]>, EmptyFrame> {
        let Some((prefix, rest)) = self.buffer.split_first_chunk::<2>() else {
            return Ok(None);
        };
        match usize::from(u16::from_le_bytes(*prefix)) {
            0 => Err(EmptyFrame),
            len => Ok(rest.get(..len)),
        }
    }

    /// Is done with the first message, which was `len` bytes long.
    pub fn skip(&mut self, len: usize) {
        self.buffer.advance(2 + len);
    }
}

/// `len` as the length of a frame.
pub(super) fn length(len: usize) -> Result<u16, TooLong> {
    u16::try_from(len).map_err(|_| TooLong { len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_starts_with_its_length_low_byte_first() {
        assert_eq!(&frame(b"abcdef").unwrap()[..3], b"\x06\x00a");
        assert_eq!(frame(&[7; 271]).unwrap()[..2], [0x0f, 0x01]);
        assert_eq!(frame(&[7; 65_536]), Err(TooLong { len: 65_536 }));
    }

    #[test]
    fn messages_come_out_whole_however_the_stream_is_cut() {
        let stream = [&frame(b"one").unwrap()[..], &frame(&[9; 65_535]).unwrap()[..]].concat();
        for step in [1, 2, 3, 1000, stream.len()] {
            let mut deframer = Deframer::new();
            let mut out = Vec::new();
            for piece in stream.chunks(step) {
                deframer.push(piece);
                while let Some(message) = deframer.first().unwrap() {
                    let message = Bytes::copy_from_slice(message);
                    if out.is_empty() {
                        deframer.skip(message.len());
                    } else {
                        assert_eq!(deframer.pop(), Ok(Some(message.clone())));
                    }
                    out.push(message);
                }
            }
            assert_eq!(out, [Bytes::from_static(b"one"), Bytes::from(vec![9; 65_535])]);
        }
    }

    #[test]
    fn an_empty_frame_is_an_error() {
        let mut deframer = Deframer::new();
        deframer.push(&[0]);
        assert_eq!(deframer.pop(), Ok(None));
        deframer.push(&[0]);
        assert_eq!(deframer.pop(), Err(EmptyFrame));
        assert_eq!(deframer.pop(), Err(EmptyFrame));
    }
}
