//! `netmesh connect NODE SERVICE`

use std::io::{IsTerminal as _, Write as _};

use nix::sys::termios::{LocalFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};

use super::{Console, Door, session::Session};
use crate::{
    args::ConnectArgs,
    exit::{Code, Failure},
};

/// Joins our stdin and stdout to a service on a node, until the service ends.
///
/// The end of our stdin is passed on, and what the service still says is printed.
pub(super) async fn run(door: &Door, args: ConnectArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.open().await?;
    session.offers().await?;
    session.connect(&args.node, &args.service, &args.tls_client).await.map_err(|no_answer| {
        let at = format!("cannot connect to `{}` on `{}`: {no_answer}", args.service, args.node);
        let failure = Failure::not_done(format!("{at}; `netmesh status` lists nodes and services"));
        failure.because(no_answer.refusal())
    })?;
    let raw = args.raw.then(RawMode::enter).transpose()?;
    let interrupt = console.interrupt.clone();
    let ended = tokio::select! {
        ended = bridge(&mut session, console) => ended,
        () = interrupt.wait() => Err(Failure::new(Code::CANCELED, "")),
    };
    drop(raw);
    ended.map(|()| Code::OK)
}

async fn bridge(session: &mut Session, console: &mut Console) -> Result<(), Failure> {
    let Console { input, out, .. } = console;
    let (from_service, to_service) = session.halves();
    let upward = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = input.read(&mut buffer).await.unwrap_or(0); // an unreadable stdin is at its end
            if n == 0 || to_service.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
        let _ = to_service.shutdown().await; // a service that is gone ends the other direction
        std::future::pending::<()>().await;
    };
    let downward = async {
        loop {
            let bytes = match from_service.fill_buf().await {
                Ok(bytes) => bytes,
                // A service that left while we still spoke to it has ended too.
                Err(_) => return Ok(()),
            };
            let n = bytes.len();
            if n == 0 {
                return Ok(());
            }
            out.write_all(bytes).await.map_err(Failure::output)?;
            out.flush().await.map_err(Failure::output)?;
            from_service.consume(n);
        }
    };
    tokio::select! {
        ended = downward => ended,
        () = upward => Ok(()),
    }
}

/// Our terminal in raw mode, for as long as this lives.
struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Nothing changes when stdin is no terminal.
    fn enter() -> Result<Option<RawMode>, Failure> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let refuse = |error| Failure::not_done(format!("cannot put the terminal into raw mode: {error}"));
        let before = tcgetattr(&stdin).map_err(refuse)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        raw.local_flags.remove(LocalFlags::ISIG); // Ctrl-C goes to the service
        tcsetattr(&stdin, SetArg::TCSAFLUSH, &raw).map_err(refuse)?;
        Ok(Some(RawMode { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &self.before); // the terminal may be gone
        let _ = writeln!(std::io::stdout()); // as above
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Script};

    fn args() -> ConnectArgs {
        ConnectArgs { node: "bar".into(), service: "echo".into(), raw: false, tls_client: String::new() }
    }

    #[tokio::test]
    async fn the_end_of_our_input_is_passed_on_and_the_last_words_are_printed() {
        let script = Script::new()
            .greet()
            .ask("Features")
            .say("{}")
            .ask("connect")
            .say("Connecting")
            .eof_after(b"hello\n")
            .raw(b"bye\n");
        let mut fake = Fake::start([script]).input(b"hello\n");
        assert_eq!(run(&fake.door(), args(), &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "bye\n");
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_named() {
        let script =
            Script::new().greet().ask("Features").say("{}").ask("connect").say("ERROR: context canceled");
        let mut fake = Fake::start([script]);
        let failure = run(&fake.door(), args(), &mut fake.console).await.unwrap_err();
        assert_eq!(failure.code, Code::NOT_DONE);
        assert!(failure.text.contains("`echo` on `bar`: context canceled"), "{failure}");
    }
}
