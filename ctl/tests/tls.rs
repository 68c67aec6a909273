//! TLS through the front door: links and streams whose ends prove who they are, and what becomes of those that cannot.

mod common;

use std::{fs, process::Command};

use common::{Daemon, LINKS, Pki, World, free_port};

const CAT: &str = "- work-command: {worktype: cat, command: cat}\n";

/// c listens, a calls it; both under TLS, the control services too.
fn pair(world: &World, pki: &Pki<'_>, link: &str) -> [Daemon; 2] {
    let port = free_port();
    for node in ["a", "c"] {
        pki.issue(node, &[node]);
    }
    let listen = format!("- {link}-listener: {{port: {port}, bindaddr: 127.0.0.1, tls: srv}}\n{CAT}");
    let dial = format!("- {link}-peer: {{address: \"localhost:{port}\", tls: cl}}\n");
    let c = world.write_secure("c", &(pki.profiles("c", "") + &listen));
    let a = world.write_secure("a", &(pki.profiles("a", "") + &dial));
    let mut far = world.start_file(&[], "c", &c);
    let mut near = world.start_file(&[], "a", &a);
    near.wait_reach("c");
    far.wait_reach("a");
    [near, far]
}

#[test]
fn work_goes_over_links_and_streams_under_tls_and_not_past_them() {
    for link in LINKS {
        let world = World::new();
        let pki = Pki::new(&world, "ca");
        let [near, _far] = pair(&world, &pki, link);
        let payload = "0123456789abcdef".repeat(50_000);
        let words = ["work", "submit", "cat", "--node", "c", "--tls-client", "cl", "-p", "-", "-f"];
        assert!(near.run_with(&words, payload.as_bytes()).ok() == payload, "{link}");
        let status = near.run(&["status"]).ok();
        assert!(status.contains("secure") && !status.contains("insecure"), "{status}");
        assert!(status.contains("StreamTLS") && status.contains("tls-client cl"), "{status}");

        let refused = near.run(&["work", "submit", "cat", "--node", "c", "-n", "-f"]);
        assert_eq!(refused.code, Some(125), "{refused:#?}");
        assert!(refused.stderr.contains("insecure connection to secure service"), "{refused:#?}");
        let unknown = near.run(&["work", "submit", "cat", "--node", "c", "--tls-client", "nope", "-n", "-f"]);
        assert!(unknown.stderr.contains("unknown TLS config nope"), "{unknown:#?}");
        let mut there = near.talk();
        there.say("connect c control cl");
        assert_eq!(
            (there.line().as_str(), there.line().as_str()),
            ("Connecting", "Receptor Control, node c")
        );
        assert!(near.talk_once("connect c control").contains("insecure connection to secure service"));
        assert!(near.talk_once("connect c control nope").contains("unknown TLS config nope"));
    }
}

#[test]
fn a_neighbour_is_who_its_certificate_says() {
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    pki.issue("c", &["c"]);
    pki.issue("x", &["x"]);
    pki.issue("unnamed", &[]);
    let skip = ", skipreceptornamescheck: true";
    let listen = |port: u16, more: &str| {
        let yaml = pki.profiles("c", more);
        format!("{yaml}- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1, tls: srv}}\n")
    };
    let dial = |port: u16, name: &str| {
        let yaml = pki.profiles(name, skip);
        format!("{yaml}- tcp-peer: {{address: \"127.0.0.1:{port}\", tls: cl}}\n")
    };
    let port = free_port();
    let mut c = world.start("c", &listen(port, ""));
    let liar = world.start("b", &dial(port, "x"));
    c.wait_log(&["rejected connection with node b", "its certificate is for node x"]);
    drop(liar);
    let _anyone = world.start("d", &dial(port, "unnamed"));
    c.wait_log(&["the certificate of d names no node"]);
    c.wait_reach("d");

    let port = free_port();
    let mut strict = world.start("e", &listen(port, &format!("{skip}, requirenodeid: true")));
    let _anyone = world.start("f", &dial(port, "unnamed"));
    strict.wait_log(&["rejected connection with node f", "requirenodeid"]);
    let port = free_port();
    let mut lax = world.start("g", &listen(port, &format!("{skip}, requirenodeid: off")));
    let _liar = world.start("h", &dial(port, "x"));
    lax.wait_reach("h");
}

