//! What is shown is what counts.

use std::fs;

use super::{config, options};
use crate::config::{Examined, Sources};

fn show(text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.yml");
    fs::write(&path, text).unwrap();
    let examined = Examined::of(&Sources::file(&path), &options());
    let shown = examined.show(|datadir| format!("{}/s", datadir.display())).expect(text);
    shown.to_string().replace(path.to_str().unwrap(), "f.yml")
}

#[test]
fn what_is_shown_says_the_same_as_what_was_given() {
    for text in [
        "- local-only",
        "- node: {id: 'yes', datadir: '', maxidleconnectiontimeout: 1m30s}\n- local-only: {local: yes}\n",
        "- tcp-listener: {port: 0x1F, bindaddr: '::1', nodecost: {A: 2, '8': 0.5}, allowedpeers: [a, \"b: #c\"]}\n",
        "- tcp-peer: &p {address: 'a:1', cost: 3}\n- tcp-peer: {<<: *p, address: '[::1]:2', redial: off}\n",
        "- tcp-peer: {address: a:1, allowedpeers: []}\n- quic-peer: {address: a:1, allowedpeers: ~}\n- log-level:\n",
        "version: 2\ncontrol-services: {filename: /s, permissions: 0660, service: ''}\nlog-level: {level: DEBUG}\n",
        "- local-only\n- work-command: {worktype: w, command: sh, params: \"-c 'echo # \\\"x\\\"'\", stderr: separate}\n",
    ] {
        let mut meant = config(text);
        let shown = show(text);
        let mut read = config(&shown);
        meant.warnings.clear();
        read.warnings.clear();
        assert_eq!(read, meant, "{text}\nis shown as\n{shown}");
    }
}

#[test]
fn each_value_tells_its_file_and_line_its_argument_or_that_it_is_a_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.yml");
    fs::write(&path, "- node:\n    id: foo\n- log-level: error\n- tcp-listener:\n    port: 1\n").unwrap();
    let mut sources = Sources::file(&path);
    sources.add_arguments([(7, "--log-level".into()), (8, "debug".into())]);
    let examined = Examined::of(&sources, &options());
    let shown = examined.show(|datadir| format!("{}/s", datadir.display())).unwrap();
    let text = shown.to_string();
    let line = |begin: &str| text.lines().find(|line| line.trim_start().starts_with(begin)).expect(begin);
    let file = path.to_str().unwrap();
    assert!(line("id: foo").ends_with(&format!("# {file}:2")), "{text}");
    assert!(line("datadir: /var/lib/netmesh").ends_with("# default"), "{text}");
    assert!(line("level: debug").ends_with("# argument 8"), "{text}");
    assert!(!text.contains("error"), "only the level that counts is shown: {text}");
    assert!(line("# allowedpeers").ends_with("# not set"), "{text}");
    assert!(text.ends_with("the socket /var/lib/netmesh/s\n"), "{text}");

    let json = shown.to_json();
    assert_eq!(json["sections"][0]["section"], "node");
    assert_eq!(
        json["sections"][0]["keys"]["id"],
        serde_json::json!({"value": "foo", "from": format!("{file}:2")})
    );
    assert_eq!(json["sections"][1]["keys"]["port"]["value"], 1);
    assert_eq!(json["sections"][1]["keys"]["cost"]["from"], "default");
    assert_eq!(json["default_socket"], "/var/lib/netmesh/s");
}

#[test]
fn nothing_is_shown_of_what_has_a_problem() {
    let mut sources = Sources::default();
    sources.add_arguments([(1, "--node".into()), (2, "foo=1".into())]);
    let examined = Examined::of(&sources, &options());
    assert!(examined.show(|_| String::new()).is_none() && !examined.problems.is_empty());
}

#[test]
fn a_warning_is_told_beside_a_problem() {
    let mut sources = Sources::default();
    sources.add_arguments([(1, "--trace".into()), (2, "--banana".into())]);
    let examined = Examined::of(&sources, &options());
    assert_eq!((examined.problems.len(), examined.warnings.len()), (1, 1));
    assert_eq!(examined.config, None);
}
