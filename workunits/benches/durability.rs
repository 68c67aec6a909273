//! What a durable change of a unit costs: an append to `events`, or a replaced file. In the same run, alone and with others.
//!
//! `cargo bench -p workunits --bench durability`; `TMPDIR` names the disk.
#![allow(clippy::unwrap_used)] // a measurement that cannot be made says so by ending

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// As long as a usual event, or a usual status.
const BYTES: usize = 400;
const ROUNDS: usize = 60;

/// One change of the unit in a directory.
type Change = fn(&Path) -> io::Result<()>;

/// What `events` costs.
fn append(dir: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(dir.join("events"))?;
    file.write_all(&[b'x'; BYTES])?;
    file.sync_data()
}

/// What a durable `status` would cost.
fn replace(dir: &Path) -> io::Result<()> {
    let temporary = dir.join("status.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&[b'x'; BYTES])?;
    file.sync_data()?;
    fs::rename(temporary, dir.join("status"))?;
    File::open(dir)?.sync_all()
}

/// What the status costs that is only a view.
fn show(dir: &Path) -> io::Result<()> {
    let temporary = dir.join("status.tmp");
    File::create(&temporary)?.write_all(&[b'x'; BYTES])?;
    fs::rename(temporary, dir.join("status"))
}

/// `at_once` units change `ROUNDS` times each; how long each change took, and all of them.
fn measure(root: &Path, at_once: usize, change: Change) -> (Vec<Duration>, Duration) {
    let begin = Barrier::new(at_once + 1);
    thread::scope(|scope| {
        let units: Vec<_> = (0..at_once)
            .map(|number| {
                let (dir, begin) = (root.join(number.to_string()), &begin);
                fs::create_dir_all(&dir).unwrap();
                File::create(dir.join("events")).unwrap().sync_all().unwrap();
                scope.spawn(move || {
                    begin.wait();
                    let one = |_| {
                        let start = Instant::now();
                        change(&dir).unwrap();
                        start.elapsed()
                    };
                    (0..ROUNDS).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        begin.wait();
        let start = Instant::now();
        let mut times: Vec<Duration> = units.into_iter().flat_map(|unit| unit.join().unwrap()).collect();
        times.sort();
        (times, start.elapsed())
    })
}

fn main() {
    let changes: [(&str, Change); 3] = [
        ("append, fdatasync", append),
        ("replace, fsync file and directory", replace),
        ("replace, no sync", show),
    ];
    println!("{:>34}  {:>7}  {:>10}  {:>10}  {:>9}", "change", "at once", "median", "p99", "a second");
    for at_once in [1, 8, 64] {
        for (name, change) in changes {
            let root = tempfile::tempdir().unwrap();
            let (times, all) = measure(root.path(), at_once, change);
            let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            let rate = times.len() as f64 / all.as_secs_f64();
            println!("{name:>34}  {at_once:>7}  {median:>10.1?}  {p99:>10.1?}  {rate:>9.0}");
        }
    }
}