#[test]
fn a_caller_that_no_authority_of_ours_knows_is_refused_and_both_say_so() {
    let world = World::new();
    let (pki, strangers) = (Pki::new(&world, "ca"), Pki::new(&world, "others"));
    pki.issue("c", &["c"]);
    strangers.issue("b", &["b"]);
    let port = free_port();
    let listen = format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1, tls: srv}}\n");
    let mut c = world.start("c", &(pki.profiles("c", "") + &listen));
    let ours = pki.file("ca", "crt");
    let yaml = strangers.profiles("b", "").replace(&strangers.file("others", "crt"), &ours);
    let dial = format!("{yaml}- tcp-peer: {{address: \"127.0.0.1:{port}\", tls: cl}}\n");
    let mut b = world.start("b", &dial);
    c.wait_log(&["refused a caller", "none of the authorities"]);
    b.wait_log(&["does not accept our certificate"]);
    drop(b);
    let dial =
        format!("{}- tcp-peer: {{address: \"127.0.0.1:{port}\", tls: cl}}\n", strangers.profiles("b", ""));
    let mut b = world.start("b", &dial);
    b.wait_log(&["cannot reach a peer", "the certificate of", "none of the authorities"]);
    drop(b);
    let mut plain = world.start("b", &format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n"));
    c.wait_log(&["refused a caller", "no TLS"]);
    plain.kill();
}

#[test]
fn a_whole_set_of_certificates_is_renewed_without_losing_a_link() {
    for link in LINKS {
        let world = World::new();
        let pki = Pki::new(&world, "ca");
        let [near, mut far] = pair(&world, &pki, link);
        let mut stream = near.talk();
        stream.say("connect c control cl");
        assert_eq!(
            (stream.line().as_str(), stream.line().as_str()),
            ("Connecting", "Receptor Control, node c")
        );

        // A new authority, and new certificates of both nodes in the files of the old ones.
        let new = Pki::new(&world, "newca");
        fs::copy(new.file("newca", "crt"), pki.file("ca", "crt")).expect("the authority is replaced");
        for node in ["a", "c"] {
            new.issue(node, &[node]);
        }
        let text = fs::read_to_string(world.path().join("a.yml")).expect("it is there");
        new.issue("d", &["d"]);
        let text = text.replace("id: a", "id: d").replace("/a.crt", "/d.crt").replace("/a.key", "/d.key");
        let text = text.replace("/a.sock", "/d.sock");
        fs::write(world.path().join("d.yml"), text).expect("it is written");
        let mut third = world.start_file(&[], "d", &world.path().join("d.yml"));
        third.wait_reach("c");
        far.wait_reach("d");
        assert_eq!(far.said(&["link with a ended"]), 0, "{link}");
        stream.say("ping d");
        assert!(stream.line().contains("\"Success\":true"), "the stream from before goes on");
        let words = ["work", "submit", "cat", "--node", "c", "--tls-client", "cl", "-l", "new", "-f"];
        assert_eq!(near.run(&words).ok(), "new\n");
    }
}

