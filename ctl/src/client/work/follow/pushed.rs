//! Status and output as a daemon of ours pushes them, over one conversation.

use std::io;

use serde_json::{Map, Value};
use workunits::request::{FrameKind, WorkRequest};

use super::{
    super::printer::{Channel, Printer},
    Ended, Follow, Stop, ended,
};
use crate::client::{Console, session::Session};

/// The longest status frame taken, in bytes.
const STATUS_MAX: u32 = 8 << 20;

impl Follow<'_> {
    /// Status and output over one conversation.
    pub(super) async fn watch(
        &mut self,
        session: &mut Session,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Ended, Stop> {
        let status = self.frames(true, session, printer, console).await?;
        ended(status, session)?.ok_or(Stop::TooEarly)
    }

    /// All frames up to the end, printed; gives the last status. Without `follow` the end is that of what is there now.
    pub(super) async fn frames(
        &mut self,
        follow: bool,
        session: &mut Session,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Map<String, Value>, Stop> {
        let (stdout_pos, stderr_pos) = self.wanted();
        let unit = self.unit.to_owned();
        let request = WorkRequest::Watch { unit, stdout_pos, stderr_pos, follow, signature: String::new() };
        session.say(&request.to_line()).await?;
        let header = session.reply().await?;
        if !header.starts_with("Watching work unit") {
            return Err(session.garbled(header).into());
        }
        let mut last = None;
        loop {
            match session.frame_head().await? {
                (FrameKind::Stdout, length) => {
                    self.frame(Channel::Stdout, length, session, printer, console).await?
                }
                (FrameKind::Stderr, length) => {
                    self.frame(Channel::Stderr, length, session, printer, console).await?
                }
                (FrameKind::Status, length) if length <= STATUS_MAX => {
                    let mut bytes = vec![0; length as usize];
                    session.exactly(&mut bytes).await?;
                    let status = serde_json::from_slice(&bytes);
                    let status = status.map_err(|_| session.garbled(String::from_utf8_lossy(&bytes)))?;
                    printer.status(&status, console).await?;
                    last = Some(status);
                }
                (FrameKind::End, _) => break,
                (FrameKind::Status, length) => {
                    return Err(session.garbled(format!("a status of {length} bytes")).into());
                }
            }
        }
        Ok(last.ok_or_else(|| session.garbled("an end without a status"))?)
    }

    /// One frame of output, printed as its bytes come.
    async fn frame(
        &mut self,
        channel: Channel,
        length: u32,
        session: &mut Session,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<(), Stop> {
        let mut left = length as usize;
        while left > 0 {
            let bytes = session.bytes().await?;
            let n = bytes.len().min(left);
            if n == 0 {
                return Err(session.broken(io::ErrorKind::UnexpectedEof.into()).into());
            }
            printer.bytes(channel, &bytes[..n], console).await?;
            session.taken(n);
            left -= n;
            match channel {
                Channel::Stdout => self.stdout += n as u64,
                Channel::Stderr => self.stderr += n as u64,
            }
        }
        Ok(())
    }
}
