//! Every flag, once.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{config::LogLevel, exit, log::LogFormat};

/// The Receptor version whose behaviour we keep.
pub(crate) const RECEPTOR_VERSION: &str = "1.6.9";

/// What `netmesh --version` prints behind the name.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (Receptor 1.6.9)");

/// netmesh: an overlay network that carries work to where it can be done.
#[derive(Debug, Parser)]
#[command(name = "netmesh", version = VERSION, after_help = exit::HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(flatten)]
    pub(crate) receptorctl: Receptorctl,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every subcommand takes, before or after its name.
#[derive(Clone, Debug, Args)]
pub(crate) struct Common {
    /// The daemon's control socket: a path, or `unix:PATH`; otherwise `$NETMESH_SOCKET`, `$RECEPTORCTL_SOCKET`, then
    /// `netmesh.sock` in the state directory.
    #[arg(long, global = true, value_name = "SOCKET")]
    pub(crate) socket: Option<String>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What receptorctl takes before the subcommand.
///
/// The TLS settings are for TCP sockets: on a Unix socket they have no effect, as in receptorctl.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Receptorctl {
    #[arg(long, short, hide = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long = "tls-client", hide = true, value_name = "NAME")]
    socket_tls_client: Option<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    rootcas: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "FILE")]
    key: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    #[arg(long, hide = true, value_name = "BOOL")]
    insecureskipverify: Option<String>,
    /// For `ping`, which Receptor's guide also shows this way round.
    #[arg(id = "ping_count", long = "count", hide = true, value_name = "N")]
    pub(crate) count: Option<u32>,
    /// For `ping`.
    #[arg(id = "ping_delay", long = "delay", hide = true, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) delay: Option<Duration>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the daemon of one node.
    Node(NodeArgs),
    /// Run three nodes and a unit of work in a temporary directory.
    Demo,
    /// Show the mesh as the node sees it.
    Status,
    /// Ask a node for a sign of life.
    Ping(PingArgs),
    /// Show the hops that a message takes to a node.
    Traceroute {
        /// The node to reach.
        node: String,
    },
    /// Join this terminal to a service on a node.
    Connect(ConnectArgs),
    /// Let the daemon read its configuration again.
    Reload,
    /// Show the versions of this program and of the daemon.
    Version,
    /// Submit work, follow it, end it.
    #[command(subcommand)]
    Work(Work),
}

/// `netmesh node`
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node's YAML file.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// The least level of event that is logged, instead of the file's: error, warning, info or debug.
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<LogLevel>,
}

/// `netmesh ping`
#[derive(Debug, Args)]
pub(crate) struct PingArgs {
    /// The node to reach.
    pub(crate) node: String,
    /// How often to ask; 4 unless told.
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<u32>,
    /// Seconds between two; 1 unless told.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) delay: Option<Duration>,
}

/// `netmesh connect`
#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    /// The node that has the service.
    pub(crate) node: String,
    /// The service's name.
    pub(crate) service: String,
    /// Hand every key to the service, Ctrl-C too.
    #[arg(long, short)]
    pub(crate) raw: bool,
    /// The daemon's TLS client profile that reaches the service.
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) tls_client: String,
}

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
    #[arg(long, value_name = "NAME", default_value = "")]
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
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) tls_client: String,
    /// How long it may wait for its start, such as 1h20m30s.
    #[arg(long, value_name = "DURATION", default_value = "")]
    pub(crate) ttl: String,
    /// Sign the submission with the daemon's key.
    #[arg(long)]
    pub(crate) signwork: bool,
    /// Print the output as it grows, and end with the command's own exit code.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Remove the unit's files once it has ended.
    #[arg(long, requires = "follow")]
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
    #[arg(long = "unit_id", visible_alias = "unit-id", value_name = "UNIT", default_value = "")]
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

/// Under the name `receptor`: what the daemon of that name takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReceptorArgs {
    /// `-c FILE`, `--config FILE`
    Config(PathBuf),
    /// `--version`
    Version,
    /// `--help`, or nothing at all
    Help,
}

/// What `receptor --help` prints.
pub(crate) const RECEPTOR_HELP: &str = "\
Usage: receptor -c FILE | --config FILE | --version | --help
Runs the node that the YAML file describes, as Receptor does. `netmesh --help` shows what else this program can do.";

