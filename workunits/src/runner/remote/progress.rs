//! The file `remote` in the directory of a unit that runs elsewhere: who was asked, and how far the asking got.
//!
//! It is replaced durably before the act that it permits. Receptor has no such file: a unit without one, that Receptor
//! calls started, is followed; one that is not started was never submitted by us.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use super::mirror::Asked;
use crate::store::replace_durably;

const NAME: &str = "remote";

/// What the file holds: one JSON object and a newline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The version of this file's format.
    version: u32,
    #[serde(flatten)]
    peer: Peer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "peer")]
enum Peer {
    Netmesh { attempt: u32 },
    Go { payload_sent: bool },
}

impl Progress {
    fn of(asked: Asked) -> Option<Progress> {
        let peer = match asked {
            Asked::Nobody => return None,
            Asked::Netmesh { attempt } => Peer::Netmesh { attempt },
            Asked::Go { payload_sent } => Peer::Go { payload_sent },
        };
        Some(Progress { version: 1, peer })
    }

    fn asked(&self) -> Asked {
        match self.peer {
            Peer::Netmesh { attempt } => Asked::Netmesh { attempt },
            Peer::Go { payload_sent } => Asked::Go { payload_sent },
        }
    }
}

/// What the directory says.
///
/// # Errors
/// When the file is there and cannot be read or understood. It is only ever replaced whole, so this means damage
/// from outside; guessing could run a unit twice.
pub(super) fn read(directory: &Path) -> io::Result<Asked> {
    match fs::read(directory.join(NAME)) {
        Ok(bytes) => Ok(serde_json::from_slice::<Progress>(&bytes)?.asked()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Asked::Nobody),
        Err(error) => Err(error),
    }
}

/// Writes it so that it survives a power cut, before returning.
pub(super) fn write(directory: &Path, asked: Asked) -> io::Result<()> {
    let Some(progress) = Progress::of(asked) else { return Ok(()) };
    let mut bytes = serde_json::to_vec(&progress)?;
    bytes.push(b'\n');
    replace_durably(directory, NAME, &bytes)
}

/// For the fuzzer: what a file says is what would be written of it.
#[cfg(any(test, fuzzing))]
pub(crate) fn reread(directory: &Path) {
    let Ok(asked) = read(directory) else { return };
    write(directory, asked).expect("a scratch file");
    assert_eq!(read(directory).expect("what is written reads"), asked);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same_and_nothing_means_nobody() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()).unwrap(), Asked::Nobody);
        for asked in [
            Asked::Netmesh { attempt: 2 },
            Asked::Go { payload_sent: false },
            Asked::Go { payload_sent: true },
        ] {
            write(directory.path(), asked).unwrap();
            assert_eq!(read(directory.path()).unwrap(), asked);
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_a_guess() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(NAME), "{").unwrap();
        assert!(read(directory.path()).is_err());
    }
}
