//! The power of the node that does the work goes: daemon, supervisor and command at once. Whoever asked hears the truth.

mod common;

use std::{fs, time::Instant};

use common::{Daemon, Gate, World, line, signal};
use serde_json::Value;

/// How long the submitter may take to say so, once the node is back.
const PROMISED: std::time::Duration = std::time::Duration::from_secs(30);

/// A unit that runs on c for a; then all of c dies. Gives back the submitter, what is left of c, and the unit's id on a and c.
fn powerless(world: &World, gate: &Gate) -> ([Daemon; 3], String, String) {
    let [mut a, b, mut c] = line(world, "tcp", "", "", &gate.counter("count", 3));
    let unit = a.submit(&["count", "--node", "c", "-n"]);
    gate.open();
    let there = c.run(&["work", "list", "-q"]).ok().trim().to_owned();
    let status = c.status(&there);
    let pid = |value: &Value| u32::try_from(value.as_u64().expect("a pid")).expect("a pid");
    let (supervisor, command) = (pid(&status["ExtraData"]["Pid"]), pid(&status["Pid"]));
    c.kill();
    // Held first, so that none of the two sees the other's end.
    signal(supervisor, "STOP");
    signal(command, "KILL");
    signal(supervisor, "KILL");
    a.wait_log(&["node out of reach", "node=c"]);
    ([a, b, c], unit, there)
}

fn lost(a: &Daemon, unit: &str) -> Value {
    let back = Instant::now();
    let (output, status) = a.follow(unit);
    assert!(back.elapsed() < PROMISED, "it took {:?}", back.elapsed());
    assert_eq!((&status["StateName"], &status["Outcome"]), (&"Failed".into(), &"lost".into()), "{status}");
    assert_eq!(status["StdoutSize"], output.len(), "{status}");
    assert!(output.starts_with(b"1\n"), "what it had written is home: {output:?}");
    status
}

#[test]
fn a_unit_whose_executor_lost_its_power_is_lost_and_says_why_when_that_is_back() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let ([a, _b, c], unit, there) = powerless(&world, &gate);
    let c = c.restart();
    let status = lost(&a, &unit);
    assert!(status["Detail"].as_str().expect("text").contains("nobody recorded how it ended"), "{status}");
    assert_eq!(c.status(&there)["Detail"], status["Detail"]);
}

#[test]
fn a_unit_whose_host_was_rebooted_says_that() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    let ([a, _b, c], unit, there) = powerless(&world, &gate);
    // Another boot: whoever is recorded lived under an earlier one, whatever its number is now.
    let now = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    for name in ["events", "status"] {
        let path = world.units("c").join(&there).join(name);
        let text = fs::read_to_string(&path).expect("the file");
        assert!(text.contains(now.trim()), "{name}: {text}");
        fs::write(&path, text.replace(now.trim(), "00000000-0000-0000-0000-000000000000")).expect("written");
    }
    let _c = c.restart();
    let status = lost(&a, &unit);
    assert_eq!(status["Detail"], "the host was rebooted while this unit ran");
}
