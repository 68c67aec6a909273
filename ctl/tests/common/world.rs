//! A directory with some nodes in it, and the usual mesh of three.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Daemon, free_port, root};

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
            // `netmesh supervise DIRECTORY/data/NODE/UNIT`: with it goes its command. And the runner of a Go node,
            // `receptor ... --command-runner ... unitdir=DIRECTORY/data/NODE/UNIT`, which ends its command when asked to.
            let signal = words.by_ref().find_map(|word| match word {
                b"supervise" => Some("-KILL"),
                b"--command-runner" => Some("-INT"),
                _ => None,
            });
            let is_unit = |word: &[u8]| word.strip_prefix(b"unitdir=").unwrap_or(word).starts_with(&ours);
            if let Some(signal) = signal
                && words.any(is_unit)
            {
                let _ = Command::new("kill").args([signal, &pid.to_string()]).status();
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

fn unindent(yaml: &str) -> String {
    let depth =
        yaml.lines().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len());
    let depth = depth.min().unwrap_or(0);
    yaml.lines().map(|line| format!("{}\n", line.get(depth..).unwrap_or_default())).collect()
}
