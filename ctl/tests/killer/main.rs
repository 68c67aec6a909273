//! Three real daemons a - b - c do work for their users while daemons, supervisors and commands are killed at random.
//!
//! Every unit that a user was told of is known and ends, in the truth: it ran at most once, its output is what the command
//! wrote, both nodes of a remote unit say the same, and nothing stays behind. `cargo test -p ctl --test killer` takes some
//! ten seconds; `NETMESH_SOAK_SECONDS=3600` makes it an hour, `NETMESH_SEED` repeats the dice of an earlier run, and
//! `NETMESH_PROGRAM` names another build of the program.

mod client;
mod nodes;
mod victims;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;

use self::{
    client::{Client, Ended},
    nodes::{Dice, NODES, Nodes},
};

/// How many users work at a time.
const USERS: u64 = 6;
/// How long anything may take once nobody is killed any more.
const PATIENCE: Duration = Duration::from_secs(120);

/// A kind of job: what it is called and what it prints, given its payload.
const KINDS: [(&str, i64); 6] =
    [("instant", 0), ("numbers", 0), ("slow", 0), ("cat", 0), ("large", 0), ("three", 3)];

fn expected(kind: &str, payload: &[u8]) -> Vec<u8> {
    let count = |to: u32| (1..=to).map(|n| format!("{n}\n")).collect::<String>().into_bytes();
    match kind {
        "instant" => b"instant\n".to_vec(),
        "numbers" => count(15),
        "slow" => b"slept\n".to_vec(),
        "cat" => payload.to_vec(),
        "large" => count(60_000),
        _ => b"bye\n".to_vec(),
    }
}

/// The program behind every kind: it leaves a line per run under its token.
const SCRIPT: &str = r#"
echo "$NETMESH_NODE $NETMESH_UNIT" >> "$(dirname "$0")/ran/$2"
case $1 in
  instant) echo instant ;;
  numbers) for i in $(seq 1 15); do echo $i; sleep 0.1; done ;;
  slow) sleep 1.5; echo slept ;;
  cat) cat ;;
  large) seq 1 60000 ;;
  three) echo bye; exit 3 ;;
esac
"#;

/// What the users and the killer share.
struct Shared {
    /// No new work is asked for.
    over: AtomicBool,
    /// When whoever still waits has waited too long.
    patience: Mutex<Option<Instant>>,
    /// Units whose supervisor or command was killed, as `NODE UNIT`.
    harmed: Mutex<BTreeSet<String>>,
    done: AtomicUsize,
    /// Units that are to be there at the end: their node, id and token.
    kept: Mutex<Vec<(String, String, String)>>,
}

impl Shared {
    fn check_patience(&self, what: &str) {
        let until = *self.patience.lock().expect("no panic under it");
        assert!(until.is_none_or(|until| Instant::now() < until), "stuck: {what}");
    }
}

#[test]
fn whatever_is_killed_every_unit_ends_once_in_the_truth_and_nothing_stays_behind() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos();
    let seed = number("NETMESH_SEED").unwrap_or(clock as u64);
    let time = Duration::from_secs(number("NETMESH_SOAK_SECONDS").unwrap_or(10));
    println!("NETMESH_SEED={seed}, for {time:?}");
    let world = tempfile::tempdir().expect("a directory");
    fs::create_dir(world.path().join("ran")).expect("a directory for marks");
    fs::write(world.path().join("job.sh"), SCRIPT).expect("the script is written");
    let mut nodes = Nodes::start(world.path());
    let shared = Shared {
        over: AtomicBool::new(false),
        patience: Mutex::default(),
        harmed: Mutex::default(),
        done: AtomicUsize::new(0),
        kept: Mutex::default(),
    };
    let kills = thread::scope(|scope| {
        let users: Vec<_> = (0..USERS)
            .map(|user| {
                let (shared, path) = (&shared, world.path());
                scope.spawn(move || work(path, shared, user, Dice::new(seed ^ (user + 1) << 40)))
            })
            .collect();
        let kills = victims::kill_for(time, &mut nodes, &shared.harmed, &mut Dice::new(seed), || {
            users.iter().any(thread::ScopedJoinHandle::is_finished)
        });
        shared.over.store(true, Ordering::SeqCst);
        *shared.patience.lock().expect("no panic under it") = Some(Instant::now() + PATIENCE);
        nodes.start_all();
        for user in users {
            user.join().expect("a user saw what must not be; the seed is above");
        }
        kills
    });
    println!(
        "{kills:?}; {} units, {} of them kept",
        shared.done.load(Ordering::SeqCst),
        shared.kept.lock().expect("free").len()
    );
    at_rest(world.path(), &mut nodes, &shared);
}

/// One user: asks for a unit, follows it to its end, looks closely, and releases most of them.
fn work(world: &Path, shared: &Shared, user: u64, mut dice: Dice) {
    for round in 0.. {
        if shared.over.load(Ordering::SeqCst) {
            return;
        }
        let (kind, code) = KINDS[dice.below(KINDS.len())];
        let (from, to) = (NODES[dice.below(3)], NODES[dice.below(3)]);
        let token = format!("user{user}-{round}");
        let payload: Vec<u8> = match kind {
            "cat" => (0..dice.below(400_000)).map(|n| (n % 251) as u8).collect(),
            _ => Vec::new(),
        };
        let client = Client { world, node: from, shared };
        let request = format!("{:016x}{:016x}", dice.next(), dice.next());
        let id = client.submit(to, &format!("{kind} {token}"), &request, &payload);
        let ended = client.follow(&id);
        truth(world, shared, &ended, &token, code, &expected(kind, &payload));
        shared.done.fetch_add(1, Ordering::SeqCst);
        if dice.below(5) == 0 && shared.kept.lock().expect("free").len() < 300 {
            shared.kept.lock().expect("free").push((from.to_owned(), id, token));
        } else {
            client.release(&id);
            fs::remove_file(world.join("ran").join(&token)).ok();
        }
    }
}

