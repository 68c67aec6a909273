//! What a client reads from and writes to: our own stdin, stdout and stderr, or a test's.

use std::io;

use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::exit::Failure;

/// The client's side of the terminal.
pub(crate) struct Console {
    /// Where a payload named `-` comes from.
    pub(crate) input: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) out: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) err: Box<dyn AsyncWrite + Send + Unpin>,
    /// Whether JSON is wanted instead of text.
    pub(crate) json: bool,
    /// Resolves when somebody wants us to stop.
    pub(crate) interrupt: Interrupt,
}

impl Console {
    /// The process's own.
    pub(crate) fn of_process(json: bool) -> io::Result<Console> {
        Ok(Console {
            input: Box::new(tokio::io::stdin()),
            out: Box::new(tokio::io::stdout()),
            err: Box::new(tokio::io::stderr()),
            json,
            interrupt: Interrupt::of_process()?,
        })
    }

    /// Prints a line.
    pub(crate) async fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes()).await
    }

    /// Prints bytes, at once.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).await.map_err(Failure::output)?;
        self.out.flush().await.map_err(Failure::output)
    }

    /// Prints bytes on stderr, at once.
    pub(crate) async fn error_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.err.write_all(bytes).await.map_err(Failure::output)?;
        self.err.flush().await.map_err(Failure::output)
    }

    /// Says something on stderr. That nobody reads it is no failure of ours.
    pub(crate) async fn say(&mut self, text: &str) {
        let _ = self.error_bytes(format!("netmesh: {text}\n").as_bytes()).await;
    }

    /// Prints one JSON value for people: members sorted, four spaces deep, as receptorctl does.
    pub(crate) async fn pretty(&mut self, value: &Value) -> Result<(), Failure> {
        let mut text = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
        value.serialize(&mut writer).map_err(|bad| Failure::not_done(format!("cannot print JSON: {bad}")))?;
        text.push(b'\n');
        self.bytes(&text).await
    }

    /// Prints one JSON value on a line of its own.
    pub(crate) async fn compact(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&value.to_string()).await
    }
}

/// Resolves when somebody wants us to stop: Ctrl-C, or SIGTERM.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// From the process's signals.
    pub(crate) fn of_process() -> io::Result<Interrupt> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (stop, interrupted) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            let _ = stop.send(true); // nobody waits any more: we end anyway
            std::future::pending::<()>().await; // keeps the sender, and with it the handlers
        });
        Ok(Interrupt(interrupted))
    }

    /// One that never comes.
    pub(crate) fn never() -> Interrupt {
        Interrupt(watch::channel(false).1)
    }

    /// One that a test pulls by sending true.
    #[cfg(test)]
    pub(crate) fn by_hand() -> (watch::Sender<bool>, Interrupt) {
        let (stop, interrupted) = watch::channel(false);
        (stop, Interrupt(interrupted))
    }

    /// Waits for it; for ever when nobody can ask any more.
    pub(crate) async fn wait(&self) {
        if self.0.clone().wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
