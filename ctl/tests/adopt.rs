//! A second controller takes over: foo submits to bar, baz adopts, and whoever had the unit is told and harms it no more.

mod common;

use std::{fs, path::Path, process::Command};

use common::{Daemon, Gate, GoNode, World, free_port};
use serde_json::Value;

/// bar, which does the work, and foo and baz, which dial it and can reach it when this returns.
struct Three {
    world: World,
    foo: Daemon,
    bar: Daemon,
    baz: Daemon,
}

impl Three {
    fn start(world: World, work: &str, of_foo: &str, of_baz: &str) -> Three {
        let port = free_port();
        let bar =
            world.start("bar", &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n{work}"));
        let peer = format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n");
        let start = |node, more| {
            let mut daemon = world.start(node, &(peer.clone() + more));
            daemon.wait_reach("bar");
            daemon
        };
        Three { foo: start("foo", of_foo), baz: start("baz", of_baz), bar, world }
    }

    /// The one unit on bar.
    fn there(&self) -> String {
        self.bar.run(&["work", "list", "-q"]).ok().trim().to_owned()
    }

    fn stdout(&self, node: &str, unit: &str) -> Vec<u8> {
        fs::read(self.world.units(node).join(unit).join("stdout")).expect("its output")
    }

    fn units(&self, node: &str) -> usize {
        let entries = fs::read_dir(self.world.units(node)).expect("its units");
        entries.count()
    }
}

/// Writes 40 kB of noise, n times, and waits for the gate after each.
fn noise(gate: &Gate, n: u32) -> String {
    let path = gate.path();
    format!(
        "- work-command:\n    worktype: noise\n    command: bash\n    params: \"-c 'exec 3<> {path}; for i in {{1..{n}}}; do head -c 30000 /dev/urandom | base64; echo block $i; read -r _ <&3; done'\"\n"
    )
}

/// Adopts `unit` of bar, and gives the id of the unit that stands for it.
fn adopt(node: &Daemon, unit: &str) -> String {
    let said = node.run(&["work", "adopt", "bar", unit]).ok();
    assert!(said.starts_with("Result: Adopted\n"), "{said}");
    said.lines().find_map(|line| line.strip_prefix("Unit ID: ")).expect("a unit").to_owned()
}

/// Follows a unit until a line of its output says this, and gives all that came before.
fn until(node: &Daemon, unit: &str, last: &str) {
    let mut talk = node.talk();
    talk.say(&format!("work results {unit}"));
    while talk.line() != last {}
}

fn ends(status: &Value) -> (&str, &str) {
    (status["StateName"].as_str().unwrap_or_default(), status["Outcome"].as_str().unwrap_or_default())
}

/// The code of the refusal.
fn refused(node: &Daemon, words: &[&str]) -> (String, String) {
    let ran = node.run(&[&["--json", "work", "adopt"], words].concat());
    assert_eq!(ran.code, Some(125), "{ran:#?}");
    let said: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:#?}"));
    (
        said["code"].as_str().unwrap_or_default().to_owned(),
        said["error"].as_str().unwrap_or_default().to_owned(),
    )
}

#[test]
fn a_job_whose_controller_was_killed_goes_on_under_another_one_byte_for_byte() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let work = noise(&gate, 4);
    let Three { world, mut foo, bar, mut baz } = Three::start(world, &work, "", "");
    let first = foo.submit(&["noise", "--node", "bar", "-n"]);
    until(&foo, &first, "block 1");
    foo.kill();
    let three = Three { world, foo, bar, baz };
    let there = three.there();
    let second = adopt(&three.baz, &there);
    let status = three.bar.status(&there);
    assert_eq!(status["Controller"], serde_json::json!({"Node": "baz", "UnitID": second}), "{status}");
    assert_eq!(status["Owner"], "node:baz");
    let Three { world, foo, bar, baz: taken } = three;
    baz = taken;
    gate.open();
    until(&baz, &second, "block 2");
    // The first one returns, in the middle of it.
    let foo = foo.restart();
    let (_, status) = foo.follow(&first);
    assert_eq!(ends(&status), ("Failed", "adopted"), "{status}");
    let detail = status["Detail"].as_str().expect("text");
    assert!(detail.contains("adopted by node baz as its unit") && detail.contains(&second), "{detail}");
    let said = foo.run(&["work", "cancel", &first]).ok();
    assert!(said.contains("cancelled"), "it has ended: {said}");
    let said = foo.run(&["work", "release", &first]).ok();
    assert!(said.contains(&format!("({first}, released)")), "{said}");
    assert_eq!(foo.talk_once("work list"), "{}");
    assert_eq!(bar.status(&there)["StateName"], "Running", "neither has reached the unit");
    // The second one is killed too, and goes on from the byte that it has.
    baz.kill();
    gate.open();
    let baz = baz.restart();
    until(&baz, &second, "block 3");
    gate.open();
    until(&baz, &second, "block 4");
    gate.open();
    let (output, status) = baz.follow(&second);
    assert_eq!(ends(&status), ("Succeeded", "ok"), "{status}");
    assert_eq!(status["ExtraData"]["RemoteWorkType"], "noise");
    let three = Three { world, foo, bar, baz };
    let written = three.stdout("bar", &there);
    assert!(written.len() > 4 * 40_000);
    assert!(output == written, "{} bytes of {}", output.len(), written.len());
    assert!(three.stdout("baz", &second) == written);
    three.baz.run(&["work", "release", &second]).ok();
    assert_eq!((three.units("baz"), three.units("bar")), (0, 0), "on both nodes");
}