impl ReceptorArgs {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// A text that says which word was not understood, and what to write instead.
    pub(crate) fn parse(words: &[String]) -> Result<ReceptorArgs, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] | ["-h" | "--help", ..] => Ok(ReceptorArgs::Help),
            ["--version" | "-version"] => Ok(ReceptorArgs::Version),
            ["-c" | "--config" | "-config", file] => Ok(ReceptorArgs::Config(PathBuf::from(file))),
            ["-c" | "--config" | "-config"] => Err("--config needs the name of a YAML file".to_owned()),
            ["-c" | "--config" | "-config", _, extra, ..] | [extra, ..] => Err(format!(
                "`{extra}` is not supported on the command line yet: put it in a YAML file, and start with `--config FILE`"
            )),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is wanted, such as 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|bad| bad.to_string())
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

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    fn submit(line: &str) -> SubmitArgs {
        match parse(line).unwrap_or_else(|bad| panic!("{line}: {bad}")).command {
            Command::Work(Work::Submit(submit)) => *submit,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_flags_do_not_contradict_each_other() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_line_of_receptors_guide_is_understood() {
        for line in [
            "netmesh --socket /tmp/foo.sock connect bar control",
            "netmesh --socket /tmp/foo.sock connect localhost control",
            "netmesh --socket /tmp/foo.sock ping bar",
            "netmesh --socket /tmp/foo.sock reload",
            "netmesh --socket /tmp/foo.sock status",
            "netmesh --socket /tmp/foo.sock work list",
            "netmesh --socket /tmp/foo.sock work list --node foo",
            "netmesh --socket /tmp/foo.sock work list -q --unit_id t1BlAB18 --tls-client x",
            "netmesh --socket /tmp/foo.sock work results t1BlAB18",
            "netmesh --socket /tmp/foo.sock work submit --node bar --no-payload -f --param params=--all listcontents /root/",
            "netmesh --socket /tmp/foo.sock work submit --node bar --no-payload -f listcontents /root/ /bin/",
            "netmesh --socket /tmp/foo.sock work submit --node baz echo --payload - -f",
            "netmesh --socket /tmp/foo.sock work submit echoint --node bar --no-payload --signwork",
            "netmesh --socket /tmp/foo.sock work submit kubeit --param secret_kube_config=@/root/c --param secret_kube_pod=@p.yml --no-payload",
            "netmesh --socket=/tmp/foo.sock --count 2 --delay 0.1 ping bar",
            "netmesh --socket=/tmp/foo.sock ping bar --count 2 --delay 0",
            "netmesh --socket=/tmp/foo.sock status --json",
            "netmesh --socket=/tmp/foo.sock traceroute bar",
            "netmesh --socket=/tmp/foo.sock version",
            "netmesh --socket=/tmp/foo.sock work cancel a b c",
            "netmesh --socket=/tmp/foo.sock work release --force a b",
            "netmesh --socket=/tmp/foo.sock work release --all",
            "netmesh --socket s -c f --tls-client t --rootcas r --key k --cert c --insecureskipverify True status",
            "netmesh work force-release a --socket s --json",
        ] {
            if let Err(bad) = parse(line) {
                panic!("{line}: {bad}");
            }
        }
    }

    #[test]
    fn bad_usage_leaves_2() {
        for line in [
            "netmesh frob",
            "netmesh ping",
            "netmesh work submit echo",
            "netmesh work submit echo -n -l x",
            "netmesh work submit echo -n --rm",
            "netmesh work submit echo -n -a novalue",
            "netmesh work submit echo -n -a =x",
            "netmesh work results",
            "netmesh work release --all a",
            "netmesh ping a --delay -1",
            "netmesh ping a --delay NaN",
            "netmesh node",
            "netmesh node --config f --log-level loud",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_value_may_hold_equal_signs_and_be_empty() {
        let submit = submit("netmesh work submit t -n -a a=b=c -a empty= -- --all -x");
        assert_eq!(submit.param, [("a".into(), "b=c".into()), ("empty".into(), String::new())]);
        assert_eq!(submit.params, ["--all", "-x"]);
    }

    #[test]
    fn a_literal_payload_may_begin_with_a_hyphen() {
        let submit = submit("netmesh work submit t -l -5");
        assert_eq!(submit.payload.payload_literal.as_deref(), Some("-5"));
    }

    #[test]
    fn under_the_name_receptor_only_the_daemon_is_meant() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            ReceptorArgs::parse(&words)
        };
        assert_eq!(parse("-c f.yml"), Ok(ReceptorArgs::Config("f.yml".into())));
        assert_eq!(parse("--config f.yml"), Ok(ReceptorArgs::Config("f.yml".into())));
        assert_eq!(parse("--version"), Ok(ReceptorArgs::Version));
        assert_eq!(parse(""), Ok(ReceptorArgs::Help));
        assert!(parse("--config").is_err());
        assert!(parse("--node id=foo").unwrap_err().contains("--node"));
        assert!(parse("-c f.yml --log-level debug").unwrap_err().contains("--log-level"));
    }
}
