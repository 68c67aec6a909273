//! `netmesh work submit TYPE [PARAMS...]`
//!
//! ```text
//! client   {"command":"work","subcommand":"submit",...}␊
//! daemon   Work unit created with ID X. Send stdin data and EOF.␊
//! client   payload, half-close
//! daemon   {"result":"Job Started","unitid":"X"}␊
//! ```

use std::{collections::BTreeMap, fs, io::Read as _};

use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt as _;
use workunits::request::{Extension, PayloadEnd, Stderr, Submit, WorkRequest};

use super::{
    follow::Follow,
    payload::{Cut, Payload},
    printer::Printer,
};
use crate::{
    args::{StderrArg, SubmitArgs},
    client::{
        Console, Door,
        session::{NoAnswer, Offers, Session},
    },
    exit::{Code, Failure},
};

/// Submits a unit; with `--follow` prints its output and returns the command's own code.
///
/// JSON: `{"result":"Job Started","unitid":"X"}`; with `--follow` the events of [`Printer`].
pub(super) async fn run(door: &Door, args: SubmitArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut submit = request(&args)?;
    let payload = Payload::open(&args.payload, console).await?;
    let mut session = door.open().await?;
    let offers = session.offers().await?;
    submit.extension = extension(&args, payload.end(offers), offers)?;
    let interrupt = console.interrupt.clone();
    let mut unfinished = None;
    let submitted = tokio::select! {
        biased;
        submitted = upload(&mut session, &submit, payload, &mut unfinished) => submitted,
        () = interrupt.wait() => Err(Failure::new(Code::CANCELED, "interrupted before the payload was complete")),
    };
    let Submitted { unit, result } = match submitted {
        Ok(submitted) => submitted,
        Err(failure) => return Err(not_submitted(door, failure, unfinished, &submit.extension).await),
    };
    drop(session);
    let mut printer = Printer::new(&unit, console.json);
    if !args.follow {
        match console.json {
            true => console.pretty(&json!({"result": result, "unitid": unit})).await?,
            false => console.bytes(format!("Result: {result}\nUnit ID: {unit}\n").as_bytes()).await?,
        }
        return Ok(Code::OK);
    }
    printer.submitted(&result, console).await?;
    if result == "Job Submitted" {
        console.say(&format!("unit {unit} starts once `{}` can be reached", submit.node)).await;
    }
    let code = Follow::new(door, &unit).run(&mut printer, console).await?;
    if args.rm {
        release(door, &unit).await.map_err(|no_answer| {
            Failure::not_done(format!("unit {unit} has ended, but cannot be released: {no_answer}"))
        })?;
        printer.released(console).await?;
    }
    Ok(code)
}

/// What the daemon said of a unit whose payload is complete.
struct Submitted {
    unit: String,
    result: String,
}

/// The request that the flags describe, but for what depends on the daemon.
fn request(args: &SubmitArgs) -> Result<Submit, Failure> {
    let mut submit = Submit {
        node: args.node.clone().filter(|node| !node.is_empty()).unwrap_or_else(|| "localhost".to_owned()),
        work_type: args.worktype.clone(),
        tls_client: args.tls_client.clone(),
        ttl: args.ttl.clone(),
        sign_work: args.signwork,
        ..Submit::default()
    };
    // The last of several with one name counts.
    let params: BTreeMap<&str, &str> =
        args.param.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (name, value) in params {
        let value = param_text(name, value)?;
        // Receptor's client lets a parameter fill a member that no flag has filled.
        match name {
            "tlsclient" if submit.tls_client.is_empty() => submit.tls_client = value,
            "ttl" if submit.ttl.is_empty() => submit.ttl = value,
            "signature" => submit.signature = value,
            "signwork" if !submit.sign_work => submit.sign_work = value == "true",
            taken if Submit::MEMBERS.contains(&taken) => {
                return Err(Failure::usage(format!(
                    "`{taken}` cannot be a parameter: it is a member of the submission itself"
                )));
            }
            _ => drop(submit.params.insert(name.to_owned(), value)),
        }
    }
    if !args.params.is_empty() {
        let first = submit.params.remove("params");
        let words: Vec<String> = first.into_iter().chain(args.params.iter().cloned()).collect();
        submit.params.insert("params".to_owned(), words.join(" "));
    }
    Ok(submit)
}

/// A parameter's text: a file's for `@FILE`, otherwise as it stands.
fn param_text(name: &str, value: &str) -> Result<String, Failure> {
    let Some(path) = value.strip_prefix('@').filter(|path| !path.starts_with('@')) else {
        return Ok(value.to_owned());
    };
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text));
    read.map_err(|error| {
        Failure::usage(format!("parameter `{name}`: cannot read the text of {path}: {error}"))
    })?;
    Ok(text)
}