#[test]
fn a_controller_that_lives_hears_of_it_at_once_and_may_adopt_it_back() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let three = Three::start(world, &gate.counter("count", 2), "", "");
    let first = three.foo.submit(&["count", "--node", "bar", "-n"]);
    until(&three.foo, &first, "1");
    let there = three.there();
    let second = adopt(&three.baz, &there);
    let (output, status) = three.foo.follow(&first); // ends by itself
    assert_eq!((ends(&status), output.as_slice()), (("Failed", "adopted"), &b"1\n"[..]), "{status}");
    for _ in 0..2 {
        assert_eq!(adopt(&three.baz, &there), second, "the same again is the same unit");
    }
    let third = adopt(&three.foo, &there);
    assert_ne!(third, first);
    let (_, status) = three.baz.follow(&second);
    assert_eq!(ends(&status), ("Failed", "adopted"), "{status}");
    assert_eq!(adopt(&three.foo, &there), third);
    three.foo.run(&["work", "cancel", &third, "--wait"]);
    assert_eq!(three.bar.status(&there)["StateName"], "Canceled", "who has it may end it");
    let (output, status) = three.foo.follow(&third);
    assert_eq!((ends(&status), output.as_slice()), (("Canceled", "canceled"), &b"1\n"[..]), "{status}");
    // One that has ended is adopted with all of its output, and the end of it.
    let fourth = adopt(&three.baz, &there);
    let (output, status) = three.baz.follow(&fourth);
    assert_eq!((ends(&status), output.as_slice()), (("Canceled", "canceled"), &b"1\n"[..]), "{status}");
    // How it ended was taken over before: that stands, and a release removes it here alone.
    assert_eq!(ends(&three.foo.status(&third)).0, "Canceled");
    three.foo.run(&["work", "release", &third]).ok();
    assert_eq!((three.units("foo"), three.units("bar")), (1, 1), "what is left on foo is its first unit");
    three.baz.run(&["work", "release", &fourth]).ok();
    assert_eq!(three.units("bar"), 0);
}

#[test]
fn a_request_with_an_id_of_its_own_finds_its_unit_whatever_became_of_it() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let three = Three::start(world, &gate.counter("count", 1), "", "");
    let first = three.foo.submit(&["count", "--node", "bar", "-n"]);
    until(&three.foo, &first, "1");
    let there = three.there();
    let ask = |node: &Daemon, id: &str, unit: &str| {
        let line = format!(
            r#"{{"command":"work","subcommand":"adopt","node":"bar","unitid":"{unit}","request_id":"{id}","errors":"json"}}"#
        );
        serde_json::from_str::<Value>(&node.talk_once(&line)).expect("an object")
    };
    let (one, two) = ("0".repeat(32), "1".repeat(32));
    let said = ask(&three.baz, &one, &there);
    let second = said["adopted"].as_str().expect("a unit").to_owned();
    assert_eq!(ask(&three.baz, &one, &there), said);
    assert_eq!(ask(&three.baz, &one, "aB3dEf9Z")["code"], "bad_request", "the id is taken by something else");
    adopt(&three.foo, &there);
    three.baz.follow(&second);
    assert_eq!(ask(&three.baz, &one, &there), said, "it was lost meanwhile, and is its unit all the same");
    let third = ask(&three.baz, &two, &there);
    assert_ne!(third["adopted"], said["adopted"], "another request is another adoption");
    three.baz.run(&["work", "release", &second]).ok();
    assert_eq!(ask(&three.baz, &one, &there)["code"], "released");
}

