//! The supervisor as a program of its own, for the tests: `supervise supervise UNITDIR`.

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    match (env::args_os().nth(1), env::args_os().nth(2)) {
        (Some(word), Some(dir)) if word == "supervise" => {
            workunits::runner::supervisor::main(Path::new(&dir))
        }
        _ => ExitCode::from(2),
    }
}
