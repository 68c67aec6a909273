//! Who was asked to make the unit: in memory for the next decision, on disk before the asking.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{mirror::Asked, progress};

/// The one record of how far the asking got.
pub(super) struct Ledger {
    directory: PathBuf,
    asked: Mutex<Asked>,
}

impl Ledger {
    /// Takes up what the unit's directory says.
    pub(super) fn open(directory: PathBuf) -> io::Result<Ledger> {
        let asked = Mutex::new(progress::read(&directory)?);
        Ok(Ledger { directory, asked })
    }

    /// What is noted.
    pub(super) fn asked(&self) -> Asked {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes it, durably before returning. A note that breaks off half-way counts as made: the careful side.
    pub(super) async fn note(&self, asked: Asked) -> io::Result<()> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || progress::write(&directory, asked))
            .await
            .map_err(io::Error::other)?
    }
}
