//! `netmesh demo`: three nodes and a unit of work, on this machine, in a temporary directory.
//!
//! ```text
//! a ──dials──► b ◄──dials── c         only b listens; a and c never meet but through it
//! submits                  works
//! ```
//! The nodes are child processes of this program. All that is theirs is gone at the end, and after Ctrl-C too.

mod nodes;

use std::{fs, io, net::TcpListener, path::Path, time::Duration};

use serde_json::{Map, Value};
use tokio::time::timeout;
use workunits::request::WorkRequest;

use self::nodes::Nodes;
use crate::{
    args::{Cli, Receptorctl},
    client::{self, Console, Door, console::Interrupt},
    exit::{Code, Failure},
};

/// How long the mesh may take until both ends know each other.
const ROUTE_MAX: Duration = Duration::from_secs(20);
/// How long a unit that still runs may take to end at an interruption.
const CANCEL_MAX: Duration = Duration::from_secs(3);

const PAYLOAD: &str = "\
Work goes in at one end,\n\
a relay passes it along,\n\
it runs where it is wanted,\n\
and every line comes home\n\
while it is still being written.\n";

const SCRIPT: &str = "\
n=0
while read -r line; do
    n=$((n + 1))
    echo \"$n: $line\"
    sleep 0.3
done
echo \"$n lines read by process $$\"
";

/// Shows it all, and cleans up whatever happens.
pub(crate) async fn run(console: &mut Console) -> Result<Code, Failure> {
    let directory = tempfile::Builder::new().prefix("netmesh-demo-").tempdir();
    let directory = directory.map_err(|error| no_directory(&std::env::temp_dir(), &error))?;
    let mut nodes = Nodes::default();
    // Interruptions are ours here: what a subcommand would say of one is not true in a demonstration.
    let interrupt = std::mem::replace(&mut console.interrupt, Interrupt::never());
    let told = tokio::select! {
        told = tell(directory.path(), &mut nodes, console) => told,
        () = interrupt.wait() => Err(Failure::new(Code::CANCELED, "interrupted; the demonstration's nodes and files are gone")),
    };
    if told.is_err() {
        let _ = timeout(CANCEL_MAX, cancel_all(directory.path())).await; // the node may be gone already
    }
    nodes.stop().await;
    let path = directory.path().to_owned();
    let removed = directory.close();
    told?;
    removed.map_err(|error| Failure::not_done(format!("cannot remove {}: {error}", path.display())))?;
    console.line("\nThe nodes have stopped and their files are gone. To go on: `netmesh --help`.").await?;
    Ok(Code::OK)
}

async fn tell(directory: &Path, nodes: &mut Nodes, console: &mut Console) -> Result<Code, Failure> {
    write_files(directory).map_err(|error| no_directory(directory, &error))?;
    console.line("Starting three nodes: a and c dial b, which alone listens.").await?;
    nodes.start("b", directory).await?;
    nodes.start("a", directory).await?;
    nodes.start("c", directory).await?;
    routed(directory, nodes).await?;

    console.line("\nThe way from a to c leads through b:").await?;
    command(&["traceroute", "c"], directory, console).await?;

    console.line("\nWork for c, given to a. Each line is printed as c writes it:").await?;
    let payload = directory.join("payload.txt");
    let payload = payload.display().to_string();
    let submit = ["work", "submit", "count", "--node", "c", "--payload", &payload, "--follow"];
    let code = command(&submit, directory, console).await?;
    if code != Code::OK {
        return Err(Failure::not_done(format!(
            "the unit ended with code {}; {}",
            code.0,
            nodes.last_words()
        )));
    }

    console.line("\nBoth nodes keep the unit on disk until it is released:").await?;
    show_files(directory, console).await?;
    Ok(Code::OK)
}

/// Runs a command line of ours against node a, after showing it.
async fn command(words: &[&str], directory: &Path, console: &mut Console) -> Result<Code, Failure> {
    use clap::Parser as _;
    let socket = directory.join("a.sock");
    console.line(&format!("$ netmesh --socket {} {}", socket.display(), words.join(" "))).await?;
    let cli = Cli::try_parse_from(std::iter::once("netmesh").chain(words.iter().copied()));
    let cli = cli.map_err(|error| Failure::not_done(error.to_string()))?;
    client::run(cli.command, &socket.as_path().into(), &Receptorctl::default(), console).await
}

