//! The other end of a conversation: who it is, and whether it is still there.
//!
//! A session reads and writes. Two questions more decide whether work may start, and when to stop streaming: has the
//! peer only finished sending, or has it gone? A Unix socket tells the two apart; a stream of the mesh ends cleanly
//! or with an error, so that its end of input is always meant.

use std::{
    future::{Future, poll_fn},
    io,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use netmesh::{control::LineBuffer, stream::Stream};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
};
use workunits::engine::{Caller, Way};

/// How much input is kept for later while nobody reads it.
const KEEP_BYTES: usize = 64 << 10;

/// A connection that carries a control conversation.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Who asks, and by which way.
    fn caller(&self) -> &Caller;

    /// After the end of input: true when the peer will never read an answer either.
    fn is_gone(&self) -> bool;

    /// Ready when the peer is gone, and never only because it has finished sending.
    ///
    /// For times in which nobody reads; input that arrives meanwhile is kept in `input`.
    fn poll_gone(&mut self, cx: &mut Context<'_>, input: &mut LineBuffer) -> Poll<()>;

    /// Resolves when the peer is gone, see [`Wire::poll_gone`]. Dropping the future loses nothing.
    fn gone(&mut self, input: &mut LineBuffer) -> impl Future<Output = ()> + Send {
        poll_fn(move |cx| self.poll_gone(cx, input))
    }
}

/// A client on this machine.
#[derive(Debug)]
pub(crate) struct UnixWire {
    stream: UnixStream,
    caller: Caller,
    /// A second descriptor, whose readiness is spent on waiting for the hang-up alone; made when first needed.
    watched: Option<UnixStream>,
}

impl UnixWire {
    /// Asks the kernel who the client is.
    pub(crate) fn new(stream: UnixStream) -> io::Result<UnixWire> {
        let principal = format!("uid:{}", stream.peer_cred()?.uid());
        Ok(UnixWire { stream, caller: Caller { way: Way::UnixSocket, principal }, watched: None })
    }

    fn watch(&mut self) -> io::Result<&UnixStream> {
        if self.watched.is_none() {
            let descriptor = self.stream.as_fd().try_clone_to_owned()?;
            self.watched = Some(UnixStream::from_std(descriptor.into())?);
        }
        self.watched.as_ref().ok_or_else(|| io::Error::other("no descriptor"))
    }
}

impl Wire for UnixWire {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn is_gone(&self) -> bool {
        is_hung_up(&self.stream)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, _input: &mut LineBuffer) -> Poll<()> {
        let Ok(watched) = self.watch() else {
            return Poll::Pending; // out of descriptors: the next write will tell
        };
        // A hang-up makes a socket writable. So do other things: those are looked at once, and then forgotten.
        while ready!(watched.poll_write_ready(cx)).is_ok() && !is_hung_up(watched) {
            let spent = || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into());
            drop(watched.try_io(Interest::WRITABLE, spent)); // always “would block”: that is what forgets
        }
        Poll::Ready(())
    }
}

/// Both directions are closed, not only that towards us.
fn is_hung_up(stream: &UnixStream) -> bool {
    let mut asked = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let closed = PollFlags::POLLHUP | PollFlags::POLLERR;
    poll(&mut asked, PollTimeout::ZERO).is_ok()
        && asked[0].revents().is_some_and(|events| events.intersects(closed))
}

/// Another node.
#[derive(Debug)]
pub(crate) struct MeshWire {
    stream: Stream,
    caller: Caller,
    ended: bool,
}

impl MeshWire {
    /// Takes the node's name from the stream.
    pub(crate) fn new(stream: Stream) -> MeshWire {
        let principal = format!("node:{}", stream.peer().node);
        MeshWire { stream, caller: Caller { way: Way::Mesh, principal }, ended: false }
    }
}

impl Wire for MeshWire {
    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>, input: &mut LineBuffer) -> Poll<()> {
        while !self.ended && input.waiting_bytes() < KEEP_BYTES {
            let mut block = [0; 4 << 10];
            let mut block = ReadBuf::new(&mut block);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut block)) {
                Ok(()) if block.filled().is_empty() => self.ended = true,
                Ok(()) => input.input().extend_from_slice(block.filled()),
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending // it has finished sending: the next write will tell
    }
}

/// Both are read and written through their stream.
macro_rules! reads_and_writes {
    ($wire:ty) => {
        impl AsyncRead for $wire {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_read(cx, buf)
            }
        }

        impl AsyncWrite for $wire {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.stream).poll_write(cx, buf)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.stream).poll_shutdown(cx)
            }
        }
    };
}

reads_and_writes!(UnixWire);
reads_and_writes!(MeshWire);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (UnixStream, UnixWire) {
        let (client, server) = UnixStream::pair().unwrap();
        (client, UnixWire::new(server).unwrap())
    }

    #[tokio::test]
    async fn a_client_that_only_finished_sending_is_not_gone() {
        let (mut client, mut wire) = pair();
        client.shutdown().await.unwrap();
        assert_eq!(wire.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(!wire.is_gone());
        let mut input = LineBuffer::default();
        tokio::select! {
            biased;
            () = wire.gone(&mut input) => panic!("half a close was taken for a whole one"),
            () = tokio::task::yield_now() => {}
        }
    }

    #[tokio::test]
    async fn a_client_that_closed_is_gone_although_its_bytes_can_be_read() {
        let (mut client, mut wire) = pair();
        client.write_all(b"payload").await.unwrap();
        drop(client);
        wire.gone(&mut LineBuffer::default()).await;
        let mut read = Vec::new();
        wire.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"payload");
        assert!(wire.is_gone());
    }

    #[tokio::test]
    async fn a_client_is_noticed_leaving_after_it_had_finished_sending() {
        let (mut client, mut wire) = pair();
        client.shutdown().await.unwrap();
        let mut input = LineBuffer::default();
        let (mut waiting, mut polled) = (Box::pin(wire.gone(&mut input)), false);
        std::future::poll_fn(|cx| {
            polled = waiting.as_mut().poll(cx).is_pending();
            Poll::Ready(())
        })
        .await;
        assert!(polled);
        drop(client);
        waiting.await;
    }

    #[tokio::test]
    async fn a_client_is_known_by_its_user() {
        let (_client, wire) = pair();
        assert_eq!(wire.caller().principal, format!("uid:{}", nix::unistd::getuid()));
    }
}
