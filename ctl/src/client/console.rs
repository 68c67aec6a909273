//! What a client reads from and writes to: our own stdin, stdout and stderr, or a test's.

use std::{io, sync::Arc};

use serde::Serialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::exit::Failure;

/// Somewhere to write to.
pub(crate) type Output = Box<dyn AsyncWrite + Send + Unpin>;

/// The client's side of the terminal.
pub(crate) struct Console {
    /// Where a payload named `-` comes from.
    pub(crate) input: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) out: Output,
    pub(crate) err: Output,
    /// Opens stderr once more, for whoever speaks while another has the console.
    pub(crate) err_again: Arc<dyn Fn() -> Output + Send + Sync>,
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
            err_again: Arc::new(|| Box::new(tokio::io::stderr())),
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

    /// Somebody who may speak on stderr while the console is lent out.
    pub(crate) fn aside(&self) -> Aside {
        Aside((self.err_again)())
    }

    /// Prints one JSON value for people: members sorted, four spaces deep, as receptorctl does.
    pub(crate) async fn pretty(&mut self, value: &Value) -> Result<(), Failure> {
        let mut text = pretty(value)?;
        text.push(b'\n');
        self.bytes(&text).await
    }

    /// Prints one JSON value on a line of its own.
    pub(crate) async fn compact(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&value.to_string()).await
    }
}

/// JSON for people, without a line feed at its end.
pub(crate) fn pretty(value: &Value) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut writer).map_err(|bad| Failure::not_done(format!("cannot print JSON: {bad}")))?;
    Ok(text)
}

/// A voice on stderr beside the console's own.
pub(crate) struct Aside(Output);

impl Aside {
    /// Says something. That nobody reads it is no failure of ours.
    pub(crate) async fn say(&mut self, text: &str) {
        if self.0.write_all(format!("netmesh: {text}\n").as_bytes()).await.is_ok() {
            let _ = self.0.flush().await;
        }
    }
}

/// The signals that came so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// How often Ctrl-C was pressed.
    pub(crate) interrupts: u32,
    /// Whether SIGTERM came.
    pub(crate) terminated: bool,
}

/// Tells when somebody wants us to stop: Ctrl-C, or SIGTERM.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<Signals>);

impl Interrupt {
    /// From the process's signals.
    pub(crate) fn of_process() -> io::Result<Interrupt> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (came, interrupted) = watch::channel(Signals::default());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => came.send_modify(|signals| signals.interrupts += 1),
                    _ = terminate.recv() => came.send_modify(|signals| signals.terminated = true),
                }
            }
        });
        Ok(Interrupt(interrupted))
    }

    /// One that never comes.
    pub(crate) fn never() -> Interrupt {
        Interrupt(watch::channel(Signals::default()).1)
    }

    /// One that a test brings about by sending.
    #[cfg(test)]
    pub(crate) fn by_hand() -> (watch::Sender<Signals>, Interrupt) {
        let (came, interrupted) = watch::channel(Signals::default());
        (came, Interrupt(interrupted))
    }

    /// Waits for either; for ever when nobody can ask any more.
    pub(crate) async fn wait(&self) {
        self.until(|signals| signals.terminated || signals.interrupts > 0).await;
    }

    /// Waits for the `n`th Ctrl-C.
    pub(crate) async fn interrupted(&self, n: u32) {
        self.until(|signals| signals.interrupts >= n).await;
    }

    /// Waits for SIGTERM.
    pub(crate) async fn terminated(&self) {
        self.until(|signals| signals.terminated).await;
    }

    async fn until(&self, came: impl FnMut(&Signals) -> bool) {
        if self.0.clone().wait_for(came).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
