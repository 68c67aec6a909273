//! A cable between two daemons that both listen: it joins their ports, counts the frames, and is cut where the test says.
//! It is plugged in again at once, so that nobody waits for a redial.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

/// A cable; unplugged for ever when it goes.
pub(crate) struct Cable {
    shared: Arc<Shared>,
    plugger: Option<thread::JoinHandle<()>>,
}

struct Shared {
    /// Frames that passed, in both directions.
    frames: AtomicU64,
    /// Bytes that passed from the first port to the second, and back.
    bytes: [AtomicU64; 2],
    /// The number of frames after which it is cut, once.
    cut_at: AtomicU64,
    cuts: AtomicU64,
    over: AtomicBool,
}

impl Cable {
    pub(crate) fn between(ports: [u16; 2]) -> Cable {
        let shared = Arc::new(Shared {
            frames: AtomicU64::new(0),
            bytes: [AtomicU64::new(0), AtomicU64::new(0)],
            cut_at: AtomicU64::new(u64::MAX),
            cuts: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        let of = shared.clone();
        let plugger = thread::spawn(move || {
            while !of.over.load(SeqCst) {
                if of.plug(ports).is_err() {
                    // A daemon is down; nobody tells a cable when it is back.
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Cable { shared, plugger: Some(plugger) }
    }

    /// Cuts it when `frames` more have passed.
    pub(crate) fn cut_after(&self, frames: u64) {
        self.shared.cut_at.store(self.shared.frames.load(SeqCst) + frames, SeqCst);
    }

    /// Takes back what was asked and has not happened.
    pub(crate) fn keep(&self) {
        self.shared.cut_at.store(u64::MAX, SeqCst);
    }

    /// How often it was cut.
    pub(crate) fn cuts(&self) -> u64 {
        self.shared.cuts.load(SeqCst)
    }

    /// How many bytes passed from the first port to the second.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes[0].load(SeqCst)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        self.cut_after(1);
        // A daemon says something every few seconds, and one that has ended hangs up.
        drop(self.plugger.take());
    }
}

impl Shared {
    /// Joins the two ports until it is cut, or one of them hangs up.
    fn plug(self: &Arc<Shared>, ports: [u16; 2]) -> io::Result<()> {
        let first = TcpStream::connect(("127.0.0.1", ports[0]))?;
        let second = TcpStream::connect(("127.0.0.1", ports[1]))?;
        for end in [&first, &second] {
            end.set_nodelay(true)?;
        }
        let (back_from, back_to, of) = (second.try_clone()?, first.try_clone()?, self.clone());
        let back = thread::spawn(move || of.carry(back_from, back_to, 1));
        self.carry(first, second, 0);
        let _ = back.join();
        Ok(())
    }

    /// Carries frames one way.
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, way: usize) {
        let mut frame = vec![0; 2 + usize::from(u16::MAX)];
        let mut one = || -> io::Result<bool> {
            from.read_exact(&mut frame[..2])?;
            let end = 2 + usize::from(u16::from_le_bytes([frame[0], frame[1]]));
            from.read_exact(&mut frame[2..end])?;
            to.write_all(&frame[..end])?;
            self.bytes[way].fetch_add(end as u64, SeqCst);
            let passed = self.frames.fetch_add(1, SeqCst) + 1;
            let cut = passed >= self.cut_at.load(SeqCst);
            if cut {
                self.cut_at.store(u64::MAX, SeqCst);
                self.cuts.fetch_add(1, SeqCst);
            }
            Ok(!cut)
        };
        while let Ok(true) = one() {}
        for end in [&from, &to] {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}
