//! What there is now of a unit, without waiting for its end.
//!
//! A daemon of ours says where “now” is. A Go daemon streams on until the unit has ended: of its stream we take as much
//! as its status speaks of, and what is late by [`QUIET_MAX`] is not there.

use std::time::Duration;

use tokio::time::timeout;
use workunits::request::{Output, WorkRequest};

use super::{
    super::printer::{Channel, Printer},
    Ended, Follow, Stop, no_stderr, seen,
};
use crate::{
    client::{Console, no_answer::NoAnswer, session::Session},
    exit::{Code, Failure},
};

/// How long a Go daemon may take to send what it has: it looks for output every quarter of a second.
const QUIET_MAX: Duration = Duration::from_secs(2);

impl Follow<'_> {
    /// Prints what is there. The code tells whether the unit has ended and all of it was printed.
    pub(in super::super) async fn now(
        &mut self,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Code, Failure> {
        let now = self.look(printer, console).await?;
        let size = now.unit.stdout_size;
        let whole = !self.shows.stdout || self.stdout >= size;
        if !(now.unit.state.is_terminal() && whole) {
            return Ok(Code::NEGATIVE);
        }
        printer.end(&now.status, Code::of_unit(&now.unit), console).await?;
        Ok(Code::OK)
    }

    /// Prints what is there, and gives the status to go with it.
    pub(in super::super) async fn look(
        &mut self,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<Ended, Failure> {
        self.look_once(printer, console).await.map_err(|stop| match stop {
            Stop::Failure(failure) => failure,
            Stop::NoAnswer(NoAnswer::Refused(refusal)) => self.refused(&refusal),
            Stop::NoAnswer(no_answer) => no_answer.into(),
            Stop::TooEarly => {
                Failure::not_done(format!("unit {}: its output ends before it does", self.unit))
            }
        })
    }

    async fn look_once(&mut self, printer: &mut Printer<'_>, console: &mut Console) -> Result<Ended, Stop> {
        let mut session = self.door.open().await?;
        let offers = session.offers().await?;
        if offers.watch_now {
            let status = self.frames(false, &mut session, printer, console).await?;
            return Ok(seen(status, &session)?);
        }
        if self.shows.stderr && !self.shows.stdout {
            return Err(no_stderr().into());
        }
        let status = WorkRequest::Status { unit: self.unit.to_owned(), all_fields: offers.is_ours() };
        let now = seen(session.ask(&status.to_line()).await?, &session)?;
        if self.shows.stdout {
            self.stream_now(now.unit.stdout_size, &mut session, printer, console).await?;
        }
        Ok(now)
    }

    /// Receptor's results, as far as there are some.
    async fn stream_now(
        &mut self,
        size: u64,
        session: &mut Session,
        printer: &mut Printer<'_>,
        console: &mut Console,
    ) -> Result<(), Stop> {
        if self.stdout >= size {
            return Ok(());
        }
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
        while self.stdout < size {
            let Ok(bytes) = timeout(QUIET_MAX, session.bytes()).await else { break };
            let bytes = bytes?;
            if bytes.is_empty() {
                break;
            }
            let n = bytes.len().min(usize::try_from(size - self.stdout).unwrap_or(usize::MAX));
            printer.bytes(Channel::Stdout, &bytes[..n], console).await?;
            session.taken(n);
            self.stdout += n as u64;
        }
        Ok(())
    }
}
