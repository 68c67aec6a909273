//! A daemon of ours and a Go daemon cancel units, by a script, and are asked how they ended.

use std::time::Duration;

use super::{super::run, *};
use crate::{
    args::work::Via,
    client::fake::{Fake, Script},
};

const OURS: &str = r#"{"Features":["watch","stderr-separate","error-codes","watch-now"]}"#;
const RUNNING: &str = r#"{"State":1,"Detail":"Running: PID 7"}"#;
const CANCELED: &str = r#"{"State":4,"Detail":"Canceled","Outcome":"canceled","Signal":2,"EndedAt":"2026-11-21T02:00:09Z","StdoutSize":4}"#;

fn args(units: &[&str]) -> CancelArgs {
    let units = units.iter().map(|unit| (*unit).to_owned()).collect();
    CancelArgs { units, wait: true, timeout: None, tail: None, via: Via::default() }
}

fn frame(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn asked(features: &str) -> Script {
    Script::new().greet().ask("Features").say(features)
}

/// A watch that tells `statuses` and ends when the unit has.
fn watch(statuses: &[&str]) -> Script {
    let said: Vec<u8> = statuses.iter().flat_map(|status| frame(b's', status.as_bytes())).collect();
    asked(OURS).ask(r#""subcommand":"watch""#).say("Watching work unit X").raw(&said)
}

/// What there is of a unit now.
fn look(status: &str, output: &[u8]) -> Script {
    let said = [frame(b's', status.as_bytes()), frame(b'o', output), frame(b'z', b"")].concat();
    asked(OURS).ask(r#""follow":false"#).say("Watching work unit X").raw(&said)
}

#[tokio::test]
async fn the_end_and_the_last_output_are_told_once_the_unit_has_ended() {
    let cancel = asked(OURS).ask(r#""cancel""#).say(r#"{"cancelled":"X"}"#);
    let ended = watch(&[RUNNING, CANCELED]).raw(&frame(b'z', b""));
    let mut fake = Fake::start([cancel, ended, look(CANCELED, b"out\n")]);
    fake.console.json = true;
    assert_eq!(run(&fake.door(), args(&["X"]), &mut fake.console).await, Ok(Code::OK));
    let told: Value = serde_json::from_str(&fake.out().await).unwrap();
    let expected = json!({
        "UnitID": "X", "State": 4, "StateName": "Canceled", "Outcome": "canceled", "ExitCode": null, "Signal": 2,
        "EndedAt": "2026-11-21T02:00:09Z", "Detail": "Canceled", "StdoutSize": 4, "Tail": "out\n",
        "StderrSize": null, "StderrTail": null,
    });
    assert_eq!(told, expected);
}

#[tokio::test]
async fn for_people_the_end_is_a_line_and_the_output_stands_below() {
    let cancel = asked(OURS).ask(r#""cancel""#).say(r#"{"cancelled":"X"}"#);
    let ended = watch(&[CANCELED]).raw(&frame(b'z', b""));
    let mut fake = Fake::start([cancel, ended, look(CANCELED, b"out\n")]);
    assert_eq!(run(&fake.door(), args(&["X"]), &mut fake.console).await, Ok(Code::OK));
    let expected = "Cancelled:\n(X, cancelled)\nX: Canceled, signal 2, ended at 2026-11-21T02:00:09Z\n\
                    -- output, the last 4 of 4 bytes:\nout\n";
    assert_eq!(fake.out().await, expected);
}

#[tokio::test]
async fn a_refused_unit_keeps_nobody_from_waiting_for_the_others() {
    let cancel = asked(OURS)
        .ask(r#""unitid":"gone""#)
        .say(r#"{"code":"unknown_unit","error":"unknown work unit gone"}"#)
        .ask(r#""unitid":"X""#)
        .say(r#"{"cancel pending":"X"}"#);
    let ended = watch(&[CANCELED]).raw(&frame(b'z', b""));
    let mut fake = Fake::start([cancel, ended, look(CANCELED, b"")]);
    fake.console.json = true;
    assert_eq!(run(&fake.door(), args(&["gone", "X"]), &mut fake.console).await, Ok(Code::NOT_DONE));
    let out = fake.out().await;
    let lines: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["code"], &lines[1]["StateName"]), (&json!("unknown_unit"), &json!("Canceled")));
    assert!(fake.err().await.contains("unit X: its node is out of reach; waiting"));
}

#[tokio::test(start_paused = true)]
async fn a_go_daemon_is_asked_until_the_unit_has_ended() {
    let status = |status: &str| Script::new().greet().ask("status").say(status);
    let ended = r#"{"State":3,"StateName":"Failed","Detail":"signal: killed","StdoutSize":4}"#;
    let cancel = asked("{}").ask(r#""cancel""#).say(r#"{"cancelled":"X"}"#);
    let tail = asked("{}")
        .ask("status")
        .say(ended)
        .ask(r#""startpos":0"#)
        .say("Streaming results for work unit X")
        .raw(b"out\n");
    let mut fake = Fake::start([cancel, asked("{}"), status(RUNNING), status(ended), tail]);
    fake.console.json = true;
    assert_eq!(run(&fake.door(), args(&["X"]), &mut fake.console).await, Ok(Code::OK));
    let told: Value = serde_json::from_str(&fake.out().await).unwrap();
    assert_eq!(
        (&told["Signal"], &told["Tail"], &told["Outcome"]),
        (&json!(9), &json!("out\n"), &Value::Null)
    );
}

#[tokio::test(start_paused = true)]
async fn a_time_out_ends_the_waiting_and_not_the_cancel() {
    let cancel = asked(OURS).ask(r#""cancel""#).say(r#"{"cancelled":"X"}"#);
    let never = watch(&[RUNNING]).hold();
    let mut fake = Fake::start([cancel, never, look(RUNNING, b""), look(RUNNING, b"")]);
    fake.console.json = true;
    let args = CancelArgs { timeout: Some(Duration::from_secs(5)), ..args(&["X"]) };
    assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code::TIMED_OUT));
    let told: Value = serde_json::from_str(&fake.out().await).unwrap();
    assert_eq!((&told["StateName"], &told["EndedAt"]), (&json!("Running"), &Value::Null));
    assert!(fake.err().await.contains("has not ended within 5s; the cancel goes on"));
}

#[tokio::test]
async fn an_interruption_ends_the_waiting() {
    let cancel = asked(OURS).ask(r#""cancel""#).say(r#"{"cancelled":"X"}"#);
    let mut fake = Fake::start([cancel, watch(&[RUNNING]).hold()]);
    let pull = fake.pull_when_heard("watch");
    let door = fake.door();
    let (waited, ()) = tokio::join!(run(&door, args(&["X"]), &mut fake.console), pull);
    let failure = waited.unwrap_err();
    assert_eq!(failure.code, Code::CANCELED);
    assert!(failure.text.contains("the cancel goes on"), "{failure}");
}

#[test]
fn a_character_that_was_cut_in_two_is_left_out() {
    assert_eq!(from_whole_character("€a".as_bytes()[1..].to_vec()), b"a");
    assert_eq!(from_whole_character(b"\x80\x80\x80\x80".to_vec()), b"\x80");
    assert_eq!(from_whole_character(b"abc".to_vec()), b"abc");
}
