//! Command services: whoever dials one talks to a command that runs here for them alone, in a terminal.
//!
//! The command begins with the stream and ends with it. What cannot end by itself after the caller's last word is hung up:
//! a caller of Receptor's has gone when it has finished sending; one of ours may still read.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use netmesh::{
    node::Node,
    stream::{Stream, StreamListener},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::terminal::Terminal;

/// How many callers a service has at once; further ones are turned away.
pub(super) const CALLERS_MAX: usize = 64;
/// After the caller's last word a command that says nothing for so long is hung up.
const SILENCE: Duration = Duration::from_secs(60);
/// A caller has this long to end its side after the command has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// What a command left in the background may still have written on its behalf: so long, or until it is silent for a moment.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
const MOMENT: Duration = Duration::from_millis(200);
/// How much is passed on at once.
const BLOCK: usize = 16 << 10;

/// A service that runs a command for each caller.
pub(super) struct CommandRunner {
    /// Where callers come in.
    pub(super) listener: StreamListener,
    /// What is run; not empty.
    pub(super) argv: Vec<String>,
    /// How many files it may have open.
    pub(super) open_files: Option<u64>,
    /// Where it runs.
    pub(super) node: Node,
}

impl CommandRunner {
    /// Serves callers for as long as it is polled, or until the node stops; dropping it kills what runs.
    pub(super) async fn run(self) {
        let CommandRunner { mut listener, argv, open_files, node } = self;
        let way = Arc::new(Way { service: listener.service().to_string(), argv, open_files, node });
        let mut callers = JoinSet::new();
        while let Some(stream) = listener.accept().await {
            while callers.try_join_next().is_some() {}
            if callers.len() >= CALLERS_MAX {
                tracing::warn!(service = way.service, from = %stream.peer(), "turned a caller away: {CALLERS_MAX} are connected");
                continue; // dropped, it is reset
            }
            let way = way.clone();
            callers.spawn(async move { way.lead(stream).await });
        }
        while callers.join_next().await.is_some() {}
    }
}

struct Way {
    service: String,
    argv: Vec<String>,
    open_files: Option<u64>,
    node: Node,
}

impl Way {
    async fn lead(&self, stream: Stream) {
        let (service, from, may_half_close) = (&self.service, stream.peer().clone(), stream.speaks_netmesh());
        let env = [
            ("NETMESH_NODE", self.node.id().to_string()),
            ("NETMESH_SERVICE", service.clone()),
            ("NETMESH_CALLER", from.node.to_string()),
        ];
        let terminal = match Terminal::start(&self.argv, &env, self.open_files) {
            Ok(terminal) => terminal,
            Err(error) => {
                return tracing::warn!(service, %from, "Error running command: {}: {error}", self.argv[0]);
            }
        };
        tracing::info!(service, %from, command = self.argv[0], "a caller's command runs");
        let why = converse(&terminal, stream, may_half_close).await;
        terminal.end().await;
        tracing::info!(service, %from, "a caller's command has ended: {why}");
    }
}

/// Why a conversation was over.
#[derive(Debug, PartialEq)]
enum Over {
    Command,
    Caller,
    Silent,
    Broken(String),
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Over::Command => f.write_str("by itself"),
            Over::Caller => f.write_str("its caller has gone"),
            Over::Silent => {
                write!(f, "its caller had nothing more to say, and it said nothing for {SILENCE:?}")
            }
            Over::Broken(why) => write!(f, "the connection broke off: {why}"),
        }
    }
}

/// Passes on what both say, until one of them has gone.
async fn converse(terminal: &Terminal, stream: impl AsyncRead + AsyncWrite, may_half_close: bool) -> Over {
    let (mut ear, mut mouth) = tokio::io::split(stream);
    let said = AtomicU64::new(0);
    let show = async {
        let mut buffer = vec![0; BLOCK];
        let ended = terminal.ended();
        tokio::pin!(ended);
        let mut last: Option<Instant> = None;
        loop {
            // Nobody tells when what stays in the background has written all.
            let quiet =
                last.map_or(MOMENT, |last| MOMENT.min(last.saturating_duration_since(Instant::now())));
            let came = tokio::select! {
                biased;
                // Whatever writes on and on has its time, too.
                came = terminal.read(&mut buffer), if !quiet.is_zero() => came,
                () = &mut ended, if last.is_none() => {
                    last = Some(Instant::now() + LAST_OUTPUT);
                    continue;
                }
                () = sleep(quiet), if last.is_some() => Ok(0),
            };
            match came {
                Ok(0) => return mouth.shutdown().await.map_or_else(broken, |()| Over::Command),
                Ok(len) => {
                    said.fetch_add(1, Relaxed);
                    if let Err(error) = mouth.write_all(&buffer[..len]).await {
                        return broken(error);
                    }
                }
                Err(error) => return broken(error),
            }
        }
    };
    tokio::pin!(show);
    let over = tokio::select! {
        over = &mut show => over,
        heard = listen(terminal, &mut ear) => match heard {
            Err(error) => return broken(error),
            Ok(()) if !may_half_close => return Over::Caller,
            Ok(()) => tokio::select! {
                over = &mut show => over,
                () = silence(&said) => Over::Silent,
            },
        },
    };
    if over == Over::Command {
        // What it says now nobody hears; its end shows that it has read ours.
        let _ = timeout(LAST_WORDS, tokio::io::copy(&mut ear, &mut tokio::io::sink())).await;
    }
    over
}

fn broken(error: io::Error) -> Over {
    Over::Broken(error.to_string())
}

/// Types what the caller says, and its end.
async fn listen(terminal: &Terminal, ear: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let (mut buffer, mut last) = (vec![0; BLOCK], b'\n');
    loop {
        match ear.read(&mut buffer).await? {
            0 => return terminal.end_input(!matches!(last, b'\n' | b'\r')).await,
            len => {
                terminal.write_all(&buffer[..len]).await?;
                last = buffer[len - 1];
            }
        }
    }
}

/// Waits until nothing was said for long.
async fn silence(said: &AtomicU64) {
    loop {
        let before = said.load(Relaxed);
        sleep(SILENCE).await;
        if said.load(Relaxed) == before {
            return;
        }
    }
}
