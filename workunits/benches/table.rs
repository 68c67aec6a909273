//! Many finished units: how long a start takes, how long a page, and how much memory they need.
//!
//! `cargo bench -p workunits --bench table`, with `NETMESH_UNITS` for another number than 100,000 and `NETMESH_KEEP=DIR` to
//! leave the datadir of node `foo` in a directory, for a daemon to be tried on; what is there already is used again.
#![allow(clippy::unwrap_used)] // a measurement that cannot be made says so by ending

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use workunits::{
    request::{Filter, Paging},
    unit::{Extra, FORMAT, Outcome, RemoteExtra, State, Unit, UnitId, rfc3339},
};

const PAGES: usize = 50;

#[tokio::main]
async fn main() {
    let number = std::env::var("NETMESH_UNITS").map_or(100_000, |text| text.parse().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("NETMESH_KEEP").map(PathBuf::from);
    let root = kept.unwrap_or_else(|| temporary.path().join("data"));
    fs::create_dir_all(root.join("foo")).unwrap();
    let made = Instant::now();
    if fs::read_dir(root.join("foo")).unwrap().next().is_none() {
        (0..number).for_each(|n| make(&root.join("foo"), n));
    }
    println!("{number} finished units, made in {:?}", made.elapsed());
    read_all(&root.join("foo"), 1); // the page cache is warm from here on
    let threads = thread::available_parallelism().unwrap().get().min(8);
    let (before, start) = (processor_time(), Instant::now());
    read_all(&root.join("foo"), threads);
    let read = format!("status files read by {threads}");
    println!("{read:>26}: {:?}, processor {:?}", start.elapsed(), processor_time() - before);
    let (busy, before, start) = (processor_time(), private_bytes(), Instant::now());
    let engine = common::open(&root).await.unwrap();
    println!("{:>26}: {:?}, processor {:?}", "engine opened", start.elapsed(), processor_time() - busy);
    let more = private_bytes().saturating_sub(before);
    println!("{:>26}: {} KiB, {} bytes a unit", "private memory", more / 1024, more / number.max(1));

    let by = |work_type: &str| Filter { work_type: Some(work_type.to_owned()), ..Filter::default() };
    let failed = Filter { states: vec![State::Failed], ..Filter::default() };
    let recent = Filter { since: Some(SystemTime::now().into()), ..Filter::default() };
    for (name, filter) in
        [("any", Filter::default()), ("failed", failed), ("of a rare type", by("rare")), ("none", recent)]
    {
        let (mut times, mut after) = (Vec::new(), None);
        let mut shown = 0;
        for _ in 0..PAGES {
            let start = Instant::now();
            let page = engine.page(filter.clone(), Paging { limit: 100, after }).await.unwrap();
            times.push(start.elapsed());
            shown = page.units.len().max(shown);
            after = page.next;
        }
        times.sort();
        let (median, last): (Duration, Duration) = (times[PAGES / 2], times[PAGES - 1]);
        println!(
            "{:>26}: median {median:?}, slowest {last:?}, up to {shown} units",
            format!("a page of 100, {name}")
        );
    }
    let start = Instant::now();
    let all = engine.fold(Filter::default(), 0, |sum, _, _| *sum += 1).await.unwrap();
    println!("{:>26}: {:?}", format!("all {all}"), start.elapsed());
    engine.shutdown().await;
}

/// A unit that has ended: one in ten ran elsewhere, one in ten failed, one in a thousand is of a type of its own.
fn make(node: &Path, number: usize) {
    let id = UnitId::from_random((number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_string();
    let dir = node.join(id);
    fs::create_dir(&dir).unwrap();
    let created = SystemTime::now() - Duration::from_secs((2 * 200_000 - number as u64).max(1));
    let remote = number % 10 == 3;
    let state = if number % 10 == 7 { State::Failed } else { State::Succeeded };
    let work_type = if number % 1000 == 5 { "rare" } else { "cat" };
    let elsewhere = RemoteExtra {
        remote_node: "bar".to_owned(),
        remote_work_type: work_type.to_owned(),
        remote_unit_id: "aB3dEf9Z".to_owned(),
        remote_started: true,
        ..RemoteExtra::default()
    };
    let unit = Unit {
        state,
        detail: "exit status 0".to_owned(),
        stdout_size: 6,
        work_type: if remote { "remote" } else { work_type }.to_owned(),
        extra_data: if remote { Extra::Remote(Box::new(elsewhere)) } else { Extra::None },
        format: FORMAT,
        outcome: Some(if state == State::Failed { Outcome::Exit } else { Outcome::Ok }),
        exit_code: Some(0),
        pid: Some(4711),
        created_at: Some(rfc3339(created)),
        started_at: Some(rfc3339(created)),
        ended_at: Some(rfc3339(created + Duration::from_secs(1))),
        owner: Some("uid:0".to_owned()),
        request_id: Some(format!("{number:032x}")),
        boot_id: Some("3b5cba86-0c6c-4b2e-8f4c-2d4f1d5c2a10".to_owned()),
        ..Unit::default()
    };
    let status = serde_json::to_string(&unit).unwrap();
    let spec = format!(
        "{{\"version\":1,\"work_type\":\"{work_type}\",\"owner\":\"uid:0\",\"request_id\":\"{number:032x}\",\"created_at\":\"{}\"}}\n",
        rfc3339(created)
    );
    let event =
        format!("{{\"seq\":1,\"at\":\"{}\",\"event\":\"ended\",\"set\":{status}}}\n", rfc3339(created));
    for (name, content) in [
        ("status", format!("{status}\n")),
        ("spec", spec),
        ("events", event),
        ("stdin", String::new()),
        ("stdout", "hello\n".to_owned()),
        ("status.lock", String::new()),
    ] {
        fs::write(dir.join(name), content).unwrap();
    }
}

/// The limit: the same files, read by as many threads, and nothing made of them.
fn read_all(node: &Path, threads: usize) {
    let dirs: Vec<PathBuf> = fs::read_dir(node).unwrap().map(|entry| entry.unwrap().path()).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(dir) = dirs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    std::hint::black_box(fs::read(dir.join("status")).unwrap());
                }
            });
        }
    });
}

/// What this process has taken of the processors; unlike a clock it does not mind what else the machine does.
fn processor_time() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let spent =
        |time: nix::sys::time::TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    spent(usage.user_time()) + spent(usage.system_time())
}

/// What this process alone holds in memory.
fn private_bytes() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let kib = |line: &str| line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok());
    rollup.lines().filter(|line| line.starts_with("Private_")).filter_map(kib).sum::<usize>() * 1024
}
