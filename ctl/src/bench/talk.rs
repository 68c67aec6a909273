//! A conversation with a node's control socket, in Receptor's plain language, on the thread that asks.
//!
//! No runtime stands between a measurement and the socket, and both programs are spoken to with the same words.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use workunits::request::{FrameKind, created_unit};

use super::trouble::{Tried, Trouble, at};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much output is read at once, in bytes.
const BUFFER: usize = 256 << 10;

/// A conversation whose greeting has been read.
pub(super) struct Talk(BufReader<UnixStream>);

impl Talk {
    /// Connects and reads the greeting.
    pub(super) fn open(socket: &Path) -> io::Result<Talk> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut talk = Talk(BufReader::with_capacity(BUFFER, stream));
        let greeting = talk.read_line()?;
        match netmesh::control::greeted_by(&greeting) {
            Some(_) => Ok(talk),
            None => Err(io::Error::other(format!("greeted with {greeting:?}"))),
        }
    }

    /// Sends a line.
    pub(super) fn say(&mut self, line: &str) -> Tried<()> {
        let line = format!("{line}\n");
        self.0.get_mut().write_all(line.as_bytes()).map_err(at(format!("cannot say {}", line.trim_end())))
    }

    /// The next line, which must not be a refusal.
    pub(super) fn line(&mut self) -> Tried<String> {
        let line = self.read_line().map_err(at("no answer"))?;
        match line.starts_with("ERROR") {
            true => Err(Trouble(format!("refused: {line}"))),
            false => Ok(line),
        }
    }

    /// Sends a line and reads the object that answers it.
    pub(super) fn ask(&mut self, line: &str) -> Tried<Value> {
        self.say(line)?;
        let answer = self.line()?;
        serde_json::from_str(&answer).map_err(at(format!("the answer to {line} is no JSON")))
    }

    /// Asks for one member of the status.
    pub(super) fn status(&mut self, member: &str) -> Tried<Value> {
        let request = json!({"command": "status", "requested_fields": [member]});
        Ok(self.ask(&request.to_string())?[member].take())
    }

    /// Begins a submission: the unit's id; what follows is its payload.
    pub(super) fn submit(&mut self, node: &str, work_type: &str, params: &str) -> Tried<String> {
        let mut request =
            json!({"command": "work", "subcommand": "submit", "node": node, "worktype": work_type});
        if !params.is_empty() {
            request["params"] = json!(params);
        }
        self.say(&request.to_string())?;
        let header = self.line()?;
        created_unit(&header).map(str::to_owned).ok_or_else(|| Trouble(format!("no unit in {header:?}")))
    }

    /// Sends some of the payload.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Tried<()> {
        self.0.get_mut().write_all(bytes).map_err(at("the payload is not taken"))
    }

    /// Ends the payload; the unit has been accepted when this returns.
    pub(super) fn finish(&mut self) -> Tried<()> {
        self.0.get_ref().shutdown(Shutdown::Write).map_err(at("cannot end the payload"))?;
        self.line().map(drop)
    }

    /// Asks for a unit's output, which follows.
    pub(super) fn results(&mut self, unit: &str) -> Tried<()> {
        self.say(&format!("work results {unit}"))?;
        self.line().map(drop)
    }

    /// Reads exactly so many bytes of output.
    pub(super) fn exactly(&mut self, bytes: &mut [u8]) -> Tried<()> {
        self.0.read_exact(bytes).map_err(at("the output ends too early"))
    }

    /// Reads to the end; calls `came` with the number of bytes that each read brought.
    pub(super) fn drain(&mut self, mut came: impl FnMut(usize)) -> Tried<()> {
        loop {
            let n = self.0.fill_buf().map_err(at("the output breaks off"))?.len();
            if n == 0 {
                return Ok(());
            }
            came(n);
            self.0.consume(n);
        }
    }

    /// The next frame of a watch, without what it holds beyond its kind and its bytes.
    pub(super) fn frame(&mut self) -> Tried<(FrameKind, Vec<u8>)> {
        let mut head = [0; FrameKind::HEAD_BYTES];
        self.exactly(&mut head)?;
        let (kind, length) = FrameKind::of_head(head).map_err(at("no frame"))?;
        let mut bytes = vec![0; length as usize];
        self.exactly(&mut bytes)?;
        Ok((kind, bytes))
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}
