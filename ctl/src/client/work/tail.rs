//! The end of an output: where its last lines begin, and its last bytes.
//!
//! Any node can be asked for output from any byte, so the end is found from behind: a window that grows until the lines
//! are in it. It is read as it comes and never kept.

use std::collections::VecDeque;

use workunits::request::Output;

use super::{
    follow::{Follow, Shows},
    printer::Printer,
};
use crate::{
    client::{Console, Door},
    exit::Failure,
};

/// The first window, in bytes, and how much larger each next one is.
const WINDOW: (u64, u64) = (64 << 10, 4);

/// Where the last `lines` lines of an output begin that there are now; a last line needs no end.
pub(super) async fn start(
    door: &Door,
    unit: &str,
    output: Output,
    lines: u32,
    console: &mut Console,
) -> Result<u64, Failure> {
    let size = size(door, unit, output, console).await?;
    let mut window = WINDOW.0;
    loop {
        let from = size.saturating_sub(window);
        let mut last = LastLines::new(from, lines);
        look(door, unit, output, from, |bytes| last.take(bytes, size), console).await?;
        match last.start() {
            Some(start) => return Ok(start.min(size)),
            None => window = window.saturating_mul(WINDOW.1),
        }
    }
}

/// The bytes from `from` on, at most `bytes_max` of them.
pub(super) async fn read(
    door: &Door,
    unit: &str,
    output: Output,
    from: u64,
    bytes_max: usize,
    console: &mut Console,
) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    let keep = |bytes: &[u8]| all.extend_from_slice(&bytes[..bytes.len().min(bytes_max - all.len())]);
    look(door, unit, output, from, keep, console).await?;
    Ok(all)
}

async fn size(door: &Door, unit: &str, output: Output, console: &mut Console) -> Result<u64, Failure> {
    let now = Follow::new(door, unit, Shows::NEITHER).look(&mut Printer::into(|_| {}), console).await?.unit;
    Ok(match output {
        Output::Stdout => now.stdout_size,
        Output::Stderr => now.stderr_size.unwrap_or(0),
    })
}

async fn look(
    door: &Door,
    unit: &str,
    output: Output,
    from: u64,
    take: impl FnMut(&[u8]),
    console: &mut Console,
) -> Result<(), Failure> {
    let shows = match output {
        Output::Stdout => Shows::STDOUT,
        Output::Stderr => Shows::STDERR,
    };
    let mut follow = Follow::new(door, unit, shows);
    follow.begin_at(from, from);
    follow.look(&mut Printer::into(take), console).await?;
    Ok(())
}

/// Finds where the last lines begin in a window of an output.
struct LastLines {
    wanted: usize,
    /// Where the next byte stands.
    at: u64,
    /// Whether a line begins there. In the middle of an output nobody knows.
    fresh: bool,
    /// Whether the window begins where the output does.
    whole: bool,
    /// Where the last lines begin, at most as many as are wanted.
    starts: VecDeque<u64>,
}

impl LastLines {
    fn new(from: u64, wanted: u32) -> LastLines {
        let whole = from == 0;
        LastLines { wanted: wanted as usize, at: from, fresh: whole, whole, starts: VecDeque::new() }
    }

    /// Takes what comes next, as far as it stands before `end`.
    fn take(&mut self, bytes: &[u8], end: u64) {
        let n = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(bytes.len());
        for byte in &bytes[..n] {
            if self.fresh {
                self.starts.push_back(self.at);
                if self.starts.len() > self.wanted {
                    self.starts.pop_front();
                }
            }
            self.fresh = *byte == b'\n';
            self.at += 1;
        }
    }

    /// Where they begin; `None` when a larger window is needed to know.
    fn start(&self) -> Option<u64> {
        match self.starts.front() {
            _ if self.wanted == 0 => Some(self.at),
            Some(start) if self.whole || self.starts.len() == self.wanted => Some(*start),
            None if self.whole => Some(self.at),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the last lines of `text` begin, seen from byte `from` on and in pieces.
    fn start_of(text: &str, from: usize, lines: u32) -> Option<u64> {
        let mut last = LastLines::new(from as u64, lines);
        for piece in text.as_bytes()[from..].chunks(3) {
            last.take(piece, text.len() as u64);
        }
        last.start()
    }

    #[test]
    fn the_last_lines_begin_where_tail_says() {
        for (text, lines, start) in [
            ("one\ntwo\nthree\n", 1, 8),
            ("one\ntwo\nthree\n", 2, 4),
            ("one\ntwo\nthree", 2, 4),
            ("one\ntwo\nthree\n", 9, 0),
            ("one\n\n\n", 2, 4),
            ("one", 0, 3),
            ("", 5, 0),
        ] {
            assert_eq!(start_of(text, 0, lines), Some(start), "{lines} of {text:?}");
        }
    }

    #[test]
    fn a_window_that_begins_inside_a_line_does_not_count_it() {
        let text = "one\ntwo\nthree\n";
        assert_eq!(start_of(text, 2, 2), Some(4));
        assert_eq!(start_of(text, 5, 2), None, "`wo` may be a whole line or half a one");
        assert_eq!(start_of(text, 9, 1), None);
    }

    #[test]
    fn what_came_after_the_size_was_asked_for_does_not_move_the_start() {
        let mut last = LastLines::new(0, 1);
        last.take(b"one\ntwo\nlate\n", 8);
        assert_eq!(last.start(), Some(4));
    }
}
