//! The command line's other side: a file per subcommand, each from flags to lines and from replies to text.
//!
//! A subcommand opens a conversation with the daemon's control service ([`session`]), speaks Receptor's language, and
//! prints on a [`Console`]. What is ours is asked for first, so every subcommand works with a Go daemon too.

mod address;
mod connect;
pub(crate) mod console;
#[cfg(test)]
mod fake;
mod no_answer;
mod ping;
mod reload;
mod session;
mod status;
mod table;
mod traceroute;
mod version;
mod work;

pub(crate) use address::{Socket, socket};
pub(crate) use console::Console;
pub(crate) use session::Door;

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::{
    args::{Command, PingArgs, Receptorctl, Work},
    exit::{Code, Failure},
};

/// How long a subcommand that hears of interruptions itself may take to leave things in order.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// Runs one subcommand against the daemon on `socket`, and returns the code to leave.
///
/// With `--json` a refusal of the daemon is printed as `{"code":"...","error":"..."}` besides.
///
/// # Errors
/// What could not be done; its text is not printed yet.
pub(crate) async fn run(
    command: Command,
    socket: &Socket,
    outer: &Receptorctl,
    console: &mut Console,
) -> Result<Code, Failure> {
    let interrupt = console.interrupt.clone();
    let door = Door::new(socket.clone());
    let farewell = match command {
        Command::Work(Work::Attach(_)) => Duration::MAX, // an interruption is an order there, and does not end us
        Command::Work(Work::Submit(_) | Work::Results(_) | Work::Cancel(_)) | Command::Connect(_) => {
            FAREWELL_MAX
        }
        _ => Duration::ZERO,
    };
    let done = {
        let command = dispatch(command, &door, outer, console);
        tokio::pin!(command);
        tokio::select! {
            biased;
            done = &mut command => done,
            () = interrupt.wait() => match timeout(farewell, command).await {
                Ok(done) => done,
                Err(_) => Err(Failure::new(Code::CANCELED, "")),
            },
        }
    };
    if let Err(Failure { text, why: Some(why), .. }) = &done
        && console.json
    {
        console.compact(&json!({"code": why, "error": text})).await?;
    }
    done
}

async fn dispatch(
    command: Command,
    door: &Door,
    outer: &Receptorctl,
    console: &mut Console,
) -> Result<Code, Failure> {
    let is_ping = matches!(command, Command::Ping(_));
    if !is_ping && (outer.count.is_some() || outer.delay.is_some()) {
        return Err(Failure::usage("--count and --delay belong to `ping`"));
    }
    match command {
        Command::Status => status::run(door, console).await,
        Command::Ping(args) => {
            let args = PingArgs {
                count: args.count.or(outer.count),
                delay: args.delay.or(outer.delay),
                node: args.node,
            };
            ping::run(door, args, console).await
        }
        Command::Traceroute { node } => traceroute::run(door, &node, console).await,
        Command::Connect(args) => connect::run(door, args, console).await,
        Command::Reload => reload::run(door, console).await,
        Command::Version => version::run(door, console).await,
        Command::Work(work) => work::run(door, work, console).await,
        Command::Node(_) | Command::Config(_) | Command::Demo | Command::Bench(_) | Command::Cert(_) => {
            Err(Failure::usage("this is no subcommand of a client"))
        }
    }
}
