//! A daemon of ours and a Go daemon are asked to run something, by a script.

use std::time::Duration;

use workunits::request::{Offers, Span};

use super::*;
use crate::{
    args::{Command, PayloadArgs, Receptorctl, Work},
    client::{
        self,
        fake::{Fake, Script},
    },
};

const OURS: &str = r#"{"Version":"1.6.9","Features":["request-id","payload-length","payload-framed","watch","stderr-separate"]}"#;
const GO: &str = r#"{"Version":"1.6.9"}"#;
const CREATED: &str = "Work unit created with ID aB3dEf9Z. Send stdin data and EOF.";
const STARTED: &str = r#"{"result":"Job Started","unitid":"aB3dEf9Z"}"#;

fn args(payload: &str) -> SubmitArgs {
    SubmitArgs {
        worktype: "cat".into(),
        params: vec![],
        node: Some("bar".into()),
        payload: PayloadArgs { payload: Some(payload.into()), payload_literal: None, no_payload: false },
        tls_client: String::new(),
        ttl: String::new(),
        signwork: false,
        follow: false,
        rm: false,
        timeout: None,
        not_before: None,
        max_output: None,
        keep: None,
        command: None,
        arg: vec![],
        env: vec![],
        directory: None,
        user: None,
        limit: vec![],
        stderr: None,
        param: vec![],
    }
}

fn literal(text: &str) -> SubmitArgs {
    let payload = PayloadArgs { payload: None, payload_literal: Some(text.into()), no_payload: false };
    SubmitArgs { payload, ..args("") }
}

fn asked(features: &str) -> Script {
    Script::new().greet().ask("Features").say(features)
}

#[tokio::test]
async fn toward_a_go_daemon_nothing_of_ours_is_said() {
    let line = r#"{"command":"work","node":"bar","subcommand":"submit","worktype":"cat"}"#;
    let script = asked(GO).ask(line).say(CREATED).eof_after(b"hi\n").say(STARTED);
    let mut fake = Fake::start([script]);
    assert_eq!(run(&fake.door(), literal("hi"), &mut fake.console).await, Ok(Code::OK));
    assert_eq!(fake.out().await, "Result: Job Started\nUnit ID: aB3dEf9Z\n");
}

