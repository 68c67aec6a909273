//! Output of a unit elsewhere, kept at home: bytes at offsets into the unit's own files.
//!
//! Every byte is written at the offset that it has in the output itself, so a write that is repeated after a cut, or
//! that lands late, changes nothing: no gap, no repeat.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use crate::crash;

/// From how many bytes on a write is worth a thread of its own. Below, it costs less than the hand-over.
pub(super) const WORTH_A_THREAD: usize = 16 << 10;

/// One output file and how much of it is here.
pub(super) struct Home {
    file: Arc<File>,
    size: u64,
}

impl Home {
    /// Opens or makes the file; what is there stays.
    pub(super) fn open(path: &Path) -> io::Result<Home> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Home { file: Arc::new(file), size })
    }

    /// How many bytes are here, and so where the next one belongs.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Puts the next bytes down.
    pub(super) async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= WORTH_A_THREAD {
            return self.put_block(bytes.to_vec()).await;
        }
        crash::write_at("take output home", &self.file, bytes, self.size);
        self.file.write_all_at(bytes, self.size)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// The same for many bytes.
    pub(super) async fn put_block(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        crash::write_at("take output home", &self.file, &bytes, self.size);
        let (file, at, length) = (Arc::clone(&self.file), self.size, bytes.len() as u64);
        let written = tokio::task::spawn_blocking(move || file.write_all_at(&bytes, at));
        written.await.map_err(io::Error::other)??;
        self.size += length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_taken_up_again_goes_on_where_it_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stdout");
        let mut home = Home::open(&path).unwrap();
        home.put(b"one ").await.unwrap();
        home.put(&[b'x'; WORTH_A_THREAD]).await.unwrap();
        drop(home);
        let mut home = Home::open(&path).unwrap();
        assert_eq!(home.size(), 4 + WORTH_A_THREAD as u64);
        home.put(b" two").await.unwrap();
        let all = std::fs::read(&path).unwrap();
        assert!(all.starts_with(b"one x") && all.ends_with(b"x two"));
    }
}
