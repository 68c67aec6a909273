//! A raw conversation with a control socket.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
};

/// A raw conversation.
pub(crate) struct Talk {
    stream: BufReader<UnixStream>,
}

impl Talk {
    /// Speaks over a connection of which nothing was read yet.
    pub(super) fn over(stream: UnixStream) -> Talk {
        Talk { stream: BufReader::new(stream) }
    }

    pub(crate) fn say(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the daemon takes what we say");
    }

    pub(crate) fn half_close(&mut self) {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write).expect("half-close");
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

    /// Everything up to the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the daemon sends the rest");
        rest
    }
}
