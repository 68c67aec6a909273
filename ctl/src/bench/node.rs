//! One node of a measurement: a real process with a file of its own, on loopback.

use std::{
    fs::{self, File},
    io,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};

use super::{
    program::Program,
    talk::Talk,
    trouble::{Tried, Trouble, at},
    usage::{self, Private},
    yard::{Process, Yard},
};

/// How long a node may take until its control socket answers.
const READY_MAX: Duration = Duration::from_secs(30);
/// A socket that is there and does not listen yet does so in a moment.
const LISTEN_SOON: Duration = Duration::from_micros(100);
/// How much of its log explains an end.
const LAST_WORDS: usize = 10;

/// A node that runs. It is ended when this is dropped.
pub(super) struct Node {
    pub(super) id: String,
    directory: PathBuf,
    socket: PathBuf,
    log: PathBuf,
    process: Process,
    began: Instant,
    /// From its start to the first answer on its control socket.
    pub(super) started_in: Duration,
}

impl Node {
    /// Starts node `id` in `directory` and waits until its control socket answers. `sections` is YAML in the list form.
    pub(super) fn start(
        yard: &Yard,
        program: &Program,
        directory: &Path,
        id: &str,
        sections: &str,
    ) -> Tried<Node> {
        let mut node = Node::launch(yard, program, directory, id, sections)?;
        node.answers()?;
        Ok(node)
    }

    /// The same without the waiting.
    pub(super) fn launch(
        yard: &Yard,
        program: &Program,
        directory: &Path,
        id: &str,
        sections: &str,
    ) -> Tried<Node> {
        let cannot = || format!("cannot start node {id}");
        let [file, socket, log] = ["yml", "sock", "log"].map(|end| directory.join(format!("{id}.{end}")));
        let (data, filename) = (quoted(&directory.join("data")), quoted(&socket));
        let yaml = format!(
            "---\n- node: {{id: {id}, datadir: {data}}}\n- log-level: {{level: warning}}\n\
             - control-service: {{service: control, filename: {filename}}}\n{sections}"
        );
        fs::write(&file, yaml).map_err(at(cannot()))?;
        let _ = fs::remove_file(&socket); // of an earlier life
        let output = File::create(&log).map_err(at(cannot()))?;
        let errors = output.try_clone().map_err(at(cannot()))?;
        let began = Instant::now();
        let mut command = program.node(&file);
        let process = yard.spawn(command.stdout(output).stderr(errors)).map_err(at(cannot()))?;
        let (id, directory) = (id.to_owned(), directory.to_owned());
        Ok(Node { id, directory, socket, log, process, began, started_in: Duration::ZERO })
    }

    /// Waits for the first answer.
    pub(super) fn answers(&mut self) -> Tried<()> {
        let news = News::of(&self.directory).map_err(at(format!("cannot wait for node {}", self.id)))?;
        let end = Instant::now() + READY_MAX;
        loop {
            match Talk::open(&self.socket) {
                Ok(_) => break,
                Err(error) if Instant::now() > end => {
                    return Err(self.trouble(&format!("no answer ({error})")));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    news.wait(Duration::from_millis(100))
                }
                Err(_) => thread::sleep(LISTEN_SOON), // it is there: only a listener is missing, of which nothing tells
            }
            if let Some(how) = self.process.ended() {
                return Err(self.trouble(&format!("it has ended ({how})")));
            }
        }
        self.started_in = self.began.elapsed();
        Ok(())
    }

    /// A new conversation.
    pub(super) fn talk(&self) -> Tried<Talk> {
        Talk::open(&self.socket).map_err(|error| self.trouble(&format!("its control socket: {error}")))
    }

    /// Its processor time so far, with that of what it has started and waited for.
    pub(super) fn cpu(&self) -> Tried<Duration> {
        usage::cpu(self.process.pid())
    }

    /// The memory that it shares with nobody.
    pub(super) fn memory(&self) -> Tried<Private> {
        usage::private(self.process.pid())
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&self) {
        self.process.kill();
    }

    /// Ends several at once.
    pub(super) fn stop_all(nodes: &[Node]) {
        Process::stop_all(nodes.iter().map(|node| &node.process));
    }

    /// What is wrong with it, and its last words.
    fn trouble(&self, what: &str) -> Trouble {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        match last.is_empty() {
            true => Trouble(format!("node {}: {what}; it logged nothing", self.id)),
            false => Trouble(format!("node {}: {what}; its last words:\n{}", self.id, last.join("\n"))),
        }
    }
}

/// Hears of new files in a directory.
struct News(Inotify);

impl News {
    fn of(directory: &Path) -> io::Result<News> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(directory, AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO)?;
        Ok(News(inotify))
    }

    /// Waits for the next, or for `limit`.
    fn wait(&self, limit: Duration) {
        use std::os::fd::AsFd as _;
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut polled, limit); // whatever it was, somebody looks again
        let _ = self.0.read_events(); // likewise
    }
}

/// A path as YAML, whatever it holds: a JSON string is a YAML string too.
pub(super) fn quoted(path: &Path) -> String {
    serde_json::Value::String(path.display().to_string()).to_string()
}

/// A TCP and UDP port of loopback that nobody has at this moment.
///
/// # Errors
/// There is none.
pub(super) fn free_port() -> Tried<u16> {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(at("no free port"))?;
        let port = listener.local_addr().map_err(at("no free port"))?.port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(Trouble::new("no port is free for both TCP and UDP"))
}