/// What only a daemon that offers it is told.
fn extension(args: &SubmitArgs, payload: Option<PayloadEnd>, offers: Offers) -> Result<Extension, Failure> {
    let stderr = match (args.stderr, offers.stderr_separate) {
        (Some(StderrArg::Separate), false) => {
            return Err(Failure::usage("--stderr separate: this daemon cannot keep the error output apart"));
        }
        (_, false) => None,
        (Some(StderrArg::Separate), true) => Some(Stderr::Separate),
        (Some(StderrArg::Merge), true) => Some(Stderr::Merge),
        (None, true) => args.follow.then_some(Stderr::Separate),
    };
    let request_id = match offers.request_id {
        true => Some(random_id()?),
        false => None,
    };
    Ok(Extension { request_id, payload, stderr, parent: None })
}

/// 128 random bits from the kernel, 32 hex digits.
fn random_id() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| Failure::not_done(format!("cannot read /dev/urandom: {error}")))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Speaks the whole exchange. `unfinished` names the unit from its creation until its payload is complete.
async fn upload(
    session: &mut Session,
    submit: &Submit,
    payload: Payload,
    unfinished: &mut Option<String>,
) -> Result<Submitted, Failure> {
    session.say(&WorkRequest::Submit(submit.clone()).to_line()).await?;
    let header = session.reply().await.map_err(|no_answer| match no_answer {
        NoAnswer::Refused(text) => {
            let next = match text.contains("unknown work type") {
                true => "; `netmesh status` lists nodes and work types",
                false => "",
            };
            Failure::not_done(format!(
                "cannot submit `{}` to `{}`: {text}{next}",
                submit.work_type, submit.node
            ))
        }
        other => other.into(),
    })?;
    let unit =
        header.split_once(" with ID ").and_then(|(_, rest)| rest.split_once('.')).map(|(unit, _)| unit);
    let unit = unit.ok_or_else(|| session.garbled(header.clone()))?.to_owned();
    *unfinished = Some(unit.clone());
    let sent = {
        let (read, write) = session.halves();
        tokio::select! {
            biased;
            sent = payload.send(submit.extension.payload.as_ref(), write) => sent,
            // Words before the payload has ended: the daemon refuses it, or is gone.
            _ = read.fill_buf() => Err(Cut::Daemon),
        }
    };
    match sent {
        Ok(()) => drop(session.finish().await), // a daemon that is gone does not answer below
        Err(Cut::Source(failure)) => return Err(failure),
        Err(Cut::Daemon) => {}
    }
    *unfinished = None;
    let reply = session.object().await.map_err(|no_answer| match no_answer {
        NoAnswer::Refused(text) => Failure::not_done(format!("unit {unit} was not started: {text}")),
        gone => Failure::not_done(format!("{gone}; `netmesh work status {unit}` shows what became of it")),
    })?;
    let member = |name: &str| reply.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(Submitted { unit: member("unitid").unwrap_or(unit), result: member("result").unwrap_or_default() })
}

/// A failed submission. A daemon that cannot tell a cut payload from a complete one would start the command at our
/// end: it is told to drop the unit before.
async fn not_submitted(
    door: &Door,
    failure: Failure,
    unfinished: Option<String>,
    extension: &Extension,
) -> Failure {
    let Some(unit) = unfinished else { return failure };
    let became = match extension.payload {
        Some(_) => "was not started",
        None if release(door, &unit).await.is_ok() => "was released",
        None => "may have started with what it has",
    };
    Failure::new(failure.code, format!("{failure}; unit {unit} {became}"))
}

async fn release(door: &Door, unit: &str) -> Result<(), NoAnswer> {
    let release = WorkRequest::Release { unit: unit.to_owned(), force: false, signature: String::new() };
    door.open().await?.ask(&release.to_line()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
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
        let submit =
            asked(OURS).ask(r#"\"stderr\":\"separate\""#).say(CREATED).eof_after(b"hi\n").say(STARTED);
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
    async fn a_refusal_is_told_with_the_unit_it_concerns() {
        for (script, text) in [
            (
                asked(GO).ask("submit").say("ERROR: unknown work type cat"),
                "unknown work type cat; `netmesh status`",
            ),
            (
                asked(GO).ask("submit").say(CREATED).eof_after(b"hi\n").say("ERROR: no space"),
                "unit aB3dEf9Z was not started: no space",
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
        fs::write(&file, "text\n").unwrap();
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

    #[test]
    fn what_is_wrong_with_a_parameter_is_found_before_anything_is_submitted() {
        for (key, value) in [("node", "evil"), ("netmesh", "{}"), ("file", "@/nonexistent")] {
            let args = SubmitArgs { param: vec![(key.into(), value.into())], ..literal("") };
            assert_eq!(request(&args).unwrap_err().code, Code::USAGE, "{key}");
        }
    }
}
