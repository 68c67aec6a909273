//! A real Go node, where there is one.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use super::{PATIENCE, World, lines, signal};

/// A running Go node named `go`.
pub(crate) struct GoNode {
    name: String,
    child: Child,
    socket: PathBuf,
    file: PathBuf,
}

impl GoNode {
    /// The program, if `RECEPTOR_GO` names one; otherwise the test says that it is skipped.
    pub(crate) fn binary() -> Option<String> {
        let binary = std::env::var("RECEPTOR_GO").ok().filter(|name| !name.is_empty());
        if binary.is_none() {
            println!("SKIPPED: RECEPTOR_GO names no Go node");
        }
        binary
    }

    /// Starts one with the sections in `yaml`, and waits until its control socket answers.
    pub(crate) fn start(binary: &str, world: &World, yaml: &str) -> GoNode {
        GoNode::start_named(binary, &[], world, "go", yaml)
    }

    /// The same under another name, and under a program that runs another, such as `ip netns exec NAME`.
    pub(crate) fn start_named(
        binary: &str,
        prefix: &[&str],
        world: &World,
        name: &str,
        yaml: &str,
    ) -> GoNode {
        let socket = world.socket(name);
        let file = world.path().join(format!("{name}.yml"));
        let head = format!(
            "---\n- node: {{id: {name}, datadir: {}}}\n- control-service: {{service: control, filename: {}}}\n",
            world.path().join("data").display(),
            socket.display()
        );
        fs::write(&file, head + yaml).expect("the configuration is written");
        Self::start_words(prefix.iter().copied().chain([binary]), name, &socket, &file)
    }

    /// Starts it again, on the same files.
    pub(crate) fn restart(self, binary: &str) -> GoNode {
        let (name, socket, file) = (self.name.clone(), self.socket.clone(), self.file.clone());
        drop(self);
        Self::start_words([binary].into_iter(), &name, &socket, &file)
    }

    /// Starts one with a file that is there already and names `socket` as its control socket.
    pub(crate) fn start_file(binary: &str, socket: &Path, file: &Path) -> GoNode {
        Self::start_words([binary].into_iter(), "go", socket, file)
    }

    /// The same, named `node`: its file and socket are where a [`World`] has them.
    pub(crate) fn start_at(binary: &str, world: &World, node: &str) -> GoNode {
        let file = world.path().join(format!("{node}.yml"));
        Self::start_words([binary].into_iter(), node, &world.socket(node), &file)
    }

    fn start_words<'a>(
        mut words: impl Iterator<Item = &'a str>,
        name: &str,
        socket: &Path,
        file: &Path,
    ) -> GoNode {
        let mut child = Command::new(words.next().expect("a program"))
            .args(words)
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the Go node starts");
        let log = lines(child.stdout.take().expect("piped"));
        let node = GoNode { name: name.to_owned(), child, socket: socket.to_owned(), file: file.to_owned() };
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if line.contains("Initialization complete") {
                // Read on, so that the node never waits for us.
                std::thread::spawn(move || log.into_iter().for_each(drop));
                return node;
            }
        }
        panic!("the Go node did not come up");
    }

    pub(crate) fn talk(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(&self.socket).expect("the Go node's socket accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut talk = BufReader::new(stream);
        assert_eq!(read_line(&mut talk), format!("Receptor Control, node {}", self.name));
        talk
    }

    pub(crate) fn ask(&self, line: &str) -> String {
        let mut talk = self.talk();
        talk.get_mut().write_all(format!("{line}\n").as_bytes()).expect("it listens");
        read_line(&mut talk)
    }

    /// Submits, and gives the unit's id once the Go node has said how it went.
    pub(crate) fn submit(&self, line: &str, payload: &[u8]) -> (String, String) {
        let mut talk = self.talk();
        talk.get_mut().write_all(format!("{line}\n").as_bytes()).expect("it listens");
        let created = read_line(&mut talk);
        let unit = created.strip_prefix("Work unit created with ID ").expect("a unit")[..8].to_owned();
        talk.get_mut().write_all(payload).expect("it listens");
        talk.get_mut().shutdown(std::net::Shutdown::Write).expect("half-close");
        (unit, read_line(&mut talk))
    }

    pub(crate) fn results(&self, unit: &str) -> Vec<u8> {
        let mut talk = self.talk();
        talk.get_mut().write_all(format!("work results {unit}\n").as_bytes()).expect("it listens");
        assert!(read_line(&mut talk).starts_with("Streaming results"));
        let mut all = Vec::new();
        talk.read_to_end(&mut all).expect("it streams");
        all
    }

    /// Waits until the status of a unit holds all of `words`. The Go node says nothing by itself, so it is asked.
    pub(crate) fn wait_status(&self, unit: &str, words: &[&str]) {
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.ask(&format!("work status {unit}"));
            if words.iter().all(|word| status.contains(word)) {
                return;
            }
            assert!(Instant::now() < end, "{unit} never was {words:?}: {status}");
        }
    }

    /// Waits until the Go node has a route to ours. It says nothing about that by itself, so it is asked.
    pub(crate) fn wait_reach(&self) {
        self.wait_ping("ours");
    }

    /// The same with a node of another name.
    pub(crate) fn wait_ping(&self, node: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.ask(&format!("ping {node}")).contains("\"Success\":true") {
            assert!(Instant::now() < end, "the Go node never reached {node}");
        }
    }

    /// Waits until its status holds `words`, or does not any more.
    pub(crate) fn wait_known(&self, words: &str, known: bool) {
        let end = Instant::now() + PATIENCE;
        while self.ask("status").contains(words) != known {
            assert!(Instant::now() < end, "{words} known to the Go node: never {known}");
            std::thread::sleep(std::time::Duration::from_millis(20)); // it says nothing by itself
        }
    }
}

impl GoNode {
    /// Ends the daemon as its service manager does. Its runners live on.
    pub(crate) fn stop(&mut self) {
        signal(self.child.id(), "TERM");
        self.child.wait().expect("the Go node ends");
    }

    /// Ends the daemon as a crash would. Its runners live on.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for GoNode {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The next line without its end.
pub(crate) fn read_line(talk: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    talk.read_line(&mut line).expect("the Go node answers");
    line.trim_end().to_owned()
}
