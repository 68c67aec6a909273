//! What a work type says of its process, what a submission may change of it, and what comes out of both.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use netmesh::json::parse_go_duration;

use serde::{Deserialize, Serialize};

use super::split::{BadArguments, split};
use crate::request::{ErrorCode, Excess, Limits, MaxOutput, Meta, Sandbox, stricter};

/// How a work type's process is run, bounded and stopped, besides its command and `params`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Its arguments, each as it stands.
    pub args: Vec<String>,
    /// Who runs it: `USER` or `USER:GROUP`; the daemon's own user where this is missing.
    pub user: Option<String>,
    /// Where it runs; where the daemon runs, if this is missing.
    pub directory: Option<String>,
    /// What its environment has besides.
    pub env: BTreeMap<String, String>,
    /// Which of the daemon's variables it has.
    pub inherit: Inherit,
    /// How long it may run.
    pub timeout: Option<Duration>,
    /// How much it may write.
    pub max_output: Option<MaxOutput>,
    /// What the kernel lets it use.
    pub limits: Limits,
    /// How it is stopped.
    pub stop: Ladder,
    /// What a submission may change.
    pub allow: Allow,
}

/// Which of the daemon's variables a command has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inherit {
    /// All but the ones that a service manager meant for the daemon alone.
    #[default]
    All,
    /// The few that a program cannot well do without ([`Inherit::CLEAN`]), and these.
    Only(Vec<String>),
}

/// What a submission may change of what the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Its program, and with it the arguments.
    pub command: bool,
    /// Its user.
    pub user: bool,
    /// Its directory.
    pub directory: bool,
    /// Its environment.
    pub env: bool,
}

/// One signal on the way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopStep {
    /// Its number.
    pub signal: i32,
    /// When, in milliseconds since the stop began.
    pub after_ms: u64,
}

/// Why a text is no step of a stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no step of a stop; write a signal and when it is sent, as in `TERM 2s`")]
pub struct BadStep(pub String);

/// The signals that end a command, in order; the last is SIGKILL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder(Vec<StopStep>);

/// Something that the submission asks for and the work type does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// A program of its own.
    #[error("a command was provided but is not allowed: the work type needs `allowruntimecommand`")]
    Command,
    /// Arguments.
    #[error("args were provided but are not allowed: the work type needs `allowruntimeparams`")]
    Args,
    /// A user.
    #[error("a user was provided but is not allowed: the work type needs `allowruntimeuser`")]
    User,
    /// A directory.
    #[error("a directory was provided but is not allowed: the work type needs `allowruntimedirectory`")]
    Directory,
    /// Variables.
    #[error("environment variables were provided but are not allowed: the work type needs `allowruntimeenv`")]
    Env,
}

impl NotAllowed {
    /// A word for programs, which never changes.
    pub fn code(self) -> ErrorCode {
        match self {
            NotAllowed::Command => ErrorCode::CommandNotAllowed,
            NotAllowed::Args => ErrorCode::ParamsNotAllowed,
            NotAllowed::User => ErrorCode::UserNotAllowed,
            NotAllowed::Directory => ErrorCode::DirectoryNotAllowed,
            NotAllowed::Env => ErrorCode::EnvNotAllowed,
        }
    }
}

impl Inherit {
    /// What even a clean environment has of the daemon's: where programs are, who runs them, and how they speak.
    pub const CLEAN: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ"];

    /// Whether a command gets the daemon's variable of this name.
    pub fn passes(&self, name: &str) -> bool {
        match self {
            Inherit::All => true,
            Inherit::Only(names) => Inherit::CLEAN.contains(&name) || names.iter().any(|of| of == name),
        }
    }
}

/// `TERM 2s`: a signal by name or number, and how long after the beginning of the stop it is sent; at once without that.
impl FromStr for StopStep {
    type Err = BadStep;
    fn from_str(text: &str) -> Result<StopStep, BadStep> {
        let bad = || BadStep(text.to_owned());
        let mut words = text.split_whitespace();
        let name = words.next().ok_or_else(bad)?;
        let short = name.strip_prefix("SIG").unwrap_or(name);
        let number = SIGNALS.iter().find(|(known, _)| *known == short).map(|(_, number)| *number);
        let signal = number.or_else(|| name.parse().ok().filter(|number| (1..=64).contains(number)));
        let after = words.next().map_or(Ok(Duration::ZERO), parse_go_duration).map_err(|_| bad())?;
        match (signal, words.next()) {
            (Some(signal), None) => {
                Ok(StopStep { signal, after_ms: u64::try_from(after.as_millis()).map_err(|_| bad())? })
            }
            _ => Err(bad()),
        }
    }
}

