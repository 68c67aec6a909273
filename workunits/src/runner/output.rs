//! The output of a command that may write only so much: it comes through pipes and is copied, so the limit is exact.
//!
//! A command without a limit has the files themselves.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::{
    logic::stopping::Why,
    request::{Excess, MaxOutput, Stderr},
    store::UnitDir,
};

/// How much is copied at a time, in bytes.
const BLOCK: usize = 64 << 10;

/// Where a command writes to.
pub(super) struct Ends {
    /// Its descriptor 1.
    pub(super) stdout: OwnedFd,
    /// Its descriptor 2.
    pub(super) stderr: OwnedFd,
}

/// What copies the output of a command, if it is copied.
pub(super) struct Output {
    pipes: Vec<Pipe>,
    limit: MaxOutput,
    /// How many bytes may still be kept.
    left: u64,
    /// Whether there was more than may be kept.
    exceeded: bool,
    /// Whether a file would not take what was to be kept.
    failed: bool,
    block: Vec<u8>,
}

struct Pipe {
    from: PipeReader,
    to: File,
}

impl Output {
    /// Opens a unit's output: the ends for the command, and what copies them where there is a limit.
    pub(super) fn open(
        dir: &UnitDir,
        how: Stderr,
        limit: Option<MaxOutput>,
    ) -> io::Result<(Ends, Option<Output>)> {
        let stdout = dir.append_to(&dir.stdout_path())?;
        let stderr = match how {
            Stderr::Merge => None,
            Stderr::Separate => Some(dir.append_to(&dir.stderr_path())?),
        };
        let Some(limit) = limit else {
            let stderr = stderr.map_or_else(|| stdout.try_clone(), Ok)?;
            return Ok((Ends { stdout: stdout.into(), stderr: stderr.into() }, None));
        };
        let (first, end) = Pipe::to(stdout)?;
        let mut pipes = vec![first];
        let stderr = match stderr {
            None => end.try_clone()?,
            Some(file) => {
                let (second, end) = Pipe::to(file)?;
                pipes.push(second);
                end
            }
        };
        let ends = Ends { stdout: end.into(), stderr: stderr.into() };
        let left = limit.bytes;
        Ok((ends, Some(Output { pipes, limit, left, exceeded: false, failed: false, block: vec![0; BLOCK] })))
    }

    /// What wakes for more to copy.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pipes.iter().map(|pipe| pipe.from.as_fd())
    }

    /// Copies what is there: a block of each pipe at most. What may not be kept is thrown away.
    pub(super) fn copy(&mut self) {
        for at in (0..self.pipes.len()).rev() {
            if self.copy_block(at) == Some(0) {
                self.pipes.remove(at); // its last writer is gone
            }
        }
    }

    /// Copies what the command had written when it ended; others may still hold the pipes, and write for ever.
    pub(super) fn finish(&mut self) {
        for at in 0..self.pipes.len() {
            let pipe = self.pipes[at].from.as_fd();
            let full = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok().and_then(|size| usize::try_from(size).ok());
            let mut rest = full.unwrap_or(BLOCK);
            while let Some(copied) = self.copy_block(at)
                && copied > 0
                && copied < rest
            {
                rest -= copied;
            }
        }
        self.pipes.clear();
    }

    /// Why the command is to be stopped, if it is.
    pub(super) fn why_stop(&self) -> Option<Why> {
        match self.limit.then {
            _ if self.failed => Some(Why::NoSpace),
            Excess::Kill if self.exceeded => Some(Why::OutputLimit),
            _ => None,
        }
    }

    /// After how many bytes the output was cut off, if it was, and the command could go on.
    pub(super) fn truncated(&self) -> Option<u64> {
        (self.exceeded && self.limit.then == Excess::Truncate).then_some(self.limit.bytes)
    }

    /// How many bytes came; `None` when there are none now.
    fn copy_block(&mut self, at: usize) -> Option<usize> {
        let pipe = &mut self.pipes[at];
        let read = loop {
            match pipe.from.read(&mut self.block) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read.ok()?,
            }
        };
        let kept = usize::try_from(self.left).unwrap_or(usize::MAX).min(read);
        self.exceeded |= kept < read;
        if !self.failed {
            self.failed = pipe.to.write_all(&self.block[..kept]).is_err();
        }
        self.left -= kept as u64;
        Some(read)
    }
}

impl Pipe {
    /// A pipe into `file`, and the end to write to.
    fn to(file: File) -> io::Result<(Pipe, PipeWriter)> {
        let (from, end) = io::pipe()?;
        fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?; // of this end alone
        Ok((Pipe { from, to: file }, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Spec, Store};

    fn copied(bytes: u64, then: Excess, written: usize) -> (usize, Option<Why>, Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path().to_owned()).unwrap();
        let dir = store.create("aB3dEf9Z".parse().unwrap(), &Spec::default()).unwrap();
        let limit = Some(MaxOutput { bytes, then });
        let (ends, output) = Output::open(&dir, Stderr::Merge, limit).unwrap();
        let mut output = output.unwrap();
        File::from(ends.stdout).write_all(&vec![7; written]).unwrap();
        output.finish(); // `ends.stderr` is still open, as a background process would hold it
        (usize::try_from(dir.stdout_size()).unwrap(), output.why_stop(), output.truncated())
    }

    #[test]
    fn a_limit_is_exact_and_reaching_it_is_no_excess() {
        for then in [Excess::Kill, Excess::Truncate] {
            assert_eq!(copied(10, then, 9), (9, None, None));
            assert_eq!(copied(10, then, 10), (10, None, None));
            assert_eq!(copied(0, then, 0), (0, None, None));
        }
        assert_eq!(copied(10, Excess::Kill, 11), (10, Some(Why::OutputLimit), None));
        assert_eq!(copied(0, Excess::Kill, 1), (0, Some(Why::OutputLimit), None));
        assert_eq!(copied(10, Excess::Truncate, 50_000), (10, None, Some(10)));
    }
}
