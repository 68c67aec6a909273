//! A real daemon: started, watched by its log, asked through its socket, ended.

use std::{
    fs,
    io::Write as _,
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Instant,
};

use super::{PATIENCE, Ran, Talk, finish, lines, program, signal};

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) node: String,
    socket: PathBuf,
    file: PathBuf,
    notify: PathBuf,
    prefix: Vec<String>,
    child: Child,
    log: Log,
    /// What was read of the log so far, for the message of a failing test.
    seen: Vec<String>,
}

/// The lines of a daemon's log; several threads may talk to the daemon meanwhile.
struct Log(Mutex<mpsc::Receiver<String>>);

impl Log {
    fn lines(&mut self) -> &mut mpsc::Receiver<String> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    pub(super) fn start(
        node: &str,
        file: &Path,
        socket: &Path,
        notify: &Path,
        prefix: Vec<String>,
    ) -> Daemon {
        let _ = fs::remove_file(notify);
        let ready = UnixDatagram::bind(notify).expect("a socket for readiness");
        ready.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut words = prefix.iter().map(String::as_str).chain([program()]);
        let mut child = Command::new(words.next().expect("the program itself"))
            .args(words)
            .args(["node", "--log-format", "text", "--config"])
            .arg(file)
            .env("NOTIFY_SOCKET", notify)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon starts");
        let log = lines(child.stderr.take().expect("piped"));
        let mut daemon = Daemon {
            node: node.to_owned(),
            socket: socket.to_owned(),
            file: file.to_owned(),
            notify: notify.to_owned(),
            prefix,
            child,
            log: Log(Mutex::new(log)),
            seen: Vec::new(),
        };
        let mut said = [0; 4096];
        loop {
            match ready.recv(&mut said) {
                Ok(n) if String::from_utf8_lossy(&said[..n]).contains("READY=1") => return daemon,
                Ok(_) => {}
                Err(error) => {
                    daemon.kill();
                    panic!(
                        "{node} was not ready: {error}; it said: {:#?}",
                        daemon.log.lines().iter().collect::<Vec<_>>()
                    );
                }
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the daemon as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks the daemon to stop and waits until it has; says with what.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), "TERM");
        self.child.wait().expect("the daemon ends")
    }

    /// Starts it again, on the same files.
    pub(crate) fn restart(self) -> Daemon {
        let (node, file, socket, notify) =
            (self.node.clone(), self.file.clone(), self.socket.clone(), self.notify.clone());
        let prefix = self.prefix.clone();
        drop(self);
        Daemon::start(&node, &file, &socket, &notify, prefix)
    }

    /// Waits until the daemon has ended by itself; says with what.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        // Its log ends when it does.
        let end = Instant::now() + PATIENCE;
        loop {
            match self.log.lines().recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("{} goes on: {:#?}", self.node, self.seen),
            }
        }
        self.child.wait().expect("the daemon ends")
    }

    /// Waits until a line of the log holds all of `words`.
    pub(crate) fn wait_log(&mut self, words: &[&str]) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.log.lines().recv_timeout(left) {
                Ok(line) => {
                    let found = words.iter().all(|word| line.contains(word));
                    self.seen.push(line.clone());
                    if found {
                        return line;
                    }
                }
                Err(error) => panic!("{} never logged {words:?} ({error}): {:#?}", self.node, self.seen),
            }
        }
    }

    /// Waits until the node can be reached from here.
    pub(crate) fn wait_reach(&mut self, node: &str) {
        self.wait_log(&["node in reach", &format!("node={node}")]);
    }

    /// A client command line on this daemon, not started yet.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("--socket").arg(&self.socket).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a client command to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        self.run_with(words, b"")
    }

    /// Runs a client command with something on its standard input.
    pub(crate) fn run_with(&self, words: &[&str], stdin: &[u8]) -> Ran {
        let mut command = self.command(words);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        let mut pipe = child.stdin.take().expect("piped");
        let stdin = stdin.to_vec();
        let feeder = thread::spawn(move || {
            // A client that does not read its input is free not to.
            let _ = pipe.write_all(&stdin);
        });
        let ran = finish(child, words);
        feeder.join().expect("the feeder ends");
        ran
    }

    /// Submits and gives the unit's id.
    pub(crate) fn submit(&self, words: &[&str]) -> String {
        let mut all = vec!["work", "submit"];
        all.extend(words);
        let ran = self.run(&all).ok();
        ran.lines().find_map(|line| line.strip_prefix("Unit ID: ")).expect("a unit id").trim().to_owned()
    }

    /// The status of a unit, all members.
    pub(crate) fn status(&self, unit: &str) -> serde_json::Value {
        let mut talk = self.talk();
        talk.say(&format!(r#"{{"command":"work","subcommand":"status","unitid":"{unit}","fields":"all"}}"#));
        let line = talk.line();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("status of {unit}: {line}"))
    }

    /// Follows a unit to its end and gives its output and last status.
    pub(crate) fn follow(&self, unit: &str) -> (Vec<u8>, serde_json::Value) {
        let mut talk = self.talk();
        talk.say(&format!("work results {unit}"));
        let head = talk.line();
        assert_eq!(head, format!("Streaming results for work unit {unit}"));
        let output = talk.rest();
        (output, self.status(unit))
    }

    /// Waits until it knows of an advert with all of `words`. An advert tells nobody when it comes.
    pub(crate) fn wait_advert(&self, words: &[&str]) {
        let end = Instant::now() + PATIENCE;
        loop {
            let status: serde_json::Value = serde_json::from_str(&self.talk_once("status")).expect("JSON");
            let adverts = status["Advertisements"].as_array().cloned().unwrap_or_default();
            if adverts.iter().map(ToString::to_string).any(|one| words.iter().all(|word| one.contains(word)))
            {
                return;
            }
            assert!(Instant::now() < end, "no advert of {words:?}: {status}");
        }
    }

    /// The answer to one line.
    pub(crate) fn talk_once(&self, line: &str) -> String {
        let mut talk = self.talk();
        talk.say(line);
        talk.line()
    }

    /// A raw conversation with the control socket, its greeting read.
    pub(crate) fn talk(&self) -> Talk {
        let mut talk = self.dial();
        assert_eq!(talk.line(), format!("Receptor Control, node {}", self.node));
        talk
    }

    /// A raw connection to the control socket, whatever it is greeted with.
    pub(crate) fn dial(&self) -> Talk {
        let stream = UnixStream::connect(&self.socket).expect("the control socket accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Talk::over(stream)
    }

    /// How many lines of its log so far hold all of `words`.
    pub(crate) fn said(&mut self, words: &[&str]) -> usize {
        self.seen.extend(self.log.lines().try_iter());
        self.seen.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            self.seen.extend(self.log.lines().try_iter());
            eprintln!("log of {}:\n{}", self.node, self.seen.join("\n"));
        }
    }
}
