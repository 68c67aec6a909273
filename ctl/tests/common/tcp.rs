//! Outside the mesh: servers that say what they hear, and a client of a proxy.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use super::PATIENCE;

/// Starts such a server; gives its address.
pub(crate) fn echo() -> SocketAddr {
    let echo = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = echo.local_addr().expect("its address");
    thread::spawn(move || echo_to(echo.incoming()));
    address
}

/// Says to each of the clients that come what it says.
pub(crate) fn echo_to<C>(clients: impl Iterator<Item = io::Result<C>>)
where
    C: Send + 'static,
    for<'a> &'a C: Read + Write,
{
    for client in clients {
        let client = client.expect("a client");
        thread::spawn(move || drop(io::copy(&mut &client, &mut &client))); // either end may go first
    }
}

/// Connects to the proxy at `port`.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}
