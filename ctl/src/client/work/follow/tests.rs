//! A daemon of ours and a Go daemon, well and ill, followed by a script.

use super::*;
use crate::client::fake::{Fake, Script};

const OURS: &str = r#"{"Features":["watch"]}"#;

fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn watch(position: &str) -> Script {
    Script::new().greet().ask("Features").say(OURS).ask(position).say("Watching work unit X")
}

async fn follow(fake: &mut Fake) -> Result<Code, Failure> {
    let door = fake.door();
    let mut printer = Printer::new("X", fake.console.json);
    Follow::new(&door, "X", Shows::BOTH).run(&mut printer, &mut fake.console).await
}

async fn attach(fake: &mut Fake) -> Result<Code, Failure> {
    let door = fake.door();
    let mut printer = Printer::new("X", fake.console.json);
    Follow::new(&door, "X", Shows::BOTH).attached(&mut printer, &mut fake.console).await
}

async fn now(fake: &mut Fake, shows: Shows) -> Result<Code, Failure> {
    let door = fake.door();
    let mut printer = Printer::new("X", fake.console.json);
    Follow::new(&door, "X", shows).now(&mut printer, &mut fake.console).await
}

/// A conversation with node b, which the daemon reaches.
fn at_b() -> Script {
    Script::new().greet().ask("Features").say("{}").ask(r#""node":"b""#).say("Connecting").greet()
}

#[tokio::test]
async fn watched_output_goes_where_it_belongs_and_the_code_is_the_commands() {
    let script = watch(r#""stdoutpos":0"#)
        .raw(&frame(b's', br#"{"State":1,"StateName":"Running"}"#))
        .raw(&frame(b'o', b"out\n"))
        .raw(&frame(b'e', b"err\n"))
        .raw(&frame(b's', br#"{"State":3,"Detail":"exit status 7","Outcome":"exit","ExitCode":7}"#))
        .raw(&frame(b'z', b""));
    let mut fake = Fake::start([script]);
    assert_eq!(follow(&mut fake).await, Ok(Code(7)));
    assert_eq!(fake.out().await, "out\n");
    assert_eq!(fake.err().await, "err\nnetmesh: unit X failed: exit status 7\n");
}

#[tokio::test]
async fn a_daemon_that_restarts_costs_no_byte() {
    let mut cut = frame(b'o', b"one two");
    cut.truncate(5 + 3);
    let again = watch(r#""stdoutpos":3"#)
        .raw(&frame(b'o', b" two"))
        .raw(&frame(b's', br#"{"State":2,"Detail":"exit status 0"}"#))
        .raw(&frame(b'z', b""));
    let mut fake = Fake::start([watch(r#""stdoutpos":0"#).raw(&cut), again]);
    assert_eq!(follow(&mut fake).await, Ok(Code::OK));
    assert_eq!(fake.out().await, "one two");
}

#[tokio::test]
async fn a_go_daemon_streams_and_is_asked_for_the_end() {
    let results = Script::new()
        .greet()
        .ask("Features")
        .say(r#"{"Version":"1.6.9"}"#)
        .ask(r#""startpos":0"#)
        .say("Streaming results for work unit X")
        .raw(b"out\n");
    let status = Script::new()
        .greet()
        .ask(r#""subcommand":"status""#)
        .say(r#"{"Detail":"signal: killed","ExtraData":null,"State":3,"StateName":"Failed","StdoutSize":4,"WorkType":"sh"}"#);
    let mut fake = Fake::start([results, status]);
    assert_eq!(follow(&mut fake).await, Ok(Code(137)));
    assert_eq!(fake.out().await, "out\n");
}

#[tokio::test(start_paused = true)]
async fn a_canceled_unit_of_a_go_daemon_ends_although_its_results_do_not() {
    let canceled = r#"{"Detail":"Canceled","State":4,"StateName":"Canceled","StdoutSize":4}"#;
    let results = Script::new()
        .greet()
        .ask("Features")
        .say("{}")
        .ask("results")
        .say("Streaming results for work unit X")
        .raw(b"out\n")
        .hold();
    let status = || Script::new().greet().ask("status").say(canceled);
    let mut fake = Fake::start([results, status(), status()]);
    assert_eq!(follow(&mut fake).await, Ok(Code::CANCELED));
    assert_eq!(fake.out().await, "out\n");
}

#[tokio::test]
async fn an_interruption_leaves_the_unit_running_and_says_how_to_go_on() {
    let mut fake = Fake::start([watch("watch").raw(&frame(b'o', b"tick\n")).hold()]);
    let pull = fake.pull_when_printed("tick\n");
    let (followed, ()) = tokio::join!(follow(&mut fake), pull);
    let failure = followed.unwrap_err();
    assert_eq!(failure.code, Code::CANCELED);
    assert!(failure.text.contains("netmesh work results X"), "{failure}");
}

#[tokio::test]
async fn a_unit_that_nobody_knows_is_told() {
    let script =
        Script::new().greet().ask("Features").say(OURS).ask("watch").say("ERROR: unknown work unit X");
    let mut fake = Fake::start([script]);
    let failure = follow(&mut fake).await.unwrap_err();
    assert_eq!(failure.code, Code::NOT_DONE);
    assert!(failure.text.contains("unknown work unit X; `netmesh work list`"), "{failure}");
}

#[tokio::test]
async fn garbage_in_the_frames_is_an_error_and_no_hang() {
    let mut fake = Fake::start([watch("watch").raw(b"?\xff\xff\xff\xff")]);
    let failure = follow(&mut fake).await.unwrap_err();
    assert!(failure.text.contains("nobody understands"), "{failure}");
}

#[tokio::test]
async fn events_are_a_json_object_per_line() {
    let script = watch("watch")
        .raw(&frame(b'o', b"out\n"))
        .raw(&frame(b's', br#"{"State":2}"#))
        .raw(&frame(b'z', b""));
    let mut fake = Fake::start([script]);
    fake.console.json = true;
    assert_eq!(follow(&mut fake).await, Ok(Code::OK));
    let out = fake.out().await;
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["stdout", "status", "end"]);
    assert_eq!(events[2]["exit_code"], 0);
}

#[tokio::test]
async fn only_the_output_that_is_wanted_is_asked_for() {
    for (shows, asked) in [
        (Shows::STDOUT, r#""stderrpos":4611686018427387904,"stdoutpos":0"#),
        (Shows::STDERR, r#""stderrpos":0,"stdoutpos":4611686018427387904"#),
    ] {
        let end = frame(b's', br#"{"State":2}"#);
        let script = Script::new()
            .greet()
            .ask("Features")
            .say(r#"{"Features":["watch","stderr-separate"]}"#)
            .ask(asked)
            .say("Watching work unit X")
            .raw(&[end, frame(b'z', b"")].concat());
        let mut fake = Fake::start([script]);
        let door = fake.door();
        let mut printer = Printer::new("X", false);
        let code = Follow::new(&door, "X", shows).run(&mut printer, &mut fake.console).await;
        assert_eq!(code, Ok(Code::OK));
        fake.out().await;
    }
}

#[tokio::test]
async fn a_go_daemon_has_no_error_output_to_show() {
    let mut fake = Fake::start([Script::new().greet().ask("Features").say("{}")]);
    let failure = now(&mut fake, Shows::STDERR).await.unwrap_err();
    assert_eq!(failure.code, Code::USAGE);
    assert!(failure.text.contains("it is among the output"), "{failure}");
}

#[tokio::test]
async fn what_is_there_now_is_printed_and_the_code_tells_whether_that_is_all() {
    const NOW: &str = r#"{"Features":["watch","watch-now","stderr-separate"]}"#;
    for (status, code) in [
        (r#"{"State":1,"StdoutSize":4}"#, Code::NEGATIVE),
        (r#"{"State":3,"StdoutSize":4,"Outcome":"exit","ExitCode":7}"#, Code::OK),
        // A remote unit that has ended there, and whose output is not all here yet.
        (r#"{"State":2,"StdoutSize":9}"#, Code::NEGATIVE),
    ] {
        let said = [frame(b's', status.as_bytes()), frame(b'o', b"out\n"), frame(b'z', b"")].concat();
        let script = Script::new()
            .greet()
            .ask("Features")
            .say(NOW)
            .ask(r#""follow":false"#)
            .say("Watching work unit X")
            .raw(&said)
            .hold();
        let mut fake = Fake::start([script]);
        assert_eq!(now(&mut fake, Shows::STDOUT).await, Ok(code), "{status}");
        assert_eq!(fake.out().await, "out\n");
    }
}

#[tokio::test]
async fn of_a_go_daemons_stream_as_much_is_taken_as_its_status_speaks_of() {
    let script = Script::new()
        .greet()
        .ask("Features")
        .say("{}")
        .ask(r#""subcommand":"status""#)
        .say(r#"{"State":1,"StdoutSize":4}"#)
        .ask("results")
        .say("Streaming results for work unit X")
        .raw(b"out\nand what came later\n")
        .hold();
    let mut fake = Fake::start([script]);
    assert_eq!(now(&mut fake, Shows::STDOUT).await, Ok(Code::NEGATIVE));
    assert_eq!(fake.out().await, "out\n");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_goes_out_of_reach_is_waited_for_like_a_daemon() {
    let first = at_b()
        .ask("Features")
        .say(OURS)
        .ask(r#""stdoutpos":0"#)
        .say("Watching work unit X")
        .raw(&frame(b'o', b"one "));
    let no_way = Script::new()
        .greet()
        .ask("Features")
        .say(r#"{"Features":["error-codes"]}"#)
        .ask(r#""errors":"json""#)
        .say(r#"{"code":"no_route","error":"no route to `b`"}"#);
    let second = at_b()
        .ask("Features")
        .say(OURS)
        .ask(r#""stdoutpos":4"#)
        .say("Watching work unit X")
        .raw(&frame(b'o', b"two\n"))
        .raw(&frame(b's', br#"{"State":2}"#))
        .raw(&frame(b'z', b""));
    let mut fake = Fake::start([first, no_way, second]);
    let door = fake.door().beyond(Some("b"), "");
    let mut printer = Printer::new("X", false);
    let followed = Follow::new(&door, "X", Shows::STDOUT).run(&mut printer, &mut fake.console).await;
    assert_eq!(followed, Ok(Code::OK));
    assert_eq!(fake.out().await, "one two\n");
    assert!(fake.err().await.contains("went away; waiting for it"));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stays_away_is_given_up_and_so_is_one_that_was_never_there() {
    let no_way =
        || Script::new().greet().ask("Features").say("{}").ask(r#""node":"b""#).say("ERROR: no route to `b`");
    let mut fake = Fake::start([no_way()]);
    let door = fake.door().beyond(Some("b"), "");
    let mut printer = Printer::new("X", false);
    let failure =
        Follow::new(&door, "X", Shows::STDOUT).run(&mut printer, &mut fake.console).await.unwrap_err();
    assert_eq!(failure.text, "cannot ask node `b`: no route to `b`");
    fake.out().await;
}

#[tokio::test]
async fn ctrl_c_cancels_the_unit_and_its_end_is_waited_for() {
    let cancel = Script::new()
        .greet()
        .ask("Features")
        .say(OURS)
        .ask(r#""subcommand":"cancel""#)
        .say(r#"{"cancelled":"X"}"#);
    let (followed, canceling) = (frame(b'o', b"tick\n"), frame(b's', br#"{"State":1,"Phase":"canceling"}"#));
    let end = [frame(b's', br#"{"State":4,"Outcome":"canceled"}"#), frame(b'z', b"")].concat();
    let mut fake =
        Fake::start([watch("watch").raw(&followed).until("cancel").raw(&canceling).raw(&end), cancel]);
    let pull = fake.pull_when_printed("tick\n");
    let (attached, ()) = tokio::join!(attach(&mut fake), pull);
    assert_eq!(attached, Ok(Code::CANCELED));
    let told = fake.err().await;
    assert!(told.contains("canceling unit X; Ctrl-C again leaves at once"), "{told}");
    assert!(told.ends_with("netmesh: unit X was canceled\n"), "{told}");
}

#[tokio::test]
async fn ctrl_c_twice_leaves_before_the_unit_has_ended() {
    let cancel =
        Script::new().greet().ask("Features").say(OURS).ask("cancel").say(r#"{"cancel pending":"X"}"#);
    let mut fake = Fake::start([watch("watch").raw(&frame(b'o', b"tick\n")).hold(), cancel]);
    let (first, second) = (fake.pull_when_printed("tick\n"), fake.pull_when_said("out of reach"));
    let (attached, (), ()) = tokio::join!(attach(&mut fake), first, second);
    let failure = attached.unwrap_err();
    assert_eq!(failure.code, Code::CANCELED);
    assert!(failure.text.contains("left before unit X had ended"), "{failure}");
}

#[tokio::test]
async fn sigterm_detaches_and_the_unit_runs_on() {
    let mut fake = Fake::start([watch("watch").raw(&frame(b'o', b"tick\n")).hold()]);
    let pull = fake.terminate_when_printed("tick\n");
    let (attached, ()) = tokio::join!(attach(&mut fake), pull);
    let failure = attached.unwrap_err();
    assert_eq!(failure.code, Code::CANCELED);
    assert!(failure.text.contains("unit X runs on: `netmesh work results X --both`"), "{failure}");
    fake.out().await;
}
