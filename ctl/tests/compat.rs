//! What Receptor's own tests of its client and of work ask for, where no other test of ours shows it. docs/compatibility.md
//! says which behaviour stands where.

mod common;

use std::process::Command;

use common::{Talk, World, free_port, line};

#[test]
fn a_proxy_to_the_control_service_of_the_node_itself_serves_as_a_control_port() {
    let (world, port) = (World::new(), free_port());
    let foo = world.start(
        "foo",
        &format!(
            "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: localhost, remoteservice: control}}\n"
        ),
    );
    let by_socket: serde_json::Value = serde_json::from_str(&foo.talk_once("status")).expect("JSON");
    let mut talk = Talk::on_port(port);
    assert_eq!(talk.line(), "Receptor Control, node foo");
    talk.say("status");
    let by_proxy: serde_json::Value = serde_json::from_str(&talk.line()).expect("JSON");
    for member in ["NodeID", "Connections", "KnownConnectionCosts", "RoutingTable", "SystemCPUCount"] {
        assert_eq!(by_socket[member], by_proxy[member], "{member}");
    }
    talk.say("nonsense");
    assert!(
        talk.line().starts_with("ERROR: "),
        "an unknown command is refused, and the conversation goes on"
    );
    talk.say("ping foo");
    assert!(talk.line().contains("\"Success\":true"));
}

#[test]
fn a_loop_of_a_shell_two_hops_away_is_canceled_and_both_status_and_list_say_so() {
    let world = World::new();
    let sleeper = "- work-command: {workType: sleep, command: bash, params: \"-c 'for i in {1..200}; do echo $i; sleep 1; done'\"}\n";
    let [a, _b, _c] = line(&world, "tcp", "", "", sleeper);
    let unit = a.submit(&["sleep", "--node", "c", "-n"]);
    assert_eq!(a.talk_once(&format!("work cancel {unit}")), format!(r#"{{"cancelled":"{unit}"}}"#));
    a.follow(&unit); // ends when the unit has
    let status = a.talk_once(&format!("work status {unit}"));
    let list: serde_json::Value = serde_json::from_str(&a.talk_once("work list")).expect("JSON");
    let one: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!((&one["Detail"], &one["State"]), (&"Canceled".into(), &4.into()), "{status}");
    assert_eq!(list[&unit]["Detail"], "Canceled", "{list}");
}

#[test]
fn work_for_a_node_that_never_was_is_released_at_once_after_a_restart() {
    let world = World::new();
    let foo = world.start("foo", "- local-only:\n");
    let unit = foo.submit(&["echo", "--node", "neverwas", "-n"]);
    assert_eq!(foo.status(&unit)["StateName"], "Pending");
    let foo = foo.restart();
    assert_eq!(foo.status(&unit)["StateName"], "Pending");
    assert_eq!(foo.talk_once(&format!("work release {unit}")), format!(r#"{{"released":"{unit}"}}"#));
    assert_eq!(foo.talk_once("work list"), "{}");
    assert!(!world.units("foo").join(&unit).exists());
}

#[test]
fn a_key_that_is_no_key_for_signing_stops_no_node() {
    let world = World::new();
    let key = world.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "rsa", "-f"]).arg(&key).status();
    if !made.is_ok_and(|made| made.success()) {
        std::fs::write(
            &key,
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n",
        )
        .expect("written");
        std::fs::write(key.with_extension("pub"), "ssh-rsa AAAA nobody\n").expect("written");
    }
    let keys = format!(
        "- local-only:\n- work-signing: {{privatekey: {key}}}\n- work-verification: {{publickey: {key}.pub}}\n\
         - work-command: {{worktype: echo, command: echo, params: hello}}\n",
        key = key.display()
    );
    let foo = world.start("foo", &keys);
    assert_eq!(foo.run(&["work", "submit", "echo", "-n", "-f"]).ok(), "hello\n");
}
