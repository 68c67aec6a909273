//! One Go node and one of ours. Runs where `RECEPTOR_GO` names the Go program, and says so where not.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use common::*;
use netmesh::{Node, id::ServiceName};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

/// Names that are no DNS names are as good as others.
const ODD_NAME: &str = "node_1 x";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_go_node_that_calls_us_and_one_that_we_call_understand_us() {
    let Some(program) = std::env::var_os("RECEPTOR_GO").filter(|name| !name.is_empty()) else {
        eprintln!("skipped: RECEPTOR_GO does not name a Receptor to talk to");
        return;
    };
    let tcp = [(true, "go"), (false, "go"), (true, ODD_NAME), (false, ODD_NAME)].map(|how| (Over::Tcp, how));
    let others =
        [Over::Udp, Over::Ws].into_iter().flat_map(|over| [(over, (true, "go")), (over, (false, "go"))]);
    for (over, (go_dials, go_name)) in tcp.into_iter().chain(others) {
        let ours = node("ours");
        let at = if go_dials { listen(&ours, over).await } else { free_address() };
        let go = GoNode::start(PathBuf::from(&program), go_name, over, go_dials, &at);
        if !go_dials {
            dial(&ours, over, &at);
        }
        reach(&ours, go_name).await;
        in_time(go.reaches("ours")).await;
        let probe = in_time(ours.ping(&id(go_name), 30)).await;
        assert_eq!((probe.from.as_str(), probe.error), (go_name, None));
        greeting_is_heard(&ours, go_name).await;
        go_connects_to_us(&ours, &go).await;
        ours.shutdown().await;
    }
}

/// Opens a stream to the Go node's control service.
async fn greeting_is_heard(ours: &Node, go_name: &str) {
    let to = address(go_name, "control");
    let stream = in_time(ours.dial(&to, Default::default())).await.unwrap();
    assert!(!stream.speaks_netmesh());
    let mut lines = BufReader::new(stream);
    let mut line = String::new();
    in_time(lines.read_line(&mut line)).await.unwrap();
    assert_eq!(line, format!("Receptor Control, node {go_name}\n"));
    lines.write_all(b"ping ours\n").await.unwrap();
    line.clear();
    in_time(lines.read_line(&mut line)).await.unwrap();
    assert!(line.contains(r#""From":"ours""#), "{line}");
}

/// Has the Go node open a stream to a service of ours, and sends a lot both ways.
async fn go_connects_to_us(ours: &Node, go: &GoNode) {
    let mut listener = ours.serve(ServiceName::new("talk").unwrap(), Default::default(), None).await.unwrap();
    let mut client = go.control().await;
    client.write_all(b"connect ours talk\n").await.unwrap();
    let mut stream = in_time(listener.accept()).await.unwrap();
    assert_eq!(stream.peer().node.as_str(), go.name);
    assert!(!stream.speaks_netmesh());
    let bytes = pattern(1024 * 1024);
    let mut line = String::new();
    in_time(client.read_line(&mut line)).await.unwrap();
    assert_eq!(line, "Connecting\n");
    let (mut reader, mut writer) = tokio::io::split(client);
    let upload = async {
        writer.write_all(&bytes).await.unwrap();
        let mut heard = vec![0; bytes.len()];
        in_time(stream.read_exact(&mut heard)).await.unwrap();
        assert!(heard == bytes);
    };
    in_time(upload).await;
    // What is on the way holds less than all of it, so both ends must run.
    let download = async {
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
    };
    let mut heard = vec![0; bytes.len()];
    let (_, read) = in_time(async { tokio::join!(download, reader.read_exact(&mut heard)) }).await;
    read.unwrap();
    assert!(heard == bytes);
}

/// A running Go node, ended with this value.
struct GoNode {
    name: String,
    socket: PathBuf,
    child: Child,
    _dir: tempfile::TempDir,
}

impl GoNode {
    fn start(program: PathBuf, name: &str, over: Over, dials: bool, address: &str) -> GoNode {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let port = address.rsplit(':').next().unwrap();
        let (kind, scheme) = match over {
            Over::Udp => ("udp", ""),
            Over::Ws => ("ws", "ws://"),
            _ => ("tcp", ""),
        };
        let backend = if dials {
            format!("- {kind}-peer:\n    address: {scheme}{address}\n")
        } else {
            format!("- {kind}-listener:\n    bindaddr: 127.0.0.1\n    port: {port}\n")
        };
        let config = format!(
            "- node:\n    id: \"{name}\"\n    datadir: {data}\n- log-level: error\n{backend}\
             - control-service:\n    service: control\n    filename: {socket}\n",
            data = dir.path().display(),
            socket = socket.display(),
        );
        let file = dir.path().join("go.yml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        GoNode { name: name.to_owned(), socket, child, _dir: dir }
    }

    /// A conversation with its control service, behind the greeting.
    async fn control(&self) -> BufReader<UnixStream> {
        // It tells nobody when it is ready.
        let stream = loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        let mut stream = BufReader::new(stream);
        let mut greeting = String::new();
        in_time(stream.read_line(&mut greeting)).await.unwrap();
        stream
    }

    /// Waits until it can ping `name`. It tells nobody when it has a new route, so it must be asked.
    async fn reaches(&self, name: &str) {
        while !self.ask(&format!("ping {name}\n")).await.contains(r#""Success":true"#) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// The one line that answers `command`.
    async fn ask(&self, command: &str) -> String {
        let mut stream = self.control().await;
        stream.write_all(command.as_bytes()).await.unwrap();
        let mut line = String::new();
        in_time(stream.read_line(&mut line)).await.unwrap();
        line
    }
}

impl Drop for GoNode {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}
