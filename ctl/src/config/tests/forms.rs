//! Both forms, key by key: what they say is the same.

use std::{path::Path, time::Duration};

use netmesh::id::Cost;
use workunits::{logic::retention::Keep, request::Stderr};

use super::{config, key_file, parse, problems};
use crate::config::{Backend, Config, LogLevel, Sources};

/// A section with one more key than it needs, and what must come of it.
type Case = (&'static str, &'static str, fn(&Config) -> bool);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("node", "id: foo", |c| c.node.as_str() == "foo"),
    ("node", "ID: yes", |c| c.node.as_str() == "true"),
    ("node", "id: ''", |c| c.node.as_str() == "host.example"),
    ("node", "DataDir: /d", |c| c.datadir == Path::new("/d")),
    ("node", "datadir: ''", |c| c.datadir == Path::new("/tmp/receptor")),
    ("node", "maxidleconnectiontimeout: 1m30s", |c| c.idle_limit == Duration::from_secs(90)),
    ("node", "heartbeat: 2s", |c| c.heartbeat.unwrap().interval == Duration::from_secs(2)),
    ("node", "heartbeat: 0", |c| c.heartbeat.is_none()),
    ("node", "heartbeatmissed: 4", |c| c.heartbeat.unwrap().missed == 4),
    ("node", "heartbeatheard: 1", |c| c.heartbeat.unwrap().heard == 1),
    ("node", "maxrunning: 8", |c| c.limits.max_running == Some(8)),
    ("node", "stopduplicate: yes", |c| c.stop_duplicate),
    ("node", "id: foo", |c| !c.stop_duplicate),
    ("node", "maxunits: 500", |c| c.limits.max_units == Some(500)),
    ("node", "maxrunning: ''", |c| c.limits.max_running.is_none()),
    ("node", "keepage: 168h", |c| c.limits.keep.age == Some(Duration::from_secs(168 * 3600))),
    ("node", "keepcount: '1000'", |c| c.limits.keep.count == Some(1000)),
    ("node", "keepbytes: 10GiB", |c| c.limits.keep.bytes == Some(10 << 30)),
    ("node", "id: foo", |c| c.limits == Default::default()),
    ("node", "minfree: 1GiB", |c| c.limits.min_free == 1 << 30),
    ("node", "minfree: 0", |c| c.limits.min_free == 0),
    ("node", "receptorkubeclientsetqps: 7", |c| c.warnings.is_empty()),
    ("node", "receptorkubeclientsetburst: 7", |c| c.warnings.is_empty()),
    ("node", "receptorkubesupportreconnect: auto", |c| c.warnings.is_empty()),
    ("node", "receptorkubeclientsetratelimiter: never", |c| c.warnings.is_empty()),
    ("node", "firewallrules: []", |c| c.warnings.is_empty()),
    ("local-only", "local: yes", |c| c.local_only),
    ("log-level", "level: DEBUG", |c| c.log_level == LogLevel::Debug),
    ("tcp-listener", "port: 27199", |c| c.listeners[0].bind == "0.0.0.0:27199"),
    ("tcp-listener", "{port: '27199', bindaddr: '::1'}", |c| c.listeners[0].bind == "[::1]:27199"),
    ("tcp-listener", "{port: 0, bindaddr: 127.0.0.1}", |c| c.listeners[0].bind == "127.0.0.1:0"),
    ("tcp-listener", "{port: 1, cost: 2}", |c| c.listeners[0].link.cost == Cost::new(2.0).unwrap()),
    ("tcp-listener", "{port: 1, NodeCost: {Foo: 1.5}}", |c| {
        c.listeners[0].link.node_costs.iter().map(|(n, c)| (n.as_str(), c.value())).eq([("Foo", 1.5)])
    }),
    ("tcp-listener", "{port: 1, nodecost: '{}'}", |c| c.listeners[0].link.node_costs.is_empty()),
    ("tcp-listener", "{port: 1, allowedpeers: [a, 7]}", |c| {
        c.listeners[0].link.allowed_peers.iter().flatten().map(|n| n.as_str()).eq(["7", "a"])
    }),
    ("tcp-listener", "{port: 1, allowedpeers: a}", |c| c.listeners[0].link.allowed_peers.iter().flatten().count() == 1),
    ("tcp-listener", "{port: 1, allowedpeers: null}", |c| c.listeners[0].link.allowed_peers.is_none()),
    ("tcp-listener", "{port: 1, allowedpeers: []}", |c| c.listeners[0].link.allowed_peers == Some(Default::default())),
    ("tcp-listener", "{port: 1, allowedpeers: ''}", |c| c.listeners[0].link.allowed_peers == Some(Default::default())),
    ("tcp-listener", "{port: 1, tls: ''}", |c| c.listeners.len() == 1),
    ("tcp-listener", "{port: 1, heartbeat: 1s}", |c| c.listeners[0].link.heartbeat.unwrap().interval == Duration::from_secs(1)),
    ("tcp-listener", "{port: 1, heartbeatmissed: 9}", |c| c.listeners[0].link.heartbeat.unwrap().missed == 9),
    ("tcp-listener", "{port: 1, heartbeatheard: 9}", |c| c.listeners[0].link.heartbeat.unwrap().heard == 9),
    ("tcp-peer", "{address: foo:1, heartbeat: 0s}", |c| c.peers[0].link.heartbeat.is_none()),
    ("tcp-peer", "{address: foo:1, heartbeatmissed: 9}", |c| c.peers[0].link.heartbeat.unwrap().missed == 9),
    ("tcp-peer", "{address: foo:1, heartbeatheard: 9}", |c| c.peers[0].link.heartbeat.unwrap().heard == 9),
    ("tcp-peer", "address: foo:1", |c| c.peers[0].link.heartbeat == c.heartbeat && c.heartbeat.is_some()),
    ("quic-listener", "port: 27199", |c| c.listeners[0].backend == Backend::Quic),
    ("tcp-peer", "address: foo:1", |c| c.peers[0].address == "foo:1" && c.peers[0].redial),
    ("tcp-peer", "{address: foo:1, redial: no}", |c| !c.peers[0].redial),
    ("tcp-peer", "{address: foo:1, cost: '0.2'}", |c| c.peers[0].link.cost.value() == 0.2),
    ("tcp-peer", "{address: foo:1, allowedpeers: [foo]}", |c| c.peers[0].link.allowed_peers.iter().flatten().count() == 1),
    ("quic-peer", "address: foo:1", |c| c.peers[0].backend == Backend::Quic),
    ("udp-listener", "port: 27199", |c| c.listeners[0].backend == Backend::Udp && c.listeners[0].bind == "0.0.0.0:27199"),
    ("udp-listener", "{port: 1, cost: 2, nodecost: {a: 3}}", |c| c.listeners[0].link.cost.value() == 2.0 && c.listeners[0].link.node_costs.len() == 1),
    ("udp-peer", "{address: '::1:27199', redial: false}", |c| c.peers[0].backend == Backend::Udp && c.peers[0].address == "[::1]:27199" && !c.peers[0].redial),
    ("ws-listener", "port: 27199", |c| c.listeners[0].backend == Backend::Ws && c.listeners[0].path == "/"),
    ("ws-listener", "{port: 1, path: /mesh/}", |c| c.listeners[0].path == "/mesh/"),
    ("ws-listener", "{port: 1, path: ''}", |c| c.listeners[0].path == "/" && c.listeners[0].bind == "0.0.0.0:1"),
    ("ws-peer", "address: 'ws://foo/mesh?x=1'", |c| c.peers[0].backend == Backend::Ws && c.peers[0].address == "ws://foo/mesh?x=1" && c.peers[0].tls.is_none()),
    ("ws-peer", "address: 'wss://foo'", |c| c.peers[0].tls.as_ref().unwrap().name == "default" && c.tls_clients.len() == 1),
    ("ws-peer", "{address: 'ws://foo', extraheader: 'X-Extra-Data: SomeData'}", |c| c.peers[0].extra_header == "X-Extra-Data:SomeData".parse().ok()),
    ("ws-peer", "{address: 'ws://foo', extraheader: ''}", |c| c.peers[0].extra_header.is_none()),
    ("control-service", "service: control", |c| c.control_services[0].service.unwrap().to_string() == "control"),
    ("control-service", "{service: '', filename: /s}", |c| c.control_services[0].service.is_none()),
    ("control-service", "filename: /s", |c| c.control_services[0].filename.as_deref() == Some(Path::new("/s"))),
    ("control-service", "filename: /s", |c| c.control_services[0].permissions == 0o600),
    ("control-service", "permissions: 0660", |c| c.control_services[0].permissions == 0o660),
    ("control-service", "permissions: '0660'", |c| c.control_services[0].permissions == 0o660),
    ("control-service", "permissions: 0x1B0", |c| c.control_services[0].permissions == 0o660),
    ("control-service", "{service: '', tcplisten: '127.0.0.1:7323'}", |c| c.control_services[0].tcp.as_deref() == Some("127.0.0.1:7323")),
    ("control-service", "tcplisten: '::1:7323'", |c| c.control_services[0].tcp.as_deref() == Some("[::1]:7323")),
    ("control-service", "tcplisten: localhost:0", |c| c.control_services[0].tcp.as_deref() == Some("localhost:0") && c.warnings.is_empty()),
    ("control-service", "tcptls: ''", |c| c.control_services[0].tcp.is_none()),
    ("work-command", "{workType: w, command: tr}", |c| c.work_commands[0].work_type == "w"),
    ("work-command", "{worktype: w, command: tr}", |c| c.work_commands[0].command == "tr"),
    ("work-command", "{worktype: w, command: tr, params: a-z A-Z}", |c| c.work_commands[0].params == "a-z A-Z"),
    ("work-command", "{worktype: w, command: tr, allowRuntimeParams: true}", |c| c.work_commands[0].allow_runtime_params),
    ("work-command", "{worktype: w, command: tr, verifysignature: no}", |c| !c.work_commands[0].verify_signature),
    ("work-command", "{worktype: w, command: tr}", |c| c.work_commands[0].stderr == Stderr::Merge),
    ("work-command", "{worktype: w, command: tr, args: [a-z, 'A Z']}", |c| c.work_commands[0].rules.args == ["a-z", "A Z"]),
    ("work-command", "{worktype: w, command: tr, user: 'backup:users'}", |c| c.work_commands[0].rules.user.as_deref() == Some("backup:users")),
    ("work-command", "{worktype: w, command: tr, user: 1000}", |c| c.work_commands[0].rules.user.as_deref() == Some("1000")),
    ("work-command", "{worktype: w, command: tr, directory: /srv}", |c| c.work_commands[0].rules.directory.as_deref() == Some("/srv")),
    ("work-command", "{worktype: w, command: tr, env: {A: 1, B: x}}", |c| c.work_commands[0].rules.env["A"] == "1"),
    ("work-command", "{worktype: w, command: tr, cleanenv: true, passenv: [X]}", |c| !c.work_commands[0].rules.inherit.passes("Y")),
    ("work-command", "{worktype: w, command: tr, timeout: 1h}", |c| c.work_commands[0].rules.timeout == Some(Duration::from_secs(3600))),
    ("work-command", "{worktype: w, command: tr, maxoutput: 10MiB:truncate}", |c| c.work_commands[0].rules.max_output == "10MiB:truncate".parse().ok()),
    ("work-command", "{worktype: w, command: tr, limits: {memory: 1GiB, files: 50}}", |c| c.work_commands[0].rules.limits.files == Some(50)),
    ("work-command", "{worktype: w, command: tr, stop: [TERM, KILL 5s]}", |c| c.work_commands[0].rules.stop.steps().len() == 2),
    ("work-command", "{worktype: w, command: tr, stop: TERM}", |c| c.work_commands[0].rules.stop.steps().len() == 2),
    ("work-command", "{worktype: w, command: tr, allowruntimecommand: true}", |c| c.work_commands[0].rules.allow.command),
    ("work-command", "{worktype: w, command: tr, allowruntimeuser: true}", |c| c.work_commands[0].rules.allow.user),
    ("work-command", "{worktype: w, command: tr, allowruntimedirectory: true}", |c| c.work_commands[0].rules.allow.directory),
    ("work-command", "{worktype: w, command: tr, allowruntimeenv: true}", |c| c.work_commands[0].rules.allow.env),
    ("work-command", "{worktype: w, command: tr, stderr: separate}", |c| c.work_commands[0].stderr == Stderr::Separate),
    ("work-command", "{worktype: w, command: tr, maxRunning: 2}", |c| c.work_commands[0].max_running == Some(2)),
    ("work-command", "{worktype: w, command: tr, keepage: 90s, keepcount: 5, keepbytes: 1048576}", |c| {
        c.work_commands[0].keep == Keep { age: Some(Duration::from_secs(90)), count: Some(5), bytes: Some(1 << 20) }
    }),
    ("work-signing", "privatekey: KEY", |c| c.work_signing.as_ref().unwrap().token_expiration == Duration::from_secs(300)),
    ("work-signing", "{privatekey: KEY, tokenexpiration: 10h30m}", |c| {
        c.work_signing.as_ref().unwrap().token_expiration == Duration::from_secs(37_800)
    }),
    ("work-verification", "publickey: KEY", |c| c.work_verification.is_some()),
];

