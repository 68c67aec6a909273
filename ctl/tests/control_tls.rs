//! The control service on a TCP port under TLS: whoever proves who it is talks as on the port, everybody else not at all.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the right way to say that something is missing")]

mod common;

use std::{
    fs,
    net::TcpStream,
    process::{Command, Stdio},
};

use common::{Daemon, Pki, Ran, Talk, World, finish, free_port, program, receptorctl};

const CAT: &str = "- work-command: {worktype: cat, command: cat}\n";

/// A daemon whose port is under the profile `srv`, and its configuration.
fn start(world: &World, pki: &Pki<'_>, port: u16) -> (Daemon, String) {
    pki.issue("foo", &["foo"]);
    pki.issue("client", &[]);
    let yaml = format!(
        "{}- control-service: {{service: second, tcplisten: \"127.0.0.1:{port}\", tcptls: srv}}\n- audit: {{file: {}}}\n{CAT}",
        pki.profiles("foo", ""),
        world.path().join("audit").display()
    );
    let daemon = world.start("foo", &yaml);
    let text = fs::read_to_string(world.path().join("foo.yml")).unwrap();
    (daemon, text)
}

fn run_at(address: &str, flags: &[&str], words: &[&str], stdin: &[u8]) -> Ran {
    let mut command = Command::new(program());
    command.args(["--socket", address]).args(flags).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    let writer = std::thread::spawn(move || drop(std::io::Write::write_all(&mut pipe, &stdin)));
    let ran = finish(child, words);
    writer.join().unwrap();
    ran
}

#[test]
fn a_client_does_under_tls_what_it_does_on_a_socket_and_is_known_by_its_certificate() {
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    let port = free_port();
    let (mut daemon, _) = start(&world, &pki, port);
    let address = format!("tls://localhost:{port}");
    let [ca, cert, key] = [("ca", "crt"), ("client", "crt"), ("client", "key")].map(|(n, k)| pki.file(n, k));
    let flags = ["--rootcas", &ca, "--cert", &cert, "--key", &key];
    assert!(run_at(&address, &flags, &["status"], b"").ok().contains("foo"));
    daemon.wait_log(&["control session began", "cert:client"]);
    let payload = "0123456789abcdef".repeat(100_000);
    let submitted = run_at(&address, &flags, &["work", "submit", "cat", "-p", "-", "-f"], payload.as_bytes());
    assert!(submitted.ok() == payload);
    // The flags may say as well which profile of which file.
    let file = world.path().join("client.yml");
    fs::write(&file, format!("- tls-client: {{name: me, rootcas: {ca}, cert: {cert}, key: {key}}}\n"))
        .unwrap();
    let flags = ["--config", file.to_str().unwrap(), "--tls-client", "me"];
    assert!(run_at(&address, &flags, &["work", "list"], b"").ok().contains("cat"));
}

#[test]
fn whoever_proves_nothing_is_refused_at_the_handshake_and_is_logged() {
    let world = World::new();
    let (pki, strangers) = (Pki::new(&world, "ca"), Pki::new(&world, "others"));
    let port = free_port();
    let (mut daemon, _) = start(&world, &pki, port);
    strangers.issue("stranger", &["foo"]);
    pki.issue_with(
        "late",
        &[],
        &["--notbefore", "2001-01-01T00:00:00Z", "--notafter", "2002-01-01T00:00:00Z"],
    );
    let address = format!("tls://localhost:{port}");
    let ca = pki.file("ca", "crt");
    for (name, why, told) in [
        ("", "it shows no certificate", "it wants a certificate of us"),
        ("stranger", "none of the authorities", "it does not accept our certificate"),
        ("late", "it has expired", "it does not accept our certificate"),
    ] {
        let (cert, key) = (pki.file(name, "crt"), pki.file(name, "key"));
        let mut flags = vec!["--rootcas", &ca];
        if !name.is_empty() {
            flags.extend(["--cert", &cert, "--key", &key]);
        }
        let refused = run_at(&address, &flags, &["work", "submit", "cat", "-n"], b"");
        assert_eq!(refused.code, Some(125), "{name}: {refused:?}");
        assert!(refused.stderr.contains(told), "{name}: {refused:?}");
        daemon.wait_log(&["refused a caller", "127.0.0.1", why]);
    }
    let mut plain = Talk::on_port(port);
    plain.say("status");
    daemon.wait_log(&["refused a caller", "no TLS"]);
    // And the client looks at the daemon, too.
    let other_ca = strangers.file("others", "crt");
    let wrong = run_at(&address, &["--rootcas", &other_ca], &["status"], b"");
    assert!(wrong.stderr.contains("none of the authorities"), "{wrong:?}");
    assert_eq!(daemon.talk_once("work list"), "{}", "nothing was made");
    // What was refused before anything could be asked for stands in the audit, too.
    daemon.stop();
    let audit = fs::read_to_string(world.path().join("audit")).expect("it was opened");
    let lines: Vec<serde_json::Value> =
        audit.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let refused: Vec<_> = lines.iter().filter(|line| line["action"] == "handshake").collect();
    for (line, (principal, why)) in refused.iter().zip([
        ("address:", "it shows no certificate"),
        ("cert:foo", "none of the authorities"),
        ("cert:late", "it has expired"),
        ("address:", "no TLS"),
    ]) {
        let told = |member: &str| line[member].as_str().unwrap_or_default().to_owned();
        assert!(told("principal").starts_with(principal) && told("reason").contains(why), "{line}");
        assert_eq!(told("decision"), "denied");
    }
    assert_eq!(refused.len(), 5, "the last is the client that did not trust the daemon: {audit}");
}

