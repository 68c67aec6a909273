//! How many files a process may open: many for a daemon that holds one for each unit, and as before for its commands.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Lets this process open as many files as the system allows it, and gives back how many it might before.
///
/// A command is to have what it would have had without a daemon in between: programs that use select(2) break when they
/// get more.
pub fn raise() -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok()?;
    Some(soft)
}

/// Puts the limit of this process back.
pub(super) fn put_back(soft: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)
}
