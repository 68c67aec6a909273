//! TCP outside the mesh: a server that says what it hears, and a client of a proxy.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use super::PATIENCE;

/// Starts such a server; gives its address.
pub(crate) fn echo() -> SocketAddr {
    let echo = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = echo.local_addr().expect("its address");
    thread::spawn(move || {
        for client in echo.incoming() {
            let mut client = client.expect("a client");
            thread::spawn(move || {
                let mut back = client.try_clone().expect("a socket");
                drop(std::io::copy(&mut client, &mut back)); // either end may go first
            });
        }
    });
    address
}

/// Connects to the proxy at `port`.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the proxy listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}
