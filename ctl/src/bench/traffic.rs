//! What travels through a proxy or a chain of relays: a stream that is counted, and words that come back.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use super::trouble::{Tried, Trouble, at};

/// How much is written or read at once, in bytes.
pub(super) const CHUNK: usize = 128 << 10;
/// How long a word is that is sent there and back, in bytes.
const WORD: usize = 64;
/// How long a stream may take to begin, and its end to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a stream flows before it is measured.
const WARM_UP: Duration = Duration::from_millis(300);

/// Where the traffic goes: two ports of this process.
pub(super) struct Endpoints {
    /// Counts what comes.
    pub(super) sink: SocketAddr,
    /// Sends back what comes.
    pub(super) echo: SocketAddr,
    counted: Arc<Counted>,
}

#[derive(Default)]
struct Counted {
    bytes: AtomicU64,
    streams: AtomicUsize,
}

impl Endpoints {
    /// Listens. The threads go with the process.
    pub(super) fn open() -> Tried<Endpoints> {
        let counted = Arc::new(Counted::default());
        let count = counted.clone();
        let sink = serve(move |mut stream| {
            count.streams.fetch_add(1, Relaxed);
            let mut buffer = vec![0; CHUNK];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                count.bytes.fetch_add(n as u64, Relaxed);
            }
            count.streams.fetch_sub(1, Relaxed);
        })?;
        let echo = serve(|mut stream| {
            let mut buffer = [0; WORD];
            while let Ok(n @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..n]).is_err() {
                    return;
                }
            }
        })?;
        Ok(Endpoints { sink, echo, counted })
    }

    /// Sends a stream into `door` that ends at our sink; runs `beside` while it flows.
    pub(super) fn flowing<T>(&self, door: SocketAddr, beside: impl FnOnce() -> Tried<T>) -> Tried<T> {
        let before = self.counted.bytes.load(Relaxed);
        let stop = Arc::new(AtomicBool::new(false));
        let stream = connect(door)?;
        let sender = thread::spawn({
            let stop = stop.clone();
            move || push(stream, &stop)
        });
        let done =
            self.until("no byte of the stream has arrived", || self.counted.bytes.load(Relaxed) > before);
        let done = done.and_then(|()| {
            thread::sleep(WARM_UP); // a stream needs time to find its speed
            beside()
        });
        stop.store(true, Relaxed);
        // It ends at its next write, or at the reset when the far side is gone.
        let sent = sender.join().unwrap_or_else(|_| Err(Trouble::new("the sender has panicked")));
        let ended =
            self.until("the end of the stream does not arrive", || self.counted.streams.load(Relaxed) == 0);
        let done = done?;
        sent?;
        ended?;
        Ok(done)
    }

    /// How many bytes have come so far.
    pub(super) fn bytes(&self) -> u64 {
        self.counted.bytes.load(Relaxed)
    }

    fn until(&self, what: &str, good: impl Fn() -> bool) -> Tried<()> {
        let end = Instant::now() + PATIENCE;
        while !good() {
            if Instant::now() > end {
                return Err(Trouble(format!("{what} within {} s", PATIENCE.as_secs())));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Writes until it is told to stop.
fn push(mut stream: TcpStream, stop: &AtomicBool) -> Tried<()> {
    let buffer = vec![b'x'; CHUNK];
    while !stop.load(Relaxed) {
        stream.write_all(&buffer).map_err(at("the stream is not taken"))?;
    }
    Ok(())
}

/// Words that go to an echo and come back, one at a time.
pub(super) struct PingPong(TcpStream);

impl PingPong {
    pub(super) fn through(door: SocketAddr) -> Tried<PingPong> {
        let stream = connect(door)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(at("cannot wait for words"))?;
        Ok(PingPong(stream))
    }

    /// How long one word takes.
    pub(super) fn once(&mut self) -> Tried<Duration> {
        let mut word = [b'w'; WORD];
        let began = Instant::now();
        self.0.write_all(&word).map_err(at("the word is not taken"))?;
        self.0.read_exact(&mut word).map_err(at("the word does not come back"))?;
        Ok(began.elapsed())
    }
}

fn connect(door: SocketAddr) -> Tried<TcpStream> {
    let stream = TcpStream::connect(door).map_err(at(format!("cannot connect to {door}")))?;
    stream.set_nodelay(true).map_err(at("cannot send at once"))?;
    // A far end that takes nothing any more must not hold up the whole suite.
    stream.set_write_timeout(Some(PATIENCE)).map_err(at("cannot bound a write"))?;
    Ok(stream)
}

/// Listens on a port of its own, a thread for each that connects.
fn serve(each: impl Fn(TcpStream) + Clone + Send + 'static) -> Tried<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(at("cannot listen"))?;
    let address = listener.local_addr().map_err(at("cannot listen"))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || {
                let _ = stream.set_nodelay(true); // it is slower without, and that is seen
                each(stream);
            });
        }
    });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_counted_where_it_ends_and_words_come_back() {
        let ends = Endpoints::open().unwrap();
        let came = ends.flowing(ends.sink, || Ok(ends.bytes())).unwrap();
        assert!(came > 0);
        let mut words = PingPong::through(ends.echo).unwrap();
        assert!(words.once().is_ok() && words.once().is_ok());
    }

    #[test]
    fn a_stream_that_leads_nowhere_is_told() {
        let ends = Endpoints::open().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let told = ends.flowing(closed, || Ok(())).unwrap_err();
        assert!(told.0.contains("cannot connect"), "{told}");
    }
}
