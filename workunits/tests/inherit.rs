//! What a command inherits: stdio, the daemon's environment, and nothing by accident.

#![allow(clippy::unwrap_used)] // the lint knows only the functions marked as tests, not their helpers

mod common;

use std::{io::Write, os::fd::AsRawFd};

use common::Node;
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::{SigHandler, Signal, signal},
};

/// Alone in its file: it changes what the whole process hands on.
#[tokio::test]
async fn a_command_gets_no_descriptor_and_no_ignored_signal_of_the_daemons() {
    // As whoever starts a daemon in the background of a script leaves it.
    let mut held = tempfile::tempfile().unwrap();
    held.write_all(b"secret").unwrap();
    fcntl(&held, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    for number in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: ignoring runs no code of ours.
        unsafe { signal(number, SigHandler::SigIgn) }.unwrap();
    }
    let node = Node::start().await;
    let id = node
        .sh("grep -E \"^Sig(Blk|Ign)\" /proc/self/status; ulimit -n; readlink /proc/$$/fd/* /proc/$PPID/fd/*")
        .await;
    let (_, output) = node.end(id).await;
    let output = String::from_utf8(output).unwrap();
    for name in ["SigBlk:", "SigIgn:"] {
        let mask = output.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        // Signals 1 to 31; the C library keeps some of the others to itself.
        assert_eq!(u64::from_str_radix(mask.trim(), 16).unwrap() & 0x7fff_ffff, 0, "{output}");
    }
    assert!(output.lines().any(|line| line == "200"), "it may open as many files as configured: {output}");
    assert!(output.contains("/stdin"), "{output}");
    assert!(!output.contains("(deleted)"), "descriptor {} was handed on: {output}", held.as_raw_fd());
}
