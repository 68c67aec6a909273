//! A local command, as the daemon sees it: start its supervisor, wake it, bury what it left behind.

use std::{fs, io, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{
    cgroup::Cgroup,
    launch::Launch,
    launcher::Launcher,
    process::{PidFd, boot_id, identify},
};
use crate::{
    crash,
    logic::{process::ProcessId, recovery::Supervisor},
    store::{UnitDir, events::Log, status},
    unit::{Extra, Unit},
};

/// Has a supervisor started for a unit that is ready to run.
///
/// # Errors
/// Then no supervisor runs, or one that has claimed the unit: what it recorded stands.
pub fn launch(launcher: &Launcher, dir: &UnitDir, launch: &Launch) -> io::Result<PidFd> {
    crash::point("write launch");
    launch.write(dir)?;
    crash::point("spawn supervisor");
    let supervisor = launcher.launch(dir.id())?;
    crash::point("supervisor is spawned");
    Ok(supervisor)
}

/// The process that looks after a unit, if it lives: its supervisor, or the runner of a Go node.
pub fn supervisor(dir: &UnitDir, unit: &Unit, log: &Log) -> (Supervisor, Option<PidFd>) {
    let process = match log.last(|note| note.supervisor.clone()) {
        Some(process) => Some(process),
        None => match go_runner(dir, unit) {
            Ok(process) => process,
            Err(_ended) => return (Supervisor::Dead, None),
        },
    };
    let earlier = |process: &ProcessId| boot_id().is_ok_and(|boot| boot != process.boot_id);
    if process.as_ref().is_some_and(earlier) {
        return (Supervisor::Rebooted, None);
    }
    match process.map(|process| PidFd::open(&process)) {
        None => (Supervisor::None, None),
        Some(None) => (Supervisor::Dead, None),
        Some(alive) => (Supervisor::Alive, alive),
    }
}

/// Wakes whoever looks after a unit, so that it reads that it is to stop the command. Nobody there: the driver knows.
pub fn stop(dir: &UnitDir) {
    let Ok(locked) = status::lock(dir) else { return };
    let Some(unit) = locked.unit() else { return };
    let signal = match locked.log().last(|note| note.supervisor.clone()) {
        Some(_) => Signal::SIGTERM,
        None => Signal::SIGINT, // what the runner of a Go node expects
    };
    crash::point("wake supervisor");
    if let (_, Some(process)) = supervisor(dir, unit, locked.log())
        && let Err(error) = process.signal(signal)
    {
        tracing::debug!(unit = %dir.id(), %error, "the supervisor ended before it could be woken");
    }
}

/// Kills what is left of a command whose supervisor is gone: its whole group, and its control group where it has one,
/// in which also those are that changed their session. Waits a moment for their end.
pub fn kill_survivors(log: &Log) {
    let Some(command) = log.last(|note| note.command.clone()) else { return };
    let same_boot = boot_id().is_ok_and(|boot| boot == command.boot_id);
    // While any member of a group lives, its number is not given to a new process; a leader that is another process
    // than the recorded one shows that the group is gone.
    let leader_is_other = identify(command.pid).is_ok_and(|now| now != command);
    if same_boot && !leader_is_other && command.pid > 1 {
        crash::point("kill survivors");
        let leader = PidFd::open(&command);
        let _ = killpg(Pid::from_raw(command.pid), Signal::SIGKILL); // no such group is what we hope for
        // What it has written is counted next. A process in the kernel's hands for longer is not worth a stuck unit.
        leader.inspect(|leader| leader.wait(Duration::from_secs(1)));
    }
    let cgroup = log.last(|note| note.cgroup.clone()).filter(|_| same_boot);
    if let Some(cgroup) = cgroup.and_then(|path| Cgroup::at(&path)) {
        cgroup.kill();
        cgroup.remove_when_empty(Duration::from_secs(2));
    }
}

/// The runner that a Go node started for this unit; an error when its process has ended.
fn go_runner(dir: &UnitDir, unit: &Unit) -> io::Result<Option<ProcessId>> {
    let Extra::Command(command) = &unit.extra_data else { return Ok(None) };
    let pid = match i32::try_from(command.pid) {
        Ok(pid) if pid > 1 && unit.started_at.is_none() => pid,
        _ => return Ok(None),
    };
    let process = identify(pid)?;
    // Its file has the bare number; the command line tells whether the process is really that runner.
    let line = fs::read(format!("/proc/{pid}/cmdline"))?;
    let unitdir = format!("unitdir={}", dir.path().display());
    let mut arguments = line.split(|byte| *byte == 0);
    match arguments.any(|argument| argument == unitdir.as_bytes()) {
        true => Ok(Some(process)),
        false => Err(io::Error::new(io::ErrorKind::NotFound, "another process has the runner's number")),
    }
}
