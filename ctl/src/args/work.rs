//! The flags of `netmesh work`.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand, ValueEnum};
use netmesh::json::parse_go_duration;
use workunits::{
    request::{Filter, Limits, MaxOutput, Span},
    unit::{Moment, State},
};

/// `netmesh work`
#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    /// Submit a unit of work.
    Submit(Box<SubmitArgs>),
    /// Print a unit's output, from its start until it has ended.
    Results(ResultsArgs),
    /// Follow a unit as if it ran here: Ctrl-C cancels it, and its exit code is ours.
    Attach(AttachArgs),
    /// Show how far a unit got.
    Status(UnitsArgs),
    /// List units.
    List(ListArgs),
    /// Take over a unit of another node that was submitted from elsewhere.
    Adopt(AdoptArgs),
    /// End units.
    Cancel(CancelArgs),
    /// End units and remove their files.
    Release(ReleaseArgs),
    /// End units and remove their files, even when their node cannot be asked.
    #[command(name = "force-release")]
    ForceRelease(ManyArgs),
}

/// Whose units are meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Via {
    /// Ask this node instead of the daemon's own.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// The daemon's TLS client profile that reaches that node.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) tls_client: String,
}

/// `netmesh work submit`
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// The work type.
    pub(crate) worktype: String,
    /// The command's parameters.
    pub(crate) params: Vec<String>,
    /// The node that runs it; otherwise the daemon's own.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    #[command(flatten)]
    pub(crate) payload: PayloadArgs,
    /// The daemon's TLS client profile that reaches the node.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) tls_client: String,
    /// How long it may wait for its start, such as 1h20m30s.
    #[arg(long, value_name = "DURATION", default_value = "", hide_default_value = true)]
    pub(crate) ttl: String,
    /// Sign the submission with the daemon's key.
    #[arg(long)]
    pub(crate) signwork: bool,
    /// Print the output as it grows, and end with the command's own exit code.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Release the unit: with --follow once it has ended, without at once, which also ends it.
    #[arg(long)]
    pub(crate) rm: bool,
    /// How long it may run before it is stopped, such as 1h20m30s.
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<Span>,
    /// It starts no earlier than then, such as 2026-11-21T04:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub(crate) not_before: Option<Moment>,
    /// How much it may write, such as 10MiB; more stops it, or is thrown away with `:truncate` behind the size.
    #[arg(long, value_name = "SIZE[:truncate]")]
    pub(crate) max_output: Option<MaxOutput>,
    /// How long its node keeps it after its end, such as 168h.
    #[arg(long, value_name = "DURATION")]
    pub(crate) keep: Option<Span>,
    /// The program, where the work type lets submitters choose it.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) command: Option<String>,
    /// An argument of the command, as it stands; never split. Repeat it for more.
    #[arg(long = "arg", value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) arg: Vec<String>,
    /// A variable of its environment, where the work type allows it. Repeat it for more.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = key_value)]
    pub(crate) env: Vec<(String, String)>,
    /// The directory that it runs in, where the work type allows it.
    #[arg(long, value_name = "PATH")]
    pub(crate) directory: Option<String>,
    /// Who runs it, where the work type allows it.
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// A limit of the kernel's, such as memory=1GiB; also cpu (seconds), files, processes, filesize, core.
    #[arg(long = "limit", value_name = "NAME=AMOUNT")]
    pub(crate) limit: Vec<Limits>,
    /// Keep the error output apart, or merge it into the output. With --follow it is kept apart where both nodes can.
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) stderr: Option<StderrArg>,
    /// A parameter: text, `@FILE` for a file's text, `@@TEXT` for text that begins with `@@`.
    #[arg(long = "param", short = 'a', value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) param: Vec<(String, String)>,
}

/// What becomes of the error output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StderrArg {
    /// It goes where the output goes.
    Merge,
    /// It stays apart.
    Separate,
}

/// The command's standard input: exactly one of three.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PayloadArgs {
    /// The command's standard input: a file, or `-` for ours.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) payload: Option<PathBuf>,
    /// The command's standard input: this text and a line feed.
    #[arg(long, short = 'l', value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) payload_literal: Option<String>,
    /// The command's standard input is empty.
    #[arg(long, short)]
    pub(crate) no_payload: bool,
}

/// `netmesh work results`
#[derive(Debug, Args)]
pub(crate) struct ResultsArgs {
    /// The units, one after the other.
    #[arg(required = true, value_name = "UNIT")]
    pub(crate) units: Vec<String>,
    /// Print the error output, where it was kept apart, instead of the output.
    #[arg(long, conflicts_with = "both")]
    pub(crate) stderr: bool,
    /// Print both: each to its own descriptor as it comes; of a unit that has ended the output first.
    #[arg(long)]
    pub(crate) both: bool,
    /// Begin with the last N lines.
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// Begin at this byte, the first one being 0.
    #[arg(long, value_name = "BYTE", conflicts_with_all = ["tail", "both"])]
    pub(crate) from: Option<u64>,
    /// Print what is there now and end: with 0 when the units have ended, with 1 when one goes on.
    #[arg(long)]
    pub(crate) no_follow: bool,
    #[command(flatten)]
    pub(crate) via: Via,
}

