//! Large outputs and payloads of remote units: how fast they travel 1 and 2 hops, and what a GiB costs.
//!
//! An output is read by a follower at the submitting node while it comes, from the submission to its last byte. A
//! payload's clock runs from the submission until the command runs at the far node with all of it: the command says so
//! by itself. What a unit with a single byte takes is taken off, in time and in processor time, so that nobody is
//! charged here for starting units, and nobody gains by keeping the bytes back until all of them are there. The
//! processor time is that of all nodes and of the commands and supervisors that they have waited for. Both programs
//! keep what they carry on disk at either end.

use std::{
    fs::{File, OpenOptions},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::Mode,
    unistd::mkfifo,
};

use super::{distance, far};
use crate::bench::{
    mesh::{Link, Mesh},
    node::{Node, quoted},
    plan::{Plan, median},
    report::{Better, Of, Spec},
    stats::Figure,
    suite::{Group, Turn, spec},
    traffic::CHUNK,
    trouble::{Tried, Trouble, at},
};

pub(super) const GROUP: Group = Group { specs, run };

const FARTHEST: usize = 2;
const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;
/// How much tells first how fast it is, so that the rounds that count are neither too short nor too long, in bytes.
const TRIAL: u64 = 4 << 20;
/// A supervisor ends, and is waited for, a moment after its command.
const SETTLED: Duration = Duration::from_millis(50);
/// How long a command may take to start.
const KNOCK_MAX: Duration = Duration::from_secs(120);

fn keys(what: &str, hops: usize) -> [String; 2] {
    ["rate", "cpu"].map(|part| format!("{what}-{}-{part}", distance(hops)))
}

fn specs(_: &Plan) -> Vec<Spec> {
    let mut specs = Vec::new();
    for name in ["results", "payload"] {
        for hops in 1..=FARTHEST {
            let [rate, cpu] = keys(name, hops);
            let row = |key, what, unit, better| spec("Large units", key, what, unit, better, Of::Both);
            specs.push(row(rate, format!("{name}, {}", far(hops)), "MiB/s", Better::Higher));
            let what = format!("{name}, processor time, {}", far(hops));
            specs.push(row(cpu, what, "s/GiB", Better::Lower));
        }
    }
    specs
}

/// What one unit took, in seconds.
struct Round {
    took: f64,
    cpu: f64,
}

fn run(turn: &mut Turn<'_>) -> Tried<()> {
    let (plan, place) = (turn.plan, turn.place.clone());
    let cannot = || format!("cannot use {}", place.directory.display());
    let (source, fifo, script) =
        (place.directory.join("source"), place.directory.join("knocks"), place.directory.join("knock.sh"));
    // Holes read as zeros: where the bytes come from costs both programs the same, and little.
    File::create(&source).and_then(|file| file.set_len(plan.bytes_max)).map_err(at(cannot()))?;
    mkfifo(&fifo, Mode::S_IRWXU).map_err(at(cannot()))?;
    std::fs::write(&script, format!("echo knock > '{}'\n", fifo.display())).map_err(at(cannot()))?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).map_err(at(cannot()))?;
    let work = format!(
        "- work-command: {{worktype: large, command: head, allowruntimeparams: true}}\n\
         - work-command: {{worktype: knock, command: sh, params: {}}}\n",
        quoted(Path::new(&format!("'{}'", script.display())))
    );
    let mesh = Mesh::line(&place, Link::Tcp, &vec![work; FARTHEST + 1])?;
    for hops in 1..=FARTHEST {
        turn.case(&keys("results", hops), || rounds(plan, |bytes| results(&mesh, hops, &source, bytes)));
    }
    for hops in 1..=FARTHEST {
        turn.case(&keys("payload", hops), || {
            let mut knocks = Knocks::open(&fifo)?;
            rounds(plan, |bytes| payload(&mesh, hops, &mut knocks, bytes))
        });
    }
    Ok(())
}

