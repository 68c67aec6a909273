//! `netmesh status`

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Console, Door, ping::text, table::table};
use crate::exit::{Code, Failure};

/// Shows the mesh as the node sees it.
///
/// JSON: Receptor's eight members; of a node of ours also `Features`, `NetmeshVersion`, `Incarnation`, `Links`,
/// `Certificates`, `Liveness` and `Refused`.
pub(super) async fn run(door: &Door, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.open().await?;
    let mut status = session.ask(r#"{"command":"status"}"#).await?;
    // Ours come only when they are named, since some clients show everything they get.
    let more = json!({"command": "status", "requested_fields": ["Features", "NetmeshVersion", "Incarnation", "Links", "Certificates", "Liveness", "Refused"]});
    status.extend(session.ask(&more.to_string()).await?);
    match console.json {
        true => console.pretty(&Value::Object(status)).await?,
        false => console.bytes(shown(&status).as_bytes()).await?,
    }
    Ok(Code::OK)
}

/// The whole text: a head, then tables, each behind an empty line and only when it has rows.
fn shown(status: &Map<String, Value>) -> String {
    let version = match status.get("NetmeshVersion").and_then(Value::as_str) {
        Some(ours) => format!("{} (netmesh {ours})", cell(status.get("Version"))),
        None => cell(status.get("Version")),
    };
    let head = format!(
        "Node ID: {}\nVersion: {version}\nSystem CPU Count: {}\nSystem Memory MiB: {}\n",
        cell(status.get("NodeID")),
        cell(status.get("SystemCPUCount")),
        cell(status.get("SystemMemoryMiB")),
    );
    let tables = [
        table(["Connection", "Cost", "Backend", "Address", "Security"], &connections(status)),
        table(["Neighbour", "State", "Last Heard", "Heartbeat", "Lost After"], &lives(status)),
        table(["Refused From The Mesh", "Times"], &refused(status)),
        table(["Known Node", "Known Connections"], &known(status)),
        table(["Route", "Via"], &routes(status)),
        table(["Node", "Service", "Type", "Last Seen", "Tags"], &services(status)),
        table(["Node", "Work Types"], &work_types(status, false)),
        table(["Node", "Secure Work Types"], &work_types(status, true)),
        table(["Certificate", "Profile", "File", "Until", "State"], &certificates(status)),
    ];
    let tables = tables.iter().filter(|table| !table.is_empty());
    std::iter::once(head).chain(tables.map(|table| format!("\n{table}"))).collect()
}

/// One row per link; what carries it only where the daemon says so.
fn connections(status: &Map<String, Value>) -> Vec<[String; 5]> {
    let links = list(status, "Links");
    let row = |connection: &Value| {
        let peer = text(connection, "NodeID").to_owned();
        let link = links.iter().find(|link| text(link, "NodeID") == peer);
        let of_link = |member: &str| cell(link.and_then(|link| link.get(member)));
        let security = match link.and_then(|link| link.get("Insecure")?.as_bool()) {
            Some(true) => "insecure",
            Some(false) => "secure",
            None => "",
        };
        [peer, cell(connection.get("Cost")), of_link("Backend"), of_link("Remote"), security.to_owned()]
    };
    list(status, "Connections").iter().map(row).collect()
}

/// One row per neighbour, also of those that were lost in silence.
fn lives(status: &Map<String, Value>) -> Vec<[String; 5]> {
    let seconds = |life: &Value, member: &str| match life.get(member).and_then(Value::as_u64) {
        Some(ms) => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        None => "-".to_owned(),
    };
    let row = |life: &Value| {
        [
            text(life, "NodeID").to_owned(),
            text(life, "State").to_owned(),
            format!("{} ago", seconds(life, "HeardMs")),
            seconds(life, "IntervalMs"),
            seconds(life, "SilenceMs"),
        ]
    };
    list(status, "Liveness").iter().map(row).collect()
}

/// What neighbours sent that was not taken in, by kind.
fn refused(status: &Map<String, Value>) -> Vec<[String; 2]> {
    let counts = status.get("Refused").and_then(Value::as_object);
    counts.into_iter().flatten().map(|(kind, count)| [kind.clone(), cell(Some(count))]).collect()
}

fn certificates(status: &Map<String, Value>) -> Vec<[String; 5]> {
    let row = |certificate: &Value| {
        let profile = format!("{} {}", text(certificate, "Section"), text(certificate, "Profile"));
        let of = |member| text(certificate, member).to_owned();
        [of("Subject"), profile, of("File"), of("NotAfter"), of("State")]
    };
    list(status, "Certificates").iter().map(row).collect()
}

fn known(status: &Map<String, Value>) -> Vec<[String; 2]> {
    let costs = status.get("KnownConnectionCosts").and_then(Value::as_object);
    let row = |(node, peers): (&String, &Value)| {
        let peers = peers.as_object().into_iter().flatten();
        let peers: Vec<String> = peers.map(|(peer, cost)| format!("{peer}: {cost}")).collect();
        [node.clone(), peers.join(" ")]
    };
    costs.into_iter().flatten().map(row).collect()
}

fn routes(status: &Map<String, Value>) -> Vec<[String; 2]> {
    let routes = status.get("RoutingTable").and_then(Value::as_object);
    routes.into_iter().flatten().map(|(to, via)| [to.clone(), cell(Some(via))]).collect()
}

fn services(status: &Map<String, Value>) -> Vec<[String; 5]> {
    let row = |advert: &Value| {
        let kind = match advert.get("ConnType").and_then(Value::as_u64) {
            Some(0) => "Datagram".to_owned(),
            Some(1) => "Stream".to_owned(),
            Some(2) => "StreamTLS".to_owned(),
            _ => cell(advert.get("ConnType")),
        };
        let tags = match advert.get("Tags").and_then(Value::as_object) {
            Some(tags) if !tags.is_empty() => {
                let tags: Vec<String> =
                    tags.iter().map(|(name, value)| format!("{name}={}", cell(Some(value)))).collect();
                tags.join(", ")
            }
            _ => "-".to_owned(),
        };
        let seen = last_seen(text(advert, "Time"));
        [text(advert, "NodeID").to_owned(), text(advert, "Service").to_owned(), kind, seen, tags]
    };
    let mut rows: Vec<[String; 5]> = list(status, "Advertisements").iter().map(row).collect();
    rows.sort(); // a Go node lists them in a different order each time
    rows
}

/// The work types of each node, as its first advertisement that has any gives them.
fn work_types(status: &Map<String, Value>, secure: bool) -> Vec<[String; 2]> {
    let mut seen = BTreeSet::new();
    let mut rows = Vec::new();
    for advert in list(status, "Advertisements") {
        let commands = advert.get("WorkCommands").and_then(Value::as_array).into_iter().flatten();
        let named: Vec<&str> =
            commands.filter(|it| it["Secure"] == secure).map(|it| text(it, "WorkType")).collect();
        let node = text(advert, "NodeID");
        if !named.is_empty() && seen.insert(node) {
            rows.push([node.to_owned(), named.join(", ")]);
        }
    }
    rows.sort();
    rows
}

/// The date and time as they stand in an RFC 3339 stamp, to the second.
fn last_seen(stamp: &str) -> String {
    match (stamp.get(..10), stamp.get(11..19)) {
        (Some(date), Some(time)) => format!("{date} {time}"),
        _ => stamp.to_owned(),
    }
}

fn list<'s>(status: &'s Map<String, Value>, member: &str) -> &'s [Value] {
    status.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Script};

    const GO: &str = r#"{"Advertisements":[{"NodeID":"foo","Service":"control","Time":"2026-11-21T00:40:27.792605654Z","ConnType":1,"Tags":{"type":"Control Service"},"WorkCommands":[{"WorkType":"cat","Secure":false},{"WorkType":"sh","Secure":false},{"WorkType":"signed","Secure":true}]},{"NodeID":"bar","Service":"raw","Time":"2026-11-21T00:40:26.46661678Z","ConnType":0,"Tags":null,"WorkCommands":null}],"Connections":[{"NodeID":"bar","Cost":1}],"KnownConnectionCosts":{"bar":{"foo":1},"foo":{"bar":1.5,"baz":2}},"NodeID":"foo","RoutingTable":{"bar":"bar"},"SystemCPUCount":2,"SystemMemoryMiB":24105,"Version":"1.6.9"}"#;

    #[tokio::test]
    async fn the_status_of_a_go_node_reads_like_receptorctls() {
        let mut fake = Fake::start([Script::new().greet().ask("status").say(GO).ask("Links").say("{}")]);
        assert_eq!(run(&fake.door(), &mut fake.console).await, Ok(Code::OK));
        let expected = "\
Node ID: foo
Version: 1.6.9
System CPU Count: 2
System Memory MiB: 24105

Connection  Cost
bar         1

Known Node  Known Connections
bar         foo: 1
foo         bar: 1.5 baz: 2

Route  Via
bar    bar

Node  Service  Type      Last Seen            Tags
bar   raw      Datagram  2026-11-21 00:40:26  -
foo   control  Stream    2026-11-21 00:40:27  type=Control Service

Node  Work Types
foo   cat, sh

Node  Secure Work Types
foo   signed
";
        assert_eq!(fake.out().await, expected);
    }

    #[test]
    fn links_of_our_nodes_say_what_carries_them() {
        let status = json!({
            "NodeID": "a", "NetmeshVersion": "0.1.0", "Version": "1.6.9",
            "Connections": [{"NodeID": "b", "Cost": 1}],
            "Links": [{"NodeID": "b", "Backend": "quic", "Remote": "127.0.0.1:1", "Insecure": true}],
            "Liveness": [{"NodeID": "b", "HeardMs": 1250, "IntervalMs": 5000, "SilenceMs": 15000, "State": "alive"},
                {"NodeID": "c", "HeardMs": 61000, "State": "lost"}],
            "Refused": {"our_name": 7},
        });
        let text = shown(status.as_object().unwrap());
        assert!(text.contains("Version: 1.6.9 (netmesh 0.1.0)\n"), "{text}");
        assert!(text.contains("b           1     quic     127.0.0.1:1  insecure\n"), "{text}");
        assert!(text.contains("b          alive  1.2 s ago   5.0 s      15.0 s\n"), "{text}");
        assert!(text.contains("our_name               7\n"), "{text}");
        assert!(text.contains("c          lost   61.0 s ago  -          -\n"), "{text}");
    }

    #[test]
    fn nothing_known_is_nothing_shown() {
        let empty = json!({"NodeID": "a", "Advertisements": null, "Connections": [], "RoutingTable": {}});
        assert_eq!(shown(empty.as_object().unwrap()).lines().count(), 4);
    }
}
