//! Commands that wait until the test lets them go on.

use std::{cell::OnceCell, fs, io::Write as _, path::PathBuf, process::Command};

use super::World;

/// A command that goes on only when the test says so: a FIFO that it reads from.
pub(crate) struct Gate {
    path: PathBuf,
    writer: OnceCell<fs::File>,
}

impl Gate {
    pub(crate) fn new(world: &World, name: &str) -> Gate {
        let path = world.path().join(name);
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        Gate { path, writer: OnceCell::new() }
    }

    pub(crate) fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// A `work-command` that prints 1 to `n`, and after each number waits for [`Gate::open`].
    pub(crate) fn counter(&self, work_type: &str, n: u32) -> String {
        let gate = self.path();
        format!(
            "- work-command:\n    worktype: {work_type}\n    command: bash\n    params: \"-c 'exec 3<> {gate}; for i in {{1..{n}}}; do echo $i; read -r _ <&3; done'\"\n"
        )
    }

    /// Lets the command go on, once, as soon as it gets there. Waits until the command has begun.
    pub(crate) fn open(&self) {
        self.say(b"\n");
    }

    /// Tells a command that listens to words to end.
    pub(crate) fn end(&self) {
        self.say(b"end\n");
    }

    fn say(&self, line: &[u8]) {
        // One writer for as long as the command lives: what it does not read at once stays in the pipe.
        let mut gate = self.writer.get_or_init(|| {
            fs::OpenOptions::new().write(true).open(&self.path).expect("the command comes to the gate")
        });
        gate.write_all(line).expect("the command lives");
    }
}
