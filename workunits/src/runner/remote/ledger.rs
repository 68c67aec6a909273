//! Who was asked to make the unit: in memory for the next decision, on disk before the asking.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{mirror::Asked, progress};

/// The one record of how far the asking got.
pub(super) struct Ledger {
    directory: PathBuf,
    asked: Arc<Mutex<Asked>>,
    /// Held while the file is written.
    writing: Arc<Mutex<()>>,
}

impl Ledger {
    /// Takes up what the unit's directory says.
    pub(super) fn open(directory: PathBuf) -> io::Result<Ledger> {
        let asked = Arc::new(Mutex::new(progress::read(&directory)?));
        Ok(Ledger { directory, asked, writing: Arc::default() })
    }

    /// Stands in for a file that is damaged: somebody may have been asked, and cannot be asked about it.
    pub(super) fn damaged(directory: PathBuf) -> Ledger {
        let asked = Arc::new(Mutex::new(Asked::Go { payload_sent: true }));
        Ledger { directory, asked, writing: Arc::default() }
    }

    /// What is noted.
    pub(super) fn asked(&self) -> Asked {
        *lock(&self.asked)
    }

    /// Notes it, durably before returning. A note that breaks off half-way counts as made: the careful side.
    pub(super) async fn note(&self, asked: Asked) -> io::Result<()> {
        *lock(&self.asked) = asked;
        let (directory, newest, writing) =
            (self.directory.clone(), Arc::clone(&self.asked), Arc::clone(&self.writing));
        let write = move || {
            let _one_at_a_time = lock(&writing);
            // A note whose caller was dropped may come to its turn late: then it writes what is noted by then.
            let asked = *lock(&newest);
            progress::write(&directory, asked)
        };
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic half-way runs under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
