//! The program: flags in, daemon or client run, exit code out.
//!
//! ```text
//! netmesh supervisors UNITS ..   plain code, before any runtime or thread: it forks a supervisor for each unit
//! netmesh bench-relay ADDRESS    likewise: a plain copy of bytes, for `netmesh bench` to compare with
//! netmesh node | demo | ...      by its flags
//! receptor -c FILE --node ...    the daemon, under the name whose place it takes
//! ```

mod args;
mod bench;
mod certificate;
mod client;
mod config;
mod control;
mod daemon;
mod demo;
mod exit;
mod inspect;
mod log;
mod memory;
mod paths;
mod state;

use std::{
    env,
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

use workunits::runner::{launcher, supervisor};

use crate::{
    args::{
        Cert, Cli, Command, Common, RECEPTOR_VERSION, ReceptorArgs, Receptorctl, bash_completion,
        receptor_help,
    },
    certificate::{Existing, Job},
    client::Console,
    config::{Config, LoadOptions, LogLevel, Sources},
    daemon::RunOptions,
    exit::{Code, Failure},
    paths::Environment,
};

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    match words.as_slice() {
        [_, word, units, _] if word == launcher::WORD => return launcher::main(Path::new(units)),
        // By a daemon of an earlier version, whose program this has replaced.
        [_, word, directory] if word == "supervise" => return supervisor::main(Path::new(directory)),
        [_, word, target] if word == bench::relay::WORD => {
            return bench::relay::main(&target.to_string_lossy());
        }
        _ => {}
    }
    let name = words.first().map(PathBuf::from).unwrap_or_default();
    let ended = match name.file_name().is_some_and(|name| name == "receptor") {
        true => as_receptor(&name, &words[1..]),
        false => as_netmesh(words),
    };
    let code = ended.unwrap_or_else(|failure| {
        if !failure.text.is_empty() {
            let _ = writeln!(std::io::stderr(), "netmesh: {failure}"); // nobody may be reading any more
        }
        failure.code
    });
    ExitCode::from(code.0)
}

fn as_netmesh(words: Vec<OsString>) -> Result<Code, Failure> {
    let count = words.len();
    let Cli { common, receptorctl, command } = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(told) => {
            let code = if told.exit_code() == 0 { Code::OK } else { Code::USAGE };
            return told.print().map(|()| code).map_err(Failure::output);
        }
    };
    match command {
        Command::Node(args) => {
            let (sources, log_format) = args.read(count)?;
            node(sources, log_format, args.log_level, false)
        }
        Command::Config(command) => inspect::run(&command, &load_options(false), count, common.json),
        Command::Demo => on_one_thread(async {
            let mut console = Console::of_process(false).map_err(no_signals)?;
            demo::run(&mut console).await
        }),
        Command::Bench(args) => on_one_thread(async {
            let mut console = Console::of_process(common.json).map_err(no_signals)?;
            bench::run(args, &mut console).await
        }),
        Command::Cert(cert) => certificates(cert, common.json),
        command => client(command, &common, &receptorctl),
    }
}

fn as_receptor(name: &Path, words: &[OsString]) -> Result<Code, Failure> {
    let print =
        |text: &str| writeln!(std::io::stdout(), "{text}").map(|()| Code::OK).map_err(Failure::output);
    match ReceptorArgs::parse(words).map_err(Failure::usage)? {
        ReceptorArgs::Version => print(RECEPTOR_VERSION),
        ReceptorArgs::Help => print(&receptor_help()),
        ReceptorArgs::BashCompletion => {
            let name = name.file_name().unwrap_or_default().to_string_lossy();
            print(&bash_completion(&name))
        }
        ReceptorArgs::Node(sources) => node(sources, log::LogFormat::Text, None, true),
    }
}

/// Makes or shows certificates.
fn certificates(cert: Cert, json: bool) -> Result<Code, Failure> {
    let (job, force) = match cert {
        Cert::Show { files } => {
            for file in files {
                let text =
                    certificate::show(&file, json).map_err(|why| Failure::not_done(why.to_string()))?;
                std::io::stdout().write_all(text.as_bytes()).map_err(Failure::output)?;
            }
            return Ok(Code::OK);
        }
        Cert::Init(args) => {
            let force = args.force;
            (args.job(), force)
        }
        Cert::Makereq(args) => {
            let force = args.force;
            (args.job().map_err(Failure::usage)?, force)
        }
        Cert::Signreq(args) => {
            let force = args.force;
            (args.job(), force)
        }
    };
    make(&[job], if force.force { Existing::Replace } else { Existing::Keep }, Code::NOT_DONE)
}

