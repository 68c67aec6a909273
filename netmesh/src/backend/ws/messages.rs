//! Both halves of a WebSocket, one of which takes messages and the other reads them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{
    Sink, Stream, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::{CapacityError, ProtocolError},
        protocol::WebSocketConfig,
    },
};

use crate::{
    backend::{
        Channel,
        framed::{FRAME_MAX, FrameSplitter, Framing, SendMessages, TooLongFor},
        tls::explained,
    },
    wire::MAX_MESSAGE,
};

/// The longest message that is read at all. One that no frame can hold is dropped; one beyond this ends the link.
const READ_MAX: usize = 4 * MAX_MESSAGE;
/// How much is read at a time, and how much waits for a flush before it is written.
const BUFFER_BYTES: usize = 64 * 1024;

/// How messages are read and written. A Go node may be silent about its opcode and its fragments, so all are taken.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(8 * BUFFER_BYTES)
        .max_message_size(Some(READ_MAX))
        .max_frame_size(Some(READ_MAX))
}

/// The WebSocket as a channel of frames; `link` is what it is called in the log.
pub(super) fn channel<S>(socket: WebSocketStream<S>, link: String) -> Channel
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sink, stream) = socket.split();
    let reader = Reader { stream, framing: Framing::default(), ended: false, lost: TooLongFor::new(link) };
    Channel { reader: Box::new(reader), writer: Box::new(FrameSplitter::new(Writer { sink })) }
}

/// Takes messages, each of which is sent as one of the WebSocket's, and flushed by the batch.
struct Writer<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> SendMessages for Writer<S> {
    fn poll_send(&mut self, message: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.sink).poll_ready(cx)).map_err(in_words)?;
        let message = Message::Binary(Bytes::copy_from_slice(message));
        Poll::Ready(Pin::new(&mut self.sink).start_send(message).map_err(in_words))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_flush(cx).map_err(in_words)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.sink).poll_close(cx).map_err(in_words)
    }
}

/// Reads messages.
struct Reader<S> {
    stream: SplitStream<WebSocketStream<S>>,
    framing: Framing,
    ended: bool,
    lost: TooLongFor,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Reader<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if !this.framing.give(buf) {
            return Poll::Ready(Ok(()));
        }
        loop {
            let some = buf.filled().len() > before;
            if this.ended || (some && buf.remaining() < FRAME_MAX) {
                return Poll::Ready(Ok(()));
            }
            match Pin::new(&mut this.stream).poll_next(cx) {
                Poll::Pending if some => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Message::Binary(message)))) => this.take(&message, buf),
                // A Go node looks at the bytes alone.
                Poll::Ready(Some(Ok(Message::Text(message)))) => this.take(message.as_bytes(), buf),
                // The library answers pings by itself.
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {}
                Poll::Ready(Some(Ok(Message::Close(_)))) => {
                    this.ended = true;
                    // Lets the answer to it go, for as far as that does not wait.
                    let _ = Pin::new(&mut this.stream).poll_next(cx);
                }
                Poll::Ready(None) => this.ended = true,
                // A Go node ends like this always.
                Poll::Ready(Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)))) => {
                    this.ended = true;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(in_words(error))),
            }
        }
    }
}

impl<S> Reader<S> {
    fn take(&mut self, message: &[u8], buf: &mut ReadBuf<'_>) {
        // An empty one becomes an empty frame, and the link ends for it as over TCP.
        if !self.framing.put(message, buf) {
            self.lost.dropped(message.len(), "since nothing above 65535 bytes can be passed on");
        }
    }
}

/// What went wrong, for people.
pub(super) fn in_words(error: Error) -> io::Error {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    match error {
        Error::Io(error) => explained(error),
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::ConnectionAborted.into(),
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            invalid(format!("the neighbour sent a message of {size} bytes, where {MAX_MESSAGE} are the most"))
        }
        error => invalid(format!("WebSocket: {error}")),
    }
}
