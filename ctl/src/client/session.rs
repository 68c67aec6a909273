//! One conversation with a control service: greeting, lines out, lines in, then perhaps raw bytes.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use netmesh::{
    control,
    tls::{self, ClientProfile, ClientSettings},
};
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use workunits::request::{ErrorCode, FrameKind, Offers, Refusal};

use super::{address::Socket, no_answer::NoAnswer};

/// What is read of a connection, and what is written to it, whatever carries it.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// How long a connection may take to be made, which on this machine it never does.
const CONNECT_MAX: Duration = Duration::from_secs(20);

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
    pub(crate) socket: Socket,
    /// The node to go on to, and the daemon's TLS client profile for it.
    pub(crate) beyond: Option<(String, String)>,
}

impl Door {
    pub(crate) fn new(socket: impl Into<Socket>) -> Door {
        Door { socket: socket.into(), beyond: None }
    }

    /// The same door, going on to `node` when one is named.
    pub(crate) fn beyond(&self, node: Option<&str>, tls_client: &str) -> Door {
        let beyond = node.filter(|node| !node.is_empty());
        Door { beyond: beyond.map(|node| (node.to_owned(), tls_client.to_owned())), ..self.clone() }
    }

    /// Connects, and reads the greeting of the daemon, and of the node beyond.
    pub(crate) async fn open(&self) -> Result<Session, NoAnswer> {
        let socket = self.socket.name();
        let (read, write) = match timeout(CONNECT_MAX, connect(&self.socket)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(NoAnswer::NoDaemon { socket, error: io::ErrorKind::TimedOut.into() }),
        };
        let mut session =
            Session { read: BufReader::with_capacity(BUFFER, read), write, socket, codes: false };
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

async fn connect(socket: &Socket) -> Result<(Reader, Writer), NoAnswer> {
    let gone = |error| NoAnswer::NoDaemon { socket: socket.name(), error };
    let refused = |reason: String| NoAnswer::NotTrusted { socket: socket.name(), reason };
    Ok(match socket {
        Socket::Unix(path) => {
            let (read, write) = UnixStream::connect(path).await.map_err(gone)?.into_split();
            (Box::new(read), Box::new(write))
        }
        Socket::Tcp(address) => {
            let (read, write) = TcpStream::connect(address).await.map_err(gone)?.into_split();
            (Box::new(read), Box::new(write))
        }
        Socket::Tls(address, settings) => {
            let profile = ClientProfile::load(ClientSettings::clone(settings));
            let profile = Arc::new(profile.map_err(|error| refused(error.to_string()))?);
            let connector = tls::connector(profile, address).await;
            let connector = connector.map_err(|error| refused(error.to_string()))?;
            let stream = TcpStream::connect(address).await.map_err(gone)?;
            let (stream, _) = connector.connect(stream).await.map_err(|error| refused(error.reason))?;
            let (read, write) = tokio::io::split(stream);
            (Box::new(read), Box::new(write))
        }
    })
}

/// A conversation whose greeting has been read.
pub(crate) struct Session {
    read: BufReader<Reader>,
    write: Writer,
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
    pub(crate) fn halves(&mut self) -> (&mut BufReader<Reader>, &mut Writer) {
        (&mut self.read, &mut self.write)
    }

    /// A reply that is no refusal and makes no sense either.
    pub(crate) fn garbled(&self, line: impl Into<String>) -> NoAnswer {
        NoAnswer::Garbled { socket: self.socket.clone(), line: line.into() }
    }

    pub(crate) fn broken(&self, error: io::Error) -> NoAnswer {
        let socket = self.socket.clone();
        match tls::told_by_peer(&error) {
            Some(reason) => NoAnswer::NotTrusted { socket, reason },
            None => NoAnswer::Broken { socket, error },
        }
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
