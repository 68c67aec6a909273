//! `netmesh bench` measures what it is asked to, goes on when something fails, and leaves nothing behind.

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use common::{finish, program, signal};
use serde_json::Value;

/// Starts `netmesh bench` with a directory of its own for its files.
fn bench(directory: &Path, words: &[&str]) -> Child {
    Command::new(program())
        .args(["bench", "--quick", "--json"])
        .args(words)
        .env("TMPDIR", directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

/// The rows of a report, and what is in one cell of one.
fn cell<'a>(report: &'a Value, key: &str, whose: &str) -> &'a Value {
    let rows = report["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{key}: {report}"));
    &row[whose]
}

/// Neither a file nor a process has stayed: each process of a run has its directory among its arguments.
fn nothing_is_left(directory: &Path) {
    let files: Vec<_> = fs::read_dir(directory).expect("readable").collect();
    assert!(files.is_empty(), "{files:?}");
    let name = directory.to_str().expect("a path");
    for process in fs::read_dir("/proc").expect("readable").flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(!line.contains(name), "still there: {line}");
    }
}

#[test]
fn rows_come_with_their_values_and_nothing_is_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let rows = "spawn,fdatasync,start,unit-true,ping-1-hop,proxy-tcp-1-hop-rate";
    let ran = finish(bench(directory.path(), &["--only", rows]), &["bench"]).ok();
    let report: Value = serde_json::from_str(&ran).expect("JSON");
    for (key, whose) in [
        ("spawn-p50", "limit"),
        ("fdatasync-p99", "limit"),
        ("start", "netmesh"),
        ("unit-true-p50", "netmesh"),
        ("unit-true-p50", "limit"),
        ("ping-1-hop-p99", "netmesh"),
        ("proxy-tcp-1-hop-rate", "netmesh"),
        ("proxy-tcp-1-hop-rate", "limit"),
    ] {
        let value = cell(&report, key, whose)["value"].as_f64();
        assert!(value.is_some_and(|value| value > 0.0), "{key} {whose}: {report}");
    }
    assert_eq!(report["rows"].as_array().map(Vec::len), Some(10), "no others: {report}");
    nothing_is_left(directory.path());
}

#[test]
fn a_peer_that_cannot_be_a_node_costs_its_own_cells_only() {
    let (directory, elsewhere) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("another"));
    let peer = elsewhere.path().join("peer");
    let script = "#!/bin/sh\n[ \"$1\" = --version ] && exec echo 9.9\necho 'what is this?' >&2\nexit 3\n";
    fs::write(&peer, script).expect("a script");
    fs::set_permissions(&peer, fs::Permissions::from_mode(0o755)).expect("executable");
    let words = ["--only", "start,job-local,own-job-local", "--peer", peer.to_str().expect("a path")];
    let report = finish(bench(directory.path(), &words), &["bench"]).ok();
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["peer"], "peer 9.9");
    for key in ["start", "job-local-p50"] {
        assert!(cell(&report, key, "netmesh")["value"].is_f64(), "{report}");
        let error = cell(&report, key, "peer")["error"].as_str().unwrap_or_default();
        assert!(error.contains("it has ended") && error.contains("what is this?"), "{error}");
    }
    assert_eq!(cell(&report, "own-job-local-p50", "peer")["cannot"], true, "{report}");
    nothing_is_left(directory.path());
}

#[test]
fn an_interrupted_run_ends_its_nodes_and_removes_their_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = bench(directory.path(), &["--only", "job-3-hops"]);
    let mut told = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    told.read_line(&mut line).expect("it tells what it measures");
    assert!(line.contains("job-3-hops"), "{line}"); // its four nodes run by now
    signal(child.id(), "INT");
    let ran = finish(child, &["bench"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(130), ""), "{ran:?}");
    nothing_is_left(directory.path());
}

#[test]
fn rows_that_do_not_exist_are_bad_usage_and_those_that_do_are_listed() {
    let directory = tempfile::tempdir().expect("a directory");
    let ran = finish(bench(directory.path(), &["--only", "job,jib"]), &["bench"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("`jib`") && ran.stderr.contains("--list"), "{ran:?}");
    let list = finish(bench(directory.path(), &["--list", "--only", "job-local"]), &["bench"]).ok();
    let keys: Vec<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(keys, ["job-local-p50", "job-local-p99"]);
    nothing_is_left(directory.path());
}
