//! The funnel from end to end: text in, a Config or every problem out.

mod access;
mod awx;
mod cmdline;
mod documented;
mod firewall;
mod forms;
mod mistakes;
mod mutations;
mod services;
mod show;
mod spec;
mod tls;

use std::path::{Path, PathBuf};

use super::{Config, LoadOptions, Problems};

fn options() -> LoadOptions {
    LoadOptions {
        host_name: "host.example".to_owned(),
        datadir: PathBuf::from("/var/lib/netmesh"),
        temp_dir: PathBuf::from("/tmp"),
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new("f.yml"), &options())
}

fn config(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{problems}\nof\n{text}"))
}

/// The problems of `text`, a line each; every problem is in a line of its own.
fn problems(text: &str) -> Vec<String> {
    parse(text).expect_err(text).to_string().lines().map(str::to_owned).collect()
}

/// A key file of the right kind, for as long as the directory is held.
fn key_file(label: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    std::fs::write(&path, format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n")).unwrap();
    (dir, path)
}
