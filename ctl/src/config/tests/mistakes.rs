//! What people get wrong, and what they are told.

use std::path::Path;

use super::{options, problems};
use crate::config::Config;

/// A file, and what begins each of its problems.
type Mistake = (&'static str, &'static [&'static str]);

#[rustfmt::skip]
const MISTAKES: &[Mistake] = &[
    // Shape.
    ("node", &["f.yml:1:1: the file holds a single value"]),
    ("- local-only\n- node:\n    id: a\n  datadir: /d", &["f.yml:4:3: this entry has several names"]),
    ("- local-only\n- Node: {id: a}", &["f.yml:2:3: Node: names of sections are lower case; write `node`"]),
    ("- local-only\n- TLS-Client: {}", &["f.yml:2:3: TLS-Client: names of sections are lower case"]),
    ("- local-only\n- 5", &["f.yml:2:3: unknown section `5`; remove it"]),
    ("- local-only\n- [node]", &["f.yml:2:3: this entry names no section"]),
    ("- local-only\n- {}", &["f.yml:2:3: this entry names no section"]),
    ("- local-only\n-", &["f.yml:2:2: this entry names no section"]),
    ("- local-only\n- tpc-listener: {port: 1}", &["f.yml:2:3: unknown section `tpc-listener`; did you mean `tcp-listener`?"]),
    ("- local-only\n- banana: {port: 1}", &["f.yml:2:3: unknown section `banana`; remove it"]),
    ("- local-only\n- version:", &["f.yml:2:3: version: a list has no version"]),
    ("version: 3\nlocal-only: {}", &["f.yml:1:10: version: only `version: 2` is known"]),
    ("local-only: {}\nlocal-only: {}", &["f.yml:2:1: local-only: the section stands on line 1 already"]),
    ("local-only: {}\nnode: [{id: a}]", &["f.yml:2:7: node: is given a list"]),
    ("local-only: {}\nbanana: {}", &["f.yml:2:1: unknown section `banana`"]),
    ("local-only: {}\n[a]: {}", &["f.yml:2:1: a section must be named by a word"]),
    ("- local-only\n- node: [a]", &["f.yml:2:9: node: is given a list"]),
    ("- local-only\n- node: {[a]: b}", &["f.yml:2:10: node: a key must be a word"]),
    ("- local-only\n- control-service: x", &["f.yml:2:20: control-service: a bare value, `x`, says nothing here"]),
    ("- local-only\n- trace: {level: 3}", &["f.yml:2:11: trace: unknown key `level`; this section takes none"]),
    ("- local-only\n- node: {id: a}\n- node: {id: b}", &["f.yml:3:3: node: only one node directive is allowed, and line 2 has it"]),
    // Keys.
    ("- local-only\n- node: {foo: a}", &["f.yml:2:10: node: unknown key `foo`; the keys here are id, datadir"]),
    ("- local-only\n- node: {\"a\\nb\": c}", &["f.yml:2:10: node: unknown key `a\\nb`"]),
    ("- local-only\n- node: {allowedpeers: a}", &["f.yml:2:10: node: unknown key `allowedpeers`"]),
    ("- tcp-listener:", &["f.yml:1:3: tcp-listener: required parameter missing: port; add it"]),
    ("- local-only\n- work-command: {}", &["f.yml:2:3: work-command: required parameters missing: command, worktype"]),
    ("- local-only\n- work-command: {worktype: w, command: c, allow-runtime-params: true}",
     &["f.yml:2:43: work-command: unknown key `allow-runtime-params`; did you mean `allowruntimeparams`?"]),
    ("- local-only\n- tcp-listener: {port: 1, tls: x}", &["f.yml:2:27: tcp-listener: tls: unknown TLS config x; add a `tls-server`"]),
    ("- control-service: {tls: x}", &["f.yml:1:21: control-service: tls: unknown TLS config x; add a `tls-server`"]),
    ("- tcp-peer: {address: 'a:1', tls: x}", &["f.yml:1:30: tcp-peer: tls: unknown TLS config x; add a `tls-client`"]),
    ("- local-only\n- tls-server: {name: s}", &["f.yml:2:3: tls-server: required parameters missing: cert, key; add them"]),
    ("- local-only\n- tls-client: {name: '', insecureskipverify: true}", &["f.yml:2:22: tls-client: name: is empty; give a value"]),
    ("- local-only\n- tls-client: {name: c, cert: x, insecureskipverify: true}", &["f.yml:2:3: tls-client: cert and key must both be supplied or neither"]),
    ("- local-only\n- tls-client: {name: c, rootcas: /no/such}", &["f.yml:2:25: tls-client: rootcas: /no/such cannot be read: No such file"]),
    ("- tls-client: {name: c, rootcas: /no/such}\n- tcp-peer: {address: 'a:1', tls: c}", &["f.yml:1:25: tls-client: rootcas: /no/such cannot be read"]),
    ("- local-only\n- tls-client: {name: c, insecureskipverify: true, pinnedservercert: abcd}",
     &["f.yml:2:69: tls-client: pinnedservercert: `abcd`: fingerprints must be 32 or 64 bytes for sha256 or sha512; write"]),
    ("- local-only\n- tls-client: {name: c, insecureskipverify: true, requirenodeid: yes}",
     &["f.yml:2:51: tls-client: requirenodeid: with `insecureskipverify` a certificate proves nothing"]),
    ("- local-only\n- tls-client: {name: c, insecureskipverify: true, requirenodeid: maybe}",
     &["f.yml:2:66: tls-client: requirenodeid: is neither `true` nor `off`"]),
    ("- tls-client: {name: c, insecureskipverify: true}\n- tcp-listener: {port: 1, tls: c}",
     &["f.yml:2:27: tcp-listener: tls: unknown TLS config c: this end needs a `tls-server`, and `c` is a `tls-client`"]),
    ("- local-only\n- cert-init: {commonname: a, outcert: b, outkey: c, bits: 512}",
     &["f.yml:1:3: local-only: cannot specify any other options with cert-init", "f.yml:2:3: cert-init: this file makes certificates",
       "f.yml:2:59: cert-init: bits: an RSA key of 512 bits cannot be made"]),
    ("- cert-makereq: {commonname: a, outreq: b}",
     &["f.yml:1:3: cert-makereq: must provide either InKey or OutKey", "f.yml:1:3: cert-makereq: this file makes certificates"]),
    ("- control-service: {tcptls: x}", &["f.yml:1:21: control-service: tcptls: unknown TLS config x; add a `tls-server`"]),
    ("- ws-peer: {address: 'a:1'}", &["f.yml:1:22: ws-peer: address: address a:1 is not a valid URL: "]),
    ("- ws-peer: {address: 'ws://a', extraheader: x}", &["f.yml:1:45: ws-peer: extraheader: extra header must be in the form key:value"]),
    ("- ws-listener: {port: 1, path: mesh}", &["f.yml:1:32: ws-listener: path: `mesh` is no path; write /mesh"]),
    ("- ws-listener: {port: 1}\n- tcp-listener: {port: 1}", &["f.yml:2:18: tcp-listener: port 1 is taken by line 1 already"]),
    ("- udp-listener: {port: 1}\n- quic-listener: {port: 1}", &["f.yml:2:19: quic-listener: port 1 is taken by line 1 already"]),
    ("- udp-listener: {port: 1, tls: x}", &["f.yml:1:27: udp-listener: unknown key `tls`"]),
    ("- local-only\n- work-python: {worktype: x}", &["f.yml:2:3: work-python: this section is not supported yet"]),
    ("local-only: {}\nwork-kubernetes: [{worktype: x}]", &["f.yml:2:1: work-kubernetes: this section is not supported yet"]),
    // The node.
    ("- local-only\n- node: {id: localhost}", &["f.yml:2:14: node: id: node ID \"localhost\" is reserved"]),
    ("- local-only\n- node: {id: ../x}", &["f.yml:2:14: node: id: `../x` cannot name a directory"]),
    ("- local-only\n- node: {id: .netmesh}", &["f.yml:2:14: node: id: `.netmesh` cannot name a directory"]),
    ("- local-only\n- node: {id: null}", &["f.yml:2:14: node: id: has no value"]),
    ("- local-only\n- node: {maxidleconnectiontimeout: 5s}",
     &["f.yml:2:36: node: maxidleconnectiontimeout: 5s is less than 21s; give at least that"]),
    ("- local-only\n- node: {heartbeat: 10ms}",
     &["f.yml:2:21: node: heartbeat: 10ms is no interval of heartbeats; give one from 100ms to 1m0s, or 0 for none"]),
    ("- local-only\n- node: {heartbeatmissed: 1}",
     &["f.yml:2:27: node: heartbeatmissed: 1 is no number of beats; give one from 2 to 20"]),
    ("- local-only\n- node: {maxidleconnectiontimeout: 1 day}", &["f.yml:2:36: node: maxidleconnectiontimeout: time: "]),
    ("- local-only\n- node: {maxrunning: 1.5x, keepbytes: lots}",
     &["f.yml:2:22: node: maxrunning: `1.5x` is no whole number", "f.yml:2:39: node: keepbytes: `lots` is no size"]),
    ("- local-only\n- node: {minfree: -1}", &["f.yml:2:19: node: minfree: `-1` is no size"]),
    ("- local-only\n- log-level: loud", &["f.yml:2:14: log-level: level: loud is not a valid log level name"]),
    ("- local-only: {local: 1}", &["f.yml:1:23: local-only: local: `1` is neither true nor false"]),
    // Backends.
    ("- tcp-listener: {port: 65536}", &["f.yml:1:24: tcp-listener: port: 65536 is no port"]),
    ("- tcp-listener: {port: -1}", &["f.yml:1:24: tcp-listener: port: -1 is no port"]),
    ("- tcp-listener: {port: http}", &["f.yml:1:24: tcp-listener: port: `http` is no whole number"]),
    ("- tcp-listener: {port: 1, bindaddr: 'a:1'}", &["f.yml:1:37: tcp-listener: bindaddr: `a:1` is no address"]),
    ("- tcp-listener: {port: 1, cost: 0}", &["f.yml:1:33: tcp-listener: cost: connection cost must be positive"]),
    ("- tcp-listener: {port: 1, cost: .nan}", &["f.yml:1:33: tcp-listener: cost: connection cost must be positive"]),
    ("- tcp-listener: {port: 1, nodecost: {a: -1}}",
     &["f.yml:1:37: tcp-listener: nodecost: connection cost must be positive for a"]),
    ("- tcp-listener: {port: 1, allowedpeers: [null]}", &["f.yml:1:41: tcp-listener: allowedpeers: has no value"]),
    ("- tcp-listener: {port: 1}\n- tcp-listener: {port: 1, bindaddr: '::1'}",
     &["f.yml:2:18: tcp-listener: port 1 is taken by line 1 already"]),
    ("- tcp-peer: foo", &["f.yml:1:13: tcp-peer: address: address foo: missing port in address; write host:port"]),
    ("- tcp-peer: {address: foo:1, nodecost: {a: 1}}", &["f.yml:1:30: tcp-peer: unknown key `nodecost`"]),
    // Control services.
    ("- control-service: {service: ''}", &["f.yml:1:3: control-service: no listeners specified"]),
    ("- control-service: {service: '', tcplisten: ''}", &["f.yml:1:3: control-service: no listeners specified"]),
    ("- control-service: {tcplisten: 65536}", &["f.yml:1:32: control-service: tcplisten: `65536` has no port up to 65535"]),
    ("- control-service: {service: '', tcplisten: 'a b:1'}", &["f.yml:1:45: control-service: tcplisten: `a b` is no address"]),
    ("- control-service: {tcplisten: 1}\n- control-service: {service: b, tcplisten: '0.0.0.0:1'}",
     &["f.yml:2:33: control-service: `0.0.0.0:1` is taken by line 1 already"]),
    ("- control-service: {service: 123456789}",
     &["f.yml:1:30: control-service: service: service name 123456789 too long"]),
    ("- control-service: {service: ping}", &["f.yml:1:30: control-service: service: service ping belongs to the mesh"]),
    ("- control-service:\n- control-service:", &["f.yml:2:3: control-service: service control is already listening, by line 1"]),
    ("- control-service: {filename: /s}\n- control-service: {service: b, filename: /s}",
     &["f.yml:2:33: control-service: `/s` is the socket of line 1 already"]),
    ("- control-service: {permissions: 600}",
     &["f.yml:1:34: control-service: permissions: 600 is decimal and would be mode 1130; write it octal, as 0600"]),
    ("- control-service: {permissions: -1}", &["f.yml:1:34: control-service: permissions: -1 is no mode"]),
    // Work.
    ("- local-only\n- work-command: {worktype: remote, command: c}",
     &["f.yml:2:28: work-command: worktype: `remote` is built in"]),
    ("- local-only\n- work-command: {worktype: w, command: c}\n- work-command: {worktype: w, command: d}",
     &["f.yml:3:28: work-command: worktype: work type w already registered, on line 2"]),
    ("- local-only\n- work-command: {worktype: w, command: ''}", &["f.yml:2:40: work-command: command: is empty"]),
    ("- local-only\n- work-command: {worktype: w, command: c, stderr: drop}",
     &["f.yml:2:51: work-command: stderr: `drop` is unknown; write `merge` or `separate`"]),
    ("- local-only\n- work-command: {worktype: w, command: c, maxrunning: 0}",
     &["f.yml:2:55: work-command: maxrunning: with 0 nothing would ever run"]),
    ("- local-only\n- work-command: {worktype: w, command: c, maxrunning: few}",
     &["f.yml:2:55: work-command: maxrunning: `few` is no whole number"]),
    ("- local-only\n- work-command: {worktype: w, command: c, keepcount: -1, keepage: 0s}",
     &["f.yml:2:54: work-command: keepcount: -1 is no count", "f.yml:2:67: work-command: keepage: with 0 every unit would be gone"]),
    ("- local-only\n- work-command: {worktype: w, command: c, keepage: 5 days}", &["f.yml:2:52: work-command: keepage: time: "]),
    ("- local-only\n- work-command: {worktype: w, command: c, keep-bytes: 5}",
     &["f.yml:2:43: work-command: unknown key `keep-bytes`; did you mean `keepbytes`?"]),
    ("- local-only\n- work-command: {worktype: w, command: c, params: a, args: [b]}",
     &["f.yml:2:54: work-command: args: stands beside `params`"]),
    ("- local-only\n- work-command: {worktype: w, command: c, user: 'a:b:c'}",
     &["f.yml:2:49: work-command: user: `a:b:c` names no user"]),
    ("- local-only\n- work-command: {worktype: w, command: c, directory: here}",
     &["f.yml:2:54: work-command: directory: `here` depends on where the node is started"]),
    ("- local-only\n- work-command: {worktype: w, command: c, env: {A=B: x, NETMESH_UNIT: y, GOOD: z}}",
     &["f.yml:2:49: work-command: env: \"A=B\" cannot name a variable",
       "f.yml:2:57: work-command: env: names that begin with NETMESH_ are the node's own"]),
    ("- local-only\n- work-command: {worktype: w, command: c, env: [A]}", &["f.yml:2:48: work-command: env: is no mapping"]),
    ("- local-only\n- work-command: {worktype: w, command: c, passenv: [A]}",
     &["f.yml:2:43: work-command: passenv: everything is passed on already; add `cleanenv: true`"]),
    ("- local-only\n- work-command: {worktype: w, command: c, timeout: 0s, maxoutput: 10MiB:often}",
     &["f.yml:2:52: work-command: timeout: nothing can be done in no time",
       "f.yml:2:67: work-command: maxoutput: \"often\" is unknown"]),
    ("- local-only\n- work-command: {worktype: w, command: c, limits: {stack: 1, memory: lots, cpu: 5}}",
     &["f.yml:2:52: work-command: limits: \"stack\" is no limit",
       "f.yml:2:62: work-command: limits: memory: \"lots\" is no size"]),
    ("- local-only\n- work-command: {worktype: w, command: c, stop: [TERM 1s, WINCH 2s, KILL soon]}",
     &["f.yml:2:59: work-command: stop: \"WINCH 2s\" is no step", "f.yml:2:69: work-command: stop: \"KILL soon\" is no step"]),
    ("- local-only\n- work-command: {worktype: w, command: c, verifysignature: true}",
     &["f.yml:2:43: work-command: verifysignature: there is no key to verify with; add a `work-verification`"]),
    ("- local-only\n- work-signing: /no/such/key", &["f.yml:2:17: work-signing: privatekey: /no/such/key does not exist"]),
    ("- local-only\n- work-signing: {privatekey: /dev/null, tokenexpiration: 0}",
     &["f.yml:2:58: work-signing: tokenexpiration: a token that is never good"]),
];

#[test]
fn every_mistake_is_told_with_its_place_and_its_remedy() {
    for (text, expected) in MISTAKES {
        let told = problems(text);
        let right = told.len() == expected.len() && told.iter().zip(*expected).all(|(t, e)| t.starts_with(e));
        assert!(right, "of\n{text}\nexpected {expected:#?}\nbut told {told:#?}");
        assert!(told.iter().all(|t| t.contains(';') || t.ends_with('?')), "no remedy: {told:#?}");
    }
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = "- node: {id: localhost, foo: 1}\n- tcp-peer: {address: a, cost: 0}\n- tcp-listener:\n- udp-client: {}\n";
    let lines: Vec<_> = problems(text).iter().map(|p| p.split(':').nth(1).unwrap().to_owned()).collect();
    assert_eq!(lines, ["1", "1", "2", "2", "3", "4"]);
}

#[test]
fn a_fault_of_syntax_is_told_with_its_place() {
    for (text, line) in [
        ("- node:\n\tid: a\n", "2"),
        ("- node: {id: a\n- x\n", "3"),
        ("- node: *gone\n", "1"),
        ("a: 'x\n", "2"),
    ] {
        let told = problems(text);
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("no YAML"), "{told:?}");
        assert_eq!(told[0].split(':').nth(1), Some(line), "{told:?}");
    }
}

#[test]
fn a_host_called_localhost_is_no_node() {
    for host in ["localhost", "LocalHost.localdomain", ""] {
        let options = crate::config::LoadOptions { host_name: host.to_owned(), ..options() };
        let problems = Config::parse("- local-only", Path::new("f.yml"), &options).unwrap_err();
        assert!(problems.to_string().contains("no node ID specified"), "{problems}");
    }
}
