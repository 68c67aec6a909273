//! Watch: a unit's status and outputs in one stream.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::UnitHandle;
use crate::{
    request::Output,
    store::{
        notice::Notices,
        tail::{Follower, Look},
    },
    unit::Unit,
};

/// A piece of what a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The whole status as JSON, whenever it has changed.
    Status(Bytes),
    /// Output.
    Stdout(Bytes),
    /// Error output.
    Stderr(Bytes),
    /// The unit has ended, and all of the above was told.
    End,
}

/// Tells a unit's status and outputs as they change.
pub struct Watch {
    unit: watch::Receiver<Arc<Unit>>,
    outputs: [(Follower, bool); 2],
    ended: bool,
}

impl Watch {
    pub(super) fn new(unit: &UnitHandle, stdout_pos: u64, stderr_pos: u64, notices: &Notices) -> Watch {
        let follow = |output, from| (Follower::new(unit, output, Some(from), notices), false);
        let mut news = unit.subscribe();
        news.mark_changed(); // the status as it is now is the first news
        Watch {
            unit: news,
            outputs: [follow(Output::Stdout, stdout_pos), follow(Output::Stderr, stderr_pos)],
            ended: false,
        }
    }

    /// The next piece; `None` after the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if self.unit.has_changed().unwrap_or(false) {
                let unit = self.unit.borrow_and_update().clone();
                return Ok(Some(Frame::Status(serde_json::to_vec(&*unit)?.into())));
            }
            for (number, (output, over)) in self.outputs.iter_mut().enumerate() {
                match output.look()? {
                    Look::Bytes(bytes) if number == 0 => return Ok(Some(Frame::Stdout(bytes))),
                    Look::Bytes(bytes) => return Ok(Some(Frame::Stderr(bytes))),
                    Look::End => *over = true,
                    Look::Nothing => {}
                }
            }
            if self.outputs.iter().all(|(_, over)| *over) {
                // The outputs end after the terminal status, which may have come since it was looked for above.
                if self.unit.has_changed().unwrap_or(false) {
                    continue;
                }
                self.ended = true;
                return Ok(Some(Frame::End));
            }
            let [(stdout, no_stdout), (stderr, no_stderr)] = &mut self.outputs;
            tokio::select! {
                () = stdout.wait(), if !*no_stdout => {}
                () = stderr.wait(), if !*no_stderr => {}
                changed = self.unit.changed() => {
                    // Waiting has taken the news; it is told above. An engine that is gone ends the outputs too.
                    if changed.is_ok() {
                        self.unit.mark_changed();
                    }
                }
            }
        }
    }
}
