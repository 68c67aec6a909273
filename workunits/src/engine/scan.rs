//! The first look at a datadir: every directory is told to rest, or needs to be taken up.

use std::{
    io, panic,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use super::{Inner, open::Recovered, table::resting};
use crate::{
    logic::summary::{Origins, Summary},
    unit::UnitId,
};

/// How many directories a thread takes at once.
const HANDFUL: usize = 64;
/// How many threads look at most: more wait for the same disk.
const THREADS_MOST: usize = 8;

/// What was found.
#[derive(Default)]
pub(super) struct Found {
    /// Units at rest.
    pub(super) resting: Vec<(UnitId, Summary)>,
    /// All others, in the order of ids.
    pub(super) others: Vec<Recovered>,
}

/// What one thread needs and found.
#[derive(Default)]
struct Part {
    found: Found,
    /// Shared from the first, so that most of what is read is let go at once.
    origins: Origins,
    buffer: Vec<u8>,
}

impl Inner {
    /// Looks at every directory, several at a time. One that cannot be read hides no other. Blocks.
    ///
    /// # Errors
    /// When the directory of all units cannot be read.
    pub(super) fn scan(&self) -> io::Result<Found> {
        let ids = self.store.ids()?;
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MOST);
        let threads = threads.min(ids.len().div_ceil(HANDFUL)).max(1);
        let taken = AtomicUsize::new(0);
        let look = || {
            let mut part = Part::default();
            loop {
                let at = taken.fetch_add(HANDFUL, Ordering::Relaxed).min(ids.len());
                let handful = &ids[at..(at + HANDFUL).min(ids.len())];
                if handful.is_empty() {
                    return part.found;
                }
                handful.iter().for_each(|id| self.look_over(*id, &mut part));
            }
        };
        let parts: Vec<Found> = thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(look)).collect();
            let first = look();
            let joined = others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|died| panic::resume_unwind(died)));
            std::iter::once(first).chain(joined).collect()
        });
        let mut all = Found::default();
        for part in parts {
            all.resting.extend(part.resting);
            all.others.extend(part.others);
        }
        all.others.sort_by_key(Recovered::id);
        Ok(all)
    }

    fn look_over(&self, id: UnitId, part: &mut Part) {
        let dir = self.store.dir(id);
        match resting(&dir, &mut part.buffer) {
            Some((mut summary, unit)) => {
                self.janitor.ended(&dir, &unit);
                summary.origin = part.origins.shared(summary.origin);
                part.found.resting.push((id, summary));
            }
            None => part.found.others.extend(self.recover(dir)),
        }
    }
}