/// Waits until a has a route to c and c has one back; looks whenever a node has logged something, as each does when
/// another comes into reach.
async fn routed(directory: &Path, nodes: &mut Nodes) -> Result<(), Failure> {
    let both = async {
        while !(has_route(directory, "a", "c").await? && has_route(directory, "c", "a").await?) {
            tokio::select! {
                () = nodes.spoke() => {}
                failure = nodes.died() => return Err(failure),
            }
        }
        Ok(())
    };
    match timeout(ROUTE_MAX, both).await {
        Ok(done) => done,
        Err(_) => Err(Failure::not_done(format!(
            "no route between a and c after {} s; {}",
            ROUTE_MAX.as_secs(),
            nodes.last_words()
        ))),
    }
}

async fn has_route(directory: &Path, from: &str, to: &str) -> Result<bool, Failure> {
    let line = r#"{"command":"status","requested_fields":["RoutingTable"]}"#;
    let status = ask(directory, from, line).await?;
    Ok(status.get("RoutingTable").and_then(|routes| routes.get(to)).is_some())
}

async fn ask(directory: &Path, node: &str, line: &str) -> Result<Map<String, Value>, Failure> {
    Ok(Door::new(directory.join(format!("{node}.sock")).as_path()).open().await?.ask(line).await?)
}

/// Where each node keeps the unit, and what is there.
async fn show_files(directory: &Path, console: &mut Console) -> Result<(), Failure> {
    let list = WorkRequest::List { unit: None, request_id: None, all_fields: false }.to_line();
    for node in ["a", "c"] {
        for (unit, _) in ask(directory, node, &list).await? {
            let files = directory.join(node).join(&unit);
            console.line(&format!("node {node}: {}", files.display())).await?;
            let rows = file_rows(&files).map_err(|error| no_directory(&files, &error))?;
            console.bytes(rows.as_bytes()).await?;
        }
    }
    Ok(())
}

fn file_rows(directory: &Path) -> io::Result<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
    }
    files.sort();
    Ok(files.iter().map(|(name, bytes)| format!("  {bytes:>6} bytes  {name}\n")).collect())
}

/// Ends what still runs on c, so that nothing of it outlives its node.
async fn cancel_all(directory: &Path) -> Result<(), Failure> {
    let list = WorkRequest::List { unit: None, request_id: None, all_fields: false }.to_line();
    for (unit, _) in ask(directory, "c", &list).await? {
        let cancel = WorkRequest::Cancel { unit, signature: String::new() };
        ask(directory, "c", &cancel.to_line()).await?;
    }
    Ok(())
}

fn write_files(directory: &Path) -> io::Result<()> {
    // Free at this moment; should somebody else take it first, b says so and nothing else starts.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    for (node, text) in configurations(directory, port) {
        fs::write(directory.join(format!("{node}.yml")), text)?;
    }
    fs::write(directory.join("count.sh"), SCRIPT)?;
    fs::write(directory.join("payload.txt"), PAYLOAD)
}

/// The three files, in the form that Receptor's guide uses.
fn configurations(directory: &Path, port: u16) -> [(&'static str, String); 3] {
    // A JSON string is a YAML string too, whatever the path holds.
    let quoted = |path: String| Value::String(path).to_string();
    let head = |node: &str| {
        let datadir = quoted(directory.display().to_string());
        let socket = quoted(directory.join(format!("{node}.sock")).display().to_string());
        format!(
            "- node:\n    id: {node}\n    datadir: {datadir}\n\n- control-service:\n    service: control\n    filename: {socket}\n\n"
        )
    };
    let listener = format!("- tcp-listener:\n    bindaddr: 127.0.0.1\n    port: {port}\n");
    let peer = format!("- tcp-peer:\n    address: 127.0.0.1:{port}\n");
    let script = quoted(format!("'{}'", directory.join("count.sh").display()));
    let work = format!("\n- work-command:\n    worktype: count\n    command: sh\n    params: {script}\n");
    [
        ("a", format!("{}{peer}", head("a"))),
        ("b", format!("{}{listener}", head("b"))),
        ("c", format!("{}{peer}{work}", head("c"))),
    ]
}

fn no_directory(directory: &Path, error: &io::Error) -> Failure {
    Failure::not_done(format!(
        "cannot use {}: {error}; set TMPDIR to a directory that you may write to",
        directory.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_relay_listens_and_only_c_works() {
        let [(_, a), (_, b), (_, c)] = configurations(Path::new("/tmp/it's here"), 27199);
        assert!(a.contains("tcp-peer") && !a.contains("listener") && !a.contains("work-command"));
        assert!(b.contains("tcp-listener") && !b.contains("tcp-peer"));
        assert!(c.contains("tcp-peer") && c.contains("worktype: count") && !c.contains("listener"));
    }

    #[test]
    fn files_are_listed_with_their_sizes() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("stdout"), "12345").unwrap();
        fs::write(directory.path().join("spec"), "").unwrap();
        assert_eq!(file_rows(directory.path()).unwrap(), "       0 bytes  spec\n       5 bytes  stdout\n");
    }
}
