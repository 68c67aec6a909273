//! `netmesh demo` shows what it says it shows, and leaves nothing behind.

mod common;

use std::process::{Command, Stdio};

use common::{finish, program};

#[test]
fn the_demo_runs_a_job_through_a_relay_and_cleans_up() {
    let tmp = tempfile::tempdir().expect("a temporary directory");
    let child = Command::new(program())
        .arg("demo")
        .env("TMPDIR", tmp.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the demo starts");
    let ran = finish(child, &["demo"]);
    let said = ran.ok();
    for word in ["a", "b", "c", "stdin", "stdout", "status"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let left: Vec<_> = std::fs::read_dir(tmp.path()).expect("readable").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
