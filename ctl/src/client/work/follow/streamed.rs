//! Output as Receptor streams it, and the status besides.
//!
//! The status is asked for at the end, and once a second meanwhile, because a Go daemon never ends the results of a
//! canceled unit.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use workunits::{
    request::{Output, WorkRequest},
    unit::State,
};

use super::{
    super::printer::{Channel, Printer},
    Ended, Follow, Stop, ended,
};
use crate::client::{Console, session::Session};

/// How often a Go daemon is asked for a status.
const ASK_EVERY: Duration = Duration::from_secs(1);

impl Follow<'_> {
    /// Results as Receptor streams them, and the status besides.
    pub(super) async fn stream(
        &mut self,
        session: &mut Session,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Ended, Stop> {
        let request = WorkRequest::Results {
            unit: self.unit.to_owned(),
            from: i64::try_from(self.stdout).unwrap_or(i64::MAX),
            output: Output::Stdout,
            signature: String::new(),
        };
        session.say(&request.to_line()).await?;
        let header = session.reply().await?;
        if !header.starts_with("Streaming results") {
            return Err(session.garbled(header).into());
        }
        let mut ask_at = Instant::now() + ASK_EVERY;
        let mut quiet_since_canceled = false;
        loop {
            let bytes = match timeout_at(ask_at, session.bytes()).await {
                Ok(bytes) => bytes?,
                Err(_) => {
                    ask_at = Instant::now() + ASK_EVERY;
                    match self.status().await? {
                        Some(ended) if ended.unit.state == State::Canceled && quiet_since_canceled => {
                            return Ok(ended);
                        }
                        Some(ended) => quiet_since_canceled = ended.unit.state == State::Canceled,
                        None => {}
                    }
                    continue;
                }
            };
            let n = bytes.len();
            if n == 0 {
                break;
            }
            printer.bytes(Channel::Stdout, bytes, console).await?;
            session.taken(n);
            self.stdout += n as u64;
            quiet_since_canceled = false;
        }
        self.status().await?.ok_or(Stop::TooEarly)
    }

    /// The end alone, without output.
    pub(super) async fn poll(&self) -> Result<Ended, Stop> {
        loop {
            if let Some(ended) = self.status().await? {
                return Ok(ended);
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// The unit's status, if it has ended, from a conversation of its own.
    async fn status(&self) -> Result<Option<Ended>, Stop> {
        let mut session = self.door.open().await?;
        let request = WorkRequest::Status { unit: self.unit.to_owned(), all_fields: false };
        let status = session.ask(&request.to_line()).await?;
        Ok(ended(status, &session)?)
    }
}
