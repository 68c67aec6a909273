//! A mesh of real daemons in a temporary directory, for tests that go through the front door.
//!
//! Nothing here sleeps: a daemon says that it is ready over `NOTIFY_SOCKET`, and what happens to it is read from its
//! log as it is written. Every wait has an end ([`PATIENCE`]), and every process is ended by its own pid.

#![allow(dead_code)] // Each test file uses its own part of this.

use std::{
    cell::OnceCell,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{net::UnixDatagram, net::UnixStream, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long any single wait may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn program() -> &'static str {
    env!("CARGO_BIN_EXE_netmesh")
}

/// The top of the source tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace")
}

/// A directory with the configuration, the sockets and the units of some nodes.
///
/// Units outlive their daemons by design: those still running when the value goes are ended with it.
pub(crate) struct World {
    directory: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        let ours = self.path().as_os_str().as_encoded_bytes().to_vec();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.filter(|pid| *pid != std::process::id()) {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = words.split(|byte| *byte == 0);
            // `netmesh supervise DIRECTORY/data/NODE/UNIT`: with it goes its command.
            let supervises = words.any(|word| word == b"supervise");
            if supervises && words.next().is_some_and(|unit| unit.starts_with(&ours)) {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            }
        }
    }
}

impl World {
    pub(crate) fn new() -> World {
        World { directory: tempfile::tempdir().expect("a temporary directory") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn socket(&self, node: &str) -> PathBuf {
        self.path().join(format!("{node}.sock"))
    }

    /// Where the node keeps its units.
    pub(crate) fn units(&self, node: &str) -> PathBuf {
        self.path().join("data").join(node)
    }

    /// Starts a node with a control socket and the sections in `yaml` (list form), and waits until it is ready.
    pub(crate) fn start(&self, node: &str, yaml: &str) -> Daemon {
        self.start_under(&[], node, yaml)
    }

    /// The same, under a program that runs another, such as `ip netns exec NAME`.
    pub(crate) fn start_under(&self, prefix: &[&str], node: &str, yaml: &str) -> Daemon {
        let file = self.path().join(format!("{node}.yml"));
        let socket = self.socket(node);
        let head = format!(
            "- log-level: debug\n- node: {{id: {node}, datadir: {data}}}\n- control-service: {{service: control, filename: {socket}}}\n",
            data = self.path().join("data").display(),
            socket = socket.display()
        );
        fs::write(&file, format!("---\n{head}{}", unindent(yaml))).expect("the configuration is written");
        self.start_file(prefix, node, &file)
    }

    /// Starts a node with a file that is there already and names [`World::socket`] as its control socket, if any.
    pub(crate) fn start_file(&self, prefix: &[&str], node: &str, file: &Path) -> Daemon {
        let socket = self.socket(node);
        let prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        Daemon::start(node, file, &socket, &self.path().join(format!("{node}.notify")), prefix)
    }

    /// Starts a node with a file of `examples/`, its paths moved to this directory and `changes` made to its text.
    pub(crate) fn start_example(&self, file: &str, node: &str, changes: &[(&str, &str)]) -> Daemon {
        let path = root().join("examples").join(file);
        let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let moved =
            |named: &str| text.lines().find_map(|line| line.trim().strip_prefix(named)).map(str::to_owned);
        let (datadir, socket) = (moved("datadir: "), moved("filename: "));
        let (ours, our_socket) = (self.path().join("data"), self.socket(node));
        for (said, real) in [(socket, our_socket), (datadir, ours)] {
            if let Some(said) = said {
                text = text.replace(&said, &real.display().to_string());
            }
        }
        for (said, real) in changes {
            text = text.replace(said, real);
        }
        let file = self.path().join(format!("{node}.yml"));
        fs::write(&file, text).expect("the configuration is written");
        self.start_file(&[], node, &file)
    }
}

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) node: String,
    socket: PathBuf,
    file: PathBuf,
    notify: PathBuf,
    prefix: Vec<String>,
    child: Child,
    log: mpsc::Receiver<String>,
    /// What was read of the log so far, for the message of a failing test.
    seen: Vec<String>,
}

