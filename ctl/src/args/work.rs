//! The flags of `netmesh work`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `netmesh work`
#[derive(Debug, Subcommand)]
pub(crate) enum Work {
    /// Submit a unit of work.
    Submit(Box<SubmitArgs>),
    /// Print a unit's output, from its start until it has ended.
    Results(UnitsArgs),
    /// Show how far a unit got.
    Status(UnitsArgs),
    /// List units.
    List(ListArgs),
    /// End units.
    Cancel(ManyArgs),
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
    /// How long it may wait for its start on another node, such as 1h20m30s.
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

/// `netmesh work results`, `netmesh work status`
#[derive(Debug, Args)]
pub(crate) struct UnitsArgs {
    /// The units.
    #[arg(required = true, value_name = "UNIT")]
    pub(crate) units: Vec<String>,
    #[command(flatten)]
    pub(crate) via: Via,
}

/// `netmesh work list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print the ids alone.
    #[arg(long, short)]
    pub(crate) quiet: bool,
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

/// `netmesh work cancel`, `netmesh work force-release`
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

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is wanted, such as params=-l".to_owned()),
    }
}
