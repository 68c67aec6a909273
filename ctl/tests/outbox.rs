//! The outbox between two real daemons whose cable is cut: every unit runs once, nothing is sent twice that was there,
//! and nothing is left behind.
//!
//! `NETMESH_SOAK_UNITS=20000` makes the soak as long as one likes; a cut for every hundred units.

mod common;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use common::{Cable, Daemon, PATIENCE, World, free_port};

/// `foo` and `bar`, both listening, and the cable between them.
fn pair(world: &World, work: &str) -> (Daemon, Daemon, Cable) {
    let ports = [free_port(), free_port()];
    let listen = |port| format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1}}\n");
    let mut near = world.start("foo", &listen(ports[0]));
    let mut bar = world.start("bar", &(listen(ports[1]) + work));
    let cable = Cable::between(ports);
    near.wait_reach("bar");
    bar.wait_reach("foo");
    (near, bar, cable)
}

/// A job that says its payload and leaves it as a mark of each run.
fn marking(marks: &Path) -> String {
    format!(
        "- work-command: {{worktype: mark, command: sh, params: \"-c 'read -r it; echo $it >> {}; echo ran $it'\"}}\n",
        marks.display()
    )
}

/// Submits `mark` for bar and gives the unit's id, as soon as its node has it.
fn submit(near: &Daemon, payload: &str) -> String {
    let mut talk = near.talk();
    talk.say(r#"{"command":"work","subcommand":"submit","node":"bar","worktype":"mark"}"#);
    let created = talk.line();
    let unit = created.strip_prefix("Work unit created with ID ").expect("a unit")[..8].to_owned();
    talk.send(format!("{payload}\n").as_bytes());
    talk.half_close();
    let answer = talk.line();
    assert!(answer.contains("\"Job S"), "{answer}");
    unit
}

fn marks(path: &Path) -> Vec<String> {
    let mut all: Vec<_> = fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect();
    all.sort();
    all
}

#[test]
fn a_cable_cut_after_any_frame_costs_no_run_and_makes_no_second_one() {
    let world = World::new();
    let path = world.path().join("marks");
    let (near, _bar, cable) = pair(&world, &marking(&path));
    let mut expected = BTreeSet::new();
    for frames in 1..=200 {
        let cuts = cable.cuts();
        cable.cut_after(frames);
        let name = format!("cut-{frames:03}");
        let unit = submit(&near, &name);
        let (output, status) = near.follow(&unit);
        assert_eq!(String::from_utf8_lossy(&output), format!("ran {name}\n"), "{status}");
        assert_eq!(status["StateName"], "Succeeded", "{status}");
        expected.insert(name);
        cable.keep();
        if cable.cuts() == cuts && frames > 10 {
            println!("a unit takes fewer than {frames} frames");
            break;
        }
    }
    assert_eq!(marks(&path), expected.into_iter().collect::<Vec<_>>());
}

#[test]
fn a_large_payload_goes_on_where_it_was_when_either_daemon_is_killed() {
    const LENGTH: usize = 20_000_000;
    let world = World::new();
    let sum = "- work-command: {worktype: sum, command: sha256sum}\n";
    let (mut near, mut bar, cable) = pair(&world, sum);
    let payload: Vec<u8> = (0..LENGTH as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let file = world.path().join("payload");
    fs::write(&file, &payload).expect("the payload is written");
    let before = cable.bytes();
    let sent = |share: f64| {
        let end = Instant::now() + PATIENCE;
        while ((cable.bytes() - before) as f64) < LENGTH as f64 * share {
            assert!(Instant::now() < end, "the payload moves");
            std::thread::yield_now();
        }
    };
    let words = ["work", "submit", "sum", "--node", "bar", "--payload", &file.display().to_string()];
    let mut client = near.command(&words).spawn().expect("the client starts");
    sent(0.3);
    bar.kill();
    let bar = bar.restart();
    sent(0.7);
    near.kill();
    client.wait().expect("the client ends");
    let near = near.restart();
    let unit = near.run(&["work", "list", "-q"]).ok().trim().to_owned();
    let (output, status) = near.follow(&unit);
    assert_eq!(status["StateName"], "Succeeded", "{status}");
    let wanted = std::process::Command::new("sha256sum").arg(&file).output().expect("sha256sum runs").stdout;
    assert_eq!(output[..64], wanted[..64]);
    let cost = cable.bytes() - before;
    println!("{cost} bytes for a payload of {LENGTH}");
    // What was under way at each of the two deaths is lost, and every packet has a head.
    assert!(cost < LENGTH as u64 * 3 / 2, "{cost} bytes");
    assert_eq!(bar.run(&["work", "list", "-q"]).ok().lines().count(), 1);
}

#[test]
fn fifty_units_for_a_node_that_is_down_run_once_each_although_the_submitter_is_killed() {
    let world = World::new();
    let path = world.path().join("marks");
    let (mut near, mut bar, _cable) = pair(&world, &marking(&path));
    bar.kill();
    near.wait_log(&["node out of reach", "node=bar"]);
    let names: Vec<_> = (0..50).map(|number| format!("unit-{number:02}")).collect();
    let units: Vec<_> = names.iter().map(|name| submit(&near, name)).collect();
    near.kill();
    let near = near.restart();
    for unit in &units {
        assert_eq!(near.status(unit)["StateName"], "Pending");
    }
    let _bar = bar.restart();
    for (unit, name) in units.iter().zip(&names) {
        let (output, status) = near.follow(unit);
        assert_eq!(String::from_utf8_lossy(&output), format!("ran {name}\n"), "{status}");
    }
    assert_eq!(marks(&path), names);
}

/// What a daemon holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    files: usize,
    tasks: u64,
    memory_kib: u64,
}

fn held(daemon: &Daemon) -> Held {
    let proc = Path::new("/proc").join(daemon.pid().to_string());
    let status = fs::read_to_string(proc.join("status")).expect("the daemon lives");
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("its memory");
    let answer: serde_json::Value =
        serde_json::from_str(&daemon.talk_once(r#"{"command":"status","requested_fields":["Tasks"]}"#))
            .expect("a status");
    Held {
        files: fs::read_dir(proc.join("fd")).expect("its files").count(),
        tasks: answer["Tasks"].as_u64().expect("a number"),
        memory_kib: memory.trim().trim_end_matches(" kB").parse().expect("a number"),
    }
}

/// What a daemon holds at rest: the least of what is seen until it is no more than `most`, or patience ends. Streams
/// take their leave for some seconds after the last unit.
fn at_rest(daemon: &Daemon, most: Option<Held>) -> Held {
    let end = Instant::now() + PATIENCE;
    loop {
        let now = held(daemon);
        let enough = |most: Held| now.files <= most.files && now.tasks <= most.tasks;
        if most.is_some_and(enough) || Instant::now() > end {
            return now;
        }
        std::thread::sleep(Duration::from_millis(200));
        if most.is_none() && held(daemon).tasks == now.tasks && held(daemon).files == now.files {
            return now;
        }
    }
}

#[test]
fn after_many_units_and_cuts_both_daemons_hold_what_they_held_before() {
    let units: usize =
        std::env::var("NETMESH_SOAK_UNITS").map_or(500, |many| many.parse().expect("a number"));
    let world = World::new();
    let path = world.path().join("marks");
    let (near, bar, cable) = pair(&world, &marking(&path));
    let cable = &cable;
    let run = |from: usize, to: usize, cuts_every: usize| {
        const AT_ONCE: usize = 32;
        let next = std::sync::atomic::AtomicUsize::new(from);
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        if number >= to {
                            return;
                        }
                        if number % cuts_every == cuts_every / 2 {
                            cable.cut_after(7);
                        }
                        let name = format!("{number:06}");
                        let unit = submit(&near, &name);
                        let (output, status) = near.follow(&unit);
                        assert_eq!(String::from_utf8_lossy(&output), format!("ran {name}\n"), "{status}");
                        let mut answer = near.talk_once(&format!("work release {unit}"));
                        let end = Instant::now() + PATIENCE;
                        while answer != format!(r#"{{"released":"{unit}"}}"#) {
                            // Pending while the cable is cut; it is carried out by itself.
                            assert!(Instant::now() < end, "{answer}");
                            if answer.contains("unknown work unit") {
                                break;
                            }
                            answer = near.talk_once(&format!("work release {unit}"));
                        }
                    }
                });
            }
        });
    };
    // What is made once and kept (threads, buffers, tables) is there before it is counted.
    run(0, 100, 50);
    let before = [&near, &bar].map(|daemon| at_rest(daemon, None));
    let (start, cuts) = (Instant::now(), cable.cuts());
    run(100, 100 + units, 100.min(units / 10).max(1));
    println!("{units} units, {} cuts, {:?}", cable.cuts() - cuts, start.elapsed());
    for (daemon, before) in [&near, &bar].into_iter().zip(before) {
        let after = at_rest(daemon, Some(before));
        println!("{}: before {before:?}, after {after:?}", daemon.node);
        assert!(after.files <= before.files + 2, "{before:?} {after:?}");
        assert!(after.tasks <= before.tasks + 4, "{before:?} {after:?}");
        // A released request is remembered for a day, 48 bytes of text and its place in a map each.
        let remembered = units as u64 * 256 / 1024;
        assert!(after.memory_kib < before.memory_kib + 8 * 1024 + remembered, "{before:?} {after:?}");
        assert_eq!(daemon.talk_once("work list"), "{}", "nothing is left behind");
    }
    let names: Vec<_> = (0..100 + units).map(|number| format!("{number:06}")).collect();
    assert_eq!(marks(&path), names, "each ran once");
}
