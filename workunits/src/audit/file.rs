//! The audit file: appended to, and begun anew when it would become too large.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{AuditFile, lost};

/// The newest file, and what is known of it.
pub(super) struct Rotated {
    config: AuditFile,
    file: File,
    size: u64,
    /// Lines that could not be written since the last one that could, and why.
    missing: Option<(u64, String)>,
}

impl Rotated {
    /// Opens the file, and makes it if it is not there: readable by its owner alone from its first moment.
    pub(super) fn open(config: AuditFile) -> io::Result<Rotated> {
        let file = append_to(&config.path)?;
        let size = file.metadata()?.len();
        Ok(Rotated { config, file, size, missing: None })
    }

    /// Appends a line. One that cannot be written is counted and told of later.
    pub(super) fn write(&mut self, line: &str) {
        let told = match &self.missing {
            Some((count, why)) => lost(*count, why, SystemTime::now()),
            None => String::new(),
        };
        let Err(error) = self.append(&[&told, line].concat()) else {
            self.missing = None;
            return;
        };
        let count = self.missing.take().map_or(0, |(count, _)| count) + 1;
        if count == 1 {
            let path = self.config.path.display();
            tracing::error!(%path, %error, "cannot write to the audit file: lines are lost until it can be written again");
        }
        self.missing = Some((count, error.to_string()));
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        if self.size > 0 && self.size + text.len() as u64 > self.config.max_size {
            self.rotate()?;
        }
        match self.file.write_all(text.as_bytes()) {
            Ok(()) => self.size += text.len() as u64,
            Err(error) => {
                // Half a line must not stand before a whole one.
                let _ = self.file.set_len(self.size);
                return Err(error);
            }
        }
        Ok(())
    }

    /// `PATH` becomes `PATH.1`, that one `PATH.2` and so on; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let gone_is_fine = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        if self.config.keep == 0 {
            gone_is_fine(fs::remove_file(&self.config.path))?;
        }
        for number in (0..self.config.keep).rev() {
            gone_is_fine(fs::rename(self.numbered(number), self.numbered(number + 1)))?;
        }
        self.file = append_to(&self.config.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.config.path.clone();
        }
        let mut name = OsString::from(&self.config.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
