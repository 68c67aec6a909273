//! The command line says the same as a file.

use std::{ffi::OsString, fs};

use super::{config, key_file, options};
use crate::config::{Config, Problems, Sources};

fn load(words: &[&str]) -> Result<Config, Problems> {
    let mut sources = Sources::default();
    sources.add_arguments((1..).zip(words.iter().map(OsString::from)));
    Config::load(&sources, &options())
}

fn of(line: &str) -> Config {
    load(&words(line)).unwrap_or_else(|problems| panic!("{problems}\nof\n{line}"))
}

/// Words are divided by single spaces.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

fn told(line: &str) -> Vec<String> {
    load(&words(line)).expect_err(line).to_string().lines().map(str::to_owned).collect()
}

#[rustfmt::skip]
const SAME: &[(&str, &str)] = &[
    ("--node id=foo --local-only", "- node: {id: foo}\n- local-only"),
    ("-node foo -LOCAL-only local=true", "- node: foo\n- local-only: {local: true}"),
    ("--Node ID=yes DataDir=/d --local-only", "- node: {id: 'yes', datadir: /d}\n- local-only"),
    ("--tcp-listener 27199 bindaddr=::1 cost=1.5", "- tcp-listener: {port: 27199, bindaddr: '::1', cost: 1.5}"),
    (r#"--tcp-listener port=0 nodecost={"a":2,"B":0.5}"#, "- tcp-listener: {port: 0, nodecost: {a: 2, B: 0.5}}"),
    ("--tcp-listener port=0 nodecost={}", "- tcp-listener: {port: 0, nodecost: {}}"),
    ("--tcp-peer address=a:1 redial=false --quic-peer b:1", "- tcp-peer: {address: a:1, redial: no}\n- quic-peer: b:1"),
    ("--tcp-peer address=a:1 allowedpeers=a allowedPeers=b", "- tcp-peer: {address: a:1, allowedpeers: [a, b]}"),
    (r#"--tcp-peer address=a:1 allowedpeers=["a","b"] allowedpeers=c"#, "- tcp-peer: {address: a:1, allowedpeers: [a, b, c]}"),
    ("--tcp-peer address=a:1 allowedpeers=a", "- tcp-peer: {address: a:1, allowedpeers: [a]}"),
    ("--tcp-peer address=a:1 allowedpeers=", "- tcp-peer: {address: a:1, allowedpeers: []}"),
    ("--tcp-peer address=a:1 tls=", "- tcp-peer: {address: a:1}"),
    ("--control-service filename=/s permissions=0660", "- control-service: {filename: /s, permissions: 0660}"),
    ("--local-only --log-level", "- local-only\n- log-level:"),
    ("--local-only --log-level debug", "- local-only\n- log-level: debug"),
    ("--local-only --work-command worktype=w command=ls params=-a=b allowruntimeparams=yes",
     "- local-only\n- work-command: {worktype: w, command: ls, params: -a=b, allowruntimeparams: true}"),
];

#[test]
fn a_section_means_the_same_on_the_command_line_and_in_a_file() {
    for (line, text) in SAME {
        assert_eq!(of(line), config(text), "{line}");
    }
    let (_dir, key) = key_file("PUBLIC KEY");
    let key = key.to_str().unwrap();
    assert!(of(&format!("--local-only --work-verification {key}")).work_verification.is_some());
}

#[test]
fn the_last_value_of_a_key_counts_and_that_is_told() {
    let config = of("--local-only --node id=a id=b");
    assert_eq!(config.node.as_str(), "b");
    let warning = config.warnings[0].to_string();
    assert!(warning.starts_with("argument 4: node: `id` was given on argument 3 already"), "{warning}");
}

#[test]
fn files_and_sections_make_one_configuration_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.yml"), dir.path().join("two.conf"));
    fs::write(&one, "- node: {id: foo}\n- tcp-peer: a:1\n- log-level: error\n").unwrap();
    fs::write(&two, "version: 2\ntcp-peers: [{address: c:1}]\n").unwrap();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let config = load(&["--config", one, "--tcp-peer", "b:1", "-c", two, "--log-level", "debug"]).unwrap();
    assert_eq!(config.node.as_str(), "foo");
    assert_eq!(config.peers.iter().map(|peer| &*peer.address).collect::<Vec<_>>(), ["a:1", "b:1", "c:1"]);
    assert_eq!(config.log_level, crate::config::LogLevel::Debug, "what is said last counts");
    assert_eq!(config.warnings, []);
}

#[test]
fn problems_of_all_files_and_arguments_come_at_once_and_each_tells_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.yml"), dir.path().join("two.yml"));
    fs::write(&one, "- node: {id: foo}\n- work-command: {worktype: w, command: c}\n- banana:\n").unwrap();
    fs::write(&two, "- local-only\n- node: {id: bar}\n- work-command: {worktype: w, command: c}\n").unwrap();
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let line = ["--tcp-peer", "nowhere", "--config", one, "--config", two, "--node", "id=baz", "--config"];
    let told = load(&line).unwrap_err().to_string();
    let expected = [
        "argument 2: tcp-peer: address: address nowhere: missing port".to_owned(),
        "argument 7: node: only one node directive is allowed, and line 1 has it".to_owned(),
        "argument 9: a YAML file is wanted behind it".to_owned(),
        format!("{one}:3:3: unknown section `banana`"),
        format!("{two}:2:3: node: only one node directive is allowed, and line 1 has it"),
        format!("{two}:3:28: work-command: worktype: work type w already registered, on line 2;"),
    ];
    let right = told.lines().zip(&expected).all(|(told, expected)| told.starts_with(expected.as_str()));
    assert!(right && told.lines().count() == expected.len(), "{told}\nexpected {expected:#?}");

    let told = load(&["--config", "/no/such.yml", "--config", one]).unwrap_err().to_string();
    assert!(told.starts_with("/no/such.yml: cannot read") && told.contains("banana"), "{told}");
}