#[test]
fn every_key_means_the_same_in_both_forms() {
    let (_dir, key) = key_file("PRIVATE KEY");
    std::fs::write(&key, "-----BEGIN PRIVATE KEY-----\n-----BEGIN PUBLIC KEY-----\n").unwrap();
    for (section, keys, holds) in CASES {
        let keys = keys.replace("KEY", key.to_str().unwrap());
        let body = if keys.starts_with('{') { keys } else { format!("{{{keys}}}") };
        // Something to do, so that only the case decides.
        let (rest, rest_in_map) = match *section {
            "local-only" => ("", ""),
            _ => ("- local-only:\n", "local-only: {local: true}\n"),
        };
        let list = config(&format!("{rest}- {section}: {body}\n"));
        let map = config(&format!("version: 2\n{rest_in_map}{section}: {body}\n"));
        assert_eq!(list, map, "{section} {body}");
        assert!(holds(&list), "{section} {body}: {list:#?}");
        if !["node", "local-only", "log-level", "work-signing", "work-verification"].contains(section) {
            let plural = config(&format!("{rest_in_map}{section}s:\n- {body}\n"));
            assert_eq!(list, plural, "{section}s {body}");
            assert_eq!(list, config(&format!("{rest}- {section}s: {body}\n")), "{section}s {body}");
        }
    }
}

