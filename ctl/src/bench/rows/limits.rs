//! What the machine can do: the start of a process, and a synced append.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::bench::{
    plan::half_and_most,
    report::{Better, Of, Spec},
    suite::{Group, Turn, spec},
    trouble::{Tried, Trouble, at},
};

pub(super) const GROUP: Group = Group { specs, run };

/// As long as a usual event of a unit, in bytes.
const EVENT: usize = 200;

fn specs(_: &crate::bench::plan::Plan) -> Vec<Spec> {
    let one = |key: &str, what: &str, quantile: &str| {
        let (key, what) = (format!("{key}-{quantile}"), format!("{what}, {quantile}"));
        spec("This machine", key, what, "ms", Better::Lower, Of::LimitAlone)
    };
    let both = [("spawn", "start and end of /bin/true"), ("fdatasync", "append and fdatasync")];
    both.into_iter().flat_map(|(key, what)| ["p50", "p99"].map(|quantile| one(key, what, quantile))).collect()
}

fn run(turn: &mut Turn<'_>) -> Tried<()> {
    let (plan, directory) = (turn.plan, turn.place.directory.clone());
    let keys = |key: &str| ["p50", "p99"].map(|quantile| format!("{key}-{quantile}"));
    turn.case(&keys("spawn"), || plan.latency(spawn));
    turn.case(&keys("fdatasync"), || {
        let mut file = File::create(directory.join("append")).map_err(at("cannot make a file"))?;
        let rounds = plan.repeat(|| Ok(append(&mut file)?.as_secs_f64() * 1e3))?;
        Ok(half_and_most(&rounds))
    });
    Ok(())
}

/// Starts and reaps a process that does nothing.
pub(super) fn spawn() -> Tried<Duration> {
    let began = Instant::now();
    let mut command = Command::new("/bin/true");
    let status = command.stdin(Stdio::null()).status().map_err(at("cannot run /bin/true"))?;
    match status.success() {
        true => Ok(began.elapsed()),
        false => Err(Trouble(format!("/bin/true: {status}"))),
    }
}

/// Makes one event durable.
fn append(file: &mut File) -> Tried<Duration> {
    let began = Instant::now();
    file.write_all(&[b'x'; EVENT]).and_then(|()| file.sync_data()).map_err(at("cannot append"))?;
    Ok(began.elapsed())
}

/// Makes durable what a unit makes durable that has no payload and prints nothing, in the same files and the same order,
/// each write behind the other; `docs/durability.md` says what is promised by each. Nothing runs.
pub(super) fn durable_writes(root: &Path, number: usize) -> Tried<Duration> {
    let unit = root.join(number.to_string());
    let began = Instant::now();
    let write = || {
        fs::create_dir(&unit)?;
        let mut spec = File::create(unit.join("spec"))?;
        spec.write_all(&[b'x'; 2 * EVENT])?;
        spec.sync_data()?;
        let mut events = File::create(unit.join("events"))?;
        for directory in [&*unit, root] {
            File::open(directory)?.sync_all()?;
        }
        let mut event = || events.write_all(&[b'x'; EVENT]).and_then(|()| events.sync_data());
        event()?; // the payload is whole
        event()?; // it has started
        event() // it has ended; what is empty is not synced
    };
    write().map_err(at("cannot write as a unit does"))?;
    Ok(began.elapsed())
}
