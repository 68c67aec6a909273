//! Files are made with their final mode: whoever starts the daemon with an open umask opens nothing to others.

mod common;

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use common::{World, free_port};

/// Runs what follows with an umask of 0.
const OPEN: [&str; 4] = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];

#[test]
fn nothing_that_a_daemon_its_supervisors_and_its_remote_units_make_is_open_to_others() {
    let world = World::new();
    let port = free_port();
    let work = "- work-command: {worktype: both, command: sh, args: [-c, 'cat; echo error >&2; umask'], stderr: separate}\n";
    let _b = world.start_under(
        &OPEN,
        "b",
        &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n{work}"),
    );
    let mut a =
        world.start_under(&OPEN, "a", &format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n{work}"));
    a.wait_reach("b");
    for node in ["localhost", "b"] {
        let ran = a.run_with(&["work", "submit", "both", "--node", node, "-p", "-", "-f"], b"in");
        let output = ran.ok();
        assert!(output.contains("0000"), "the command itself has the umask that was asked for: {output}");
    }
    let mut seen = Vec::new();
    walk(&world.path().join("data"), &mut seen);
    for name in ["status", "spec", "events", "stdin", "stdout", "stderr", "launch", "remote", "epoch"] {
        assert!(seen.iter().any(|(path, _)| path.ends_with(name)), "{name} is not among {seen:#?}");
    }
    for node in ["a", "b"] {
        let socket = world.socket(node);
        let mode = fs::metadata(&socket).expect("a socket").mode();
        assert!(fs::metadata(&socket).expect("a socket").file_type().is_socket());
        seen.push((socket, mode));
    }
    let open: Vec<_> = seen.iter().filter(|(_, mode)| mode & 0o077 != 0).collect();
    assert!(open.is_empty(), "{open:#?}");
}

fn walk(directory: &Path, seen: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        // What is removed while we look is gone, and cannot be open.
        let Ok(found) = fs::symlink_metadata(entry.path()) else { continue };
        seen.push((entry.path(), found.mode()));
        if found.is_dir() {
            walk(&entry.path(), seen);
        }
    }
}
