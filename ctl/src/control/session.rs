//! One conversation: greet, read a request, answer it, and so on until one side ends it.
//!
//! Requests run strictly one after the other and are answered in order. A refused request does not end the
//! conversation; a line that is too long, a payload that only its end of stream could end, and output that only the
//! end of the stream can end, do.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use netmesh::control::{self, LineBuffer, Params, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};
use tracing::{debug, info};
use workunits::{engine::Caller, request::ErrorCode};

use super::{
    Context,
    code::{Coded, Reason},
    command,
    peer::Wire,
};

/// How much room a line gets at first: little, since most conversations are idle. The buffer grows by itself.
const LINE_BYTES: usize = 4 << 10;
/// From how many bytes on a line is a long one.
const LONG_LINE_BYTES: usize = 64 << 10;
/// How many long lines may be on their way at once: at [`control::LINE_MAX`] each, 256 MiB.
const LONG_LINES: usize = 32;
/// How long one may be on its way: longer, and a few slow clients would keep those places for ever.
const LONG_LINE_LIMIT: Duration = Duration::from_secs(60);
/// How much payload is asked of the connection at once.
const PAYLOAD_BYTES: usize = 64 << 10;

/// What becomes of the conversation after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request may come.
    Request,
    /// We close: the end of the stream is part of the answer.
    Close,
}

/// Places for the long lines of all conversations of one listener, so that many half lines cannot fill the memory.
#[derive(Clone)]
pub(super) struct LongLines(Arc<Semaphore>);

impl LongLines {
    pub(super) fn new() -> LongLines {
        LongLines(Arc::new(Semaphore::new(LONG_LINES)))
    }
}

/// A conversation under way.
pub(super) struct Session<W> {
    /// The other end.
    pub(super) wire: W,
    /// What it sent and nobody has read yet.
    pub(super) input: LineBuffer,
    long_lines: LongLines,
    /// Whether the request wants codes; of a line that cannot be read: whether the request before it did.
    pub(super) codes: bool,
    /// Becomes true when the daemon stops.
    pub(super) stop: watch::Receiver<bool>,
}

/// Holds the conversation until it ends, and says nothing about how: nobody is there to be told.
pub(super) async fn converse<W: Wire>(
    wire: W,
    context: Context,
    long_lines: LongLines,
    stop: watch::Receiver<bool>,
) {
    let mut session = Session { wire, input: LineBuffer::default(), long_lines, codes: false, stop };
    let Caller { principal, certificate, .. } = session.wire.caller().clone();
    debug!(principal, certificate, "control session began");
    let ended = session.run(&context).await;
    match ended {
        Ok(()) => debug!(principal, "control session ended"),
        Err(error) => debug!(principal, %error, "control session broke off"),
    }
}

impl<W: Wire> Session<W> {
    /// Runs until the end; an error means that the connection is lost.
    async fn run(&mut self, context: &Context) -> io::Result<()> {
        self.send(control::greeting(context.node.id().as_str()).as_bytes()).await?;
        while let Some(line) = self.next_line().await? {
            let next = match Request::parse(&line) {
                Ok(None) => Next::Request,
                Ok(Some(request)) => {
                    self.codes = wants_codes(&request.params);
                    command::run(request, self, context).await?
                }
                Err(bad) => self.refuse(bad).await?,
            };
            if next == Next::Close {
                break;
            }
        }
        self.wire.shutdown().await?;
        self.wire.farewell().await;
        Ok(())
    }

    /// The next line; `None` when the conversation is over.
    ///
    /// A last line without a line feed counts when the peer still waits for its answer; else it may be half a line.
    async fn next_line(&mut self) -> io::Result<Option<Bytes>> {
        // Given back with the line, or at the end of its time.
        let mut place: Option<(OwnedSemaphorePermit, Instant)> = None;
        loop {
            match self.input.next_line() {
                Ok(Some(line)) => return Ok(Some(line)),
                Ok(None) => {}
                Err(too_long) => {
                    self.refuse(too_long).await?;
                    return Ok(None);
                }
            }
            if place.is_none() && self.input.waiting_bytes() > LONG_LINE_BYTES {
                let free = self.long_lines.0.clone().try_acquire_owned().ok();
                place = free.map(|place| (place, Instant::now() + LONG_LINE_LIMIT));
                if place.is_none() {
                    let why = format!(
                        "{LONG_LINES} lines of more than {LONG_LINE_BYTES} bytes are on their way: try again, or send large data as payload"
                    );
                    self.refuse(Reason(ErrorCode::Busy, why)).await?;
                    return Ok(None);
                }
            }
            let mut stop = self.stop.clone();
            let end = place.as_ref().map(|(_, end)| *end);
            let too_late = async {
                match end {
                    Some(end) => sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                biased;
                () = too_late => None,
                read = self.read_more() => Some(read?),
                _ = stop.wait_for(|stopping| *stopping) => return Ok(None),
            };
            let Some(read) = read else {
                let (limit, size) = (LONG_LINE_LIMIT.as_secs(), LONG_LINE_BYTES);
                let why = format!(
                    "a line of more than {size} bytes took longer than {limit} s: send large data as payload"
                );
                self.refuse(Reason(ErrorCode::Busy, why)).await?;
                return Ok(None);
            };
            if read == 0 {
                let last = self.input.take(usize::MAX);
                return Ok(Some(last).filter(|last| !last.is_empty() && !self.wire.is_gone()));
            }
        }
    }

    /// Waits for bytes and appends them to `input`; 0 is the end of the stream. May be dropped without loss.
    async fn read_more(&mut self) -> io::Result<usize> {
        self.input.input().reserve(LINE_BYTES);
        self.wire.read_buf(self.input.input()).await
    }

    /// Up to `bytes_max` bytes of payload: what came with the line first, then what comes; empty at the end of the
    /// stream.
    pub(super) async fn next_bytes(&mut self, bytes_max: usize) -> io::Result<Bytes> {
        if self.input.waiting_bytes() == 0 {
            self.input.input().reserve(PAYLOAD_BYTES);
            self.wire.read_buf(self.input.input()).await?;
        }
        Ok(self.input.take(bytes_max))
    }

    /// Writes bytes as they are.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes).await?;
        self.wire.flush().await
    }

    /// Writes one line.
    pub(super) async fn send_line(&mut self, line: &str) -> io::Result<()> {
        self.send(format!("{line}\n").as_bytes()).await
    }

    /// Answers with one line.
    pub(super) async fn answer(&mut self, line: &str) -> io::Result<Next> {
        self.send_line(line).await?;
        Ok(Next::Request)
    }

    /// Refuses a request, and says why.
    pub(super) async fn refuse(&mut self, why: impl Coded) -> io::Result<Next> {
        let (code, why) = (why.code(), why.to_string());
        info!(principal = self.wire.caller().principal, %code, why, "refused a request");
        let line = if self.codes { code.refusal(&why) } else { control::failure(&why) };
        self.send(line.as_bytes()).await?;
        Ok(Next::Request)
    }
}

/// Only a JSON request can ask for codes.
fn wants_codes(params: &Params) -> bool {
    matches!(params, Params::Json(members) if ErrorCode::is_asked_by(members))
}
