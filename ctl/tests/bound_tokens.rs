//! Signed work between our nodes: its tokens are bound to their requests, and a stolen one is good for nothing.

mod common;

use std::{
    process::Command,
    time::{Duration, SystemTime},
};

use common::{Daemon, Talk, World, line};
use serde_json::{Value, json};
use workunits::sign::{Bond, Signer, SigningConfig, digest};

/// a signs with a key of some kind, and c takes bound tokens only.
fn nodes(world: &World, kind: &str) -> [Daemon; 3] {
    let script =
        format!("openssl genpkey {kind} -out key.pem && openssl pkey -in key.pem -pubout -out key.pub");
    let made =
        Command::new("bash").args(["-c", &script]).current_dir(world.path()).output().expect("bash runs");
    assert!(made.status.success(), "{made:?}");
    let keys = world.path().display();
    let a = format!("- work-signing: {{privatekey: {keys}/key.pem, keyid: one}}\n");
    let c = format!(
        "- work-verification: {{publickeys: {{one: {keys}/key.pub}}, accept: bound}}\n\
         - work-command: {{worktype: run, command: cat, verifysignature: true}}\n\
         - work-command: {{worktype: args, command: echo, allowruntimeparams: true, verifysignature: true}}\n"
    );
    line(world, "tcp", &a, "", &c)
}

const RSA: &str = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";

/// A conversation with c by way of `node`.
fn by_way_of(node: &Daemon) -> Talk {
    let mut talk = node.talk();
    talk.say("connect c control");
    assert_eq!((talk.line().as_str(), talk.line().as_str()), ("Connecting", "Receptor Control, node c"));
    talk
}

/// A request with a token that a would make for it.
fn signed(world: &World, mut request: Value) -> Value {
    let digest = digest(request.as_object().expect("an object"));
    let bond = Bond { digest: &digest, subject: "uid:7@a" };
    request["signature"] = json!(signer(world).sign_bound("c", bond, SystemTime::now()).expect("signed"));
    request
}

fn signer(world: &World) -> Signer {
    let private_key = world.path().join("key.pem");
    let config = SigningConfig { private_key, key_id: None, token_expiration: Duration::from_secs(300) };
    Signer::new(config, "a".to_owned())
}

/// A submission of two bytes.
fn submission(work_type: &str) -> Value {
    let digest = "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4"; // of `hi`
    let extension =
        json!({"request_id": "0123456789abcdef0123456789abcdef", "payload": {"length": 2, "sha256": digest}});
    json!({"command": "work", "subcommand": "submit", "node": "c", "worktype": work_type, "params": "one",
           "netmesh": extension.to_string()})
}

#[test]
fn a_unit_elsewhere_says_which_node_submitted_it_and_for_whom() {
    for kind in [RSA, "-algorithm EC -pkeyopt ec_paramgen_curve:P-256", "-algorithm ED25519"] {
        let world = World::new();
        let [a, _b, c] = nodes(&world, kind);
        let ran = a.run_with(
            &["work", "submit", "run", "--node", "c", "--payload", "-", "-f", "--signwork"],
            b"hello",
        );
        assert_eq!(ran.ok(), "hello", "{kind}");
        let (here, there) = (a.run(&["work", "list", "-q"]).ok(), c.run(&["work", "list", "-q"]).ok());
        let unit = here.trim().to_owned();
        let (here, there) = (a.status(&unit), c.status(there.trim()));
        let me = format!("uid:{}", nix::unistd::getuid());
        assert_eq!((&here["Owner"], &here["OnBehalfOf"]), (&json!(me), &Value::Null));
        assert_eq!(
            (&there["Owner"], &there["OnBehalfOf"]),
            (&json!("node:a"), &json!(format!("token:{me}@a")))
        );
        // Cancel and release are signed in the same way.
        a.run(&["work", "release", &unit]).ok();
        assert_eq!(c.talk_once("work list"), "{}", "{kind}");
    }
}

#[test]
fn a_captured_token_can_be_neither_replayed_nor_bent() {
    let world = World::new();
    let [a, b, c] = nodes(&world, RSA);
    let request = signed(&world, submission("args"));
    let refused = |node: &Daemon, request: &Value, why: &str| {
        let mut talk = by_way_of(node);
        talk.say(&request.to_string());
        let said = talk.line();
        assert!(
            said.starts_with("ERROR: could not verify signature: ") && said.contains(why),
            "{why}: {said}"
        );
    };
    let bent = |member: &str, value: &str| {
        let mut bent = request.clone();
        bent[member] = json!(value);
        bent
    };
    let extension = request["netmesh"].as_str().expect("text");
    let payload = extension.replace("8f43", "8f44");
    let other_request = extension.replace("0123456789abcdef", "fedcba9876543210");
    let command = extension.replacen('{', r#"{"sandbox":{"command":"id"},"#, 1);
    for bent in [
        bent("params", "two"),
        bent("worktype", "run"),
        bent("node", "localhost"),
        bent("netmesh", &payload),
        bent("netmesh", &other_request),
        bent("netmesh", &command),
        bent("more", "x"),
    ] {
        refused(&a, &bent, "token was made for another request");
    }
    refused(&b, &request, "token was signed by node a, and node b sent it");
    assert_eq!(c.talk_once("work list"), "{}", "nothing was made");

    // None of that has used it up: it is good once.
    let mut talk = by_way_of(&a);
    talk.say(&request.to_string());
    let unit = talk.line();
    let unit = unit
        .strip_prefix("Work unit created with ID ")
        .and_then(|rest| rest.split('.').next())
        .expect("made")
        .to_owned();
    talk.send(b"hi");
    assert!(talk.line().contains("Job Started"));
    refused(&a, &request, "token was used before");
    let steals =
        json!({"command": "work", "subcommand": "cancel", "unitid": unit, "signature": request["signature"]});
    refused(&a, &steals, "token was made for another request");

    // A token for one unit's results is none for another's, nor for its release.
    let results = json!({"command": "work", "subcommand": "results", "unitid": unit, "startpos": 0});
    let results = signed(&world, results);
    let mut release = results.clone();
    release["subcommand"] = json!("release");
    refused(&a, &release, "token was made for another request");
    let mut talk = by_way_of(&a);
    talk.say(&results.to_string());
    assert_eq!(talk.line(), format!("Streaming results for work unit {unit}"));
    assert_eq!(talk.rest(), b"one\n");
    refused(&a, &results, "token was used before");
    assert_eq!(c.run(&["work", "list", "-q"]).ok().lines().count(), 1);
}

#[test]
fn who_accepts_bound_tokens_only_refuses_receptors_and_such_as_leave_the_payload_open() {
    let world = World::new();
    let [a, _b, c] = nodes(&world, RSA);
    let said = |request: &Value| {
        let mut talk = by_way_of(&a);
        talk.say(&request.to_string());
        talk.line()
    };
    let mut receptors = submission("run");
    receptors["signature"] = json!(signer(&world).sign("c", SystemTime::now()).expect("signed"));
    assert_eq!(
        said(&receptors),
        "ERROR: could not verify signature: this node accepts bound tokens only, and this one is good for any request"
    );
    let mut open = submission("run");
    open["netmesh"] = json!(json!({"payload": {"length": 2}}).to_string());
    assert!(said(&signed(&world, open)).contains("does not declare the SHA-256 of its payload"));
    assert_eq!(c.talk_once("work list"), "{}", "nothing was made");
}
