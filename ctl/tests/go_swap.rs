//! A Go node of a running mesh is stopped, ours is started on its configuration, certificates and datadir in its place
//! while units run, and later the other way round: neighbours reconnect, every unit runs once and ends with every byte,
//! and whoever follows on another node reads on as if nothing had been.
//!
//! The Go node is the binary that `RECEPTOR_GO` names; where it names none these tests say so and pass.

mod common;

use std::{
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    thread::{self, JoinHandle},
    time::Instant,
};

use common::{Gate, GoNode, PATIENCE, Pki, Ran, Talk, World, finish, free_port, receptorctl};
use serde_json::Value;

/// near - mid - far, each dialling the one to its right.
const NODES: [&str; 3] = ["near", "mid", "far"];

/// A client of whichever node has a name: it knows the socket, and not who listens there.
#[derive(Clone, Copy)]
struct Client<'w> {
    world: &'w World,
    node: &'static str,
}

impl Client<'_> {
    fn talk(self) -> Talk {
        let stream = UnixStream::connect(self.world.socket(self.node)).expect("the socket accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut talk = Talk::over(stream);
        assert_eq!(talk.line(), format!("Receptor Control, node {}", self.node));
        talk
    }

    fn ask(self, line: &str) -> Value {
        let mut talk = self.talk();
        talk.say(line);
        let answer = talk.line();
        serde_json::from_str(&answer)
            .unwrap_or_else(|_| panic!("{} answers `{line}` with {answer}", self.node))
    }

    /// Asks until the answer is as it should be: a Go node tells nothing by itself.
    fn until(self, line: &str, good: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(line);
            if good(&answer) {
                return answer;
            }
            assert!(Instant::now() < end, "{} stays at this answer to `{line}`: {answer}", self.node);
        }
    }

    /// A conversation that gets the output of a unit from byte `from`.
    fn results(self, unit: &str, from: usize) -> Talk {
        let mut talk = self.talk();
        talk.say(&format!(
            r#"{{"command":"work","subcommand":"results","unitid":"{unit}","startpos":{from}}}"#
        ));
        assert_eq!(talk.line(), format!("Streaming results for work unit {unit}"));
        talk
    }
}

/// A unit, and who may let its command go on.
struct Job<'w> {
    /// Its work type, which no other unit has.
    name: String,
    gate: Gate,
    opened: usize,
    payload: String,
    at: Client<'w>,
    unit: String,
    /// Somebody who began to follow when it began, where that node stays.
    follower: Option<JoinHandle<Vec<u8>>>,
}

