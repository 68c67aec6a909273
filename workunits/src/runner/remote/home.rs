//! Output of a unit elsewhere, kept at home: bytes at offsets into the unit's own files.
//!
//! Every byte is written at the offset that it has in the output itself, so a write that is repeated after a cut, or
//! that lands late, changes nothing: no gap, no repeat.

use std::{
    fs::{File, OpenOptions},
    io, mem,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
    sync::Arc,
};

use tokio::task::JoinHandle;

use crate::crash;

/// From how many bytes on a write is worth a thread of its own. Below, it costs less than the hand-over.
pub(super) const WORTH_A_THREAD: usize = 16 << 10;

/// One output file and how much of it is here.
pub(super) struct Home {
    file: Arc<File>,
    size: u64,
    /// The block that is being put down while the next one comes. There is one at a time, so that no gap can stay.
    writing: Option<JoinHandle<io::Result<Vec<u8>>>>,
    /// The memory of a block that was put down.
    spare: Vec<u8>,
}

impl Home {
    /// Opens or makes the file; what is there stays.
    pub(super) fn open(path: &Path) -> io::Result<Home> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        let size = file.metadata()?.len();
        Ok(Home { file: Arc::new(file), size, writing: None, spare: Vec::new() })
    }

    /// How many bytes are here or on their way, and so where the next one belongs.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Puts the next bytes down.
    pub(super) async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() >= WORTH_A_THREAD {
            let mut block = self.block(bytes.len());
            block.copy_from_slice(bytes);
            return self.put_block(block).await;
        }
        self.written().await?;
        crash::write_at("take output home", &self.file, bytes, self.size);
        self.file.write_all_at(bytes, self.size)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Room for so many bytes; what is in it means nothing.
    pub(super) fn block(&mut self, length: usize) -> Vec<u8> {
        let mut block = mem::take(&mut self.spare);
        block.resize(length, 0);
        block
    }

    /// Has the next bytes put down, once those before them are. [`Home::settle`] tells when these are, too.
    pub(super) async fn put_block(&mut self, block: Vec<u8>) -> io::Result<()> {
        self.written().await?;
        crash::write_at("take output home", &self.file, &block, self.size);
        let (file, at, length) = (Arc::clone(&self.file), self.size, block.len() as u64);
        let write = move || file.write_all_at(&block, at).map(|()| block);
        self.writing = Some(tokio::task::spawn_blocking(write));
        self.size += length;
        Ok(())
    }

    /// Waits until all of it is put down.
    pub(super) async fn settle(&mut self) -> io::Result<()> {
        self.written().await?;
        self.spare = Vec::new(); // a thousand units may be followed at a time
        Ok(())
    }

    async fn written(&mut self) -> io::Result<()> {
        if let Some(writing) = &mut self.writing {
            let written = writing.await.map_err(io::Error::other);
            self.writing = None;
            self.spare = written??;
        }
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
        home.put(b"y").await.unwrap();
        home.put(&[b'x'; WORTH_A_THREAD]).await.unwrap();
        home.settle().await.unwrap();
        drop(home);
        let mut home = Home::open(&path).unwrap();
        assert_eq!(home.size(), 5 + 2 * WORTH_A_THREAD as u64);
        home.put(b" two").await.unwrap();
        let all = std::fs::read(&path).unwrap();
        assert!(all.starts_with(b"one x") && all.ends_with(b"x two"));
        assert_eq!(all[4 + WORTH_A_THREAD], b'y', "in their order");
    }
}