impl Daemon {
    fn start(node: &str, file: &Path, socket: &Path, notify: &Path, prefix: Vec<String>) -> Daemon {
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
            log,
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
                        daemon.log.iter().collect::<Vec<_>>()
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
            match self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
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
            match self.log.recv_timeout(left) {
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
        Talk { stream: BufReader::new(stream) }
    }

    /// How many lines of its log so far hold all of `words`.
    pub(crate) fn said(&mut self, words: &[&str]) -> usize {
        self.seen.extend(self.log.try_iter());
        self.seen.iter().filter(|line| words.iter().all(|word| line.contains(word))).count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            self.seen.extend(self.log.try_iter());
            eprintln!("log of {}:\n{}", self.node, self.seen.join("\n"));
        }
    }
}

/// A raw conversation.
pub(crate) struct Talk {
    stream: BufReader<UnixStream>,
}

impl Talk {
    pub(crate) fn say(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the daemon takes what we say");
    }

    pub(crate) fn half_close(&mut self) {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write).expect("half-close");
    }

    /// The next line without its end; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the daemon answers");
        line.trim_end_matches('\n').to_owned()
    }

    /// The next frame of a watched unit: its kind and what it holds.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).expect("what the frame holds");
        (head[0], bytes)
    }

    /// Everything up to the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the daemon sends the rest");
        rest
    }
}

/// A client command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Its output; the test fails unless it ended with 0.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }
}

/// Waits for a client's end, reading both of its outputs; ends it when that takes too long.
pub(crate) fn finish(mut child: Child, what: &[&str]) -> Ran {
    let collect = |pipe: Option<Box<dyn std::io::Read + Send>>| {
        thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        })
    };
    let stdout = collect(child.stdout.take().map(|pipe| Box::new(pipe) as _));
    let stderr = collect(child.stderr.take().map(|pipe| Box::new(pipe) as _));
    let pid = child.id();
    let (done, is_done) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = is_done.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            signal(pid, "KILL");
        }
        late
    });
    let status = child.wait().expect("the client ends");
    drop(done);
    assert!(!watchdog.join().expect("the watchdog ends"), "{what:?} did not end within {PATIENCE:?}");
    Ran {
        code: status.code(),
        signal: status.signal(),
        stdout: stdout.join().expect("stdout is read"),
        stderr: stderr.join().expect("stderr is read"),
    }
}

/// Sends a signal to one process that a test started.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("kill runs");
    assert!(sent.success(), "kill -{name} {pid}");
}

/// A port on loopback that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port()
}

/// The lines of a pipe as they come.
pub(crate) fn lines(pipe: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

fn unindent(yaml: &str) -> String {
    let depth =
        yaml.lines().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len());
    let depth = depth.min().unwrap_or(0);
    yaml.lines().map(|line| format!("{}\n", line.get(depth..).unwrap_or_default())).collect()
}

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
        // One writer for as long as the command lives: what it does not read at once stays in the pipe.
        let mut gate = self.writer.get_or_init(|| {
            fs::OpenOptions::new().write(true).open(&self.path).expect("the command comes to the gate")
        });
        gate.write_all(b"\n").expect("the command lives");
    }
}

/// Kinds of links that a line of nodes can be made of.
pub(crate) const LINKS: [&str; 2] = ["tcp", "quic"];

/// a - b - c, where a and c only dial, each with its own sections. a and c can reach each other when this returns.
pub(crate) fn line(world: &World, link: &str, a: &str, b: &str, c: &str) -> [Daemon; 3] {
    let port = free_port();
    let relay = world.start("b", &format!("- {link}-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n{b}"));
    let peer = format!("- {link}-peer: {{address: \"127.0.0.1:{port}\"}}\n");
    let mut far = world.start("c", &format!("{peer}{c}"));
    let mut near = world.start("a", &format!("{peer}{a}"));
    near.wait_reach("c");
    far.wait_reach("a");
    [near, relay, far]
}