/// The signals that programs take for a wish to end, and their numbers on Linux.
const SIGNALS: [(&str, i32); 8] = [
    ("HUP", 1),
    ("INT", SIGINT),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", SIGKILL),
    ("USR1", 10),
    ("USR2", 12),
    ("TERM", SIGTERM),
];

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// When a ladder that does not end in SIGKILL gets it, at the earliest.
const KILL_AFTER_MS: u64 = 10_000;

/// SIGINT as Receptor sends it, SIGTERM for what ignores that (shells do), SIGKILL in the end.
impl Default for Ladder {
    fn default() -> Ladder {
        Ladder::new(vec![
            StopStep { signal: SIGINT, after_ms: 0 },
            StopStep { signal: SIGTERM, after_ms: 2_000 },
        ])
    }
}

impl Ladder {
    /// These steps, in the order of their times. SIGKILL after 10 s is added to those that do not end with it: every
    /// stop ends.
    pub fn new(mut steps: Vec<StopStep>) -> Ladder {
        steps.sort_by_key(|step| step.after_ms);
        let last = steps.last().copied();
        if last.is_none_or(|last| last.signal != SIGKILL) {
            let after_ms = last.map_or(KILL_AFTER_MS, |last| last.after_ms.max(KILL_AFTER_MS));
            steps.push(StopStep { signal: SIGKILL, after_ms });
        }
        Ladder(steps)
    }

    /// Its steps.
    pub fn steps(&self) -> &[StopStep] {
        &self.0
    }
}

