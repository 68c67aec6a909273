//! The program: flags in, daemon or client run, exit code out.
//!
//! ```text
//! netmesh supervise UNITDIR      plain code, before any runtime or thread: it lives as long as its command
//! netmesh node | demo | ...      by its flags
//! receptor -c FILE               the daemon, under the name whose place it takes
//! ```

mod args;
mod client;
mod config;
mod control;
mod daemon;
mod demo;
mod exit;
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
};

use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

use crate::{
    args::{Cli, Command, Common, NodeArgs, RECEPTOR_HELP, RECEPTOR_VERSION, ReceptorArgs, Receptorctl},
    client::Console,
    config::{Config, LoadOptions},
    daemon::RunOptions,
    exit::{Code, Failure},
    paths::Environment,
};

fn main() -> ExitCode {
    let words: Vec<OsString> = env::args_os().collect();
    if let [_, word, directory] = words.as_slice()
        && word == "supervise"
    {
        return workunits::runner::supervisor::main(Path::new(directory));
    }
    let name = words.first().map(PathBuf::from).unwrap_or_default();
    let ended = match name.file_name().is_some_and(|name| name == "receptor") {
        true => as_receptor(&words[1..]),
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
    let Cli { common, receptorctl, command } = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(told) => {
            let code = if told.exit_code() == 0 { Code::OK } else { Code::USAGE };
            return told.print().map(|()| code).map_err(Failure::output);
        }
    };
    match command {
        Command::Node(args) => node(args, false),
        Command::Demo => on_one_thread(async {
            let mut console = Console::of_process(false).map_err(no_signals)?;
            demo::run(&mut console).await
        }),
        command => client(command, &common, &receptorctl),
    }
}

fn as_receptor(words: &[OsString]) -> Result<Code, Failure> {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let print =
        |text: &str| writeln!(std::io::stdout(), "{text}").map(|()| Code::OK).map_err(Failure::output);
    match ReceptorArgs::parse(&words).map_err(Failure::usage)? {
        ReceptorArgs::Version => print(RECEPTOR_VERSION),
        ReceptorArgs::Help => print(RECEPTOR_HELP),
        ReceptorArgs::Config(config) => {
            node(NodeArgs { config, log_format: log::LogFormat::Text, log_level: None }, true)
        }
    }
}

/// Runs the daemon until a signal ends it.
fn node(args: NodeArgs, receptor_name: bool) -> Result<Code, Failure> {
    let load = LoadOptions {
        host_name: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        datadir: paths::default_datadir(&Environment::of_process(receptor_name)),
        temp_dir: env::temp_dir(),
    };
    let config = Config::load(&args.config, &load)
        .map_err(|problems| Failure::new(Code::NEGATIVE, format!("nothing was started:\n{problems}")))?;
    log::start(args.log_level.unwrap_or(config.log_level), args.log_format)
        .map_err(|error| Failure::new(Code::NEGATIVE, error.to_string()))?;
    let supervisor = env::current_exe().map_err(|error| {
        Failure::new(
            Code::NEGATIVE,
            format!("cannot find out which program this is, to supervise units: {error}"),
        )
    })?;
    let options =
        RunOptions { config_file: Some(args.config), load, default_socket: !receptor_name, supervisor };
    memory::give_back();
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(no_runtime)?;
    let ended = runtime.block_on(daemon::run(config, options));
    runtime.shutdown_background(); // what still runs is no longer needed
    ended.map(|()| Code::OK).map_err(|error| Failure::new(Code::NEGATIVE, error.to_string()))
}

/// Runs one subcommand against a daemon.
fn client(command: Command, common: &Common, outer: &Receptorctl) -> Result<Code, Failure> {
    let environment = Environment::of_process(false);
    let named = paths::client_socket(common.socket.as_deref().map(Path::new), &environment);
    let socket = match named.to_str() {
        Some(address) => client::socket_path(address, environment.home.as_deref().map(Path::new))?,
        None => named,
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
