//! Every flag, once.

mod bench;
pub(crate) mod cert;
mod config;
mod door;
mod node;
mod receptor;
pub(crate) mod work;

pub(crate) use bench::BenchArgs;
pub(crate) use cert::Cert;
pub(crate) use config::ConfigCommand;
pub(crate) use node::NodeArgs;
pub(crate) use receptor::{ReceptorArgs, bash_completion, receptor_help};
pub(crate) use work::{
    AdoptArgs, AttachArgs, CancelArgs, ListArgs, ManyArgs, PayloadArgs, ReleaseArgs, ResultsArgs, StderrArg,
    SubmitArgs, UnitsArgs, Work,
};

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::exit;

/// A literal, since `concat!` takes nothing else.
macro_rules! receptor_version {
    () => {
        "1.6.9"
    };
}

/// The Receptor version whose behaviour we keep.
pub(crate) const RECEPTOR_VERSION: &str = receptor_version!();

/// What `netmesh --version` prints behind the name.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (Receptor ", receptor_version!(), ")");

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
    /// The daemon's control socket: a path, `unix:PATH`, `tcp://HOST:PORT` or `tls://HOST:PORT`; otherwise `$NETMESH_SOCKET`,
    /// `$RECEPTORCTL_SOCKET`, then `netmesh.sock` in the state directory.
    #[arg(long, global = true, value_name = "SOCKET")]
    pub(crate) socket: Option<String>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// What receptorctl takes before the subcommand.
///
/// The TLS settings are for `tls://` sockets: elsewhere they have no effect, as in receptorctl.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Receptorctl {
    /// For a tls:// socket: a configuration with the profile that --tls-client names.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// For a tls:// socket: the name of a `tls-client` in --config.
    #[arg(long = "tls-client", value_name = "NAME")]
    socket_tls_client: Option<String>,
    /// For a tls:// socket: the PEM file with the authorities that may have signed the daemon's certificate.
    #[arg(long, value_name = "FILE")]
    rootcas: Option<PathBuf>,
    /// For a tls:// socket: the PEM file with the key of --cert.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// For a tls:// socket: the PEM file with the certificate to show.
    #[arg(long, value_name = "FILE")]
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
    /// Check or show the configuration of a node; no daemon is needed.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Run three nodes and a unit of work in a temporary directory.
    Demo,
    /// Measure how fast it is on this machine, beside what the machine can do, and beside another program.
    Bench(BenchArgs),
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
    /// Make certificates for TLS, and show what they say.
    #[command(subcommand)]
    Cert(Cert),
    /// Submit work, follow it, end it.
    #[command(subcommand)]
    Work(Work),
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
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) tls_client: String,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds is wanted, such as 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|bad| bad.to_string())
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
            "netmesh work submit echo -n -a novalue",
            "netmesh work submit echo -n -a =x",
            "netmesh work results",
            "netmesh work results a --stderr --both",
            "netmesh work results a --tail 5 --from 7",
            "netmesh work results a --both --from 7",
            "netmesh work results a --tail -1",
            "netmesh work attach",
            "netmesh work attach a b",
            "netmesh work cancel a --timeout 5s",
            "netmesh work cancel a --tail 5",
            "netmesh work cancel a --wait --timeout soon",
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
}