/// Carries out `jobs` one after the other, up to the first that fails, which leaves `failed`.
fn make(jobs: &[Job], existing: Existing, failed: Code) -> Result<Code, Failure> {
    let (stdin, mut stdout) = (std::io::stdin(), std::io::stdout());
    for job in jobs {
        let made = certificate::make(job, existing, &mut stdin.lock(), &mut stdout);
        made.map_err(|why| match why {
            certificate::CertError::Declined => Failure::new(Code::NEGATIVE, why.to_string()),
            why => Failure::new(failed, why.to_string()),
        })?;
    }
    Ok(Code::OK)
}

/// Runs the daemon until a signal ends it, or makes the certificates that its configuration asks for.
fn node(
    sources: Sources,
    log_format: log::LogFormat,
    log_level: Option<LogLevel>,
    receptor_name: bool,
) -> Result<Code, Failure> {
    let asked = config::certificates(&sources)
        .map_err(|problems| Failure::new(Code::NEGATIVE, format!("nothing was made:\n{problems}")))?;
    if let Some(jobs) = asked {
        return make(&jobs, Existing::Replace, Code::NEGATIVE);
    }
    let load = load_options(receptor_name);
    let config = Config::load(&sources, &load)
        .map_err(|problems| Failure::new(Code::NEGATIVE, format!("nothing was started:\n{problems}")))?;
    let verbosity = log::start(log_level.unwrap_or(config.log_level), log_format)
        .map_err(|error| Failure::new(Code::NEGATIVE, error.to_string()))?;
    let supervisor = env::current_exe().map_err(|error| {
        Failure::new(
            Code::NEGATIVE,
            format!("cannot find out which program this is, to supervise units: {error}"),
        )
    })?;
    // A level that was asked for by a flag stays.
    let verbosity = Some(verbosity).filter(|_| log_level.is_none());
    let options = RunOptions { sources, load, verbosity, default_socket: !receptor_name, supervisor };
    memory::give_back();
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers())
        .event_interval(TURNS)
        .enable_all()
        .build()
        .map_err(no_runtime)?;
    let ended = runtime.block_on(daemon::run(config, options));
    runtime.shutdown_background(); // what still runs is no longer needed
    ended.map(|()| Code::OK).map_err(|error| Failure::new(Code::NEGATIVE, error.to_string()))
}

/// How many turns of tasks a busy thread takes before it looks who else has something to read. Each may pass on a good part of
/// a megabyte, so that after the usual 61 a small packet would have waited for many.
const TURNS: u32 = 16;

/// Threads that carry data and conversations: half of the processors. A packet's way through a node is a chain of short
/// tasks, which cost less one after the other on a thread than with a thread woken for each; and the system, the commands
/// of units and the disk want processors too.
fn workers() -> usize {
    thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(2))
}

/// What this process knows and a configuration may leave open.
fn load_options(receptor_name: bool) -> LoadOptions {
    LoadOptions {
        host_name: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        datadir: paths::default_datadir(&Environment::of_process(receptor_name)),
        temp_dir: env::temp_dir(),
    }
}

/// Runs one subcommand against a daemon.
fn client(command: Command, common: &Common, outer: &Receptorctl) -> Result<Code, Failure> {
    let environment = Environment::of_process(false);
    let named = paths::client_socket(common.socket.as_deref().map(Path::new), &environment);
    let socket = match named.to_str() {
        Some(address) => client::socket(address, environment.home.as_deref().map(Path::new), || outer.tls())?,
        None => client::Socket::Unix(named),
    };
    on_one_thread(async {
        let mut console = Console::of_process(common.json).map_err(no_signals)?;
        client::run(command, &socket, outer, &mut console).await
    })
}

fn on_one_thread(work: impl Future<Output = Result<Code, Failure>>) -> Result<Code, Failure> {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    let ended = runtime.block_on(work);
    runtime.shutdown_background(); // a read of stdin may never end
    ended
}

fn no_runtime(error: std::io::Error) -> Failure {
    Failure::not_done(format!("cannot start: {error}"))
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::not_done(format!("cannot handle signals: {error}"))
}
