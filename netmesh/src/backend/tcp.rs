//! Links over TCP: frames on a plain connection, as Receptor's `tcp-listener` and `tcp-peer` have them.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::{TcpListener, TcpStream};

use super::{BoxFuture, Channel, Dialer, Listener, Transport, TransportInfo};

/// A connect that takes longer is given up; the redial comes round again.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// Calls a neighbour over TCP.
#[derive(Clone, Debug)]
pub struct TcpDial {
    address: String,
}

impl TcpDial {
    /// Will call `address`, `host:port`; the host is resolved anew at each call.
    pub fn new(address: impl Into<String>) -> TcpDial {
        TcpDial { address: address.into() }
    }
}

impl Dialer for TcpDial {
    fn dial(&self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            let connect = TcpStream::connect(&self.address);
            let stream = tokio::time::timeout(CONNECT_LIMIT, connect).await.map_err(|_| {
                let text = format!("no answer from {} within {} s", self.address, CONNECT_LIMIT.as_secs());
                io::Error::new(io::ErrorKind::TimedOut, text)
            })??;
            transport(stream, self.address.clone(), true)
        })
    }

    fn describe(&self) -> String {
        format!("tcp {}", self.address)
    }
}

/// Waits for neighbours that call over TCP.
#[derive(Debug)]
pub struct TcpListen {
    listener: TcpListener,
    local: SocketAddr,
}

impl TcpListen {
    /// Listens on `address`, `host:port`; port 0 lets the system choose.
    pub async fn bind(address: &str) -> io::Result<TcpListen> {
        let listener = TcpListener::bind(address).await?;
        let local = listener.local_addr()?;
        Ok(TcpListen { listener, local })
    }
}

impl Listener for TcpListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Transport>> {
        Box::pin(async {
            let (stream, remote) = self.listener.accept().await?;
            transport(stream, remote.to_string(), false)
        })
    }

    fn local_addr(&self) -> Option<SocketAddr> {
        Some(self.local)
    }

    fn describe(&self) -> String {
        format!("tcp {}", self.local)
    }
}

fn transport(stream: TcpStream, remote: String, dialed: bool) -> io::Result<Transport> {
    // Frames leave in batches that we make ourselves; waiting for more would only add delay.
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Transport {
        data: Channel { reader: Box::new(reader), writer: Box::new(writer) },
        control: None,
        info: TransportInfo { kind: "tcp", remote, insecure: true, dialed },
        guard: None,
    })
}
