//! A command's standard input on its way to the daemon: opened before anything is submitted, streamed, never held.
//!
//! Where the daemon offers it, the payload's end is told from a cut: a file's length is declared, and a pipe comes in
//! frames with a final mark. A client that is killed in the middle then never starts the command.

use std::{io, path::Path};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use workunits::request::{Offers, PayloadEnd};

use crate::{args::PayloadArgs, client::Console, exit::Failure};

/// How much is read at once, in bytes.
const CHUNK: usize = 128 << 10;

/// What a unit reads as its standard input.
pub(super) struct Payload {
    source: Box<dyn AsyncRead + Send + Unpin>,
    /// Its name in an error.
    name: String,
    /// How many bytes it has, where that is known.
    length: Option<u64>,
}

/// Why a payload did not arrive.
#[derive(Debug)]
pub(super) enum Cut {
    /// Our side: it could not be read, or is not what it was.
    Source(Failure),
    /// The daemon takes no more.
    Daemon,
}

impl Payload {
    /// Opens what the flags name.
    pub(super) async fn open(args: &PayloadArgs, console: &mut Console) -> Result<Payload, Failure> {
        match (&args.payload, &args.payload_literal) {
            (Some(path), _) if path == Path::new("-") => {
                let source = std::mem::replace(&mut console.input, Box::new(tokio::io::empty()));
                Ok(Payload { source, name: "standard input".to_owned(), length: None })
            }
            (Some(path), _) => Payload::file(path).await,
            (None, Some(text)) => Ok(Payload::bytes(format!("{text}\n").into_bytes())),
            (None, None) => Ok(Payload::bytes(vec![])),
        }
    }

    fn bytes(bytes: Vec<u8>) -> Payload {
        let length = Some(bytes.len() as u64);
        Payload { source: Box::new(io::Cursor::new(bytes)), name: "the payload".to_owned(), length }
    }

    async fn file(path: &Path) -> Result<Payload, Failure> {
        let name = path.display().to_string();
        let refuse = |why: String| Failure::usage(format!("cannot read the payload file {name}: {why}"));
        let file = tokio::fs::File::open(path).await.map_err(|error| refuse(error.to_string()))?;
        let metadata = file.metadata().await.map_err(|error| refuse(error.to_string()))?;
        if metadata.is_dir() {
            return Err(refuse("it is a directory".to_owned()));
        }
        // Files of the kernel say that they are regular and empty, and are not.
        let length = Some(metadata.len()).filter(|length| metadata.is_file() && *length > 0);
        Ok(Payload { source: Box::new(file), name, length })
    }

    /// How its end can be told from a cut, given what the daemon offers.
    pub(super) fn end(&self, offers: Offers) -> Option<PayloadEnd> {
        match self.length {
            Some(length) if offers.payload_length => Some(PayloadEnd::Length { length, sha256: None }),
            _ => offers.payload_framed.then_some(PayloadEnd::FRAMED),
        }
    }

    /// Sends it all, with its end as it was declared.
    pub(super) async fn send(
        mut self,
        end: Option<&PayloadEnd>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Cut> {
        let framed = matches!(end, Some(PayloadEnd::Framed { .. }));
        let declared = match end {
            Some(PayloadEnd::Length { length, .. }) => *length,
            _ => u64::MAX,
        };
        let mut left = declared;
        let mut buffer = vec![0; CHUNK];
        while left > 0 {
            let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let read = self.source.read(&mut buffer[..most]).await;
            let n = read.map_err(|error| self.source_failure(&error.to_string()))?;
            if n == 0 {
                break;
            }
            left -= n as u64;
            if framed {
                to.write_all(&(n as u32).to_be_bytes()).await.map_err(|_| Cut::Daemon)?;
            }
            to.write_all(&buffer[..n]).await.map_err(|_| Cut::Daemon)?;
        }
        if declared != u64::MAX && left > 0 {
            return Err(self.source_failure(&format!("it was {left} bytes longer when it was opened")));
        }
        if framed {
            to.write_all(&0u32.to_be_bytes()).await.map_err(|_| Cut::Daemon)?;
        }
        to.flush().await.map_err(|_| Cut::Daemon)
    }

    fn source_failure(&self, why: &str) -> Cut {
        Cut::Source(Failure::not_done(format!("cannot read {}: {why}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(bytes: &'static [u8]) -> Payload {
        Payload { source: Box::new(bytes), name: "pipe".into(), length: None }
    }

    fn all() -> Offers {
        Offers { payload_length: true, payload_framed: true, ..Offers::default() }
    }

    #[tokio::test]
    async fn a_pipe_comes_in_frames_with_a_final_mark() {
        let payload = pipe(b"hello");
        let end = payload.end(all());
        assert_eq!(end, Some(PayloadEnd::FRAMED));
        let mut sent = Vec::new();
        payload.send(end.as_ref(), &mut sent).await.unwrap();
        assert_eq!(sent, b"\0\0\0\x05hello\0\0\0\0");
    }

    #[tokio::test]
    async fn toward_a_go_daemon_bytes_are_just_bytes() {
        let payload = pipe(b"hello");
        assert_eq!(payload.end(Offers::default()), None);
        let mut sent = Vec::new();
        payload.send(None, &mut sent).await.unwrap();
        assert_eq!(sent, b"hello");
    }

    #[tokio::test]
    async fn a_literal_and_nothing_declare_their_length() {
        for (bytes, length) in [(b"x\n".to_vec(), 2), (vec![], 0)] {
            let payload = Payload::bytes(bytes);
            assert_eq!(payload.end(all()), Some(PayloadEnd::Length { length, sha256: None }));
        }
    }

    #[tokio::test]
    async fn a_file_that_grew_is_sent_as_long_as_declared_and_one_that_shrank_is_a_cut() {
        let mut sent = Vec::new();
        let declared = |length| PayloadEnd::Length { length, sha256: None };
        pipe(b"hello").send(Some(&declared(4)), &mut sent).await.unwrap();
        assert_eq!(sent, b"hell");
        let cut = pipe(b"hello").send(Some(&declared(6)), &mut sent).await.unwrap_err();
        assert!(matches!(cut, Cut::Source(_)));
    }

    #[tokio::test]
    async fn a_file_of_the_kernel_is_not_taken_for_empty() {
        let payload = Payload::file(Path::new("/proc/self/stat")).await.unwrap();
        assert_eq!(payload.end(all()), Some(PayloadEnd::FRAMED));
    }

    #[tokio::test]
    async fn what_cannot_be_opened_is_bad_usage() {
        for path in ["/nonexistent/file", "/"] {
            let Err(refused) = Payload::file(Path::new(path)).await else { panic!("{path}") };
            assert_eq!(refused.code, crate::exit::Code::USAGE, "{path}");
        }
    }
}
