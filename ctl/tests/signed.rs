//! Signed work through a relay: good tokens run, every kind of bad one is refused before any process starts.

mod common;

use std::{fs, path::Path, process::Command};

use common::{Daemon, World, line};

/// Makes a key pair in `directory`: NAME.pem (PKCS#1 or PKCS#8) and NAME.pub.
fn key_pair(directory: &Path, name: &str, traditional: bool) {
    let private = directory.join(format!("{name}.pem"));
    let mut make = Command::new("openssl");
    make.arg("genrsa");
    if traditional {
        make.arg("-traditional");
    }
    let made = make.arg("-out").arg(&private).arg("2048").output().expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    let public = Command::new("openssl")
        .args(["rsa", "-pubout", "-in"])
        .arg(&private)
        .arg("-out")
        .arg(directory.join(format!("{name}.pub")))
        .output()
        .expect("openssl runs");
    assert!(public.status.success(), "{public:?}");
}

struct Signed {
    world: World,
    nodes: [Daemon; 3],
}

impl Signed {
    /// a signs with `private` for `expiration`; c demands what `good.pub` verifies.
    fn new(private: &str, expiration: &str) -> Signed {
        let world = World::new();
        key_pair(world.path(), "good", true);
        key_pair(world.path(), "other", false);
        let keys = world.path().display();
        let a = format!("- work-signing: {{privatekey: {keys}/{private}, tokenexpiration: {expiration}}}\n");
        let c = format!(
            "- work-verification: {{publickey: {keys}/good.pub}}\n\
             - work-command: {{worktype: mark, command: touch, params: {keys}/ran, verifysignature: true}}\n"
        );
        let nodes = line(&world, "tcp", &a, "", &c);
        Signed { world, nodes }
    }

    /// What a refused submission says; the command must not have run.
    fn refused(&self, words: &[&str]) -> String {
        let mut all = vec!["work", "submit", "mark", "--node", "c", "-n", "-f"];
        all.extend(words);
        let ran = self.nodes[0].run(&all);
        assert_eq!(ran.code, Some(125), "{ran:#?}");
        assert!(!self.world.path().join("ran").exists(), "it ran");
        assert_eq!(self.nodes[2].talk_once("work list"), "{}", "nothing was made on c");
        let unit = self.nodes[0].run(&["work", "list", "-q"]).ok();
        let status = self.nodes[0].status(unit.trim());
        assert_eq!(
            (&status["StateName"], &status["Outcome"]),
            (&"Failed".into(), &"denied".into()),
            "{status}"
        );
        status["Detail"].as_str().expect("text").to_owned()
    }
}

#[test]
fn a_signed_job_runs_and_its_results_can_be_followed() {
    let signed = Signed::new("good.pem", "5m");
    let ran = signed.nodes[0].run(&["work", "submit", "mark", "--node", "c", "-n", "-f", "--signwork"]);
    ran.ok();
    assert!(signed.world.path().join("ran").exists());
    let unit = signed.nodes[0].run(&["work", "list", "-q"]).ok();
    signed.nodes[0].run(&["work", "release", unit.trim()]).ok();
    assert_eq!(signed.nodes[2].talk_once("work list"), "{}", "the signed release reached c");
}

#[test]
fn an_unsigned_job_is_refused() {
    let detail = Signed::new("good.pem", "5m").refused(&[]);
    assert!(detail.contains("could not verify signature: signature is empty"), "{detail}");
}

#[test]
fn a_job_signed_with_another_key_is_refused() {
    let detail = Signed::new("other.pem", "5m").refused(&["--signwork"]);
    assert!(detail.contains("could not verify signature: crypto/rsa: verification error"), "{detail}");
}

#[test]
fn an_expired_token_is_refused() {
    // A token that is good for a nanosecond has expired before it is read.
    let detail = Signed::new("good.pem", "1ns").refused(&["--signwork"]);
    assert!(detail.contains("could not verify signature: token is expired by"), "{detail}");
}

#[test]
fn a_token_for_another_node_is_refused_on_every_way_in_but_the_own_socket() {
    let signed = Signed::new("good.pem", "5m");
    // a holds a good key and asks c with a token that names b: made by submitting to b, which refuses the work type.
    let token = sign_for(&signed.world, "b");
    let line = format!(
        r#"{{"command":"work","subcommand":"submit","node":"localhost","worktype":"mark","signature":"{token}"}}"#
    );
    let mut talk = signed.nodes[0].talk();
    talk.say("connect c control");
    assert_eq!(talk.line(), "Connecting");
    assert_eq!(talk.line(), "Receptor Control, node c");
    talk.say(&line);
    let said = talk.line();
    assert!(said.starts_with("ERROR: token audience did not match node ID"), "{said}");
    talk.say(r#"{"command":"work","subcommand":"submit","node":"localhost","worktype":"mark"}"#);
    assert_eq!(talk.line(), "ERROR: could not verify signature: signature is empty");
    assert!(!signed.world.path().join("ran").exists());
    // On c's own Unix socket no token is needed, as in Receptor.
    signed.nodes[2].run(&["work", "submit", "mark", "-n", "-f"]).ok();
    assert!(signed.world.path().join("ran").exists());
}

/// A token for `target`, made with openssl as any sender could.
fn sign_for(world: &World, target: &str) -> String {
    let script = format!(
        r#"b64() {{ openssl base64 -A | tr '+/' '-_' | tr -d '='; }}
        head=$(printf '{{"alg":"RS512","typ":"JWT"}}' | b64)
        body=$(printf '{{"aud":["{target}"],"exp":4000000000}}' | b64)
        mark=$(printf '%s.%s' "$head" "$body" | openssl dgst -sha512 -sign {keys}/good.pem -binary | b64)
        printf '%s.%s.%s' "$head" "$body" "$mark""#,
        keys = world.path().display()
    );
    let made = Command::new("bash").args(["-c", &script]).output().expect("bash runs");
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).expect("text")
}

#[test]
fn every_command_about_a_signed_unit_needs_a_token_of_its_own() {
    let signed = Signed::new("good.pem", "5m");
    let c = &signed.nodes[2];
    c.run(&["work", "submit", "mark", "-n", "-f"]).ok();
    let unit = c.run(&["work", "list", "-q"]).ok().trim().to_owned();
    let mut talk = signed.nodes[0].talk();
    talk.say("connect c control");
    assert_eq!((talk.line().as_str(), talk.line().as_str()), ("Connecting", "Receptor Control, node c"));
    for line in [
        format!("work cancel {unit}"),
        format!("work release {unit}"),
        format!("work force-release {unit}"),
        format!("work results {unit}"),
        format!(r#"{{"command":"work","subcommand":"watch","unitid":"{unit}"}}"#),
    ] {
        talk.say(&line);
        assert_eq!(talk.line(), "ERROR: could not verify signature: signature is empty", "{line}");
    }
    talk.say(&format!("work status {unit}"));
    assert!(talk.line().contains("\"Succeeded\""), "status is open to all, as in Receptor");
    assert!(fs::metadata(signed.world.units("c").join(&unit)).is_ok());
}