impl<'w> Job<'w> {
    fn new(world: &'w World, name: &str) -> Job<'w> {
        let gate = Gate::new(world, &format!("{name}.gate"));
        let payload = format!("payload of {name} \u{1f600}\n").repeat(2_000);
        let at = Client { world, node: "near" };
        Job { name: name.to_owned(), gate, opened: 0, payload, at, unit: String::new(), follower: None }
    }

    /// Notes that it began, gives its payload back, counts, says `more` for each opening of the gate, and counts again.
    fn work_type(&self) -> String {
        format!(
            "- work-command: {{worktype: {name}, verifysignature: {signed}, command: bash, params: \"-c 'echo begun >> {runs}; \
             exec 3<> {gate}; cat; seq 1 20000; echo ready; while read -r line <&3 && [ -z \\\"$line\\\" ]; do echo more; done; \
             seq 1 20000'\"}}\n",
            name = self.name,
            signed = self.name.starts_with("signed"),
            runs = self.runs().display(),
            gate = self.gate.path(),
        )
    }

    fn runs(&self) -> PathBuf {
        self.at.world.path().join(format!("{}.runs", self.name))
    }

    /// Submits it at one node for another, or for itself, and waits until its command waits at the gate.
    fn begin(&mut self, at: &'static str, node: &str) {
        self.at.node = at;
        let more = match (at == node, self.name.starts_with("signed")) {
            (true, _) => r#""node":"localhost""#.to_owned(),
            (false, true) => format!(r#""node":"{node}","tlsclient":"cl","signwork":"true""#),
            (false, false) => format!(r#""node":"{node}","tlsclient":"cl""#),
        };
        let mut talk = self.at.talk();
        talk.say(&format!(r#"{{"command":"work","subcommand":"submit","worktype":"{}",{more}}}"#, self.name));
        let created = talk.line();
        let unit = created.strip_prefix("Work unit created with ID ").expect("a unit");
        self.unit = unit[..8].to_owned();
        talk.send(self.payload.as_bytes());
        talk.half_close();
        let answer: Value = serde_json::from_str(&talk.line()).expect("JSON");
        assert_eq!(answer["result"], "Job Started", "{answer}");
        let begun = self.output(0).len() as i64;
        self.at.until(&format!("work status {}", self.unit), |status| {
            status["StateName"] == "Running" && status["StdoutSize"].as_i64() >= Some(begun)
        });
    }

    /// Somebody follows it from here on, over one connection.
    fn follow(&mut self) {
        let mut talk = self.at.results(&self.unit, 0);
        self.follower = Some(thread::spawn(move || talk.rest()));
    }

    fn open(&mut self) {
        self.gate.open();
        self.opened += 1;
    }

    /// What its command has written when the gate was opened so often, but for the end.
    fn output(&self, opened: usize) -> String {
        format!("{}{}ready\n{}", self.payload, numbers(), "more\n".repeat(opened))
    }

    fn whole_output(&self) -> Vec<u8> {
        (self.output(self.opened) + &numbers()).into_bytes()
    }

    /// It ends, and whoever follows has every byte; so has who asks now. Gives its status.
    fn end(&mut self) -> Value {
        self.open();
        self.gate.end();
        if let Some(follower) = self.follower.take() {
            assert!(follower.join().expect("a follower") == self.whole_output(), "{}: followed", self.name);
        }
        self.check()
    }

    /// Whether its command lives: the gate stands in the command line.
    fn is_running(&self) -> bool {
        let processes = fs::read_dir("/proc").expect("proc").flatten();
        let gate = self.gate.path();
        let mut lines = processes.filter_map(|entry| fs::read_to_string(entry.path().join("cmdline")).ok());
        lines.any(|line| line.starts_with("bash\0") && line.contains(&gate))
    }

    fn wait_gone(&self) {
        let end = Instant::now() + PATIENCE;
        while self.is_running() {
            assert!(Instant::now() < end, "the command of {} goes on", self.name);
            thread::yield_now(); // it is no child of ours
        }
    }

    /// It has ended well, whoever says it: with every byte, after one run.
    fn check(&self) -> Value {
        let line = format!("work status {}", self.unit);
        let status = self.at.until(&line, |status| status["State"].as_i64() >= Some(2));
        assert_eq!(
            [&status["StateName"], &status["Detail"]],
            ["Succeeded", "exit status 0"],
            "{}: {status}",
            self.name
        );
        let mut talk = self.at.results(&self.unit, 0);
        assert!(talk.rest() == self.whole_output(), "{}: read again", self.name);
        assert_eq!(status["StdoutSize"], self.whole_output().len(), "{}: {status}", self.name);
        assert_eq!(fs::read_to_string(self.runs()).expect("it ran"), "begun\n", "{} ran once", self.name);
        status
    }
}

fn numbers() -> String {
    (1..=20_000).map(|number| format!("{number}\n")).collect()
}

/// The members that Receptor has.
fn receptors(status: &Value) -> [&Value; 5] {
    ["State", "StateName", "Detail", "StdoutSize", "WorkType"].map(|member| &status[member])
}

/// Keys and certificates, and the configurations of all three nodes, which are written once.
fn configure(world: &World, work: &str) {
    let pki = Pki::new(world, "ca");
    let keys = world.path().display();
    let made = Command::new("bash")
        .args(["-c", &format!("openssl genrsa -traditional -out {keys}/k.pem 2048 && openssl rsa -in {keys}/k.pem -pubout -out {keys}/k.pub")])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    let ports = [free_port(), free_port()];
    for (at, node) in NODES.into_iter().enumerate() {
        pki.issue(node, &[node]);
        let mut yaml = pki.profiles(node, "");
        if let Some(port) = at.checked_sub(1).map(|left| ports[left]) {
            yaml += &format!("- tcp-listener: {{port: {port}, bindaddr: 127.0.0.1, tls: srv}}\n");
        }
        if let Some(port) = ports.get(at) {
            yaml += &format!("- tcp-peer: {{address: \"localhost:{port}\", tls: cl}}\n");
        }
        yaml += &format!(
            "- work-signing: {{privatekey: {keys}/k.pem, tokenexpiration: 5m}}\n\
             - work-verification: {{publickey: {keys}/k.pub}}\n"
        );
        world.write_secure(node, &(yaml + work));
    }
}

/// Waits until all three see the whole line, and reach each other.
fn wait_mesh(world: &World) {
    for node in NODES {
        let client = Client { world, node };
        client.until("status", |status| {
            let costs = &status["KnownConnectionCosts"];
            let linked = |from: &str, to: &str| costs[from][to].is_number() && costs[to][from].is_number();
            linked("near", "mid")
                && linked("mid", "far")
                && costs.as_object().is_some_and(|all| all.len() == 3)
        });
        for other in NODES.into_iter().filter(|other| *other != node) {
            client.until(&format!("ping {other}"), |answer| answer["Success"] == true);
        }
    }
}

/// Runs Receptor's own client against a node, where there is one.
fn published(program: Option<&PathBuf>, at: Client<'_>, words: &[&str]) -> Option<Ran> {
    let child = Command::new(program?)
        .arg("--socket")
        .arg(at.world.socket(at.node))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("receptorctl starts");
    Some(finish(child, words))
}

/// Changes the node `swapped` of the line from Go to ours and back, in the middle of the units of both halves.
fn swap(swapped: &'static str) {
    let Some(binary) = GoNode::binary() else { return };
    let (receptorctl, world) = (receptorctl(), World::new());
    // Of a middle node the neighbour at one end has units on it and behind it; of an end node the other end has.
    let other = if swapped == "mid" { "near" } else { "far" };
    let jobs = |half: &str| {
        // On the node itself: its own, and another node's. On another node: its own. Past it: a unit of both others.
        let mut jobs = vec![
            (Job::new(&world, &format!("own-{half}")), swapped, swapped),
            (Job::new(&world, &format!("signed-guest-{half}")), other, swapped),
            (Job::new(&world, &format!("signed-sent-{half}")), swapped, "far"),
            (Job::new(&world, &format!("sent-{half}")), swapped, "far"),
        ];
        if swapped == "mid" {
            jobs.push((Job::new(&world, &format!("signed-past-{half}")), "near", "far"));
            jobs.push((Job::new(&world, &format!("past-{half}")), "far", "near"));
        }
        jobs
    };
    let (mut first, mut second) = (jobs("first"), jobs("second"));
    let [mut canceled, mut released] = ["canceled", "released"].map(|name| Job::new(&world, name));
    let all = first.iter().chain(&second).map(|(job, ..)| job).chain([&canceled, &released]);
    let work: String = all.map(Job::work_type).collect();
    configure(&world, &work);
    let file = world.path().join(format!("{swapped}.yml"));
    let before = fs::read(&file).expect("its configuration");
    let here = Client { world: &world, node: swapped };
    let start_go = |node: &str| GoNode::start_at(&binary, &world, node);

    let mut nodes: Vec<_> = NODES.iter().rev().map(|node| (*node, start_go(node))).collect();
    let at = nodes.iter().position(|(node, _)| *node == swapped).expect("one of them");
    let (_, mut go) = nodes.remove(at);
    wait_mesh(&world);
    for (job, at, node) in &mut first {
        job.begin(at, node);
        if *at != swapped {
            job.follow();
        }
    }
    // A client of the node itself, which reads a part and will have to call again.
    let (mut part, mut cut) = (vec![0; 100_000], here.results(&first[0].0.unit, 0));
    cut.read_exact(&mut part).expect("it has written as much");
    first.iter_mut().for_each(|(job, ..)| job.open());
    go.stop();
    drop(cut);
    first.iter_mut().for_each(|(job, ..)| job.open()); // nobody but a Go runner sees this, if it runs here

    let mut ours = world.start_file(&[], swapped, &file);
    wait_mesh(&world);
    for (job, at, _) in &first {
        let wanted = job.output(job.opened).len() as i64;
        let seen = job.at.until(&format!("work status {}", job.unit), |status| {
            status["State"] != 1 || status["StdoutSize"].as_i64() >= Some(wanted)
        });
        assert_eq!(seen["StateName"], "Running", "{} at {at}: {seen}", job.name);
    }
    if let Some(ran) = published(receptorctl.as_ref(), here, &["work", "list"]) {
        let listed = ran.ok();
        assert!(
            first
                .iter()
                .filter(|(job, ..)| job.at.node == swapped)
                .all(|(job, ..)| listed.contains(&job.unit))
        );
        let status = published(receptorctl.as_ref(), here, &["status"]).expect("it is here").ok();
        assert!(NODES.iter().all(|node| status.contains(node)), "{status}");
    }
    let mut rest = here.results(&first[0].0.unit, part.len());
    let ended: Vec<Value> = first.iter_mut().map(|(job, ..)| job.end()).collect();
    part.extend(rest.rest());
    assert!(part == first[0].0.whole_output(), "two halves of what a client of that node read");
    for (job, ..) in &first {
        if let Some(ran) = published(receptorctl.as_ref(), job.at, &["work", "results", &job.unit]) {
            assert!(ran.ok().as_bytes() == job.whole_output(), "{}: read by receptorctl", job.name);
        }
    }

    // And back, with units that ours has begun.
    for (job, at, node) in &mut second {
        job.begin(at, node);
        if *at != swapped {
            job.follow();
        }
        job.open();
    }
    for job in [&mut canceled, &mut released] {
        job.begin(swapped, swapped);
        job.open();
    }
    // What waits for a node that nobody knows.
    let mut talk = here.talk();
    talk.say(r#"{"command":"work","subcommand":"submit","worktype":"any","node":"nowhere"}"#);
    let waits = talk.line();
    let waits = waits.strip_prefix("Work unit created with ID ").expect("a unit")[..8].to_owned();
    talk.half_close();
    talk.rest();
    assert_eq!(ours.stop().code(), Some(0));
    second.iter_mut().for_each(|(job, ..)| job.open()); // nobody but a supervisor of ours sees this, if it runs here
    let mut go = start_go(swapped);
    wait_mesh(&world);
    for ((job, ..), before) in first.iter().zip(&ended) {
        assert_eq!(receptors(&job.check()), receptors(before), "{}", job.name);
    }
    // A Go node asks the supervisor of a unit as it would ask a runner of its own, and takes it that it obeys.
    let Value::Object(told) = here.ask(&format!("work cancel {}", canceled.unit)) else {
        panic!("no object")
    };
    assert_eq!(told["cancelled"], canceled.unit);
    here.until(&format!("work status {}", canceled.unit), |status| status["StateName"] == "Canceled");
    let Value::Object(told) = here.ask(&format!("work release {}", released.unit)) else {
        panic!("no object")
    };
    assert_eq!(told["released"], released.unit);
    canceled.wait_gone();
    released.wait_gone();
    let status = here.ask(&format!("work status {waits}"));
    let told = "Failed to restart: remote work had not previously started";
    assert_eq!([&status["StateName"], &status["Detail"]], ["Failed", told], "{status}");
    // Everything else that ours has begun ends under it as what it was.
    let ended_under_go: Vec<Value> = second.iter_mut().map(|(job, ..)| job.end()).collect();
    for (job, ..) in &second {
        if let Some(ran) = published(receptorctl.as_ref(), job.at, &["work", "results", &job.unit]) {
            assert!(ran.ok().as_bytes() == job.whole_output(), "{}: read by receptorctl", job.name);
        }
    }
    // Nothing was submitted a second time anywhere: each unit, and for the remote ones their other half, is all there is.
    let halves = first.iter().chain(&second).map(|(_, at, node)| if at == node { 1 } else { 2 });
    let expected = halves.sum::<usize>() + 2; // the canceled one, and what waited
    let known = |node| Client { world: &world, node }.ask("work list").as_object().map_or(0, |all| all.len());
    let units = NODES.map(known);
    assert_eq!(units.iter().sum::<usize>(), expected, "units of {NODES:?}: {units:?}");

    // Ours again: what either has left is what it was.
    go.stop();
    let ours = world.start_file(&[], swapped, &file);
    wait_mesh(&world);
    for ((job, ..), before) in first.iter().zip(&ended).chain(second.iter().zip(&ended_under_go)) {
        assert_eq!(receptors(&job.check()), receptors(before), "{}", job.name);
    }
    let own = ours.status(&second[0].0.unit);
    assert_eq!([&own["Outcome"], &own["ExitCode"]], [&Value::from("ok"), &Value::from(0)], "{own}");
    assert!(own["Owner"].is_string() && own["EndedAt"].is_string(), "what only ours knows: {own}");
    let (output, status) = ours.follow(&canceled.unit);
    assert_eq!(status["StateName"], "Canceled", "{status}");
    assert!(output == canceled.output(canceled.opened).into_bytes(), "what the canceled unit wrote");
    assert_eq!(
        ours.talk_once(&format!("work status {}", released.unit)),
        format!("ERROR: unknown work unit {}", released.unit)
    );
    assert!(!world.units(swapped).join(&released.unit).exists());
    // What a client was told at the end stays.
    let status = ours.status(&waits);
    assert_eq!([&status["StateName"], &status["Detail"]], ["Failed", told], "{status}");
    assert_eq!(NODES.map(known), units);
    assert_eq!(fs::read(&file).expect("its configuration"), before);
}

#[test]
fn a_go_node_in_the_middle_is_replaced_by_ours_and_back_while_units_run() {
    swap("mid");
}

#[test]
fn a_go_node_at_the_end_is_replaced_by_ours_and_back_while_units_run() {
    swap("near");
}