#[rustfmt::skip]
const MISTAKES: &[(&str, &str)] = &[
    ("id=foo --local-only", "argument 1: parameter specified before command: `id=foo`"),
    ("--local-only --banana id=1", "argument 2: unknown config type banana: `--banana`"),
    ("--local-only --tpc-peer a:1", "argument 2: unknown config type tpc-peer: `--tpc-peer`; did you mean `--tcp-peer`?"),
    ("--local-only -", "argument 2: unknown config type : `-`"),
    ("--local-only --", "argument 2: unknown config type : `--`"),
    ("--local-only ", "argument 2: local-only: local: `` is neither true nor false"),
    ("--work-command ls worktype=w command=ls --local-only", "argument 2: work-command: command does not allow bare values: `ls`"),
    ("--local-only --node foo=1", "argument 3: node: unknown key `foo`"),
    ("--local-only --node id=a --node id=b", "argument 4: node: only one node directive is allowed, and argument 2 has it"),
    ("--tcp-listener", "argument 1: tcp-listener: required parameter missing: port"),
    ("--tcp-listener port=x", "argument 2: tcp-listener: port: `x` is no whole number"),
    ("--tcp-listener port=1 cost=-1", "argument 3: tcp-listener: cost: connection cost must be positive"),
    ("--tcp-listener port=1 --tcp-listener port=1", "argument 4: tcp-listener: port 1 is taken by argument 1 already"),
    ("--work-kubernetes worktype=x --local-only", "argument 1: work-kubernetes: this section is not supported yet"),
    ("--node id=foo", "the command line: nothing to do"),
];

#[test]
fn every_mistake_is_told_with_its_argument_and_its_remedy() {
    for (line, expected) in MISTAKES {
        let told = told(line);
        assert!(
            told.len() == 1 && told[0].starts_with(expected),
            "of `{line}`\nexpected {expected}\nbut {told:#?}"
        );
        assert!(told[0].contains(';') || told[0].ends_with('?'), "no remedy: {told:?}");
    }
}