/// Where a remote unit's other half is; the unit itself where it is local.
fn half_that_ran(node: &str, id: &str, status: &Value) -> (String, String) {
    let there = |name: &str| status["ExtraData"][name].as_str().map(str::to_owned);
    match (there("RemoteNode"), there("RemoteUnitID")) {
        (Some(node), Some(unit)) => (node, unit),
        _ => (node.to_owned(), id.to_owned()),
    }
}

/// Holds what a unit says against what happened.
fn truth(world: &Path, shared: &Shared, ended: &Ended, token: &str, code: i64, expected: &[u8]) {
    let Ended { node, id, status, output } = ended;
    let (there, unit) = half_that_ran(node, id, status);
    let harmed = shared.harmed.lock().expect("free").contains(&format!("{there} {unit}"));
    let marks = fs::read_to_string(world.join("ran").join(token)).unwrap_or_default();
    let runs = marks.lines().count();
    let said =
        format!("{token}: {id} on {node}, {unit} on {there}, harmed: {harmed}, ran: {marks:?}, {status}");
    assert!(runs <= 1, "it ran twice. {said}");
    assert_eq!(status["StdoutSize"], output.len(), "{said}");
    match (status["StateName"].as_str().unwrap_or(""), status["Outcome"].as_str().unwrap_or("")) {
        ("Succeeded", "ok") => {
            assert!(code == 0 && runs == 1 && output == expected, "{} bytes. {said}", output.len())
        }
        ("Failed", "exit") => {
            assert!(status["ExitCode"] == code && code != 0 && runs == 1 && output == expected, "{said}");
        }
        ("Failed", "lost" | "signal") if harmed => assert!(expected.starts_with(output), "{said}"),
        ("Failed", "start_failed") if harmed => assert!(runs == 0 && output.is_empty(), "{said}"),
        _ => panic!("this is no end of it. {said}"),
    }
    assert!(marks.is_empty() || marks.trim() == format!("{there} {unit}"), "another unit ran. {said}");
}

/// When everybody has gone home: what is kept is as it was, the rest is gone, on every node and from the process table.
fn at_rest(world: &Path, nodes: &mut Nodes, shared: &Shared) {
    let client = |node: &'static str| Client { world, node, shared };
    let kept = shared.kept.lock().expect("free").clone();
    // Releases whose node was away are carried out when it returns.
    let mut wanted: BTreeMap<&str, BTreeSet<String>> =
        NODES.iter().map(|node| (*node, BTreeSet::new())).collect();
    let mut statuses = BTreeMap::new();
    for (node, id, token) in &kept {
        let node = NODES[NODES.iter().position(|name| name == node).expect("one of them")];
        let status = client(node).status(id).unwrap_or_else(|| panic!("{token}: {node} has forgotten {id}"));
        let (there, unit) = half_that_ran(node, id, &status);
        let file = |node: &str, id: &str| fs::read(world.join("data").join(node).join(id).join("stdout"));
        if (there.as_str(), &unit) != (node, id) {
            let there = NODES[NODES.iter().position(|name| *name == there).expect("one of them")];
            let other = client(there)
                .status(&unit)
                .unwrap_or_else(|| panic!("{token}: {there} has forgotten {unit}"));
            for member in ["State", "Detail", "Outcome", "ExitCode", "Signal", "StdoutSize"] {
                assert_eq!(
                    status[member], other[member],
                    "{token}: {member} of {id} on {node}, {unit} on {there}"
                );
            }
            let (here, far) = (file(node, id).unwrap_or_default(), file(there, &unit).unwrap_or_default());
            assert!(here == far, "{token}: {} bytes on {node}, {} on {there}", here.len(), far.len());
            wanted.entry(there).or_default().insert(unit);
        }
        wanted.entry(node).or_default().insert(id.clone());
        statuses.insert((node, id.clone()), status);
    }
    for node in NODES {
        loop {
            let listed = client(node).list();
            assert!(wanted[node].is_subset(&listed), "{node} has forgotten some: {wanted:?} {listed:?}");
            if listed == wanted[node] {
                break;
            }
            shared.check_patience(&format!(
                "{node} keeps units nobody asked it to: {:?}",
                listed.difference(&wanted[node])
            ));
            thread::sleep(Duration::from_millis(100)); // a release that another node asks for tells nobody else
        }
    }
    for supervisor in victims::supervisors(world) {
        while victims::supervisors(world).contains(&supervisor) {
            shared.check_patience(&format!("supervisor {supervisor:?} is left"));
            thread::sleep(Duration::from_millis(20));
        }
    }
    let busy = nodes.open_files();
    nodes.restart_all();
    for ((node, id), status) in &statuses {
        assert_eq!(
            client(node).status(id).as_ref(),
            Some(status),
            "{id} on {node} is another after a restart"
        );
    }
    let fresh = nodes.open_files();
    println!("open files at the end {busy:?}, after a restart {fresh:?}");
    for (busy, fresh) in busy.iter().zip(&fresh) {
        assert!(*busy <= fresh + 16, "descriptors leak: {busy} open, a fresh daemon has {fresh}");
    }
}
