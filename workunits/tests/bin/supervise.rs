//! The supervisor as a program of its own, for the tests: what `netmesh` does under the same words.

use std::{env, path::Path, process::ExitCode};

use workunits::runner::{launcher, supervisor};

fn main() -> ExitCode {
    let words: Vec<_> = env::args_os().skip(1).collect();
    match &words[..] {
        [word, units, ..] if word == launcher::WORD => launcher::main(Path::new(units)),
        [word, dir] if word == "supervise" => supervisor::main(Path::new(dir)),
        _ => ExitCode::from(2),
    }
}