#[tokio::test]
async fn a_literal_declares_its_length_and_a_pipe_comes_in_frames() {
    let script = asked(OURS).ask(r#"\"length\":3"#).say(CREATED).eof_after(b"hi\n").say(STARTED);
    let mut fake = Fake::start([script]);
    assert_eq!(run(&fake.door(), literal("hi"), &mut fake.console).await, Ok(Code::OK));
    assert!(fake.out().await.ends_with("Unit ID: aB3dEf9Z\n"));

    let framed = b"\0\0\0\x02hi\0\0\0\0";
    let script = asked(OURS).ask(r#"\"framed\":true"#).say(CREATED).exactly(framed).say(STARTED);
    let mut fake = Fake::start([script]).input(b"hi");
    assert_eq!(run(&fake.door(), args("-"), &mut fake.console).await, Ok(Code::OK));
    assert!(fake.out().await.ends_with("Unit ID: aB3dEf9Z\n"));
}

#[tokio::test]
async fn following_ends_with_the_commands_code_and_rm_removes_the_unit() {
    let submit = asked(OURS).ask(r#"\"stderr\":\"separate\""#).say(CREATED).eof_after(b"hi\n").say(STARTED);
    let status = br#"{"State":3,"Detail":"exit status 4","Outcome":"exit","ExitCode":4}"#;
    let frames = [&b"o\0\0\0\x03hi\ns\0\0\0"[..], &[status.len() as u8], status, b"z\0\0\0\0"].concat();
    let watch = asked(OURS).ask("watch").say("Watching work unit aB3dEf9Z").raw(&frames);
    let release = Script::new().greet().ask(r#""release""#).say(r#"{"released":"aB3dEf9Z"}"#);
    let mut fake = Fake::start([submit, watch, release]);
    let args = SubmitArgs { follow: true, rm: true, ..literal("hi") };
    assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code(4)));
    assert_eq!(fake.out().await, "hi\n");
}

#[tokio::test]
async fn without_follow_rm_releases_at_once_as_receptorctl_does() {
    let submit = asked(OURS).ask("submit").say(CREATED).eof_after(b"hi\n").say(STARTED);
    let release = asked(OURS).ask(r#""release""#).say(r#"{"released":"aB3dEf9Z"}"#);
    let mut fake = Fake::start([submit, release]);
    let args = SubmitArgs { rm: true, ..literal("hi") };
    assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code::OK));
    let said = "Result: Job Started\nUnit ID: aB3dEf9Z\nReleased:\n(aB3dEf9Z, released)\n";
    assert_eq!(fake.out().await, said);
    assert!(fake.err().await.contains("--rm without --follow"));
}

#[tokio::test]
async fn a_refusal_is_told_with_the_unit_it_concerns() {
    for (script, text) in [
        (
            asked(GO).ask("submit").say("ERROR: unknown work type cat"),
            "unknown work type cat; `netmesh status`",
        ),
        (
            asked(GO).ask("submit").say(CREATED).eof_after(b"hi\n").say("ERROR: no space"),
            "unit aB3dEf9Z was not started on `bar`: no space",
        ),
        (
            asked(GO).ask("submit").say(CREATED).eof_after(b"hi\n").say(
                "ERROR: could not parse response: ERROR: could not verify signature: signature is empty",
            ),
            "on `bar`: it said: could not verify signature: signature is empty; sign the submission with --signwork",
        ),
        (asked(GO).ask("submit").say(CREATED).eof_after(b"hi\n"), "netmesh work status aB3dEf9Z"),
        (asked(GO).ask("submit").say("what?"), "nobody understands"),
        (asked(GO).ask("submit"), "it hung up"),
        (Script::new().say("SSH-2.0-OpenSSH"), "is no control socket"),
        (Script::new().raw(b"\xff\xfe\n"), "is no control socket"),
        (Script::new(), "it hung up"),
    ] {
        let mut fake = Fake::start([script]);
        let failure = run(&fake.door(), literal("hi"), &mut fake.console).await.unwrap_err();
        assert_eq!(failure.code, Code::NOT_DONE, "{failure}");
        assert!(failure.text.contains(text), "{failure}");
    }
}

#[tokio::test]
async fn an_interrupted_payload_starts_nothing_not_even_at_a_go_daemon() {
    let (_writer, input) = tokio::io::duplex(1); // a pipe that never ends
    let submit = asked(GO).ask("submit").say(CREATED).hold();
    let release = Script::new().greet().ask(r#""release""#).say(r#"{"released":"aB3dEf9Z"}"#);
    let mut fake = Fake::start([submit, release]);
    fake.console.input = Box::new(input);
    let door = fake.door();
    let pull = fake.pull_when_heard("submit");
    let command = Command::Work(Work::Submit(Box::new(args("-"))));
    let outer = Receptorctl::default();
    let submitting = client::run(command, &door.socket, &outer, &mut fake.console);
    let (submitted, ()) = tokio::join!(submitting, pull);
    let failure = submitted.unwrap_err();
    assert_eq!(failure.code, Code::CANCELED);
    assert!(failure.text.contains("interrupted"), "{failure}");
    fake.out().await; // the unit was released
}

#[test]
fn parameters_are_put_together_as_receptorctl_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config");
    std::fs::write(&file, "text\n").unwrap();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let args = SubmitArgs {
        params: vec!["/root/".into(), "/bin/".into()],
        param: vec![
            pair("params", "--all"),
            pair("secret_kube_config", &format!("@{}", file.display())),
            pair("at", "@@home"),
            pair("empty", ""),
            pair("ttl", "10m"),
        ],
        ..literal("")
    };
    let submit = request(&args).unwrap();
    assert_eq!(submit.params["params"], "--all /root/ /bin/");
    assert_eq!(submit.params["secret_kube_config"], "text\n");
    assert_eq!(submit.params["at"], "@@home");
    assert_eq!(submit.params["empty"], "");
    assert_eq!(submit.ttl, "10m");
}

#[tokio::test]
async fn what_is_asked_of_the_process_goes_to_a_daemon_that_offers_it_and_no_other() {
    let asking = |text: &str| SubmitArgs {
        command: Some("ls".into()),
        arg: vec!["-l".into(), "a b".into()],
        env: vec![("A".into(), "b=c".into())],
        limit: vec!["memory=1GiB".parse().unwrap(), "cpu=5".parse().unwrap(), "cpu=9".parse().unwrap()],
        ..literal(text)
    };
    let ours = r#"{"Version":"1.6.9","Features":["sandbox","payload-length"]}"#;
    let said = r#"\"sandbox\":{\"command\":\"ls\",\"args\":[\"-l\",\"a b\"],\"env\":{\"A\":\"b=c\"},\"limits\":{\"cpu\":5,\"memory\":1073741824}}"#;
    let mut fake = Fake::start([asked(ours).ask(said).say(CREATED).eof_after(b"hi\n").say(STARTED)]);
    assert_eq!(run(&fake.door(), asking("hi"), &mut fake.console).await, Ok(Code::OK));

    for features in [GO, OURS] {
        let mut fake = Fake::start([asked(features)]);
        let failure = run(&fake.door(), asking("hi"), &mut fake.console).await.unwrap_err();
        assert_eq!(failure.code, Code::USAGE, "{failure}");
        assert!(failure.text.contains("this daemon knows none of them"), "{failure}");
    }
    for bad in [
        SubmitArgs { directory: Some("here".into()), ..literal("hi") },
        SubmitArgs { env: vec![("NETMESH_UNIT".into(), "x".into())], ..literal("hi") },
    ] {
        let mut fake = Fake::start([asked(ours)]);
        let failure = run(&fake.door(), bad, &mut fake.console).await.unwrap_err();
        assert_eq!(failure.code, Code::USAGE, "{failure}");
    }
}

#[test]
fn what_is_wrong_with_a_parameter_is_found_before_anything_is_submitted() {
    for (key, value) in [("node", "evil"), ("netmesh", "{}"), ("file", "@/nonexistent")] {
        let args = SubmitArgs { param: vec![(key.into(), value.into())], ..literal("") };
        assert_eq!(request(&args).unwrap_err().code, Code::USAGE, "{key}");
    }
    for (node, ttl, good) in [
        (Some("bar"), "1h20m30s", true),
        (Some("bar"), "soon", false),
        (Some("bar"), "5", false),
        (Some("bar"), "-5s", false),
        (Some("localhost"), "5s", true),
        (None, "5s", true),
        (None, "soon", false),
    ] {
        let args = SubmitArgs { node: node.map(str::to_owned), ttl: ttl.into(), ..literal("") };
        assert_eq!(
            request(&args).map_err(|failure| failure.code).err(),
            (!good).then_some(Code::USAGE),
            "{ttl}"
        );
    }
}

#[test]
fn work_at_home_is_told_its_time_to_live_in_our_words_and_other_work_in_receptors() {
    for (node, offered, wanted) in [
        (Some("bar"), true, Ok(("10m", None))),
        (Some("bar"), false, Ok(("10m", None))),
        (None, true, Ok(("", Some(Span(Duration::from_secs(600)))))),
        (None, false, Err(Code::USAGE)),
    ] {
        let args = SubmitArgs { node: node.map(str::to_owned), ttl: "10m".into(), ..literal("") };
        let mut submit = request(&args).unwrap();
        let told = local_ttl(&mut submit, Offers { meta: offered, ..Offers::default() });
        let told =
            told.map(|()| (submit.ttl.as_str(), submit.extension.meta.ttl)).map_err(|failure| failure.code);
        assert_eq!(told, wanted, "{node:?} {offered}");
    }
}