#[test]
fn a_bare_value_is_for_the_key_that_it_is_most_about() {
    let (_dir, key) = key_file("PUBLIC KEY");
    let text = format!(
        "- node: foo\n- log-level: debug\n- tcp-listener: '1'\n- quic-listener: 2\n- tcp-peer: a:1\n- quic-peer: b:1\n\
         - work-verification: {}\n- local-only\n",
        key.display()
    );
    let config = config(&text);
    assert_eq!((config.node.as_str(), config.log_level), ("foo", LogLevel::Debug));
    assert_eq!(config.listeners.iter().map(|l| &*l.bind).collect::<Vec<_>>(), ["0.0.0.0:1", "0.0.0.0:2"]);
    assert_eq!(config.peers.iter().map(|p| &*p.address).collect::<Vec<_>>(), ["a:1", "b:1"]);
    assert!(config.local_only && config.work_verification.is_some());
}

#[test]
fn local_only_is_on_unless_the_file_says_off() {
    for on in [
        "- local-only",
        "- local-only:",
        "- local-only: null",
        "- local-only: {}",
        "local-only: {}",
        "local-only: true",
    ] {
        assert!(config(on).local_only, "{on}");
    }
    assert!(!config("local-only: {local: false}\ncontrol-service: {}").local_only);
}

