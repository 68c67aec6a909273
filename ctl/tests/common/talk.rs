//! A raw conversation with a control socket.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
};

use super::PATIENCE;

/// A raw conversation.
pub(crate) struct Talk {
    stream: BufReader<Connection>,
}

/// What carries it.
pub(crate) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.read(buf),
            Connection::Tcp(stream) => stream.read(buf),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Unix(stream) => stream.write(buf),
            Connection::Tcp(stream) => stream.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Talk {
    /// Speaks over a connection of which nothing was read yet.
    pub(crate) fn over(stream: UnixStream) -> Talk {
        Talk { stream: BufReader::new(Connection::Unix(stream)) }
    }

    /// The same on a TCP port of this machine.
    pub(crate) fn on_port(port: u16) -> Talk {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Talk { stream: BufReader::new(Connection::Tcp(stream)) }
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the daemon takes what we say");
    }

    pub(crate) fn half_close(&mut self) {
        let half = Shutdown::Write;
        let closed = match self.stream.get_ref() {
            Connection::Unix(stream) => stream.shutdown(half),
            Connection::Tcp(stream) => stream.shutdown(half),
        };
        closed.expect("half-close");
    }

    /// The next line without its end; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the daemon answers");
        line.trim_end_matches('\n').to_owned()
    }

    /// The next frame of a watched unit: its kind and what it holds.
    pub(crate) fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).expect("a frame");
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).expect("what the frame holds");
        (head[0], bytes)
    }

    /// The next bytes, exactly as many as there is room for.
    pub(crate) fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.stream.read_exact(bytes)
    }

    /// Everything up to the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the daemon sends the rest");
        rest
    }
}
