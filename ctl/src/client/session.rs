//! One conversation with a control service: greeting, lines out, lines in, then perhaps raw bytes.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use netmesh::control;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};
use workunits::request::{ErrorCode, FrameKind, Offers, Refusal};

use super::no_answer::NoAnswer;

/// How long a greeting may take.
const GREETING_MAX: Duration = Duration::from_secs(10);

/// The longest reply line taken, in bytes: the status of a very large mesh.
const LINE_MAX: u64 = 256 << 20;

/// How much raw output is read at once, in bytes.
const BUFFER: usize = 128 << 10;

/// Where conversations begin: a socket, and perhaps another node behind it.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// The daemon's control socket.
    pub(crate) socket: PathBuf,
    /// The node to go on to, and the daemon's TLS client profile for it.
    pub(crate) beyond: Option<(String, String)>,
}

impl Door {
    pub(crate) fn new(socket: &Path) -> Door {
        Door { socket: socket.to_owned(), beyond: None }
    }

    /// The same door, going on to `node` when one is named.
    pub(crate) fn beyond(&self, node: Option<&str>, tls_client: &str) -> Door {
        let beyond = node.filter(|node| !node.is_empty());
        Door { beyond: beyond.map(|node| (node.to_owned(), tls_client.to_owned())), ..self.clone() }
    }

    /// Connects, and reads the greeting of the daemon, and of the node beyond.
    pub(crate) async fn open(&self) -> Result<Session, NoAnswer> {
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) => return Err(NoAnswer::NoDaemon { socket: self.socket.clone(), error }),
        };
        let (read, write) = stream.into_split();
        let socket = self.socket.clone();
        let read = BufReader::with_capacity(BUFFER, read);
        let mut session = Session { read, write, socket, codes: false };
        session.greeted().await?;
        if let Some((node, tls_client)) = &self.beyond {
            session.offers().await?;
            let connected = session.connect(node, "control", tls_client).await;
            connected.map_err(|no_answer| match no_answer {
                NoAnswer::Refused(refusal) => NoAnswer::OutOfReach { node: node.clone(), refusal },
                other => other,
            })?;
            session.codes = false; // what the daemon offers says nothing of the node behind it
            session.greeted().await?;
        }
        Ok(session)
    }
}

/// A conversation whose greeting has been read.
pub(crate) struct Session {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    socket: PathBuf,
    /// Whether the other end says why it refuses in codes, as far as it was asked.
    codes: bool,
}

impl Session {
    /// Sends a line and reads the object that answers it.
    pub(crate) async fn ask(&mut self, line: &str) -> Result<Map<String, Value>, NoAnswer> {
        self.say(line).await?;
        self.object().await
    }

    /// Asks what the daemon offers. From then on it is asked for codes too, where it has them.
    pub(crate) async fn offers(&mut self) -> Result<Offers, NoAnswer> {
        let offers = Offers::of_status(&self.ask(&Offers::question()).await?);
        self.codes = offers.error_codes;
        Ok(offers)
    }

    /// Goes on to a service of another node; its bytes follow.
    pub(crate) async fn connect(
        &mut self,
        node: &str,
        service: &str,
        tls_client: &str,
    ) -> Result<(), NoAnswer> {
        let mut line = json!({"command": "connect", "node": node, "service": service});
        if !tls_client.is_empty() {
            line["tls"] = json!(tls_client);
        }
        self.say(&line.to_string()).await?;
        match self.reply().await? {
            line if line.starts_with("Connecting") => Ok(()),
            line => Err(NoAnswer::Garbled { socket: self.socket.clone(), line }),
        }
    }

    /// Sends a line.
    pub(crate) async fn say(&mut self, line: &str) -> Result<(), NoAnswer> {
        let asking = self.codes.then(|| ErrorCode::asked_in(line));
        let line = format!("{}\n", asking.as_deref().unwrap_or(line));
        self.send(line.as_bytes()).await.map_err(|error| self.broken(error))
    }

    /// The object in the next line.
    pub(crate) async fn object(&mut self) -> Result<Map<String, Value>, NoAnswer> {
        let line = self.reply().await?;
        serde_json::from_str(&line).map_err(|_| NoAnswer::Garbled { socket: self.socket.clone(), line })
    }

    /// The next line, unless it refuses. Without its end.
    pub(crate) async fn reply(&mut self) -> Result<String, NoAnswer> {
        let mut line = Vec::new();
        let read = (&mut self.read).take(LINE_MAX).read_until(b'\n', &mut line).await;
        read.map_err(|error| self.broken(error))?;
        if line.pop() != Some(b'\n') {
            return Err(self.broken(io::ErrorKind::UnexpectedEof.into()));
        }
        let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
        match Refusal::of_reply(&line, self.codes) {
            Some(refusal) => Err(NoAnswer::Refused(refusal)),
            None => Ok(line),
        }
    }

    /// Sends raw bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write.write_all(bytes).await
    }

    /// Ends our half: no more will be sent.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }

    /// Raw bytes as they come, taken with [`Session::taken`]; empty at the end.
    pub(crate) async fn bytes(&mut self) -> Result<&[u8], NoAnswer> {
        // Looked at twice, since a borrow that is returned cannot be given up on the way to the error.
        if let Err(error) = self.read.fill_buf().await {
            return Err(self.broken(error));
        }
        Ok(self.read.buffer())
    }

    /// Marks `n` of the bytes last seen as read.
    pub(crate) fn taken(&mut self, n: usize) {
        self.read.consume(n);
    }

    /// The head of a frame: its kind and how many bytes follow.
    pub(crate) async fn frame_head(&mut self) -> Result<(FrameKind, u32), NoAnswer> {
        let mut head = [0; FrameKind::HEAD_BYTES];
        self.exactly(&mut head).await?;
        FrameKind::of_head(head).map_err(|bad| self.garbled(bad.to_string()))
    }

    /// Fills `bytes`.
    pub(crate) async fn exactly(&mut self, bytes: &mut [u8]) -> Result<(), NoAnswer> {
        match self.read.read_exact(bytes).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.broken(error)),
        }
    }

    /// Both halves, for bytes both ways at once.
    pub(crate) fn halves(&mut self) -> (&mut BufReader<OwnedReadHalf>, &mut OwnedWriteHalf) {
        (&mut self.read, &mut self.write)
    }

    /// A reply that is no refusal and makes no sense either.
    pub(crate) fn garbled(&self, line: impl Into<String>) -> NoAnswer {
        NoAnswer::Garbled { socket: self.socket.clone(), line: line.into() }
    }

    pub(crate) fn broken(&self, error: io::Error) -> NoAnswer {
        NoAnswer::Broken { socket: self.socket.clone(), error }
    }

    async fn greeted(&mut self) -> Result<(), NoAnswer> {
        match timeout(GREETING_MAX, self.reply()).await {
            Ok(Ok(line)) if control::greeted_by(&line).is_some() => Ok(()),
            Ok(Ok(line)) => Err(NoAnswer::NotControl { socket: self.socket.clone(), line }),
            Ok(Err(no_answer)) => Err(no_answer),
            Err(_) => Err(NoAnswer::Silent { socket: self.socket.clone(), waited: GREETING_MAX }),
        }
    }
}
