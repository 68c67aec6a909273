//! The three daemons, started and ended at will; and the dice.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The line: a and c dial b.
pub(crate) const NODES: [&str; 3] = ["a", "b", "c"];

/// The daemons. Those that run when the value goes are ended with it, and what they started.
pub(crate) struct Nodes {
    pub(crate) world: PathBuf,
    daemons: [Option<Child>; 3],
}

impl Nodes {
    pub(crate) fn start(world: &Path) -> Nodes {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("a port")
            .local_addr()
            .expect("its number")
            .port();
        for node in NODES {
            let link = match node {
                "b" => format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}"),
                _ => format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}"),
            };
            let (at, world) = (world.join(format!("{node}.sock")), world.display());
            let text = format!(
                "---\n- log-level: info\n- node: {{id: {node}, datadir: {world}/data}}\n- control-service: {{service: control, filename: {}}}\n{link}\n- work-command: {{worktype: job, command: sh, params: \"{world}/job.sh\", allowruntimeparams: true}}\n",
                at.display()
            );
            fs::write(format!("{world}/{node}.yml"), text).expect("the configuration is written");
        }
        let mut nodes = Nodes { world: world.to_owned(), daemons: [None, None, None] };
        nodes.start_all();
        nodes
    }

    /// Starts those that do not run.
    pub(crate) fn start_all(&mut self) {
        (0..3).for_each(|number| self.start_one(number));
    }

    pub(crate) fn start_one(&mut self, number: usize) {
        if self.daemons[number].is_some() {
            return;
        }
        let log = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.world.join(format!("{}.log", NODES[number])));
        // Whoever soaks for hours may build meanwhile.
        let program =
            std::env::var_os("NETMESH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_netmesh").into());
        let daemon = Command::new(program)
            .args(["node", "--config"])
            .arg(self.world.join(format!("{}.yml", NODES[number])))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        self.daemons[number] = Some(daemon.expect("the daemon starts"));
    }

    /// Ends one with a signal, and waits for its end.
    pub(crate) fn end_one(&mut self, number: usize, signal: nix::sys::signal::Signal) {
        if let Some(mut daemon) = self.daemons[number].take() {
            let pid = i32::try_from(daemon.id()).expect("a pid");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal)
                .expect("nobody has waited for it");
            let ended = daemon.wait().expect("it ends");
            // Asked to go, it goes cleanly.
            assert!(
                signal == nix::sys::signal::Signal::SIGKILL || ended.success() || ended.code().is_none(),
                "{ended}"
            );
        }
    }

    pub(crate) fn restart_all(&mut self) {
        for number in 0..3 {
            self.end_one(number, nix::sys::signal::Signal::SIGTERM);
        }
        self.start_all();
    }

    /// How many files each has open.
    pub(crate) fn open_files(&self) -> Vec<usize> {
        let open = |daemon: &Option<Child>| {
            let pid = daemon.as_ref().map_or(0, Child::id);
            fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
        };
        self.daemons.iter().map(open).collect()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().flatten() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        for supervisor in super::victims::supervisors(&self.world) {
            supervisor.kill(nix::sys::signal::Signal::SIGKILL);
        }
        if std::thread::panicking() {
            let kept = std::env::temp_dir().join(format!("netmesh-killer-{}", std::process::id()));
            let copied = Command::new("cp").arg("-a").arg(&self.world).arg(&kept).status();
            eprintln!("what is left of it is in {} ({copied:?})", kept.display());
        }
    }
}

/// Chance that can be repeated (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