/// `netmesh work attach`
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The unit.
    pub(crate) unit: String,
    #[command(flatten)]
    pub(crate) via: Via,
}

/// `netmesh work adopt`
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// The unit's node.
    #[arg(value_name = "NODE")]
    pub(crate) on: String,
    /// The unit, as that node calls it.
    pub(crate) unit: String,
    /// Sign requests for it with the daemon's key, where its work type wants that.
    #[arg(long)]
    pub(crate) signwork: bool,
    /// The daemon's TLS client profile that reaches the node.
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) tls_client: String,
}

/// `netmesh work cancel`
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The units; none is no error.
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
    /// Wait until they have ended, and tell how. Ctrl-C ends the waiting, not the cancel.
    #[arg(long)]
    pub(crate) wait: bool,
    /// With --wait: give up waiting after this time, such as 1m30s, and end with 124.
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    pub(crate) timeout: Option<Duration>,
    /// With --wait: show the last N lines of the output, instead of its last 4 KiB.
    #[arg(long, value_name = "N", requires = "wait")]
    pub(crate) tail: Option<u32>,
    #[command(flatten)]
    pub(crate) via: Via,
}

/// `netmesh work status`
#[derive(Debug, Args)]
pub(crate) struct UnitsArgs {
    /// The units.
    #[arg(required = true, value_name = "UNIT")]
    pub(crate) units: Vec<String>,
    #[command(flatten)]
    pub(crate) via: Via,
}

/// `netmesh work list`
#[derive(Debug, Default, Args)]
pub(crate) struct ListArgs {
    /// Print the ids alone.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
    /// Print this many at most, the newest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "unit_id")]
    pub(crate) limit: Option<u64>,
    /// Only this unit.
    #[arg(
        long = "unit_id",
        visible_alias = "unit-id",
        value_name = "UNIT",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) unit_id: String,
    #[command(flatten)]
    pub(crate) via: Via,
}

/// Which units are meant; what is given must all be true.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only units in this state: pending, running, succeeded, failed or canceled; several with commas.
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state, conflicts_with = "unit_id")]
    pub(crate) state: Vec<State>,
    /// Only units of this work type, here or on their node.
    #[arg(long = "type", value_name = "TYPE", conflicts_with = "unit_id")]
    pub(crate) work_type: Option<String>,
    /// Only units for this node; its own name is good for those that run on the node that is asked.
    #[arg(long, value_name = "NODE", conflicts_with = "unit_id")]
    pub(crate) on: Option<String>,
    /// Only units that this principal asked for, such as uid:1000 or node:foo.
    #[arg(long, value_name = "WHO", conflicts_with = "unit_id")]
    pub(crate) owner: Option<String>,
    /// Only units created then or later: a time such as 2026-11-21T10:00:00Z, or how long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with = "unit_id")]
    pub(crate) since: Option<Moment>,
}

/// `netmesh work force-release`
#[derive(Debug, Args)]
pub(crate) struct ManyArgs {
    /// The units; none is no error.
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
    #[command(flatten)]
    pub(crate) via: Via,
}

/// `netmesh work release`
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The units; none is no error.
    #[arg(value_name = "UNIT")]
    pub(crate) units: Vec<String>,
    /// Remove them even when their node cannot be asked.
    #[arg(long)]
    pub(crate) force: bool,
    /// Every unit of the node.
    #[arg(long, conflicts_with = "units")]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) via: Via,
}

fn state(name: &str) -> Result<State, String> {
    let unknown = || "pending, running, succeeded, failed or canceled is wanted".to_owned();
    Filter::state(name).ok_or_else(unknown)
}

fn since(text: &str) -> Result<Moment, String> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let ago = parse_go_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    ago.map(Moment::from).ok_or_else(|| {
        "a time such as 2026-11-21T10:00:00Z is wanted, or how long ago, such as 2h".to_owned()
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_go_duration(text).map_err(|bad| format!("{bad}; write it like 1m30s"))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is wanted, such as params=-l".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        assert_eq!(since("2026-11-21T10:00:00Z"), Ok("2026-11-21T10:00:00Z".parse().unwrap()));
        let (ago, now) = (since("2h").unwrap(), Moment::from(SystemTime::now()));
        assert!(ago < now && ago > since("3h").unwrap());
        for bad in ["", "yesterday", "-2h", "2026-11-21", "99999999999999h"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
