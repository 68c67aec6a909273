//! Links over WebSocket, one message per binary message, in the clear or under TLS, as Receptor's `ws-listener` and
//! `ws-peer` have them.

mod address;
mod dial;
pub(crate) mod door;
mod listen;
mod messages;
pub(crate) mod proxy;
mod tunnel;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

pub use self::{
    address::{BadWsUrl, WsUrl},
    dial::{BadHeader, ExtraHeader, WsDial},
    listen::WsListen,
    proxy::Proxies,
};

use self::messages::channel;
use super::{Transport, TransportInfo, tls::Proof};

fn transport<S>(
    socket: WebSocketStream<S>,
    remote: String,
    dialed: bool,
    Proof { insecure, identity, certificate }: Proof,
) -> Transport
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Transport {
        data: channel(socket, format!("ws {remote}")),
        control: None,
        info: TransportInfo { kind: "ws", remote, insecure, dialed, identity, certificate },
        guard: None,
    }
}
