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
    Follow::new(&door, "X").run(&mut printer, &mut fake.console).await
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
