//! Limits in the configuration: units are queued, kept and refused as it says.

mod common;

use std::fs;

use common::{Gate, World};

#[test]
fn the_excess_is_queued_in_order_across_a_kill_of_the_daemon() {
    let world = World::new();
    let gate = Gate::new(&world, "gate");
    // Held open, so that what is written before the next command begins waits for it.
    let _held = fs::File::options().read(true).write(true).open(gate.path()).expect("the gate opens");
    let yaml = format!("{}    maxrunning: 1\n", gate.counter("count", 1));
    let mut foo = world.start("foo", &yaml);
    let first = foo.submit(&["count", "--no-payload"]);
    let said = foo.run(&["work", "submit", "count", "--no-payload"]).ok();
    assert!(said.starts_with("Result: Job Submitted\nUnit ID: "), "{said}");
    let second = said.rsplit(' ').next().expect("an id").trim().to_owned();
    let third = foo.submit(&["count", "--no-payload"]);
    for round in 0..2 {
        let status = foo.status(&third);
        assert_eq!((&status["State"], &status["Phase"]), (&0.into(), &"queued".into()), "{round}");
        assert_eq!(status["Detail"], "Queued: 1 of work type count runs, 1 unit is ahead");
        if round == 0 {
            foo.kill();
            foo = foo.restart();
        }
    }
    for unit in [&first, &second, &third] {
        gate.open();
        let (output, status) = foo.follow(unit);
        assert_eq!((output.as_slice(), &status["State"]), (&b"1\n"[..], &2.into()));
    }
}

#[test]
fn what_the_client_says_of_time_is_kept() {
    let world = World::new();
    let foo = world.start("foo", "- work-command: {worktype: cat, command: cat}\n");
    let ran =
        foo.run(&["work", "submit", "cat", "--no-payload", "--not-before", "2199-01-01T00:00:00Z"]).ok();
    assert!(ran.starts_with("Result: Job Submitted\n"), "{ran}");
    let unit = ran.rsplit(' ').next().expect("an id").trim().to_owned();
    assert_eq!(foo.status(&unit)["Detail"], "Queued: not before 2199-01-01T00:00:00Z");
    foo.run(&["work", "cancel", &unit]).ok();
    assert_eq!(foo.status(&unit)["State"], 4);
    let late = foo.submit(&["cat", "--no-payload", "--ttl", "0s"]);
    let (_, status) = foo.follow(&late);
    assert_eq!((&status["State"], &status["Outcome"]), (&3.into(), &"expired".into()));
}

#[test]
fn ended_units_go_as_the_configuration_says_and_the_log_says_why() {
    let world = World::new();
    let mut foo = world.start("foo", "- work-command: {worktype: cat, command: cat, keepcount: 2}\n");
    let units: Vec<_> = (0..4)
        .map(|_| {
            let unit = foo.submit(&["cat", "--no-payload"]);
            foo.follow(&unit);
            unit
        })
        .collect();
    for unit in &units[..2] {
        foo.wait_log(&["releasing it", unit.as_str(), "2 of its type ended later"]);
    }
    assert!(units[2..].iter().all(|unit| world.units("foo").join(unit).exists()));
}

#[test]
fn a_node_without_room_says_so_and_starts_all_the_same() {
    let world = World::new();
    let file = world.path().join("foo.yml");
    fs::write(
        &file,
        format!(
            "- node: {{id: foo, datadir: {}, minfree: 9000TiB}}\n- control-service: {{filename: {}}}\n- work-command: {{worktype: cat, command: cat}}\n",
            world.path().join("data").display(),
            world.socket("foo").display()
        ),
    )
    .expect("the configuration is written");
    let foo = world.start_file(&[], "foo", &file);
    let line = foo.talk_once("work submit localhost cat");
    assert!(line.starts_with("ERROR: no space: ") && line.contains("9000TiB are to stay free"), "{line}");
    assert_eq!(foo.talk_once("work list"), "{}");
}
