//! Two connections become one: bytes both ways until both have ended, or one has failed.
//!
//! Nothing is copied on the way: what has been read from a socket is what the stream keeps until it has arrived, and what
//! a packet has brought is what is written to the socket, many pieces per system call.

use std::{
    fmt,
    io::{self, IoSlice},
};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::Local;
use crate::stream::{Stream, StreamReader, StreamWriter};

/// How much is read from a socket at once.
const BLOCK: usize = 64 << 10;
/// What is left of a block is used while it has as much room as this.
const BLOCK_LEAST: usize = 8 << 10;
/// Pieces that are written to a socket at once; each is what a packet has brought.
const PIECES: usize = 16;

/// Passes on everything, ends of sending included, and says how many bytes went each way.
///
/// After a failure of either side the other is broken off: the stream is reset, and so is the local connection where its
/// kind can be.
pub(super) async fn bridge<L: Local>(mut local: L, mut stream: Stream) -> Passed {
    let copied = {
        let (from, to) = tokio::io::split(&mut local);
        let (reader, writer) = stream.halves();
        tokio::try_join!(to_mesh(from, writer), from_mesh(reader, to))
    };
    if copied.is_err() {
        local.break_off();
    }
    Passed(copied)
}

async fn to_mesh(mut local: impl AsyncRead + Unpin, mut stream: StreamWriter<'_>) -> io::Result<u64> {
    let (mut block, mut bytes) = (BytesMut::new(), 0);
    loop {
        if block.capacity() < BLOCK_LEAST {
            block = BytesMut::with_capacity(BLOCK);
        }
        let read = local.read_buf(&mut block).await?;
        if read == 0 {
            stream.finish().await?;
            return Ok(bytes);
        }
        bytes += read as u64;
        stream.write(block.split().freeze()).await?;
    }
}

async fn from_mesh(mut stream: StreamReader<'_>, mut local: impl AsyncWrite + Unpin) -> io::Result<u64> {
    let mut bytes = 0;
    loop {
        let mut pieces = [const { Bytes::new() }; PIECES];
        let count = stream.read(&mut pieces).await?;
        if count == 0 {
            local.shutdown().await?;
            return Ok(bytes);
        }
        let mut left = &mut pieces[..count];
        while let Some(first) = left.first_mut() {
            if first.is_empty() {
                left = &mut left[1..];
                continue;
            }
            let slices = std::array::from_fn::<_, PIECES, _>(|at| {
                IoSlice::new(left.get(at).map_or(&[], |piece| piece))
            });
            let count = left.len();
            let mut written = local.write_vectored(&slices[..count]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes += written as u64;
            for piece in left.iter_mut() {
                let of_it = written.min(piece.len());
                piece.advance(of_it);
                written -= of_it;
            }
        }
        local.flush().await?;
    }
}

/// What came of a connection: bytes to the mesh, and bytes from it.
pub(super) struct Passed(io::Result<(u64, u64)>);

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok((out, back)) => write!(f, "ended: {out} bytes to the mesh, {back} from it"),
            Err(error) => write!(f, "broke off: {error}"),
        }
    }
}
