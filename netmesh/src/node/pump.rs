//! Bytes in, bytes out: the tasks of one link.
//!
//! ```text
//! channel ─► reader ─► Plane::handle_message ─► another link's outbox, a service's inbox, or the driver
//! channel ◄─ writer ◄─ this link's outbox
//! ```
//!
//! A link ends when a reader or a writer fails, when the neighbour has ended every channel or takes nothing for too long,
//! when it is cut, or some time after its outbox was closed: then what waits is written, the channels are shut down, and
//! the neighbour gets a moment to read to the end.

use std::{
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    task::{JoinSet, yield_now},
    time::timeout,
};

use super::{
    driver::Event,
    outbox::{Batch, Share},
    plane::{Handled, Link, Plane},
};
use crate::{
    backend::{Channel, Transport},
    logic::IDLE_LIMIT,
    wire::frame::Deframer,
};

/// How much is read at a time. Larger blocks no longer fit the processor's cache.
const READ_BYTES: usize = 128 * 1024;

/// A write buffer that has grown beyond this is given back when the link falls idle.
const KEPT_BYTES: usize = 128 * 1024;

/// How long the neighbour may take to read to the end after we have shut the channels down.
const LINGER: Duration = Duration::from_millis(500);

/// How long what waits may take to be written after the outbox was closed. A neighbour that has vanished in the middle of
/// a transfer takes nothing, and the system would go on for a quarter of an hour; until the link is down nobody redials.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// How long a neighbour may take nothing at all while something waits. As long as it may say nothing.
const STALL_LIMIT: Duration = IDLE_LIMIT;

/// Runs a link to its end and tells the driver.
pub(crate) async fn run(plane: Arc<Plane>, link: Arc<Link>, transport: Transport) {
    let Transport { data, control, guard, .. } = transport;
    let mut readers = JoinSet::new();
    let mut writers = JoinSet::new();
    let shares = match &control {
        Some(_) => [Some((data, Share::Data)), control.map(|channel| (channel, Share::Control))],
        None => [Some((data, Share::All)), None],
    };
    for (channel, share) in shares.into_iter().flatten() {
        let Channel { reader, writer } = channel;
        readers.spawn(read(plane.clone(), link.clone(), reader));
        writers.spawn(write(link.clone(), writer, share));
    }
    let ending = tokio::select! {
        () = link.cut.cancelled() => Ok(()),
        () = farewell_is_over(&link) => Ok(()),
        result = all(&mut readers) => result,
        result = all(&mut writers) => match result {
            Ok(()) => {
                let _ = timeout(LINGER, async {
                    tokio::select! { () = link.cut.cancelled() => {}, _ = all(&mut readers) => {} }
                })
                .await;
                Ok(())
            }
            Err(error) => Err(error),
        },
    };
    match ending {
        Ok(()) => tracing::debug!(link = link.id.0, remote = link.info.remote, "link ended"),
        Err(error) if link.established.get().is_none() && !link.info.dialed => {
            tracing::debug!(link = link.id.0, remote = link.info.remote, %error, "a caller went away");
        }
        Err(error) => tracing::info!(link = link.id.0, remote = link.info.remote, %error, "link failed"),
    }
    link.outbox.close();
    readers.shutdown().await;
    writers.shutdown().await;
    drop(guard);
    link.down.cancel();
    // The driver is gone only when the whole node is.
    let _ = plane.events.send(Event::LinkDown { link: link.id }).await;
}

async fn farewell_is_over(link: &Link) {
    link.outbox.closed().await;
    tokio::time::sleep(FAREWELL_LIMIT).await;
}

/// Waits for every task of `set`, or for the first that fails.
async fn all(set: &mut JoinSet<io::Result<()>>) -> io::Result<()> {
    while let Some(done) = set.join_next().await {
        done.map_err(io::Error::other)??;
    }
    Ok(())
}

async fn read(
    plane: Arc<Plane>,
    link: Arc<Link>,
    mut reader: Box<dyn AsyncRead + Send + Unpin>,
) -> io::Result<()> {
    let mut deframer = Deframer::new();
    loop {
        let buffer: &mut BytesMut = deframer.buffer();
        buffer.reserve(READ_BYTES);
        if reader.read_buf(buffer).await? == 0 {
            return Ok(());
        }
        plane.heard(&link);
        let mut view = plane.view();
        while let Some(message) =
            deframer.first().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?
        {
            let len = message.len();
            if plane.handle_message(&mut view, &link, message) == Handled::No {
                view.flush();
                // Copied, since the buffer is needed again.
                let message = Bytes::copy_from_slice(message);
                plane
                    .events
                    .send(Event::Message { link: link.id, message })
                    .await
                    .map_err(io::Error::other)?;
            }
            deframer.skip(len);
        }
        drop(view);
        // Whoever writes what has just been passed on has a turn now: a reader that finds ever more to read would fill the
        // outboxes of others before their writers saw any of it, and the rest would be lost.
        yield_now().await;
    }
}

async fn write(
    link: Arc<Link>,
    mut writer: Box<dyn AsyncWrite + Send + Unpin>,
    share: Share,
) -> io::Result<()> {
    let mut batch = Batch::default();
    while link.outbox.take(share, &mut batch).await {
        let mut slices = batch.parts().map(IoSlice::new);
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0); // passes over those without bytes
        while !left.is_empty() {
            let written =
                timeout(STALL_LIMIT, writer.write_vectored(left)).await.map_err(|_| stalled())??;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut left, written);
        }
        timeout(STALL_LIMIT, writer.flush()).await.map_err(|_| stalled())??;
        batch.clear(KEPT_BYTES);
    }
    writer.shutdown().await
}

fn stalled() -> io::Error {
    let text = format!("the neighbour has taken nothing for {} s", STALL_LIMIT.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}
