//! The file `secrets`: parameters that nobody may read, until the unit's node has them.
//!
//! They stand in no other file. It is there before the unit is, since a restart may have to send them, and goes when the
//! unit has started on its node, or will never start.

use std::{collections::BTreeMap, fs, io};

use super::{UnitDir, write_whole};

/// The file's name.
const NAME: &str = "secrets";

/// Whether a parameter of this name is a secret, as in Receptor.
pub fn is_secret(name: &str) -> bool {
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("secret_"))
}

/// Takes the secrets out of `params`.
pub fn take(params: &mut BTreeMap<String, String>) -> BTreeMap<String, String> {
    let (secret, plain) = std::mem::take(params).into_iter().partition(|(name, _)| is_secret(name));
    *params = plain;
    secret
}

impl UnitDir {
    /// Keeps them, durably once the directory is synced.
    pub(super) fn keep_secrets(&self, secrets: &BTreeMap<String, String>) -> io::Result<()> {
        write_whole(&self.path, NAME, &serde_json::to_vec(secrets)?)?.sync_data()
    }

    /// The unit's secrets; none when it has none, or needs them no more.
    ///
    /// # Errors
    /// `InvalidData` for a file that cannot be understood: without them the unit must not be sent.
    pub fn secrets(&self) -> io::Result<BTreeMap<String, String>> {
        match fs::read(self.path.join(NAME)) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    /// Nobody needs them any more.
    pub fn forget_secrets(&self) {
        for name in [NAME.to_owned(), format!("{NAME}.tmp")] {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(unit = %self.id, %error, "cannot remove a unit's secrets; they go with the unit");
                }
                _ => {}
            }
        }
    }
}
