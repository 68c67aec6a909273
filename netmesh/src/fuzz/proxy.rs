//! What a proxy answers on the way to a WebSocket: it lets us through or it does not, and it cannot speak for who is behind it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::backend::ws::{WsUrl, proxy::Proxy};

const PROXIES: [&str; 4] = ["http://p:1", "http://me:secret@p:1", "socks5://p:1", "socks5://me:secret@p:1"];
const SECRET: &str = "secret";
const TARGETS: [&str; 3] = ["ws://far.example:81/mesh", "ws://10.0.0.1/", "wss://[2001:db8::1]/"];
/// The longest reason that a log should have to bear; names and addresses of ours are in it.
const REASON_MAX: usize = 600;

/// A proxy's bytes; the first one chooses its kind and where we want to go, the second how many bytes come at once.
pub fn proxy(data: &[u8]) {
    let [choice, step, answer @ ..] = data else { return };
    let choice = usize::from(*choice);
    let proxy = Proxy::read(PROXIES[choice % PROXIES.len()]).expect("a proxy");
    let url: WsUrl = TARGETS[choice / PROXIES.len() % TARGETS.len()].parse().expect("a URL");
    let ask = |step: usize| {
        let mut stream = Stream { answer, step, asked: Vec::new() };
        let through = proxy.go_through(&mut stream, &url).now_or_never().expect("it never has to wait");
        (through.map_err(|error| error.to_string()), stream.answer.len(), stream.asked)
    };
    let (through, left, asked) = ask(usize::from(*step).max(1));
    match &through {
        Ok(()) => {
            let said = &answer[..answer.len() - left];
            let by_socks = choice % PROXIES.len() >= 2;
            assert!(if by_socks { said[0] == 5 } else { said.starts_with(b"HTTP/1.") }, "{said:?}");
            // What is behind the answer is said by the node: none of it was taken.
            let (byte_by_byte, rest, asked_then) = ask(1);
            assert_eq!((byte_by_byte, rest, &asked_then), (Ok(()), left, &asked));
            for cut in 0..said.len() {
                let mut stream = Stream { answer: &said[..cut], step: 1, asked: Vec::new() };
                let early = proxy.go_through(&mut stream, &url).now_or_never().expect("it never has to wait");
                assert!(early.is_err(), "let through after {cut} of {} bytes", said.len());
            }
        }
        Err(why) => {
            assert!(why.chars().count() <= REASON_MAX, "a reason of {} letters", why.chars().count());
            assert!(!why.contains(char::is_control), "{why:?}");
            // Its own words are told, whatever they are.
            let told_by_it = answer.windows(SECRET.len()).any(|bytes| bytes == SECRET.as_bytes());
            assert!(!why.contains(SECRET) || told_by_it, "{why}");
        }
    }
}

/// A connection on which everything that will ever come has come.
struct Stream<'a> {
    answer: &'a [u8],
    step: usize,
    asked: Vec<u8>,
}

impl AsyncRead for Stream<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (now, later) = this.answer.split_at(this.step.min(buf.remaining()).min(this.answer.len()));
        buf.put_slice(now);
        this.answer = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().asked.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