impl Rules {
    /// Whether a submission may ask for this of a type that takes parameters, or does not. What only restricts may
    /// always be asked for.
    pub fn permit(&self, asked: &Sandbox, takes_params: bool) -> Result<(), NotAllowed> {
        let own_program = asked.command.is_some() && self.allow.command;
        for (asks, allowed, refusal) in [
            (asked.command.is_some(), self.allow.command, NotAllowed::Command),
            (!asked.args.is_empty(), takes_params || own_program, NotAllowed::Args),
            (asked.user.is_some(), self.allow.user, NotAllowed::User),
            (asked.directory.is_some(), self.allow.directory, NotAllowed::Directory),
            (!asked.env.is_empty(), self.allow.env, NotAllowed::Env),
        ] {
            if asks && !allowed {
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// The program and its arguments: the configured ones, `params` split into words, then the submission's list. A
    /// submission that names a program has nothing of the configured one.
    pub fn argv(&self, command: &str, params: &str, asked: &Sandbox) -> Result<Vec<String>, BadArguments> {
        let (program, configured): (_, &[String]) = match &asked.command {
            Some(program) => (program.as_str(), &[]),
            None => (command, &self.args),
        };
        let mut argv = vec![program.to_owned()];
        argv.extend_from_slice(configured);
        argv.extend(split(params)?);
        argv.extend_from_slice(&asked.args);
        Ok(argv)
    }

    /// How long the unit may run: the stricter of both counts.
    pub fn timeout(&self, asked: &Meta) -> Option<Duration> {
        stricter(self.timeout, asked.timeout.map(|span| span.0))
    }

    /// How much the unit may write: the stricter of both counts, and of two alike the one that kills.
    pub fn max_output(&self, asked: &Meta) -> Option<MaxOutput> {
        let strictness = |limit: &MaxOutput| (limit.bytes, limit.then == Excess::Truncate);
        self.max_output.into_iter().chain(asked.max_output).min_by_key(strictness)
    }

    /// The variables that are set besides the inherited ones; the node's own names cannot be among them.
    pub fn env(&self, asked: &Sandbox) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.extend(asked.env.clone());
        env
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn nothing_that_widens_is_allowed_unless_the_work_type_says_so() {
        let all = Allow { command: true, user: true, directory: true, env: true };
        for (asked, code) in [
            (Sandbox { command: Some("id".into()), ..Sandbox::default() }, "command_not_allowed"),
            (Sandbox { args: texts(&["-l"]), ..Sandbox::default() }, "params_not_allowed"),
            (Sandbox { user: Some("root".into()), ..Sandbox::default() }, "user_not_allowed"),
            (Sandbox { directory: Some("/".into()), ..Sandbox::default() }, "directory_not_allowed"),
            (Sandbox { env: [("A".into(), "b".into())].into(), ..Sandbox::default() }, "env_not_allowed"),
        ] {
            assert_eq!(Rules::default().permit(&asked, false).unwrap_err().code(), code);
            assert_eq!(Rules { allow: all, ..Rules::default() }.permit(&asked, true), Ok(()));
        }
        let limits = Limits { cpu: Some(1), ..Limits::default() };
        assert_eq!(Rules::default().permit(&Sandbox { limits, ..Sandbox::default() }, false), Ok(()));
        let program = Sandbox { command: Some("ls".into()), args: texts(&["-l"]), ..Sandbox::default() };
        assert_eq!(
            Rules { allow: all, ..Rules::default() }.permit(&program, false),
            Ok(()),
            "any arguments too"
        );
    }

    #[test]
    fn arguments_of_a_list_are_never_split_and_a_program_of_its_own_has_its_own_arguments() {
        let rules = Rules { args: texts(&["-c", "echo $0 $1"]), ..Rules::default() };
        let mut asked = Sandbox { args: texts(&["a b", "'"]), ..Sandbox::default() };
        let argv = rules.argv("sh", "x 'y z'", &asked).unwrap();
        assert_eq!(argv, ["sh", "-c", "echo $0 $1", "x", "y z", "a b", "'"]);
        asked.command = Some("ls".to_owned());
        assert_eq!(rules.argv("sh", "", &asked).unwrap(), ["ls", "a b", "'"]);
        assert_eq!(rules.argv("sh", "'", &asked), Err(BadArguments::OpenQuote));
    }

    #[test]
    fn the_stricter_of_work_type_and_submission_counts() {
        let limit = |bytes, then| Some(MaxOutput { bytes, then });
        let meta: Meta =
            serde_json::from_str(r#"{"timeout":"5s","max_output":{"bytes":7,"then":"truncate"}}"#).unwrap();
        let rules = |secs, bytes| Rules {
            timeout: Some(Duration::from_secs(secs)),
            max_output: limit(bytes, Excess::Kill),
            ..Rules::default()
        };
        assert_eq!(rules(9, 9).timeout(&meta), Some(Duration::from_secs(5)));
        assert_eq!(rules(1, 9).timeout(&meta), Some(Duration::from_secs(1)));
        assert_eq!(rules(9, 9).max_output(&meta), limit(7, Excess::Truncate));
        assert_eq!(rules(9, 7).max_output(&meta), limit(7, Excess::Kill));
        assert_eq!(rules(9, 6).max_output(&meta), limit(6, Excess::Kill));
        assert_eq!(
            (Rules::default().timeout(&Meta::default()), Rules::default().max_output(&meta)),
            (None, limit(7, Excess::Truncate))
        );
    }

    #[test]
    fn every_ladder_ends_in_a_kill() {
        let step = |signal, after_ms| StopStep { signal, after_ms };
        assert_eq!(Ladder::default().steps(), [step(2, 0), step(15, 2_000), step(9, 10_000)]);
        assert_eq!(Ladder::new(vec![]).steps(), [step(9, 10_000)]);
        assert_eq!(Ladder::new(vec![step(9, 0)]).steps(), [step(9, 0)]);
        assert_eq!(
            Ladder::new(vec![step(1, 60_000), step(2, 5)]).steps(),
            [step(2, 5), step(1, 60_000), step(9, 60_000)]
        );
    }

    #[test]
    fn a_step_reads_as_people_write_it() {
        for (text, signal, after_ms) in
            [("INT", 2, 0), ("TERM 2s", 15, 2_000), ("SIGHUP 1m", 1, 60_000), ("34 1.5s", 34, 1_500)]
        {
            assert_eq!(text.parse(), Ok(StopStep { signal, after_ms }), "{text}");
        }
        for bad in ["", "2s", "TERM two", "TERM 2s 3s", "0 1s", "65", "int"] {
            assert_eq!(bad.parse::<StopStep>(), Err(BadStep(bad.to_owned())));
        }
    }

    #[test]
    fn a_clean_environment_has_what_is_named_and_little_else() {
        let clean = Inherit::Only(texts(&["HTTP_PROXY"]));
        assert!(clean.passes("PATH") && clean.passes("HTTP_PROXY") && !clean.passes("AWS_SECRET"));
        assert!(Inherit::All.passes("AWS_SECRET"));
    }
}