/// A reload that changes what a profile says, and files that change by themselves, count for the next caller.
#[test]
fn a_profile_and_its_certificates_are_renewed_while_a_conversation_goes_on() {
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    let port = free_port();
    let (mut daemon, text) = start(&world, &pki, port);
    let address = format!("tls://localhost:{port}");
    let ca = pki.file("ca", "crt");
    let flags = ["--rootcas", ca.as_str()];
    assert_eq!(run_at(&address, &flags, &["status"], b"").code, Some(125), "it asks for a certificate");
    let (cert, key) = (pki.file("client", "crt"), pki.file("client", "key"));
    let with = ["--rootcas", &ca, "--cert", &cert, "--key", &key];
    let mut open = Command::new(program());
    open.args(["--socket", &address]).args(with).args(["connect", "localhost", "second"]);
    let mut open = open.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    daemon.wait_log(&["control session began", "cert:client"]);

    fs::write(world.path().join("foo.yml"), text.replace(", requireclientcert: true", "")).unwrap();
    assert_eq!(daemon.talk_once("reload"), r#"{"Success":true}"#);
    // Still asked for one and checked, since there are authorities, but none is needed.
    assert!(run_at(&address, &flags, &["status"], b"").ok().contains("foo"));
    let new = Pki::new(&world, "newca");
    new.issue("foo", &["foo"]);
    let old = run_at(&address, &flags, &["status"], b"");
    assert!(old.stderr.contains("none of the authorities"), "{old:?}");
    let new_ca = new.file("newca", "crt");
    assert!(run_at(&address, &["--rootcas", &new_ca], &["status"], b"").ok().contains("foo"));

    let mut stdin = open.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"work list\n").unwrap();
    drop(stdin);
    let went_on = open.wait_with_output().unwrap();
    let heard = String::from_utf8_lossy(&went_on.stdout).into_owned();
    assert!(heard.contains("Receptor Control, node foo") && heard.contains("{}"), "{heard}");
}

#[test]
fn silent_callers_hold_up_nobody_and_the_published_client_is_understood() {
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    let port = free_port();
    let (_daemon, _) = start(&world, &pki, port);
    let _silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let address = format!("tls://localhost:{port}");
    let [ca, cert, key] = [("ca", "crt"), ("client", "crt"), ("client", "key")].map(|(n, k)| pki.file(n, k));
    let flags = ["--rootcas", &ca, "--cert", &cert, "--key", &key];
    assert!(run_at(&address, &flags, &["status"], b"").ok().contains("foo"));
    drop(Talk::on_port(port));

    // It ends a payload without a word of TLS.
    let Some(client) = receptorctl() else { return };
    let words = ["work", "submit", "cat", "--payload-literal", "from python", "--follow", "--rm"];
    let mut command = Command::new(client);
    command.args(["--socket", &address, "--rootcas", &ca, "--cert", &cert, "--key", &key]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = finish(command.spawn().unwrap(), &words);
    assert!(ran.stdout.contains("from python"), "{ran:?}");
}
