//! What else does a connection bring, after its first stream?
//!
//! One task per connection from a netmesh node takes its further streams, and closes it when it has had none for as long as
//! a new caller may take to open one. Each stream asks whether it is wanted: that lets us refuse it when we go by other
//! certificates than those of its handshake, and the dialler make a new connection.

use std::{pin::pin, sync::Arc};

use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    ASKING, CODE_ANEW, CODE_NORMAL, REASON_NORMAL, Stream, StreamTls, TAKEN,
    listen::STREAM_LIMIT,
    pool::{Identity, Load},
};
use crate::{
    id::Address,
    node::Node,
    tls::{PeerCertificate, ServerProfile},
};

/// Who has opened a connection, and under what.
pub(super) struct Caller {
    pub(super) peer: Address,
    pub(super) connection: Connection,
    /// `None` when it ends with its stream.
    pub(super) load: Option<Load>,
    pub(super) certificate: Option<PeerCertificate>,
    pub(super) tls: StreamTls<ServerProfile>,
    pub(super) identity: Identity,
    pub(super) since: Instant,
}

/// A connection that may bring more streams.
pub(super) struct More {
    pub(super) node: Node,
    pub(super) caller: Caller,
    pub(super) load: Load,
    /// The profile of those who call now.
    pub(super) tls: watch::Receiver<StreamTls<ServerProfile>>,
    /// For streams on their way.
    pub(super) places: Arc<Semaphore>,
    pub(super) out: mpsc::Sender<Stream>,
}

impl More {
    /// Runs until the connection has ended.
    pub(super) async fn run(self) {
        let connection = self.caller.connection.clone();
        let this = Arc::new(self);
        let mut coming = JoinSet::new();
        let load = this.load.clone();
        let mut idle = pin!(load.idle(STREAM_LIMIT));
        loop {
            tokio::select! {
                halves = connection.accept_bi() => match halves {
                    Ok(halves) => drop(coming.spawn(this.clone().take(halves))),
                    Err(_) => break,
                },
                Some(_) = coming.join_next() => {}
                () = &mut idle, if coming.is_empty() => {
                    connection.close(VarInt::from_u32(CODE_NORMAL), REASON_NORMAL);
                    break;
                }
                () = this.out.closed(), if !load.retired() => load.retire(),
                () = this.node.stopping().cancelled(), if !load.retired() => load.retire(),
            }
        }
        coming.shutdown().await;
    }

    /// Takes one more stream, or has the caller make a new connection for it.
    async fn take(self: Arc<Self>, (mut send, mut recv): (SendStream, RecvStream)) {
        let Ok(_place) = self.places.try_acquire() else { return refuse(send, recv) };
        let opened = async {
            let mut first = [0];
            recv.read_exact(&mut first).await.ok()?;
            (first == [ASKING] && self.is_current().await).then_some(())?;
            let lease = self.load.lease(&self.caller.connection);
            send.write_all(&[TAKEN]).await.ok()?;
            Some(lease)
        };
        let Ok(Some(lease)) = timeout(STREAM_LIMIT, opened).await else { return refuse(send, recv) };
        let Caller { peer, connection, certificate, .. } = &self.caller;
        let (peer, certificate) = (peer.clone(), certificate.clone());
        let stream =
            Stream::new(&self.node, peer, Some(lease), certificate, connection.clone(), (send, recv));
        // An error says that nobody accepts any more; dropping the stream resets it.
        let _ = self.out.send(stream).await;
    }

    /// True while a handshake now would go as that of this connection went.
    async fn is_current(&self) -> bool {
        let tls = self.tls.borrow().clone();
        let same = match (&tls, &self.caller.tls) {
            (StreamTls::Insecure, StreamTls::Insecure) => true,
            (StreamTls::Profile(now), StreamTls::Profile(then)) => Arc::ptr_eq(now, then),
            _ => false,
        };
        let identity = &self.caller.identity;
        let current = same
            && identity.holds(self.caller.since)
            && !self.load.retired()
            && Identity::called(&tls).await.is_ok_and(|now| now == *identity);
        if !current {
            self.load.retire();
        }
        current
    }
}

fn refuse(mut send: SendStream, mut recv: RecvStream) {
    // An error says that the caller has given it up.
    let _ = send.reset(VarInt::from_u32(CODE_ANEW));
    let _ = recv.stop(VarInt::from_u32(CODE_ANEW));
}
