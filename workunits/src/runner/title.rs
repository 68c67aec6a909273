//! What a process list shows of a process that was forked and has another purpose than its parent.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

/// The words of the command line behind the program's name, where the kernel reads them: memory of this process.
pub(super) struct Title {
    at: *mut u8,
    room: usize,
}

impl Title {
    /// That of this process; `None` where the system does not tell.
    pub(super) fn of_process() -> Option<Title> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name, in parentheses, may hold anything. Fields 48 and 49 say where the arguments begin and end.
        let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace().skip(45);
        let mut next = || fields.next()?.parse::<usize>().ok().filter(|at| *at != 0);
        let (begin, end) = (next()?, next()?);
        let name = std::env::args_os().next()?.len() + 1;
        let room = end.checked_sub(begin)?.checked_sub(name)?;
        Some(Title { at: std::ptr::with_exposed_provenance_mut(begin + name), room })
    }

    /// Shows `words`, as far as there is room for all of them; otherwise what was shown stays.
    pub(super) fn set<const N: usize>(self, words: [&OsStr; N]) {
        let mut text = words.map(OsStr::as_bytes).join(&0);
        if text.len() >= self.room {
            return;
        }
        text.resize(self.room, 0);
        // SAFETY: the kernel put the arguments there, writable, for as long as the process lives. This one has one thread,
        // and what has been read of them was copied.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.at, self.room) };
    }
}
