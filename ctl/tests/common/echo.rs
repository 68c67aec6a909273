//! A TCP server outside the mesh that says what it hears.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
};

/// Starts one; gives its address.
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
