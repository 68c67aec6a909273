//! A user whose node comes and goes: what was not answered is asked again, with the same request, from the same byte.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::Shared;

/// One user of one node.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) world: &'a Path,
    pub(crate) node: &'static str,
    pub(crate) shared: &'a Shared,
}

/// A unit that has ended, as its user saw it.
pub(crate) struct Ended {
    pub(crate) node: &'static str,
    pub(crate) id: String,
    pub(crate) status: Value,
    pub(crate) output: Vec<u8>,
}

type Stream = BufReader<UnixStream>;

impl Client<'_> {
    /// Submits, until the node says that it has all of it. The unit that is told first is the one told last, unless it
    /// never got its payload.
    pub(crate) fn submit(&self, to: &str, params: &str, request: &str, payload: &[u8]) -> String {
        let extension = json!({ "request_id": request, "payload": { "length": payload.len() } }).to_string();
        let line = json!({ "command": "work", "subcommand": "submit", "node": to, "worktype": "job", "params": params, "netmesh": extension });
        self.persist(&format!("submit {params} to {to}"), || {
            let mut stream = self.dial()?;
            say(&mut stream, &line.to_string())?;
            let asking = read_line(&mut stream)?;
            assert!(asking.starts_with("Work unit created with ID "), "{asking}");
            stream.get_mut().write_all(payload)?;
            let started = read_line(&mut stream)?;
            if started.contains("shutting down") {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let answer: Value =
                serde_json::from_str(&started).unwrap_or_else(|_| panic!("{params}: {started}"));
            Ok(answer["unitid"].as_str().unwrap_or_else(|| panic!("{params}: {started}")).to_owned())
        })
    }

    /// Reads a unit's output to its end, however often the stream breaks off.
    pub(crate) fn follow(&self, id: &str) -> Ended {
        let mut output = Vec::new();
        loop {
            self.persist(&format!("follow {id} on {}, {} bytes so far", self.node, output.len()), || {
                let mut stream = self.dial()?;
                say(&mut stream, &format!("work results {id} {}", output.len()))?;
                let head = read_line(&mut stream)?;
                assert!(head.starts_with("Streaming results"), "{id} on {}: {head}", self.node);
                // A stream that is cut brings what it has brought.
                stream.read_to_end(&mut output).map(drop)
            });
            let status = self.status(id).unwrap_or_else(|| panic!("{} has forgotten {id}", self.node));
            if status["State"].as_u64() > Some(1)
                && status["StdoutSize"].as_u64() <= Some(output.len() as u64)
            {
                return Ended { node: self.node, id: id.to_owned(), status, output };
            }
        }
    }

    /// All that is known of a unit; `None` when nothing is.
    pub(crate) fn status(&self, id: &str) -> Option<Value> {
        let line =
            json!({ "command": "work", "subcommand": "status", "unitid": id, "fields": "all" }).to_string();
        let answer = self.ask(&line);
        if answer.contains("unknown work unit") {
            return None;
        }
        Some(serde_json::from_str(&answer).unwrap_or_else(|_| panic!("status of {id}: {answer}")))
    }

    /// Every unit of the node.
    pub(crate) fn list(&self) -> BTreeSet<String> {
        let answer: Value = serde_json::from_str(&self.ask("work list")).expect("an object");
        answer.as_object().expect("an object").keys().cloned().collect()
    }

    /// Releases a unit. Again and again, until it is gone or its node has noted it.
    pub(crate) fn release(&self, id: &str) {
        let answer = self.ask(&format!("work release {id}"));
        let taken = ["\"released\"", "\"release pending\"", "unknown work unit"];
        assert!(taken.iter().any(|text| answer.contains(text)), "release of {id} on {}: {answer}", self.node);
    }

    fn ask(&self, line: &str) -> String {
        self.persist(line, || {
            let mut stream = self.dial()?;
            say(&mut stream, line)?;
            let answer = read_line(&mut stream)?;
            if answer.contains("shutting down") { Err(io::ErrorKind::Interrupted.into()) } else { Ok(answer) }
        })
    }

    /// Tries until the node is there for long enough.
    fn persist<T>(&self, what: &str, mut attempt: impl FnMut() -> io::Result<T>) -> T {
        loop {
            match attempt() {
                Ok(done) => return done,
                Err(error) => self.shared.check_patience(&format!("{what} at {}: {error}", self.node)),
            }
            thread::sleep(Duration::from_millis(20)); // a socket does not tell when somebody listens again
        }
    }

    fn dial(&self) -> io::Result<Stream> {
        let stream = UnixStream::connect(self.world.join(format!("{}.sock", self.node)))?;
        // Longer than any job: a stream that says nothing for so long hangs.
        stream.set_read_timeout(Some(Duration::from_secs(100)))?;
        let mut stream = BufReader::new(stream);
        let greeting = read_line(&mut stream)?;
        assert_eq!(greeting, format!("Receptor Control, node {}", self.node));
        Ok(stream)
    }
}

fn say(stream: &mut Stream, line: &str) -> io::Result<()> {
    stream.get_mut().write_all(format!("{line}\n").as_bytes())
}

fn read_line(stream: &mut Stream) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    match line.strip_suffix('\n') {
        Some(line) => Ok(line.to_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
