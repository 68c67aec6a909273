//! The limit of a path through the mesh: as many processes in a chain, each of which copies one TCP connection to the next.
//!
//! `netmesh bench-relay ADDRESS` is one of them; it is hidden, and taken before any runtime exists.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Command, ExitCode, Stdio},
    thread,
};

use super::{
    program::Program,
    traffic::CHUNK,
    trouble::{Tried, at},
    usage,
    yard::{Process, Yard},
};

/// The word that makes a process a relay.
pub(crate) const WORD: &str = "bench-relay";

/// One relay: prints the port where it listens, and carries whoever comes on to `target`. It never ends by itself.
pub(crate) fn main(target: &str) -> ExitCode {
    match carry(target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "netmesh: cannot relay to {target}: {error}"); // nobody else to tell
            ExitCode::FAILURE
        }
    }
}

fn carry(target: &str) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(io::stdout(), "{}", listener.local_addr()?)?;
    for near in listener.incoming() {
        let (near, far) = (near?, TcpStream::connect(target)?);
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let (near_too, far_too) = (near.try_clone()?, far.try_clone()?);
        thread::spawn(move || copy(near, far));
        thread::spawn(move || copy(far_too, near_too));
    }
    Ok(())
}

/// Plain reads and writes: std's own copy would splice within the kernel, which no program that looks at bytes can do.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write); // it may be gone
}

/// A chain of relays. They are ended when this is dropped.
pub(super) struct Chain {
    /// Where one enters.
    pub(super) door: SocketAddr,
    relays: Vec<Process>,
}

impl Chain {
    /// `length` processes, the last of which leads to `target`. `program` is this one.
    pub(super) fn to(yard: &Yard, program: &Program, length: usize, target: SocketAddr) -> Tried<Chain> {
        let mut chain = Chain { door: target, relays: Vec::new() };
        for _ in 0..length {
            let (out, into) = io::pipe().map_err(at("cannot start a relay"))?;
            let mut command = Command::new(&program.path);
            command.arg(WORD).arg(chain.door.to_string()).stdin(Stdio::null()).stdout(into);
            chain.relays.push(yard.spawn(&mut command).map_err(at("cannot start a relay"))?);
            drop(command); // and with it our copy of the pipe's end
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).map_err(at("a relay says nothing"))?;
            chain.door = line.trim().parse().map_err(at(format!("a relay says {line:?}")))?;
        }
        Ok(chain)
    }

    /// The processor time of all of them.
    pub(super) fn cpu(&self) -> Tried<std::time::Duration> {
        self.relays.iter().map(|relay| usage::cpu(relay.pid())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_passes_the_end_on_and_answers_still_come_back() {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(near.local_addr().unwrap()).unwrap();
        let to = TcpStream::connect(far.local_addr().unwrap()).unwrap();
        let (from, mut server) = (near.accept().unwrap().0, far.accept().unwrap().0);
        let (back_from, back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
        thread::spawn(move || copy(from, to));
        thread::spawn(move || copy(back_from, back_to));
        client.write_all(b"there").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut came = String::new();
        server.read_to_string(&mut came).unwrap();
        server.write_all(b"and back").unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((came.as_str(), answer.as_str()), ("there", "and back"));
    }
}
