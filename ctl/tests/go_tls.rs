//! A Go node and ours under TLS: links either way, work either way, and certificates that either has made.
//!
//! The Go node is the binary that `RECEPTOR_GO` names; where it names none these tests say so and pass.

mod common;

use std::{
    fs,
    process::{Command, Stdio},
};

use common::{Daemon, GoNode, Pki, Ran, World, cert_command, finish, free_port};

const CAT: &str = "- work-command: {worktype: cat, command: cat}\n";

/// A Go node and ours, the control services of both under TLS, either dialling.
fn pair(world: &World, binary: &str, go_dials: bool, go: &str, ours: &str) -> (GoNode, Daemon) {
    let port = free_port();
    let listen = format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1, tls: srv}}\n");
    let dial = format!("- tcp-peer: {{address: \"localhost:{port}\", tls: cl}}\n");
    let (go_link, our_link) = if go_dials { (&dial, &listen) } else { (&listen, &dial) };
    let go_file = world.write_secure("go", &[go, go_link, CAT].concat());
    let our_file = world.write_secure("ours", &[ours, our_link, CAT].concat());
    let start_go = || GoNode::start_file(binary, &world.socket("go"), &go_file);
    let start_ours = || world.start_file(&[], "ours", &our_file);
    let (go, mut ours) = if go_dials {
        let ours = start_ours();
        (start_go(), ours)
    } else {
        (start_go(), start_ours())
    };
    ours.wait_reach("go");
    go.wait_reach();
    (go, ours)
}

#[test]
fn work_goes_both_ways_over_links_and_streams_under_tls_either_dialling() {
    let Some(binary) = GoNode::binary() else { return };
    for (go_dials, more) in [(true, ""), (false, ""), (true, ", mintls13: true"), (false, ", mintls13: true")]
    {
        let world = World::new();
        let pki = Pki::new(&world, "ca");
        pki.issue("go", &["go"]);
        pki.issue("ours", &["ours"]);
        let (go, ours) =
            pair(&world, &binary, go_dials, &pki.profiles("go", more), &pki.profiles("ours", more));
        let status = ours.run(&["status"]).ok();
        assert!(!status.contains("insecure"), "{status}");
        let payload = "0123456789abcdef".repeat(20_000);
        let words = ["work", "submit", "cat", "--node", "go", "--tls-client", "cl", "-p", "-", "-f"];
        assert!(ours.run_with(&words, payload.as_bytes()).ok() == payload, "to the Go node and back");
        let submit =
            r#"{"command":"work","subcommand":"submit","node":"ours","worktype":"cat","tlsclient":"cl"}"#;
        let (unit, answer) = go.submit(submit, payload.as_bytes());
        assert!(answer.contains("Job Started"), "{answer}");
        assert!(go.results(&unit) == payload.as_bytes(), "to ours and back");

        let refused = ours.run(&["work", "submit", "cat", "--node", "go", "-n", "-f"]);
        assert!(refused.stderr.contains("insecure connection to secure service"), "{refused:#?}");
        let submit = r#"{"command":"work","subcommand":"submit","node":"ours","worktype":"cat"}"#;
        let (unit, _) = go.submit(submit, b"x");
        go.wait_status(&unit, &["\"StateName\":\"Failed\"", "CRYPTO_ERROR"]);
    }
}

#[test]
fn neither_accepts_a_certificate_of_another_node_on_a_stream() {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    // Each shows a certificate that is good for the link and names the wrong node.
    pki.issue("go", &["elsewhere"]);
    pki.issue("ours", &["elsewhere"]);
    let skip = ", skipreceptornamescheck: true";
    let (go, ours) = (pki.profiles("go", skip), pki.profiles("ours", &format!("{skip}, requirenodeid: off")));
    let (go, ours) = pair(&world, &binary, true, &go, &ours);
    let refused = ours.run(&["work", "submit", "cat", "--node", "go", "--tls-client", "cl", "-n", "-f"]);
    assert!(refused.stderr.contains("valid for node elsewhere, not for go"), "{refused:#?}");
    let submit =
        r#"{"command":"work","subcommand":"submit","node":"ours","worktype":"cat","tlsclient":"cl"}"#;
    let (unit, _) = go.submit(submit, b"x");
    go.wait_status(&unit, &["\"StateName\":\"Failed\"", "CRYPTO_ERROR"]);
}

#[test]
fn each_signs_the_requests_of_the_other() {
    let Some(binary) = GoNode::binary() else { return };
    let world = World::new();
    let at = |file: &str| world.path().join(file).display().to_string();
    let go = |words: &[&str]| -> Ran {
        let mut command = Command::new(&binary);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        finish(command.spawn().expect("the Go node starts"), words)
    };
    let word = |key: &str, file: &str| format!("{key}={}", at(file));
    // The Go node's authority, our request.
    go(&[
        "--cert-init",
        "commonname=go CA",
        "bits=2048",
        &word("outcert", "goca.crt"),
        &word("outkey", "goca.key"),
    ])
    .ok();
    cert_command(&[
        "makereq",
        "--commonname",
        "ours",
        "--bits",
        "2048",
        "--nodeid",
        "ours",
        "--dnsname",
        "localhost",
        "--outreq",
        &at("ours.req"),
        "--outkey",
        &at("ours.key"),
    ])
    .ok();
    go(&[
        "--cert-signreq",
        &word("req", "ours.req"),
        &word("cacert", "goca.crt"),
        &word("cakey", "goca.key"),
        &word("outcert", "ours.crt"),
        "verify=true",
    ])
    .ok();
    // Our authority, the Go node's request.
    cert_command(&[
        "init",
        "--commonname",
        "our CA",
        "--outcert",
        &at("ourca.crt"),
        "--outkey",
        &at("ourca.key"),
    ])
    .ok();
    go(&[
        "--cert-makereq",
        "commonname=go",
        "bits=2048",
        "nodeid=go",
        "dnsname=localhost",
        &word("outreq", "go.req"),
        &word("outkey", "go.key"),
    ])
    .ok();
    cert_command(&[
        "signreq",
        "--req",
        &at("go.req"),
        "--cacert",
        &at("ourca.crt"),
        "--cakey",
        &at("ourca.key"),
        "--outcert",
        &at("go.crt"),
        "--verify",
    ])
    .ok();
    // Each trusts both.
    let both = fs::read_to_string(at("goca.crt")).unwrap() + &fs::read_to_string(at("ourca.crt")).unwrap();
    fs::write(at("both.crt"), both).unwrap();
    let profiles = |name: &str| {
        let (cert, key, ca) = (at(&format!("{name}.crt")), at(&format!("{name}.key")), at("both.crt"));
        format!(
            "- tls-server: {{name: srv, cert: {cert}, key: {key}, clientcas: {ca}, requireclientcert: true}}\n\
             - tls-client: {{name: cl, cert: {cert}, key: {key}, rootcas: {ca}}}\n"
        )
    };
    let (_go, ours) = pair(&world, &binary, false, &profiles("go"), &profiles("ours"));
    let words = ["work", "submit", "cat", "--node", "go", "--tls-client", "cl", "-l", "hi", "-f"];
    assert_eq!(ours.run(&words).ok(), "hi\n");
}
