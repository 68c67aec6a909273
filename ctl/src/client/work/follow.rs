//! A unit followed to its end: output printed as it grows, by offset, so that a restarted daemon costs no byte.
//!
//! A daemon that offers `watch` pushes status and output over one conversation. Toward a Go daemon the results are
//! streamed and the status asked for: at the end, and once a second meanwhile, because a Go daemon never ends the
//! results of a canceled unit.

use std::{io, time::Duration};

use serde_json::{Map, Value};
use tokio::time::{Instant, sleep, timeout_at};
use workunits::{
    request::{Output, WorkRequest},
    unit::{State, Unit},
};

use super::{
    printer::{Channel, Printer},
    with_next_step,
};
use crate::{
    client::{
        Console, Door,
        session::{NoAnswer, Session},
    },
    exit::{Code, Failure},
};

/// How long a daemon that went away may stay away.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// The first and the longest pause between two attempts to reach it.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often a Go daemon is asked for a status.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The longest status frame taken, in bytes.
const STATUS_MAX: u32 = 8 << 20;

/// One unit, and how much of its output has been printed.
pub(super) struct Follow<'a> {
    door: &'a Door,
    unit: &'a str,
    stdout: u64,
    stderr: u64,
    /// Whether the daemon has answered yet; only then is it worth waiting for when it goes away.
    met: bool,
}

/// The status a unit ended with.
struct Ended {
    unit: Unit,
    status: Map<String, Value>,
}

/// Why an attempt to follow ended before the unit did.
enum Stop {
    NoAnswer(NoAnswer),
    Failure(Failure),
    /// The output ended and the unit did not: its daemon is being stopped.
    TooEarly,
}

impl From<NoAnswer> for Stop {
    fn from(no_answer: NoAnswer) -> Stop {
        Stop::NoAnswer(no_answer)
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Stop {
        Stop::Failure(failure)
    }
}

impl<'a> Follow<'a> {
    pub(super) fn new(door: &'a Door, unit: &'a str) -> Follow<'a> {
        Follow { door, unit, stdout: 0, stderr: 0, met: false }
    }

    /// Prints all output until the unit has ended, and returns the command's code.
    ///
    /// # Errors
    /// Interruption, which leaves the unit running; a daemon that is gone for too long; a refusal.
    pub(super) async fn run(
        &mut self,
        printer: &mut Printer,
        console: &mut Console,
    ) -> Result<Code, Failure> {
        let interrupt = console.interrupt.clone();
        let unit = self.unit;
        let ended = tokio::select! {
            biased;
            ended = self.until_ended(printer, console) => ended?,
            () = interrupt.wait() => {
                return Err(Failure::new(
                    Code::CANCELED,
                    format!("no longer following; unit {unit} runs on: `netmesh work results {unit}` follows it again, `netmesh work cancel {unit}` ends it"),
                ));
            }
        };
        let code = Code::of_unit(&ended.unit);
        printer.end(&ended.status, code, console).await?;
        match ended.unit.state {
            State::Succeeded => {}
            State::Canceled => console.say(&format!("unit {unit} was canceled")).await,
            _ => console.say(&format!("unit {unit} failed: {}", ended.unit.detail)).await,
        }
        Ok(code)
    }