#[test]
fn what_cannot_be_adopted_is_refused_with_its_code_and_leaves_nothing() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let mut three = Three::start(world, &gate.counter("count", 1), "", "");
    three.baz.wait_reach("foo");
    let first = three.foo.submit(&["count", "--node", "bar", "-n"]);
    until(&three.foo, &first, "1");
    let there = three.there();
    for (node, words, code, text) in [
        (&three.bar, ["bar", &there], "not_adoptable", "on this very node"),
        (&three.baz, ["bar", "aB3dEf9Z"], "unknown_unit", "aB3dEf9Z on node bar"),
        (&three.baz, ["bar", "../../x"], "unknown_unit", "unknown work unit"),
        (&three.baz, ["foo", &first], "not_adoptable", "it runs on node bar"),
        (&three.baz, ["nowhere", &there], "no_route", "cannot reach node nowhere"),
        (&three.baz, ["", &there], "bad_node", "invalid node ID"),
    ] {
        let (said, why) = refused(node, &words);
        assert_eq!((said.as_str(), why.contains(text)), (code, true), "{words:?}: {why}");
    }
    let mut uploading = three.bar.talk();
    uploading.say(r#"{"command":"work","subcommand":"submit","node":"bar","worktype":"count"}"#);
    let created = uploading.line();
    let arriving = created.strip_prefix("Work unit created with ID ").expect("a unit")[..8].to_owned();
    assert_eq!(refused(&three.baz, &["bar", &arriving]).0, "not_now");
    assert_eq!(three.units("baz"), 0);
    assert_eq!(three.bar.status(&there).get("Controller"), None, "nothing was handed over");
    assert_eq!(three.foo.status(&first)["StateName"], "Running");
    // Nobody takes a unit for somebody else.
    let mut talk = three.baz.talk();
    talk.say("connect bar control");
    assert_eq!((talk.line().as_str(), talk.line().as_str()), ("Connecting", "Receptor Control, node bar"));
    talk.say(&format!(
        r#"{{"command":"work","subcommand":"adopt","unitid":"{there}","controller":{{"node":"foo","unitid":"{first}"}},"errors":"json"}}"#
    ));
    let said = talk.line();
    assert!(said.contains(r#""code":"denied""#), "{said}");
    three.bar.run(&["work", "release", &there]).ok();
    assert_eq!(refused(&three.baz, &["bar", &there]).0, "unknown_unit", "it was released");
}

#[test]
fn a_submitter_that_names_no_unit_of_its_own_cannot_end_what_it_has_no_more() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let three = Three::start(world, &gate.counter("count", 1), "", "");
    let first = three.foo.submit(&["count", "--node", "bar", "-n"]);
    until(&three.foo, &first, "1");
    let there = three.there();
    let second = adopt(&three.baz, &there);
    // As a Receptor node would ask, and whoever sits at it.
    let ask = |line: &str| {
        let mut talk = three.foo.talk();
        talk.say("connect bar control");
        assert_eq!(
            (talk.line().as_str(), talk.line().as_str()),
            ("Connecting", "Receptor Control, node bar")
        );
        talk.say(line);
        talk.line()
    };
    for end in ["cancel", "release", "force-release"] {
        let said = ask(&format!("work {end} {there}"));
        assert_eq!(said, format!("ERROR: work unit {there} was adopted by node baz as its unit {second}"));
    }
    assert!(ask(&format!("work results {there}")).starts_with("Streaming results"));
    assert_eq!(three.bar.status(&there)["StateName"], "Running");
    gate.open();
    assert_eq!(three.baz.follow(&second).0, b"1\n");
}

#[test]
fn an_adoption_needs_the_signature_that_a_release_needs() {
    let world = World::new();
    let keys = world.path().to_owned();
    key_pair(&keys);
    let gate = Gate::new(&world, "gate");
    let path = gate.path();
    let keys = keys.display();
    let work = format!(
        "- work-verification: {{publickey: {keys}/key.pub}}\n\
         - work-command: {{worktype: count, command: bash, verifysignature: true, params: \"-c 'exec 3<> {path}; echo 1; read -r _ <&3'\"}}\n"
    );
    let signs = format!("- work-signing: {{privatekey: {keys}/key.pem}}\n");
    let three = Three::start(world, &work, &signs, &signs);
    let first = three.foo.submit(&["count", "--node", "bar", "-n", "--signwork"]);
    until(&three.foo, &first, "1");
    let there = three.there();
    let (code, text) = refused(&three.baz, &["bar", &there]);
    assert_eq!((code.as_str(), text.contains("signature")), ("remote", true), "{text}");
    assert_eq!(three.units("baz"), 0);
    let said = three.baz.run(&["work", "adopt", "bar", &there, "--signwork"]).ok();
    let second = said.lines().find_map(|line| line.strip_prefix("Unit ID: ")).expect("a unit").to_owned();
    gate.open();
    let (output, status) = three.baz.follow(&second);
    assert_eq!((ends(&status), output.as_slice()), (("Succeeded", "ok"), &b"1\n"[..]), "{status}");
    three.baz.run(&["work", "release", &second]).ok();
    assert_eq!(three.units("bar"), 0, "its release is signed too");
}

#[test]
fn a_receptor_node_hands_nothing_over_and_nothing_is_left_here() {
    let world = World::new();
    let Some(binary) = GoNode::binary() else { return };
    let port = free_port();
    let work = "- work-command: {worktype: cat, command: cat}\n";
    let go = GoNode::start(
        &binary,
        &world,
        &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n{work}"),
    );
    let mut ours = world.start("ours", &format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n"));
    ours.wait_reach("go");
    let first = ours.submit(&["cat", "--node", "go", "-l", "hello"]);
    ours.follow(&first);
    let there = ours.status(&first)["ExtraData"]["RemoteUnitID"].as_str().expect("its id").to_owned();
    let (code, text) = refused(&ours, &["go", &there]);
    assert_eq!((code.as_str(), text.contains("does not offer `adopt`")), ("unsupported", true), "{text}");
    assert_eq!(ours.run(&["work", "list", "-q"]).ok().trim(), first);
    drop(go);
}

#[test]
fn a_unit_that_a_receptor_node_has_submitted_is_adopted_and_that_node_cannot_end_it() {
    let world = World::new();
    let Some(binary) = GoNode::binary() else { return };
    let (port, gate) = (free_port(), Gate::new(&world, "gate"));
    let listen = format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n");
    let ours = world.start("ours", &(listen + &gate.counter("count", 1)));
    let peer = format!("- tcp-peer: {{address: \"127.0.0.1:{port}\"}}\n");
    let go = GoNode::start(&binary, &world, &peer);
    let mut baz = world.start("baz", &peer);
    baz.wait_reach("ours");
    go.wait_reach();
    let (first, started) = go.submit("work submit ours count", b"");
    assert!(started.contains("Job Started"), "{started}");
    let there = ours.run(&["work", "list", "-q"]).ok().trim().to_owned();
    until(&ours, &there, "1");
    let said = baz.run(&["work", "adopt", "ours", &there]).ok();
    let second = said.lines().find_map(|line| line.strip_prefix("Unit ID: ")).expect("a unit").to_owned();
    go.ask(&format!("work cancel {first}")); // whatever it makes of the refusal
    assert_eq!(ours.status(&there)["StateName"], "Running");
    gate.open();
    let (output, status) = baz.follow(&second);
    assert_eq!((ends(&status), output.as_slice()), (("Succeeded", "ok"), &b"1\n"[..]), "{status}");
    go.ask(&format!("work force-release {first}"));
    assert_eq!(ours.status(&there)["StateName"], "Succeeded", "it is still there");
    baz.run(&["work", "release", &second]).ok();
    assert_eq!(ours.talk_once("work list"), "{}");
}

/// Makes `key.pem` and `key.pub`.
fn key_pair(directory: &Path) {
    let (private, public) = (directory.join("key.pem"), directory.join("key.pub"));
    for words in [
        vec!["genrsa", "-traditional", "-out", private.to_str().expect("text"), "2048"],
        vec![
            "rsa",
            "-pubout",
            "-in",
            private.to_str().expect("text"),
            "-out",
            public.to_str().expect("text"),
        ],
    ] {
        let made = Command::new("openssl").args(words).output().expect("openssl runs");
        assert!(made.status.success(), "{made:?}");
    }
}
