//! The loop behind each unit that runs here: it starts supervisors, sees what they record, and notices their end.
//!
//! A unit has a driver from its launch until its last process has ended. What it knows is on disk: the next daemon
//! starts another one from there.

use std::{
    io,
    sync::{Arc, Weak},
};

use super::{
    Inner, UnitHandle,
    handle::{blocking, settle_if_ended},
    prepare::prepare,
};
use crate::{
    logic::{recovery::Supervisor, state::Event},
    runner::{command, process::PidFd},
    store::{
        events::Happened,
        notice::Subscription,
        status::{self, StepError},
    },
    unit::{Extra, Outcome, State, Unit, rfc3339},
};

/// What the driver found when the supervisor had ended.
enum After {
    /// Another supervisor has the unit.
    Other(PidFd),
    /// The unit has ended.
    Ended,
}

impl Inner {
    /// Starts a supervisor for a unit that is ready. A unit that cannot be started has failed afterwards. Blocks.
    pub(super) fn launch(&self, unit: &UnitHandle) -> Option<PidFd> {
        let rules = self.rules();
        let of = rules.types.get(&unit.current().work_type);
        let started = match of.map(|of| prepare(&self.config, of, unit)) {
            None => Err(format!("unknown work type {}", unit.current().work_type)),
            Some(Err(why)) => Err(why),
            Some(Ok(launch)) => {
                let program = self.launcher.program().display();
                command::launch(&self.launcher, unit.dir(), &launch)
                    .map_err(|error| format!("cannot start the supervisor {program}: {error}"))
            }
        };
        started.map_err(|why| self.fail(unit, why)).ok()
    }

    /// Looks after a unit, whose supervisor this is, until nothing of it runs any more.
    ///
    /// It holds a place in the run queue for so long. One whose driver broke down keeps it: something may still run.
    pub(super) fn look_after(self: &Arc<Inner>, unit: &UnitHandle, supervisor: Option<PidFd>) {
        self.hold_place(unit);
        let news = self.notices.status(unit.dir(), unit.current().format == 0);
        let (engine, unit) = (Arc::downgrade(self), unit.clone());
        self.spawn(async move {
            look_after(&engine, &unit, supervisor, news).await;
            if let Some(engine) = engine.upgrade() {
                engine.leave_place(unit.id());
            }
        });
    }

    /// Ends a unit that could not be started. One that has ended already stays as it is.
    fn fail(&self, unit: &UnitHandle, why: String) {
        let ended = match unit.refresh() {
            // Its supervisor got that far before it was killed.
            Ok(now) if now.state == State::Running => self.after(unit).map(drop),
            _ => match unit.take_step(&Event::StartFailed { why: why.clone() }) {
                Err(StepError::Io(error)) => Err(error),
                Ok(_) | Err(StepError::NotNow(_)) => Ok(()),
            },
        };
        if let Err(error) = ended
            && unit.dir().path().exists()
        {
            unit.show_failed(Outcome::StartFailed, &format!("{why}; and that cannot be recorded: {error}"));
        }
        settle_if_ended(unit);
    }

    /// What is to be done once a supervisor has ended. Blocks.
    fn after(&self, unit: &UnitHandle) -> io::Result<After> {
        let mut locked = status::lock(unit.dir())?;
        let Some(now) = locked.unit().cloned() else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the unit's files are gone"));
        };
        if let (Supervisor::Alive, Some(other)) = command::supervisor(unit.dir(), &now, locked.log()) {
            return Ok(After::Other(other));
        }
        let canceled = locked.log().has(Event::Cancel.name());
        if now.format == 0 || now.started_at.is_none() && now.state == State::Running {
            end_go_unit(&mut locked, canceled)?;
        } else if !now.state.is_terminal() {
            command::kill_survivors(locked.log());
            let event = match now.state {
                State::Running => Event::Lost {
                    why: "its supervisor died without a record of how the command ended; the command was killed"
                        .to_owned(),
                    stdout: unit.dir().stdout_size(),
                    stderr: unit.dir().stderr_size(),
                },
                // Nothing opened the gate, so the command has not run.
                _ => Event::StartFailed { why: "the supervisor ended before it could start the command".to_owned() },
            };
            match locked.take_step(&event, std::time::SystemTime::now()) {
                Ok(_) | Err(StepError::NotNow(_)) => {}
                Err(StepError::Io(error)) => return Err(error),
            }
        }
        drop(locked);
        unit.refresh()?;
        settle_if_ended(unit);
        Ok(After::Ended)
    }
}