    async fn until_ended(&mut self, printer: &mut Printer, console: &mut Console) -> Result<Ended, Failure> {
        // A daemon that stays away keeps its deadline, one that lets bytes through gets a new one.
        let mut away: Option<(Instant, (u64, u64))> = None;
        let mut pause = PAUSE.0;
        loop {
            let stop = match self.attempt(printer, console).await {
                Ok(ended) => return Ok(ended),
                Err(Stop::Failure(failure)) => return Err(failure),
                Err(Stop::NoAnswer(NoAnswer::Refused(text))) => {
                    let text = with_next_step(&text);
                    return Err(Failure::not_done(format!("cannot follow unit {}: {text}", self.unit)));
                }
                Err(Stop::NoAnswer(no_answer)) if !(self.met && no_answer.is_gone()) => {
                    return Err(no_answer.into());
                }
                Err(stop) => stop,
            };
            let at = (self.stdout, self.stderr);
            let deadline = match away {
                Some((deadline, before)) if before == at => deadline,
                _ => {
                    pause = PAUSE.0;
                    console
                        .say(&format!("the daemon went away; waiting for it, unit {} runs on", self.unit))
                        .await;
                    let deadline = Instant::now() + AWAY_MAX;
                    away = Some((deadline, at));
                    deadline
                }
            };
            if Instant::now() >= deadline {
                let why = match stop {
                    Stop::NoAnswer(no_answer) => no_answer.to_string(),
                    _ => "its output ends before it does".to_owned(),
                };
                return Err(Failure::not_done(format!(
                    "unit {0}: {why}; once the node is up again, `netmesh work results {0}` prints its output",
                    self.unit
                )));
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn attempt(&mut self, printer: &mut Printer, console: &mut Console) -> Result<Ended, Stop> {
        let mut session = self.door.open().await?;
        let offers = session.offers().await?;
        self.met = true;
        match offers.watch {
            true => self.watch(&mut session, printer, console).await,
            false => self.stream(&mut session, printer, console).await,
        }
    }

    /// Status and output over one conversation.
    async fn watch(
        &mut self,
        session: &mut Session,
        printer: &mut Printer,
        console: &mut Console,
    ) -> Result<Ended, Stop> {
        let request = WorkRequest::Watch {
            unit: self.unit.to_owned(),
            stdout_pos: self.stdout,
            stderr_pos: self.stderr,
            signature: String::new(),
        };
        session.say(&request.to_line()).await?;
        let header = session.reply().await?;
        if !header.starts_with("Watching work unit") {
            return Err(session.garbled(header).into());
        }
        let mut last = None;
        loop {
            match session.frame_head().await? {
                (b'o', length) => self.frame(Channel::Stdout, length, session, printer, console).await?,
                (b'e', length) => self.frame(Channel::Stderr, length, session, printer, console).await?,
                (b's', length) if length <= STATUS_MAX => {
                    let mut bytes = vec![0; length as usize];
                    session.exactly(&mut bytes).await?;
                    let status = serde_json::from_slice(&bytes);
                    let status = status.map_err(|_| session.garbled(String::from_utf8_lossy(&bytes)))?;
                    printer.status(&status, console).await?;
                    last = Some(status);
                }
                (b'z', _) => break,
                (kind, length) => {
                    return Err(session
                        .garbled(format!("a frame of kind {kind} and length {length}"))
                        .into());
                }
            }
        }
        let status = last.ok_or_else(|| session.garbled("an end without a status"))?;
        ended(status, session)?.ok_or(Stop::TooEarly)
    }

    /// One frame of output, printed as its bytes come.
    async fn frame(
        &mut self,
        channel: Channel,
        length: u32,
        session: &mut Session,
        printer: &mut Printer,
        console: &mut Console,
    ) -> Result<(), Stop> {
        let mut left = length as usize;
        while left > 0 {
            let bytes = session.bytes().await?;
            let n = bytes.len().min(left);
            if n == 0 {
                return Err(session.broken(io::ErrorKind::UnexpectedEof.into()).into());
            }
            printer.bytes(channel, &bytes[..n], console).await?;
            session.taken(n);
            left -= n;
            match channel {
                Channel::Stdout => self.stdout += n as u64,
                Channel::Stderr => self.stderr += n as u64,
            }
        }
        Ok(())
    }

    /// Results as Receptor streams them, and the status besides.
    async fn stream(
        &mut self,
        session: &mut Session,
        printer: &mut Printer,
        console: &mut Console,
    ) -> Result<Ended, Stop> {
        let request = WorkRequest::Results {
            unit: self.unit.to_owned(),
            from: i64::try_from(self.stdout).unwrap_or(i64::MAX),
            output: Output::Stdout,
            signature: String::new(),
        };
        session.say(&request.to_line()).await?;
        let header = session.reply().await?;
        if !header.starts_with("Streaming results") {
            return Err(session.garbled(header).into());
        }
        let mut ask_at = Instant::now() + ASK_EVERY;
        let mut quiet_since_canceled = false;
        loop {
            let bytes = match timeout_at(ask_at, session.bytes()).await {
                Ok(bytes) => bytes?,
                Err(_) => {
                    ask_at = Instant::now() + ASK_EVERY;
                    match self.status().await? {
                        Some(ended) if ended.unit.state == State::Canceled && quiet_since_canceled => {
                            return Ok(ended);
                        }
                        Some(ended) => quiet_since_canceled = ended.unit.state == State::Canceled,
                        None => {}
                    }
                    continue;
                }
            };
            let n = bytes.len();
            if n == 0 {
                break;
            }
            printer.bytes(Channel::Stdout, bytes, console).await?;
            session.taken(n);
            self.stdout += n as u64;
            quiet_since_canceled = false;
        }
        self.status().await?.ok_or(Stop::TooEarly)
    }

    /// The unit's status, if it has ended, from a conversation of its own.
    async fn status(&self) -> Result<Option<Ended>, Stop> {
        let mut session = self.door.open().await?;
        let request = WorkRequest::Status { unit: self.unit.to_owned(), all_fields: false };
        let status = session.ask(&request.to_line()).await?;
        Ok(ended(status, &session)?)
    }
}

fn ended(status: Map<String, Value>, session: &Session) -> Result<Option<Ended>, NoAnswer> {
    let value = Value::Object(status.clone());
    let unit: Unit =
        serde_json::from_value(value).map_err(|bad| session.garbled(format!("a status: {bad}")))?;
    Ok(unit.state.is_terminal().then_some(Ended { unit, status }))
}

#[cfg(test)]
mod tests {
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
}
