//! One conversation with another node's control service: lines out, lines in, and what its node offers.

use std::io;

use netmesh::json::to_go_string;
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use crate::{
    crash,
    engine::Conversation,
    request::{ErrorCode, FrameKind, Offers, Refusal},
};

/// The longest line taken from another node, in bytes: as long as one that we take ourselves.
const MAX_LINE: u64 = 8 << 20;

/// How much is read at once: little, since a thousand units may be followed at a time, and most of them are quiet.
const BUFFER: usize = 16 << 10;

/// A conversation whose greeting has been read.
pub(super) struct Talk {
    stream: BufReader<Conversation>,
    /// Whether the other node says why it refuses in codes.
    codes: bool,
}

/// Why a question got no good answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The conversation broke off.
    Broken(io::Error),
    /// The other node said no.
    Refused(Refusal),
    /// The answer makes no sense; the whole line.
    Garbled(String),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> NoAnswer {
        NoAnswer::Broken(error)
    }
}

impl Talk {
    pub(super) fn new(conversation: Conversation) -> Talk {
        Talk { stream: BufReader::with_capacity(BUFFER, conversation), codes: false }
    }

    /// What the other node offers; nothing of ours is offered by a Go node.
    pub(super) async fn offers(&mut self) -> Result<Offers, NoAnswer> {
        let offers = Offers::of_status(&self.ask(&Offers::question()).await?);
        self.codes = offers.error_codes;
        Ok(offers)
    }

    /// Sends a request and reads the object that answers it.
    pub(super) async fn ask(&mut self, line: &str) -> Result<Map<String, Value>, NoAnswer> {
        self.say(line).await?;
        self.object().await
    }

    /// Sends a line.
    pub(super) async fn say(&mut self, line: &str) -> Result<(), NoAnswer> {
        crash::point("ask other node");
        let asking = self.codes.then(|| ErrorCode::asked_in(line));
        let line = asking.as_deref().unwrap_or(line);
        self.stream.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    /// Sends raw bytes.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), NoAnswer> {
        crash::point("send payload");
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Hands on what was sent so far.
    pub(super) async fn flush(&mut self) -> Result<(), NoAnswer> {
        Ok(self.stream.flush().await?)
    }

    /// Ends our half: no more will be sent.
    pub(super) async fn finish(&mut self) -> Result<(), NoAnswer> {
        Ok(self.stream.shutdown().await?)
    }

    /// The object in the next line.
    pub(super) async fn object(&mut self) -> Result<Map<String, Value>, NoAnswer> {
        let line = self.reply().await?;
        crash::point("other node has answered");
        serde_json::from_str(&line).map_err(|_| NoAnswer::Garbled(line))
    }

    /// The next line, unless it says no. Without its end.
    pub(super) async fn reply(&mut self) -> Result<String, NoAnswer> {
        let line = self.line().await?;
        match Refusal::of_reply(&line, self.codes) {
            Some(refusal) => Err(NoAnswer::Refused(refusal)),
            None => Ok(line),
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.pop() != Some(b'\n') {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the other node ended the conversation",
            ));
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned())
    }

    /// Raw bytes as they come; empty at the clean end.
    pub(super) async fn bytes(&mut self) -> Result<&[u8], NoAnswer> {
        Ok(self.stream.fill_buf().await?)
    }

    /// Marks `n` of the bytes last seen as taken.
    pub(super) fn taken(&mut self, n: usize) {
        self.stream.consume(n);
    }

    /// The head of a frame: its kind and length.
    pub(super) async fn frame_head(&mut self) -> Result<(FrameKind, u32), NoAnswer> {
        let mut head = [0; FrameKind::HEAD_BYTES];
        self.stream.read_exact(&mut head).await?;
        FrameKind::of_head(head).map_err(|bad| NoAnswer::Garbled(bad.to_string()))
    }

    /// The next raw bytes, as many as fit.
    pub(super) async fn fill(&mut self, block: &mut [u8]) -> Result<(), NoAnswer> {
        self.stream.read_exact(block).await?;
        Ok(())
    }

    /// Exactly `length` raw bytes, for small things such as a status.
    pub(super) async fn exactly(&mut self, length: u32) -> Result<Vec<u8>, NoAnswer> {
        if u64::from(length) > MAX_LINE {
            let text = format!("a status of {length} bytes is too long");
            return Err(NoAnswer::Garbled(text));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes).await?;
        Ok(bytes)
    }
}

/// The text of an answer that was no `ERROR:` line but still not what was asked for.
pub(super) fn shown(answer: &Map<String, Value>) -> String {
    to_go_string(answer)
}