#[test]
fn what_is_absent_has_receptors_default() {
    let config = config("- control-service: {filename: /s}");
    assert_eq!((config.log_level, config.idle_limit.as_secs()), (LogLevel::Info, 21));
    assert_eq!(config.datadir, Path::new("/var/lib/netmesh"));
    assert_eq!(config.control_services[0].service.unwrap().to_string(), "control");
    assert_eq!(self::config("- local-only\n- log-level:").log_level, LogLevel::Error);
}

#[test]
fn anchors_aliases_and_merges_work_in_both_forms() {
    let list = config("- tcp-peer: &p {address: a:1, cost: 3}\n- tcp-peer: {<<: *p, address: b:1}\n");
    let map = config("tcp-peers:\n- &p {address: a:1, cost: 3}\n- {<<: *p, address: b:1}\n");
    assert_eq!(list, map);
    assert_eq!(list.peers[1].link.cost.value(), 3.0);
    assert_eq!(list.peers[1].address, "b:1");
}

#[test]
fn json_is_yaml_too() {
    assert_eq!(config(r#"[{"node": {"id": "foo"}}, {"local-only": null}]"#).node.as_str(), "foo");
    assert_eq!(config(r#"{"node": {"id": "foo"}, "local-only": {"local": true}}"#).node.as_str(), "foo");
}

#[test]
fn only_the_first_document_is_read() {
    assert_eq!(config("---\n- node: {id: a}\n- local-only\n---\n- node: {id: b}\n").node.as_str(), "a");
}

#[test]
fn a_file_is_read_or_the_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let load = |name: &str| Config::load(&Sources::file(dir.path().join(name)), &super::options());
    std::fs::write(dir.path().join("good.yml"), "- local-only\n").unwrap();
    assert!(load("good.yml").unwrap().local_only);
    assert!(load("gone.yml").unwrap_err().to_string().contains("No such file"));
    assert!(load("").unwrap_err().to_string().contains("directory"));
    std::fs::write(dir.path().join("latin.yml"), b"- node:\n    id: \xe4\n").unwrap();
    assert!(load("latin.yml").unwrap_err().to_string().contains("not UTF-8 text (line 2)"));
    std::fs::write(dir.path().join("empty.yml"), "").unwrap();
    assert!(load("empty.yml").unwrap_err().to_string().contains("local-only"));
}

#[test]
fn a_warning_stops_nothing_and_names_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key.pem");
    std::fs::write(&key, "no key").unwrap();
    let text = format!(
        "- node: {{id: a, ID: b}}\n- trace:\n- control-service: {{service: ctl2, permissions: 440}}\n\
         - work-verification: {{publickey: {}}}\n- tcp-peer: {{address: a:1, allowedpeers: 'a,b'}}\n- tcp-peer: a:1\n",
        key.display()
    );
    let config = config(&text);
    assert_eq!(config.node.as_str(), "b");
    let lines: Vec<_> = config.warnings.iter().map(|w| (w.at.unwrap().0, w.section.as_str())).collect();
    assert_eq!(
        lines,
        [
            (1, "node"),
            (2, "trace"),
            (3, "control-service"),
            (3, "control-service"),
            (4, "work-verification"),
            (5, "tcp-peer"),
            (6, "tcp-peer"),
        ]
    );
    assert_eq!(config.control_services[0].permissions, 0o670);
}

#[test]
fn a_port_that_others_can_reach_is_a_warning() {
    for (port, address) in [("7323", "0.0.0.0:7323"), ("':1'", "0.0.0.0:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
        let config = config(&format!("- control-service: {{tcplisten: {port}}}"));
        assert_eq!(config.control_services[0].tcp.as_deref(), Some(address));
        assert!(config.warnings[0].text.contains(&format!("whoever reaches {address} controls this node")));
    }
}

#[test]
fn a_node_needs_something_to_do() {
    assert!(parse("- control-service: {filename: /s}").is_ok());
    assert!(problems("- node: {id: foo}")[0].contains("`local-only`"));
}
