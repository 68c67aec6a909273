//! `netmesh bench`: how fast is it, here, beside another program, and beside what the machine can do at best?
//!
//! ```text
//! suite   goes through rows/, each a group: of this program, of its peer, of the machine
//! rows/   what is measured, and how       mesh, node ─► program, yard      real processes on loopback
//! report/ what was found (pure)           talk, traffic, usage             what is said, sent and read off
//! ```
//! Everything is measured from outside, by plain threads that wait in the kernel: both programs are asked in the same
//! words, and no runtime of ours stands between a clock and a socket.

mod mesh;
mod node;
mod plan;
mod program;
pub(crate) mod relay;
mod report;
mod rows;
mod stats;
mod suite;
mod talk;
mod traffic;
mod trouble;
mod usage;
mod yard;

use std::{fs, io, path::Path, thread, time::Duration};

use tempfile::TempDir;
use tokio::{sync::oneshot, time::timeout};

use self::{
    plan::{Plan, Wanted},
    program::Program,
    report::Who,
    yard::Yard,
};
use crate::{
    args::BenchArgs,
    client::Console,
    exit::{Code, Failure},
};

/// How long a suite may take to notice that its nodes are gone.
const SUITE_MAX: Duration = Duration::from_secs(2);

/// Measures, and prints what was found. Whatever happens, no process and no file stays.
///
/// # Errors
/// Bad usage; an interruption; a directory that cannot be used. A row that fails is in the report, and leaves 1 when it
/// is one of this program's.
pub(crate) async fn run(args: BenchArgs, console: &mut Console) -> Result<Code, Failure> {
    let plan = if args.quick { Plan::quick() } else { Plan::whole() };
    let wanted = Wanted::new(args.only);
    let specs = suite::specs(&plan);
    if let Some(word) = wanted.stranger(specs.iter().map(|spec| spec.key.as_str())) {
        return Err(Failure::usage(format!(
            "no row is called `{word}`: `netmesh bench --list` names them all"
        )));
    }
    if args.list {
        for spec in specs.iter().filter(|spec| wanted.has(&spec.key)) {
            console.line(&format!("{:<24}{}: {}, {}", spec.key, spec.group, spec.what, spec.unit)).await?;
        }
        return Ok(Code::OK);
    }
    let ours =
        Program::ours().map_err(|error| Failure::not_done(format!("cannot find this program: {error}")))?;
    let peer = args.peer.as_deref().map(Program::at_path).transpose();
    let peer = peer.map_err(|trouble| Failure::usage(format!("--peer: {trouble}")))?;
    let directory = tempfile::Builder::new().prefix("netmesh-bench-").tempdir();
    let directory = directory.map_err(|error| no_directory(&std::env::temp_dir(), &error))?;
    let yard =
        Yard::open().map_err(|error| Failure::not_done(format!("cannot look after processes: {error}")))?;

    let (done, told) = oneshot::channel();
    let suite = {
        let (yard, path) = (yard.clone(), directory.path().to_owned());
        move || {
            let began = load();
            let mut report = suite::run(&plan, &wanted, &ours, peer.as_ref(), &yard, &path);
            report.machine = machine(&path, &began);
            report.ours = ours.name;
            report.peer = peer.map(|peer| peer.name);
            drop(done.send(report)); // after an interruption nobody waits for it
        }
    };
    thread::Builder::new()
        .name("bench".to_owned())
        .spawn(suite)
        .map_err(|error| Failure::not_done(format!("cannot start: {error}")))?;
    tokio::pin!(told);
    let report = tokio::select! {
        report = &mut told => report.map_err(|_| Failure::not_done("the suite has panicked; the lines above say where")),
        () = console.interrupt.wait() => {
            Err(Failure::new(Code::CANCELED, "interrupted; the nodes and files of the measurement are gone"))
        }
    };
    yard.close();
    if report.is_err() {
        // With its nodes gone the suite comes to an end by itself; what it measures without any it may finish later.
        let _ = timeout(SUITE_MAX, told).await;
    }
    remove(directory)?;
    let report = report?;
    match console.json {
        true => console.pretty(&report.to_json()).await?,
        false => console.bytes(report.to_text().as_bytes()).await?,
    }
    let failed = report.failures().any(|(_, who, _)| who == Who::Ours);
    Ok(if failed { Code::NEGATIVE } else { Code::OK })
}

/// Removes the files of a run. Somebody may still be writing there, who stops when there is no directory.
fn remove(directory: TempDir) -> Result<(), Failure> {
    const TRIES: usize = 5;
    let path = directory.path().to_owned();
    let removed = (0..TRIES).map(|_| fs::remove_dir_all(&path)).find(|removed| removed.is_ok());
    match removed {
        Some(_) => drop(directory.keep()), // there is nothing left to remove
        None => directory
            .close()
            .map_err(|error| Failure::not_done(format!("cannot remove {}: {error}", path.display())))?,
    }
    Ok(())
}

/// What there is to know of the machine, for whoever compares two reports.
fn machine(directory: &Path, load_before: &str) -> Vec<(&'static str, String)> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let disk = nix::sys::statfs::statfs(directory);
    let disk = disk.map_or_else(|_| "?".to_owned(), |disk| format!("type {:x}", disk.filesystem_type().0));
    vec![
        ("cores", cores.to_string()),
        ("processor", model.map_or("?", |(_, model)| model).to_owned()),
        ("kernel", kernel.trim().to_owned()),
        ("directory", format!("{}, file system {disk}", directory.display())),
        ("load", format!("{load_before} before, {} after", load())),
    ]
}

/// How busy the machine was in the last minute.
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

fn no_directory(directory: &Path, error: &io::Error) -> Failure {
    Failure::not_done(format!(
        "cannot use {}: {error}; set TMPDIR to a directory that you may write to",
        directory.display()
    ))
}
