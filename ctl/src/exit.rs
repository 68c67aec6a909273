//! How an error reads on a terminal, and the code it leaves.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; with `--follow` and `work results`: the command ended well |
//! | 1 | answered, and the answer is no: a ping or a traceroute did not arrive; `--no-follow` of a unit that goes on; a node that could not start; a configuration with a fault |
//! | 2 | bad usage; nothing was submitted |
//! | 3, 4, 5 | `reload`: a restart is needed; the new configuration cannot be used; another refusal |
//! | 124 | `--follow`: the command ran longer than it may; `cancel --wait`: the time-out came before the end |
//! | 125 | what netmesh itself could not do: no connection, denied, lost, expired, never started |
//! | 130 | canceled; or following or waiting was interrupted, and then the unit runs on |
//! | 141 | nobody reads our output any more |
//! | other | `--follow`, `work attach` and `work results`: the command's own code, 128 + n when signal n ended it |

use std::io;

use workunits::{
    logic::process::Exit,
    request::Refusal,
    unit::{Outcome, State, Unit},
};

/// What `--help` says of exit codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    a ping or a traceroute did not arrive; --no-follow: a unit goes on; the node could not start;
       a configuration has a fault
  2    bad usage; nothing was submitted
  3-5  reload: a restart is needed; the configuration cannot be used; another refusal
  124  the command ran longer than it may; cancel --wait: --timeout came before the end
  125  netmesh itself could not do it: no connection, denied, lost, expired, never started
  130  canceled, or interrupted while following (the unit runs on)
  141  nobody reads the output any more
`work submit --follow`, `work attach` and `work results` end with the command's own code, 128+n for signal n;
`work results --no-follow` with 0 when the units have ended and 1 when one goes on.";

/// The code a process leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(pub(crate) u8);

impl Code {
    pub(crate) const OK: Code = Code(0);
    pub(crate) const NEGATIVE: Code = Code(1);
    pub(crate) const USAGE: Code = Code(2);
    pub(crate) const TIMED_OUT: Code = Code(124);
    pub(crate) const NOT_DONE: Code = Code(125);
    pub(crate) const CANCELED: Code = Code(130);
    pub(crate) const OUTPUT_CLOSED: Code = Code(141);

    /// The code of a unit that has ended; [`Code::NOT_DONE`] for one that has not.
    ///
    /// Our nodes say how it ended. A Go node says it in its `Detail` alone: `exit status 3`, `signal: killed`.
    pub(crate) fn of_unit(unit: &Unit) -> Code {
        match (unit.state, unit.outcome) {
            (State::Succeeded, _) => Code::OK,
            (State::Canceled, _) | (State::Failed, Some(Outcome::Canceled)) => Code::CANCELED,
            (State::Failed, Some(Outcome::TimedOut)) => Code::TIMED_OUT,
            (State::Failed, Some(Outcome::Exit)) => failed_with(unit.exit_code),
            (State::Failed, Some(Outcome::Signal)) => unit.signal.map_or(Code::NOT_DONE, Code::of_signal),
            (State::Failed, None) => Code::of_detail(&unit.detail),
            _ => Code::NOT_DONE,
        }
    }

    /// The code that a shell gives a command which signal `n` ended.
    pub(crate) fn of_signal(n: i32) -> Code {
        u8::try_from(n).ok().and_then(|n| n.checked_add(128)).map_or(Code::NOT_DONE, Code)
    }

    fn of_detail(detail: &str) -> Code {
        match Exit::read(detail) {
            Some(Exit::Code(code)) => failed_with(Some(code)),
            Some(Exit::Signal { number, .. }) => Code::of_signal(number),
            None => Code::NOT_DONE,
        }
    }
}

/// A failed command's code is never 0, whatever a status file claims.
fn failed_with(code: Option<i32>) -> Code {
    match code.and_then(|code| u8::try_from(code).ok()) {
        None | Some(0) => Code::NOT_DONE,
        Some(code) => Code(code),
    }
}

/// Why a command line did not do what it should: the code it leaves, and what to say on stderr.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// What was tried, on what, and what to do next; empty when all was said.
    pub(crate) text: String,
    /// The daemon's word for it, when it was the daemon that said no, and has words.
    pub(crate) why: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Failure {
        Failure { code, text: text.into(), why: None }
    }

    /// The same, with the word of the refusal that it comes from.
    pub(crate) fn because(self, refusal: Option<&Refusal>) -> Failure {
        Failure { why: refusal.and_then(|refusal| refusal.code.clone()), ..self }
    }

    /// Bad usage, found before anything was submitted.
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure::new(Code::USAGE, text)
    }

    /// Something that netmesh itself could not do.
    pub(crate) fn not_done(text: impl Into<String>) -> Failure {
        Failure::new(Code::NOT_DONE, text)
    }

    /// A failed write to our own output; quiet when its reader went away, as `| head` does.
    pub(crate) fn output(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Code::OUTPUT_CLOSED, ""),
            _ => Failure::not_done(format!("cannot write the output: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(outcome: Option<Outcome>, detail: &str) -> Unit {
        Unit { state: State::Failed, outcome, detail: detail.into(), ..Unit::default() }
    }

    #[test]
    fn a_go_nodes_detail_tells_the_code() {
        for (detail, code) in [
            ("exit status 3", 3),
            ("exit status 255", 255),
            ("exit status 0", 125),
            ("exit status 256", 125),
            ("signal: killed", 137),
            ("signal: terminated", 143),
            ("signal: segmentation fault (core dumped)", 139),
            ("signal: signal 34", 162),
            ("signal: nonsense", 125),
            ("Work unit expired on Sat Nov 21 00:50:54", 125),
            ("", 125),
        ] {
            assert_eq!(Code::of_unit(&failed(None, detail)), Code(code), "{detail:?}");
        }
    }

    #[test]
    fn our_own_members_tell_the_code_whatever_the_detail_says() {
        for (outcome, exit_code, signal, code) in [
            (Outcome::Exit, Some(7), None, 7),
            (Outcome::Exit, None, None, 125),
            (Outcome::Exit, Some(0), None, 125),
            (Outcome::Signal, None, Some(9), 137),
            (Outcome::Signal, None, Some(200), 125),
            (Outcome::TimedOut, None, Some(9), 124),
            (Outcome::StartFailed, None, None, 125),
            (Outcome::Denied, None, None, 125),
            (Outcome::Lost, None, None, 125),
            (Outcome::Expired, None, None, 125),
            (Outcome::IncompletePayload, None, None, 125),
            (Outcome::Canceled, None, None, 130),
        ] {
            let unit = Unit { exit_code, signal, ..failed(Some(outcome), "exit status 99") };
            assert_eq!(Code::of_unit(&unit), Code(code), "{outcome:?}");
        }
    }

    #[test]
    fn the_state_decides_before_all_else() {
        let of = |state| Code::of_unit(&Unit { state, detail: "exit status 4".into(), ..Unit::default() });
        assert_eq!(of(State::Succeeded), Code::OK);
        assert_eq!(of(State::Canceled), Code::CANCELED);
        assert_eq!(of(State::Running), Code::NOT_DONE);
        assert_eq!(of(State::Unknown(9)), Code::NOT_DONE);
    }

    #[test]
    fn a_reader_that_went_away_is_no_news() {
        assert_eq!(Failure::output(io::ErrorKind::BrokenPipe.into()), Failure::new(Code::OUTPUT_CLOSED, ""));
        assert_eq!(Failure::output(io::ErrorKind::StorageFull.into()).code, Code::NOT_DONE);
    }
}