#[test]
fn keys_of_signatures_are_changed_on_disk_without_losing_a_link() {
    let world = World::new();
    let at = |file: &str| world.path().join(file).display().to_string();
    let change = |files: [&str; 2]| {
        let private = Command::new("openssl").args(["genrsa", "2048"]).output().expect("openssl runs").stdout;
        fs::write(at("new.pem"), private).expect("written");
        let words = ["rsa", "-pubout", "-in", &at("new.pem")];
        let public = Command::new("openssl").args(words).output().expect("openssl runs").stdout;
        fs::write(at("new.pub"), public).expect("written");
        for (new, old) in ["new.pem", "new.pub"].into_iter().zip(files) {
            fs::rename(at(new), at(old)).expect("replaced");
        }
    };
    change(["signing.pem", "verifying.pub"]);
    let port = free_port();
    let c = format!(
        "- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n- work-verification: {{publickey: {}}}\n\
         - work-command: {{worktype: cat, command: cat, verifysignature: true}}\n",
        at("verifying.pub")
    );
    let a = format!(
        "- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n- work-signing: {{privatekey: {}}}\n",
        at("signing.pem")
    );
    let (mut c, mut a) = (world.start("c", &c), world.start("a", &a));
    a.wait_reach("c");
    c.wait_reach("a");
    let run = || a.run(&["work", "submit", "cat", "--node", "c", "--signwork", "-l", "signed", "-f"]);
    assert_eq!(run().ok(), "signed\n");
    change(["signing.pem", "verifying.pub"]);
    assert_eq!(run().ok(), "signed\n", "both ends use the new pair");
    change(["other.pem", "verifying.pub"]);
    let refused = run();
    assert!(refused.code == Some(125) && refused.stderr.contains("verification error"), "{refused:#?}");
    change(["signing.pem", "verifying.pub"]);
    assert_eq!(run().ok(), "signed\n");
    assert_eq!(c.said(&["link with a ended"]), 0);
}

#[test]
fn a_certificate_that_will_expire_is_told_at_the_start_and_in_status() {
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    pki.issue_with(
        "old",
        &["c"],
        &["--notbefore", "2000-01-01T00:00:00Z", "--notafter", "2001-01-01T00:00:00Z"],
    );
    let mut c = world.start("c", &pki.profiles("old", ""));
    c.wait_log(&["has expired; renew it", "old.crt"]);
    let line = c.talk_once(r#"{"command":"status","requested_fields":["Certificates"]}"#);
    let status: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    let of = |at: usize| status["Certificates"][at].clone();
    assert_eq!(
        (of(0)["State"].as_str(), of(0)["Authority"].as_bool()),
        (Some("expired"), Some(false)),
        "{status}"
    );
    assert_eq!(of(0)["NotAfter"], "2001-01-01T00:00:00Z");
    assert_eq!((of(1)["State"].as_str(), of(1)["Authority"].as_bool()), (Some("valid"), Some(true)));
}

#[test]
fn a_reload_with_other_settings_makes_anew_only_the_links_that_have_them() {
    let world = World::new();
    let pki = Pki::new(&world, "ca");
    for node in ["c", "b", "d"] {
        pki.issue(node, &[node]);
    }
    let (one, two) = (free_port(), free_port());
    let plain = format!("- tcp-listener: {{port: {one}, bindaddr: 127.0.0.1}}\n");
    let secure = format!("- tcp-listener: {{port: {two}, bindaddr: 127.0.0.1, tls: srv}}\n");
    let mut c = world.start("c", &(pki.profiles("c", "") + &plain + &secure));
    let mut b = world.start("b", &format!("- tcp-peer: {{address: \"127.0.0.1:{one}\"}}\n"));
    let peer = format!("- tcp-peer: {{address: \"127.0.0.1:{two}\", tls: cl}}\n");
    let mut d = world.start("d", &(pki.profiles("d", "") + &peer));
    b.wait_reach("c");
    d.wait_reach("c");
    let file = world.path().join("c.yml");
    let text = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, text.replace("requireclientcert: true", "requireclientcert: true, mintls13: true"))
        .expect("written");
    assert_eq!(c.talk_once("reload"), r#"{"Success":true}"#);
    c.wait_log(&["link with d ended"]);
    c.wait_log(&["link established", "peer=d"]);
    assert_eq!(c.said(&["link with b ended"]), 0);
}
