//! The demonstration's nodes: child processes of the same program, started, listened to and stopped.

use std::{
    collections::VecDeque,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::UnixDatagram,
    process::{Child, ChildStderr, Command},
    sync::Notify,
    time::timeout,
};

use crate::exit::Failure;

/// How long a node may take until it serves.
const READY_MAX: Duration = Duration::from_secs(20);
/// How long a node may take to stop; it promises two seconds.
const STOP_MAX: Duration = Duration::from_secs(4);
/// How many log lines are kept, to explain a failure.
const LINES_KEPT: usize = 20;

/// The nodes that run. They are killed when this is dropped, and end well when it is stopped.
#[derive(Default)]
pub(super) struct Nodes {
    nodes: Vec<Node>,
    log: Arc<Log>,
}

struct Node {
    name: &'static str,
    child: Child,
}

/// The last lines that any node has logged, and news of the next.
#[derive(Default)]
struct Log {
    lines: Mutex<VecDeque<String>>,
    spoke: Notify,
}

impl Nodes {
    /// Starts node `name` from its file in `directory`, and waits until it serves.
    ///
    /// # Errors
    /// Its own last words, when it does not start.
    pub(super) async fn start(&mut self, name: &'static str, directory: &Path) -> Result<(), Failure> {
        let refuse = |error| Failure::not_done(format!("cannot start node {name}: {error}"));
        let notify = directory.join(format!("{name}.ready"));
        let ready = UnixDatagram::bind(&notify).map_err(refuse)?;
        let mut child = Command::new(std::env::current_exe().map_err(refuse)?)
            // Its log is how we hear of routes.
            .args(["node", "--log-level", "info", "--config"])
            .arg(directory.join(format!("{name}.yml")))
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // A Ctrl-C of the terminal is for us alone: we stop the nodes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(refuse)?;
        if let Some(stderr) = child.stderr.take() {
            tokio::spawn(keep_lines(name, stderr, self.log.clone()));
        }
        self.nodes.push(Node { name, child });
        let served = tokio::select! {
            served = timeout(READY_MAX, is_ready(&ready)) => served,
            failure = self.died() => return Err(failure),
        };
        match served {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(refuse(error)),
            Err(_) => {
                let seconds = READY_MAX.as_secs();
                Err(Failure::not_done(format!(
                    "node {name} does not serve after {seconds} s; {}",
                    self.last_words()
                )))
            }
        }
    }

    /// Resolves when a node logs something.
    pub(super) fn spoke(&self) -> impl Future<Output = ()> + use<> {
        let log = self.log.clone();
        async move { log.spoke.notified().await }
    }

    /// Resolves when a node ends by itself, with what it said.
    pub(super) async fn died(&mut self) -> Failure {
        let deaths = self.nodes.iter_mut().map(|node| {
            let name = node.name;
            Box::pin(async move { (name, node.child.wait().await) })
        });
        let (name, status) = first(deaths.collect()).await;
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        Failure::not_done(format!("node {name} ended ({status}); {}", self.last_words()))
    }

    /// The last log lines of all nodes, for an error.
    pub(super) fn last_words(&self) -> String {
        let lines = self.log.lines();
        match lines.is_empty() {
            true => "no node has logged anything".to_owned(),
            false => format!("the nodes' last words:\n  {}", Vec::from(lines.clone()).join("\n  ")),
        }
    }

    /// Stops them all, the dialling ones first; one that does not stop is killed.
    pub(super) async fn stop(&mut self) {
        for Node { child, .. } in self.nodes.iter().rev() {
            // The id is the child's for as long as it has not been waited for.
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM); // it may have ended by itself
            }
        }
        for Node { child, .. } in &mut self.nodes {
            if timeout(STOP_MAX, child.wait()).await.is_err() {
                let _ = child.kill().await; // likewise
            }
        }
        self.nodes.clear();
    }
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        // A line is pushed whole or not at all, so a panic elsewhere leaves nothing half done.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep_lines(name: &'static str, stderr: ChildStderr, log: Arc<Log>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        {
            let mut kept = log.lines();
            if kept.len() == LINES_KEPT {
                kept.pop_front();
            }
            kept.push_back(format!("{name}: {line}"));
        }
        log.spoke.notify_one();
    }
}

/// Waits for the word that systemd would wait for.
async fn is_ready(socket: &UnixDatagram) -> std::io::Result<()> {
    let mut message = [0; 512];
    loop {
        let n = socket.recv(&mut message).await?;
        if message[..n].split(|byte| *byte == b'\n').any(|word| word == b"READY=1") {
            return Ok(());
        }
    }
}

/// The first of several futures to end; for ever when there are none.
async fn first<F: Future + Unpin>(mut all: Vec<F>) -> F::Output {
    std::future::poll_fn(|context| {
        all.iter_mut()
            .map(|it| std::pin::Pin::new(it).poll(context))
            .find(|polled| polled.is_ready())
            .unwrap_or(std::task::Poll::Pending)
    })
    .await
}
