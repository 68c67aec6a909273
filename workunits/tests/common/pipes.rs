//! A mesh of in-memory pipes that can be cut at any byte, and what answers at their other ends.
#![allow(dead_code)] // each test file takes what it needs

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::watch,
};
use workunits::engine::{BoxFuture, Conversation, DialFailed, Mesh, Reach};

/// When the conversations with a node are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Never, or not any more.
    Never,
    /// Once, when so many bytes have left.
    Sent(usize),
    /// Once, when so many bytes have come and more are there: what they answer was done, and nobody hears of it.
    Heard(usize),
    /// Each of them, when so many bytes have left.
    EachSent(usize),
    /// Each of them, when so many bytes have come.
    EachHeard(usize),
}

/// What answers: given a conversation and the node that was dialled.
pub(crate) type Answer = Arc<dyn Fn(End, String) + Send + Sync>;

/// Reaches nodes over pipes.
pub(crate) struct Pipes {
    answer: Answer,
    reach: watch::Sender<Arc<Reach>>,
    nodes: Mutex<HashMap<String, Arc<Traffic>>>,
}

/// What went to and from one node, and when that is cut.
pub(crate) struct Traffic {
    pub(crate) cut: Mutex<Cut>,
    pub(crate) sent: Mutex<usize>,
    pub(crate) heard: Mutex<usize>,
}

impl Pipes {
    pub(crate) fn new(answer: Answer) -> Arc<Pipes> {
        Arc::new(Pipes { answer, reach: watch::Sender::new(Arc::default()), nodes: Mutex::default() })
    }

    /// Brings a node into reach.
    pub(crate) fn join(&self, node: &str, cut: Cut) -> Arc<Traffic> {
        let traffic =
            Arc::new(Traffic { cut: Mutex::new(cut), sent: Mutex::default(), heard: Mutex::default() });
        self.nodes.lock().unwrap().insert(node.to_owned(), traffic.clone());
        self.reach.send_modify(|reach| {
            Arc::make_mut(reach).insert(node.to_owned(), None);
        });
        traffic
    }

    /// Takes a node out of reach; its conversations stay until somebody finds out.
    pub(crate) fn part(&self, node: &str) {
        self.nodes.lock().unwrap().remove(node);
        self.reach.send_modify(|reach| {
            Arc::make_mut(reach).remove(node);
        });
    }
}

impl Mesh for Pipes {
    fn dial_control<'a>(
        &'a self,
        node: &'a str,
        _tls_client: &'a str,
    ) -> BoxFuture<'a, Result<Conversation, DialFailed>> {
        let traffic = self.nodes.lock().unwrap().get(node).cloned();
        Box::pin(async move {
            let traffic = traffic.ok_or_else(|| DialFailed::Unreachable(format!("no route to {node}")))?;
            let (here, there) = tokio::io::duplex(64 << 10);
            let broken = Arc::new(AtomicBool::new(false));
            (self.answer)(End { pipe: Some(there), broken: broken.clone(), near: None }, node.to_owned());
            let near = Near { traffic, sent: 0, heard: 0, finished: false };
            Ok(Box::new(End { pipe: Some(here), broken, near: Some(near) }) as Conversation)
        })
    }

    fn reach(&self) -> watch::Receiver<Arc<Reach>> {
        self.reach.subscribe()
    }
}

/// One end of a conversation.
pub(crate) struct End {
    pipe: Option<DuplexStream>,
    /// A cut, unlike a clean end, is an error at both ends.
    broken: Arc<AtomicBool>,
    near: Option<Near>,
}

/// What the end knows at which the bytes are counted.
struct Near {
    traffic: Arc<Traffic>,
    /// In this conversation.
    sent: usize,
    heard: usize,
    finished: bool,
}

impl End {
    fn reset<T>(&mut self) -> Poll<io::Result<T>> {
        self.broken.store(true, Ordering::SeqCst);
        self.pipe = None;
        Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl Near {
    /// How much more may leave.
    fn may_send(&self) -> usize {
        match *self.traffic.cut.lock().unwrap() {
            Cut::Sent(at) => at - *self.traffic.sent.lock().unwrap(),
            Cut::EachSent(at) => at - self.sent,
            _ => usize::MAX,
        }
    }

    /// How much more may come.
    fn may_hear(&self) -> usize {
        match *self.traffic.cut.lock().unwrap() {
            Cut::Heard(at) => at - *self.traffic.heard.lock().unwrap(),
            Cut::EachHeard(at) => at - self.heard,
            _ => usize::MAX,
        }
    }

    /// It is cut now; a cut that comes once is over.
    fn fire(&self) {
        let mut cut = self.traffic.cut.lock().unwrap();
        if !matches!(*cut, Cut::EachSent(_) | Cut::EachHeard(_)) {
            *cut = Cut::Never;
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let end = &mut *self;
        let room = end.near.as_ref().map_or(usize::MAX, Near::may_hear).min(buf.remaining());
        let Some(pipe) = &mut end.pipe else { return end.reset() };
        let mut block = vec![0; room.max(1)];
        let mut read = ReadBuf::new(&mut block);
        ready!(Pin::new(pipe).poll_read(cx, &mut read))?;
        let n = read.filled().len();
        if n == 0 && end.broken.load(Ordering::SeqCst) {
            return end.reset();
        }
        if let Some(near) = &mut end.near {
            if n > room {
                near.fire();
                return end.reset();
            }
            near.heard += n;
            *near.traffic.heard.lock().unwrap() += n;
        }
        buf.put_slice(&block[..n]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let end = &mut *self;
        let room = end.near.as_ref().map_or(usize::MAX, Near::may_send).min(bytes.len());
        if room == 0 {
            end.near.as_ref().inspect(|near| near.fire());
            return end.reset();
        }
        let Some(pipe) = &mut end.pipe else { return end.reset() };
        let n = ready!(Pin::new(pipe).poll_write(cx, &bytes[..room]))?;
        if let Some(near) = &mut end.near {
            near.sent += n;
            *near.traffic.sent.lock().unwrap() += n;
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.pipe {
            Some(pipe) => Pin::new(pipe).poll_flush(cx),
            None => self.reset(),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let end = &mut *self;
        if let Some(near) = &mut end.near {
            if near.may_send() == 0 {
                near.fire();
                return end.reset();
            }
            near.finished = true;
        }
        match &mut end.pipe {
            Some(pipe) => Pin::new(pipe).poll_shutdown(cx),
            None => end.reset(),
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // Whoever lets a conversation go without finishing it has broken it off.
        if self.near.as_ref().is_some_and(|near| !near.finished) {
            self.broken.store(true, Ordering::SeqCst);
        }
    }
}
