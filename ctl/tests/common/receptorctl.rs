//! The published client of Receptor, unmodified.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The published client that tests use.
pub(crate) const VERSION: &str = "1.6.9";

/// The client, installed once into the build directory; `None` with the reason printed when it cannot be.
pub(crate) fn receptorctl() -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("receptorctl-{VERSION}"));
    let program = home.join("bin/receptorctl");
    // An installation names its own place: one that was moved with its build directory does not start.
    if Command::new(&program).arg("--help").output().is_ok_and(|ran| ran.status.success()) {
        return Some(program);
    }
    let _ = std::fs::remove_dir_all(&home);
    let run = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    let installed = run(Command::new("python3").args(["-m", "venv"]).arg(&home)).and_then(|()| {
        run(Command::new(home.join("bin/pip")).args([
            "install",
            "--quiet",
            &format!("receptorctl=={VERSION}"),
        ]))
    });
    match installed {
        Ok(()) => Some(program),
        Err(reason) => {
            let _ = std::fs::remove_dir_all(&home);
            println!("SKIPPED: receptorctl {VERSION} cannot be installed here: {reason}");
            None
        }
    }
}
