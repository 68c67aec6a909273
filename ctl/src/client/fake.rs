//! A control service that follows a script, for tests of the client.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

use super::{
    Console, Door,
    console::{Interrupt, Signals},
};

/// What one conversation hears and says.
#[derive(Default)]
pub(crate) struct Script(Vec<Step>);

enum Step {
    Raw(Vec<u8>),
    Ask(String),
    Exactly(Vec<u8>),
    Eof(Vec<u8>),
    Until(String),
    Hold,
}

impl Script {
    pub(crate) fn new() -> Script {
        Script::default()
    }

    fn then(mut self, step: Step) -> Script {
        self.0.push(step);
        self
    }

    /// Greets as node `fake`.
    pub(crate) fn greet(self) -> Script {
        self.say("Receptor Control, node fake")
    }

    /// Says a line.
    pub(crate) fn say(self, line: &str) -> Script {
        self.then(Step::Raw(format!("{line}\n").into_bytes()))
    }

    /// Says bytes.
    pub(crate) fn raw(self, bytes: &[u8]) -> Script {
        self.then(Step::Raw(bytes.to_vec()))
    }

    /// Hears a line, which holds `part`.
    pub(crate) fn ask(self, part: &str) -> Script {
        self.then(Step::Ask(part.to_owned()))
    }

    /// Hears exactly these bytes.
    pub(crate) fn exactly(self, bytes: &[u8]) -> Script {
        self.then(Step::Exactly(bytes.to_vec()))
    }

    /// Hears exactly these bytes and then the end.
    pub(crate) fn eof_after(self, bytes: &[u8]) -> Script {
        self.then(Step::Eof(bytes.to_vec()))
    }

    /// Says nothing more until a line with `part` was heard, perhaps in another conversation.
    pub(crate) fn until(self, part: &str) -> Script {
        self.then(Step::Until(part.to_owned()))
    }

    /// Says nothing more until the client hangs up.
    pub(crate) fn hold(self) -> Script {
        self.then(Step::Hold)
    }

    async fn play(self, stream: UnixStream, heard: Arc<watch::Sender<String>>) {
        let mut stream = BufReader::new(stream);
        for step in self.0 {
            match step {
                // A client may leave before it has heard all.
                Step::Raw(bytes) => drop(stream.write_all(&bytes).await),
                Step::Ask(part) => {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    assert!(line.contains(&part), "heard `{line}` instead of `{part}`");
                    heard.send_modify(|all| all.push_str(&line));
                }
                Step::Exactly(bytes) => {
                    let mut heard = vec![0; bytes.len()];
                    stream.read_exact(&mut heard).await.unwrap();
                    assert_eq!(heard, bytes);
                }
                Step::Eof(bytes) => {
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).await.unwrap();
                    assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(&bytes));
                }
                Step::Until(part) => {
                    heard.subscribe().wait_for(|heard| heard.contains(&part)).await.unwrap();
                }
                Step::Hold => {
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await; // a reset is an end too
                }
            }
        }
    }
}

/// A daemon that plays one script per conversation, and a console to go with it.
pub(crate) struct Fake {
    pub(crate) console: Console,
    directory: tempfile::TempDir,
    server: Option<JoinHandle<()>>,
    heard: Arc<watch::Sender<String>>,
    out: Recorder,
    err: Recorder,
    stop: Arc<watch::Sender<Signals>>,
}

impl Fake {
    pub(crate) fn start(scripts: impl IntoIterator<Item = Script>) -> Fake {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let scripts: Vec<Script> = scripts.into_iter().collect();
        let heard = Arc::new(watch::channel(String::new()).0);
        let hearing = heard.clone();
        let server = tokio::spawn(async move {
            let mut playing = Vec::new();
            for script in scripts {
                let (stream, _) = listener.accept().await.unwrap();
                playing.push(tokio::spawn(script.play(stream, hearing.clone())));
            }
            for playing in playing {
                playing.await.unwrap();
            }
        });
        let (stop, interrupt) = Interrupt::by_hand();
        let (out, err) = (Recorder::new(), Recorder::new());
        let console = Console {
            input: Box::new(tokio::io::empty()),
            out: Box::new(out.clone()),
            err: Box::new(err.clone()),
            err_again: {
                let err = err.clone();
                Arc::new(move || Box::new(err.clone()))
            },
            json: false,
            interrupt,
        };
        Fake { console, directory, server: Some(server), heard, out, err, stop: Arc::new(stop) }
    }

    /// The same with something on stdin.
    pub(crate) fn input(mut self, bytes: &'static [u8]) -> Fake {
        self.console.input = Box::new(bytes);
        self
    }

    pub(crate) fn door(&self) -> Door {
        Door::new(self.directory.path().join("s").as_path())
    }

    /// Everything printed, after every script was played to its end.
    pub(crate) async fn out(&mut self) -> String {
        self.played().await;
        self.out.text()
    }

    /// Everything said on stderr, likewise.
    pub(crate) async fn err(&mut self) -> String {
        self.played().await;
        self.err.text()
    }

    /// Interrupts the client once it has printed `text`.
    pub(crate) fn pull_when_printed(&self, text: &'static str) -> impl Future<Output = ()> + use<> {
        let (out, stop) = (self.out.clone(), self.stop.clone());
        async move {
            let mut printed = out.0.subscribe();
            printed.wait_for(|bytes| String::from_utf8_lossy(bytes).contains(text)).await.unwrap();
            stop.send_modify(|signals| signals.interrupts += 1);
        }
    }

    /// Interrupts the client once a line with `text` was heard from it.
    pub(crate) fn pull_when_heard(&self, text: &'static str) -> impl Future<Output = ()> + use<> {
        let (heard, stop) = (self.heard.clone(), self.stop.clone());
        async move {
            heard.subscribe().wait_for(|heard| heard.contains(text)).await.unwrap();
            stop.send_modify(|signals| signals.interrupts += 1);
        }
    }

    /// Interrupts the client once it has said `text` on stderr.
    pub(crate) fn pull_when_said(&self, text: &'static str) -> impl Future<Output = ()> + use<> {
        let (err, stop) = (self.err.clone(), self.stop.clone());
        async move {
            let mut said = err.0.subscribe();
            said.wait_for(|bytes| String::from_utf8_lossy(bytes).contains(text)).await.unwrap();
            stop.send_modify(|signals| signals.interrupts += 1);
        }
    }

    /// Sends a SIGTERM to the client once it has printed `text`.
    pub(crate) fn terminate_when_printed(&self, text: &'static str) -> impl Future<Output = ()> + use<> {
        let (out, stop) = (self.out.clone(), self.stop.clone());
        async move {
            let mut printed = out.0.subscribe();
            printed.wait_for(|bytes| String::from_utf8_lossy(bytes).contains(text)).await.unwrap();
            stop.send_modify(|signals| signals.terminated = true);
        }
    }

    async fn played(&mut self) {
        if let Some(server) = self.server.take() {
            let played = tokio::time::timeout(Duration::from_secs(20), server).await;
            played.expect("a script waits for a client that never came").unwrap();
        }
    }
}

/// Keeps what is written to it.
#[derive(Clone)]
struct Recorder(Arc<watch::Sender<Vec<u8>>>);

impl Recorder {
    fn new() -> Recorder {
        Recorder(Arc::new(watch::channel(Vec::new()).0))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

impl AsyncWrite for Recorder {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.send_modify(|all| all.extend_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