/// Follows a unit's supervisors until the last has ended, and removes the unit if it was released meanwhile.
async fn look_after(
    engine: &Weak<Inner>,
    unit: &UnitHandle,
    mut supervisor: Option<PidFd>,
    mut news: Subscription,
) {
    while let Some(process) = supervisor.take() {
        follow(unit, process, &mut news).await;
        if has_ended(unit) {
            break; // its supervisor has recorded that, and then gone
        }
        let Some(engine) = engine.upgrade() else { return };
        let of = unit.clone();
        match blocking(move || engine.after(&of)).await {
            Ok(After::Other(other)) => supervisor = Some(other),
            Ok(After::Ended) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // removed under us
            Err(error) => {
                tracing::error!(unit = %unit.id(), %error, "cannot record how the unit ended; the next start will");
                return;
            }
        }
    }
    if unit.dir().is_released()
        && let Err(error) = unit.remove().await
    {
        tracing::error!(unit = %unit.id(), %error, "cannot remove a released unit; the next start tries again");
    }
}

/// Shows what the supervisor records, until it ends.
async fn follow(unit: &UnitHandle, supervisor: PidFd, news: &mut Subscription) {
    let mut ended = std::pin::pin!(supervisor.ended());
    loop {
        // Looked before waiting: what was recorded before the subscription is seen too.
        if let Err(error) = look(unit).await {
            tracing::debug!(unit = %unit.id(), %error, "cannot read the status");
        }
        tokio::select! {
            biased;
            gone = &mut ended => {
                if let Err(error) = gone {
                    tracing::error!(unit = %unit.id(), %error, "cannot wait for the supervisor's end");
                }
                return;
            }
            () = news.changed() => {}
        }
    }
}

/// Shows what the status says now. It is read here and not where blocking is allowed: it is short, and was written a moment
/// ago, so that no disk is asked; to have another thread read it takes several times as long.
async fn look(unit: &UnitHandle) -> io::Result<()> {
    match status::peek(unit.dir()) {
        Some(seen) if !is_killed_go_unit(&seen) => {
            unit.refresh_to(Some(seen))?;
            settle_if_ended(unit);
            Ok(())
        }
        // There the lock is waited for: of a file that is not whole, and to correct what a Go runner wrote.
        seen => {
            let of = unit.clone();
            blocking(move || {
                of.refresh_to(seen)?;
                settle_if_ended(&of);
                Ok(())
            })
            .await
        }
    }
}

/// Whether the unit's files say that it has ended, now that its supervisor has gone; then that is shown. Reads as [`look`].
fn has_ended(unit: &UnitHandle) -> bool {
    if unit.is_settled() && unit.is_recorded() && unit.current().format > 0 {
        return true;
    }
    match status::peek(unit.dir()) {
        Some(seen) if seen.format > 0 && seen.state.is_terminal() => {
            unit.refresh_to(Some(seen)).ok(); // nothing is read any more that could fail
            settle_if_ended(unit);
            true
        }
        _ => false,
    }
}

/// Whether this is how a Go runner records that its command was stopped.
pub(super) fn is_killed_go_unit(seen: &Unit) -> bool {
    seen.format == 0 && seen.state == State::Failed && seen.detail == "Killed"
}

/// Corrects the end that a Go runner gave a unit which was canceled; gives what the unit is then.
pub(super) fn correct_go_end(unit: &UnitHandle) -> io::Result<Unit> {
    let mut locked = status::lock(unit.dir())?;
    let canceled = locked.log().has(Event::Cancel.name());
    end_go_unit(&mut locked, canceled)?;
    Ok(locked.unit().cloned().unwrap_or_default())
}

/// The end of a unit whose runner was a Go node's, which records a stopped command as Failed and `Killed`.
fn end_go_unit(locked: &mut status::Locked<'_>, canceled: bool) -> io::Result<()> {
    let Some(now) = locked.unit().cloned() else { return Ok(()) };
    let at = std::time::SystemTime::now();
    let (name, state, outcome, detail) = match now.state {
        State::Failed if canceled && now.detail == "Killed" => {
            ("canceled", State::Canceled, Outcome::Canceled, "Canceled")
        }
        State::Pending | State::Running if canceled => {
            ("canceled", State::Canceled, Outcome::Canceled, "Canceled")
        }
        State::Pending | State::Running => (
            "lost",
            State::Failed,
            Outcome::Lost,
            "its runner died without a record of how the command ended",
        ),
        _ => return Ok(()),
    };
    let mut ended = now;
    (ended.state, ended.outcome, ended.detail) = (state, Some(outcome), detail.to_owned());
    (ended.phase, ended.extra_data, ended.ended_at) = (None, Extra::None, Some(rfc3339(at)));
    locked.record(Happened { name, ..Happened::default() }, ended, at)
}
