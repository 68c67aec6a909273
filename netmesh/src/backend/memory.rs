//! Links inside one process, for tests and demonstrations.
//!
//! A listener hands out any number of dialers; each call makes a pair of pipes. A pipe can be told to lose every
//! message above a size, as a link with a small datagram does.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
};

use super::{BoxFuture, Channel, Dialer, Listener, Transport, TransportInfo};
use crate::logic::Identity;

/// Bytes that a pipe holds before its writer waits.
const PIPE_BYTES: usize = 256 * 1024;

/// Callers that may wait to be accepted.
const BACKLOG: usize = 16;

/// A dialer and the listener that it reaches.
pub fn pair() -> (MemoryDial, MemoryListen) {
    let (calls, callers) = mpsc::channel(BACKLOG);
    (MemoryDial { calls, message_max: None, dialed: AtomicU64::new(0) }, MemoryListen { callers })
}

/// Calls the listener made with it.
#[derive(Debug)]
pub struct MemoryDial {
    calls: mpsc::Sender<DuplexStream>,
    message_max: Option<usize>,
    dialed: AtomicU64,
}

impl MemoryDial {
    /// From now on its links lose every message of more than `bytes`, in both directions and without a word.
    pub fn losing_above(mut self, bytes: usize) -> MemoryDial {
        self.message_max = Some(bytes);
        self
    }

    /// How many times it has called.
    pub fn dialed(&self) -> u64 {
        self.dialed.load(Ordering::Relaxed)
    }
}

impl Dialer for MemoryDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            let (near, far) = tokio::io::duplex(PIPE_BYTES);
            let far = match self.message_max {
                None => far,
                Some(message_max) => {
                    let (middle, end) = tokio::io::duplex(PIPE_BYTES);
                    let (far_reader, far_writer) = tokio::io::split(far);
                    let (middle_reader, middle_writer) = tokio::io::split(middle);
                    tokio::spawn(sieve(far_reader, middle_writer, message_max));
                    tokio::spawn(sieve(middle_reader, far_writer, message_max));
                    end
                }
            };
            let gone = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
            self.calls.send(far).await.map_err(gone)?;
            self.dialed.fetch_add(1, Ordering::Relaxed);
            Ok(transport(near, true))
        })
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

/// Waits for calls of the dialer made with it.
#[derive(Debug)]
pub struct MemoryListen {
    callers: mpsc::Receiver<DuplexStream>,
}

impl Listener for MemoryListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            let far = self.callers.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
            Ok(transport(far, false))
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

fn transport(stream: DuplexStream, dialed: bool) -> Transport {
    let (reader, writer) = tokio::io::split(stream);
    Transport {
        data: Channel { reader: Box::new(reader), writer: Box::new(writer) },
        control: None,
        info: TransportInfo {
            kind: "memory",
            remote: "memory".to_owned(),
            insecure: true,
            dialed,
            identity: Identity::Unchecked,
            certificate: None,
        },
        guard: None,
    }
}

/// Copies frames, except those whose message is longer than `message_max`.
async fn sieve<R, W>(mut from: R, mut to: W, message_max: usize) -> io::Result<()>
where
    R: AsyncReadExt + Unpin,
    W: AsyncWriteExt + Unpin,
{
    let mut frame = Vec::new();
    loop {
        let len = from.read_u16_le().await?;
        frame.clear();
        frame.extend(len.to_le_bytes());
        frame.resize(2 + usize::from(len), 0);
        from.read_exact(&mut frame[2..]).await?;
        if usize::from(len) <= message_max {
            to.write_all(&frame).await?;
        }
    }
}