/// Rounds of a size that fits the path, less what one takes that carries nothing.
fn rounds(plan: &Plan, mut round: impl FnMut(u64) -> Tried<Round>) -> Tried<Vec<Figure>> {
    let empty = (0..=plan.rounds.0).map(|_| round(1)).collect::<Tried<Vec<Round>>>()?;
    let middle = |part: fn(&Round) -> f64| Figure::median(&empty.iter().map(part).collect::<Vec<_>>());
    let (Some(took), Some(cpu)) = (middle(|round| round.took), middle(|round| round.cpu)) else {
        return Err(Trouble::new("there was no round"));
    };
    let mut bytes = TRIAL;
    for _ in 0..2 {
        // Where a trial is lost in what a unit takes by itself, the next one is longer.
        let longer = (round(bytes)?.took - took.value).max(took.value / 4.0);
        // Twice as long as a unit by itself: a Receptor node looks once a second whether there is anything to fetch.
        bytes = plan.bytes_for(bytes as f64 / longer, 2.0 * took.value);
    }
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds.0 {
        let round = round(bytes)?;
        if round.took <= took.value {
            return Err(Trouble(format!(
                "{bytes} bytes took no longer than one: the machine is too busy to tell"
            )));
        }
        rates.push(bytes as f64 / MIB / (round.took - took.value));
        costs.push((round.cpu - cpu.value).max(0.0) / (bytes as f64 / GIB));
    }
    Ok([median(&rates)?, median(&costs)?].concat())
}

/// Has so many bytes written at the far node, and reads them at the near one.
fn results(mesh: &Mesh, hops: usize, source: &Path, bytes: u64) -> Tried<Round> {
    let (near, to) = (&mesh.nodes[0], &mesh.nodes[hops].id);
    let (mut submit, mut results) = (near.talk()?, near.talk()?);
    let cpu = mesh.cpu()?;
    let began = Instant::now();
    let unit = submit.submit(to, "large", &format!("-c {bytes} '{}'", source.display()))?;
    submit.finish()?;
    results.results(&unit)?;
    let mut came = 0;
    let mut last = began;
    results.drain(|n| {
        last = Instant::now();
        came += n as u64;
    })?;
    if came != bytes {
        return Err(Trouble(format!("unit {unit} wrote {bytes} bytes, and {came} came")));
    }
    finished(mesh, near, &unit, cpu, last - began)
}

/// Sends so many bytes to a command at the far node.
fn payload(mesh: &Mesh, hops: usize, knocks: &mut Knocks, bytes: u64) -> Tried<Round> {
    let (near, to) = (&mesh.nodes[0], &mesh.nodes[hops].id);
    let mut submit = near.talk()?;
    let cpu = mesh.cpu()?;
    let began = Instant::now();
    let unit = submit.submit(to, "knock", "")?;
    let chunk = vec![b'x'; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let n = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        submit.send(&chunk[..n])?;
        left -= n as u64;
    }
    submit.finish()?;
    knocks.next()?;
    let took = began.elapsed();
    let mut end = near.talk()?;
    end.results(&unit)?;
    end.drain(|_| ())?;
    finished(mesh, near, &unit, cpu, took)
}

/// Reads the costs off when all is done, and lets the disk have its room back.
fn finished(mesh: &Mesh, near: &Node, unit: &str, cpu_before: Duration, took: Duration) -> Tried<Round> {
    thread::sleep(SETTLED);
    let cpu = mesh.cpu()?.saturating_sub(cpu_before);
    let mut talk = near.talk()?;
    talk.say(&format!("work release {unit}"))?;
    talk.line()?;
    Ok(Round { took: took.as_secs_f64(), cpu: cpu.as_secs_f64() })
}

/// Hears of commands that have started.
struct Knocks(File);

impl Knocks {
    /// Opened for writing too, so that it never ends.
    fn open(fifo: &Path) -> Tried<Knocks> {
        let file = OpenOptions::new().read(true).write(true).open(fifo);
        Ok(Knocks(file.map_err(at(format!("cannot open {}", fifo.display())))?))
    }

    fn next(&mut self) -> Tried<()> {
        use std::os::fd::AsFd as _;
        let limit = PollTimeout::try_from(KNOCK_MAX).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        if poll(&mut polled, limit).map_err(at("cannot wait for the command"))? == 0 {
            return Err(Trouble(format!("the command has not started after {} s", KNOCK_MAX.as_secs())));
        }
        let mut knock = *b"knock\n";
        self.0.read_exact(&mut knock).map_err(at("cannot hear the command"))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_knock_is_heard_once() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("knocks");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let mut knocks = Knocks::open(&fifo).unwrap();
        OpenOptions::new().write(true).open(&fifo).unwrap().write_all(b"knock\nknock\n").unwrap();
        assert!(knocks.next().is_ok() && knocks.next().is_ok());
        let mut polled = [PollFd::new(std::os::fd::AsFd::as_fd(&knocks.0), PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, PollTimeout::ZERO), Ok(0));
    }
}
