//! `connect NODE SERVICE [TLS]`: this conversation becomes a pipe to a service of the mesh.
//!
//! After `Connecting` every byte goes through as it is. When the client has finished sending, so have we toward the
//! service, which may still answer; when the client is gone, or either side breaks off, the other is broken off too,
//! so that half a payload is never taken for a whole one. When the service has finished, a local client is closed.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use netmesh::{
    control::Params,
    id::{Address, BadNodeId, BadServiceName, ServiceName},
    stream::{DialError, Stream, StreamTls},
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use workunits::{
    engine::{Caller, Way, WorkError},
    logic::grants::Action,
    request::ErrorCode,
};

use crate::control::{
    self,
    code::Coded,
    peer::Wire,
    session::{Next, Session},
};

/// How much is passed on at once.
const BLOCK_BYTES: usize = 64 << 10;

/// Where to, as it was asked.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    node: String,
    service: String,
    tls: String,
}

/// Why a request names no target. The texts are Receptor's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum BadTarget {
    #[error("no connect target")]
    Missing,
    #[error("too many parameters")]
    TooMany,
    #[error("no connect target {0}")]
    NoMember(&'static str),
    #[error("connect target {0} must be string")]
    NotText(&'static str),
    #[error("connect tls name must be string")]
    TlsNotText,
}

impl Target {
    fn parse(params: &Params) -> Result<Target, BadTarget> {
        let members = match params {
            Params::Json(members) => members,
            Params::Text(text) => {
                let words: Vec<&str> = text.split(' ').collect();
                let (node, service, tls) = match words[..] {
                    [] | [_] => return Err(BadTarget::Missing),
                    [node, service] => (node, service, ""),
                    [node, service, tls] => (node, service, tls),
                    _ => return Err(BadTarget::TooMany),
                };
                return Ok(Target { node: node.into(), service: service.into(), tls: tls.into() });
            }
        };
        let required = |name| match members.get(name) {
            None => Err(BadTarget::NoMember(name)),
            Some(value) => value.as_str().map(str::to_owned).ok_or(BadTarget::NotText(name)),
        };
        Ok(Target {
            node: required("node")?,
            service: required("service")?,
            tls: match members.get("tls") {
                None => String::new(),
                Some(value) => value.as_str().ok_or(BadTarget::TlsNotText)?.to_owned(),
            },
        })
    }
}

/// Why the service was not reached.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    BadTarget(#[from] BadTarget),
    #[error("unknown TLS config {0}")]
    UnknownTls(String),
    #[error(transparent)]
    Denied(#[from] WorkError),
    #[error(transparent)]
    BadNode(#[from] BadNodeId),
    #[error(transparent)]
    BadService(#[from] BadServiceName),
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl Coded for ConnectError {
    fn code(&self) -> ErrorCode {
        match self {
            ConnectError::BadTarget(_) => ErrorCode::BadRequest,
            ConnectError::UnknownTls(_) => ErrorCode::UnknownTls,
            ConnectError::Denied(why) => why.code(),
            ConnectError::BadNode(_) => ErrorCode::BadNode,
            ConnectError::BadService(_) => ErrorCode::BadService,
            ConnectError::Dial(why) => why.code(),
        }
    }
}

/// Dials, says so, and passes bytes until the end.
pub(super) async fn run<W: Wire>(
    params: &Params,
    session: &mut Session<W>,
    context: &control::Context,
) -> io::Result<Next> {
    let service = match dial(params, context, session.wire.caller()).await {
        Ok(service) => service,
        Err(refusal) => return session.refuse(refusal).await,
    };
    session.send_line("Connecting").await?;
    let first = session.input.take(usize::MAX);
    // An error of either side breaks off the other, which happens when both are dropped.
    bridge(session, service, &first).await?;
    Ok(Next::Close)
}

async fn dial(
    params: &Params,
    control::Context { node, tls, engine, .. }: &control::Context,
    caller: &Caller,
) -> Result<Stream, ConnectError> {
    let target = Target::parse(params)?;
    engine.permit(Action::Connect, Some(&target.node), caller).await?;
    let tls = match &*target.tls {
        "" => StreamTls::Insecure,
        name => match tls.client(name) {
            Some(profile) => StreamTls::Profile(profile),
            None => return Err(ConnectError::UnknownTls(target.tls)),
        },
    };
    let to = Address { node: node.resolve(&target.node)?, service: ServiceName::new(&target.service)? };
    Ok(node.dial(&to, tls).await?)
}

/// Passes bytes both ways, `first` before all others from the client.
async fn bridge<W: Wire>(session: &mut Session<W>, mut service: Stream, first: &[u8]) -> io::Result<()> {
    service.write_all(first).await?;
    let Session { wire: client, input, .. } = session;
    let local = client.caller().way == Way::UnixSocket;
    let (mut up, mut down) = (Pipe::new(), Pipe::new());
    poll_fn(|cx| {
        if up.poll_copy(cx, client, &mut service)?.is_ready() {
            if (!up.is_closed() && client.is_gone()) || client.poll_gone(cx, input).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let _told_or_asked_again = up.poll_close(cx, &mut service)?;
        }
        if down.poll_copy(cx, &mut service, client)?.is_ready() {
            ready!(down.poll_close(cx, client))?;
            if local || up.is_closed() {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    })
    .await
}

/// One direction of a bridge.
struct Pipe {
    block: Box<[u8]>,
    /// What of `block` was read and not written yet.
    waiting: std::ops::Range<usize>,
    state: Flow,
}

#[derive(PartialEq)]
enum Flow {
    Open,
    /// The source has ended; the destination has everything.
    Ended,
    /// The destination has been told.
    Closed,
}

impl Pipe {
    fn new() -> Pipe {
        Pipe { block: vec![0; BLOCK_BYTES].into(), waiting: 0..0, state: Flow::Open }
    }

    /// Moves bytes until that would block; ready when the source has ended and the destination has everything.
    fn poll_copy<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.state == Flow::Open {
            while !self.waiting.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.block[self.waiting.clone()]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.waiting.start += written,
                }
            }
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            let mut block = ReadBuf::new(&mut self.block);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut block))?;
            self.waiting = 0..block.filled().len();
            if self.waiting.is_empty() {
                self.state = Flow::Ended;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the destination that this was all.
    fn poll_close<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.state != Flow::Closed {
            ready!(Pin::new(to).poll_shutdown(cx))?;
            self.state = Flow::Closed;
        }
        Poll::Ready(Ok(()))
    }

    fn is_closed(&self) -> bool {
        self.state == Flow::Closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Target, String> {
        let request = netmesh::control::Request::parse(line.as_bytes()).unwrap().unwrap();
        Target::parse(&request.params).map_err(|bad| bad.to_string())
    }

    #[test]
    fn a_target_is_two_words_and_perhaps_a_tls_profile() {
        let target = |tls: &str| Ok(Target { node: "a".into(), service: "b".into(), tls: tls.into() });
        assert_eq!(parse("connect a b"), target(""));
        assert_eq!(parse("connect a b "), target(""));
        assert_eq!(parse("connect a b t"), target("t"));
        assert_eq!(parse(r#"{"command":"connect","node":"a","service":"b"}"#), target(""));
        assert_eq!(parse(r#"{"command":"connect","node":"a","service":"b","tls":"t"}"#), target("t"));
    }

    #[test]
    fn mistakes_read_as_in_receptor() {
        for (line, text) in [
            ("connect", "no connect target"),
            ("connect a", "no connect target"),
            ("connect a b c d", "too many parameters"),
            (r#"{"command":"connect"}"#, "no connect target node"),
            (r#"{"command":"connect","node":1}"#, "connect target node must be string"),
            (r#"{"command":"connect","node":"a"}"#, "no connect target service"),
            (r#"{"command":"connect","node":"a","service":1}"#, "connect target service must be string"),
            (r#"{"command":"connect","node":"a","service":"b","tls":1}"#, "connect tls name must be string"),
        ] {
            assert_eq!(parse(line), Err(text.to_owned()), "{line}");
        }
    }
}
