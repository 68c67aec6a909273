//! The Unix socket of a control service: one owner, never open wider than asked, gone when its owner is.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use fs2::FileExt;
use nix::sys::{
    socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket},
    stat::{Mode, fchmod},
};
use tokio::net::{UnixListener, UnixStream};

/// How many clients may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A bound and listening Unix socket, held by a lock on `PATH.lock`.
///
/// Dropping it removes the socket, but not the lock file: whoever opened that one in between would hold a lock that
/// nobody else can see.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: by them we know that what stands at `path` is still ours.
    identity: (u64, u64),
    /// The `flock` lives as long as this file is open.
    _lock: File,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// The lock is held.
    #[error(
        "could not acquire lock on socket file `{path}`: {source}: stop the daemon that holds it, or set another `filename`"
    )]
    Lock {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The directory is missing.
    #[error(
        "cannot open control socket `{0}`: its directory does not exist: create it, or set another `filename`"
    )]
    NoDirectory(PathBuf),
    /// Something else is there.
    #[error(
        "cannot open control socket `{0}`: something that is no socket stands there: move it away, or set another `filename`"
    )]
    NotASocket(PathBuf),
    /// The system refused.
    #[error(
        "cannot open control socket `{path}`: {source}: set `filename` to a place where this user may make files"
    )]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl ControlSocket {
    /// Takes the lock, removes the socket of an earlier process, and listens with exactly the permissions `mode`.
    ///
    /// Must be called on a tokio runtime.
    ///
    /// # Errors
    /// Nothing is changed at `path` unless the lock is ours and a socket, or nothing, stands there.
    pub(crate) fn bind(path: &Path, mode: u32) -> Result<ControlSocket, SocketError> {
        let lock = lock(path)?;
        remove_stale(path)?;
        let listening =
            listen_on(path, mode).map_err(|source| SocketError::Io { path: path.into(), source })?;
        let (listener, identity) = listening;
        Ok(ControlSocket { listener, path: path.into(), identity, _lock: lock })
    }

    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Where it listens.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            drop(fs::remove_file(&self.path)); // the next start removes a stale one
        }
    }
}

fn lock(path: &Path) -> Result<File, SocketError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SocketError::NoDirectory(path.into()),
        _ => SocketError::Io { path: path.into(), source },
    };
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&name).map_err(fail)?;
    file.try_lock_exclusive().map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => {
            let source = io::Error::new(source.kind(), "another process holds it");
            SocketError::Lock { path: path.into(), source }
        }
        _ => fail(source),
    })?;
    Ok(file)
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let fail = |source| SocketError::Io { path: path.into(), source };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(fail),
        Ok(_) => Err(SocketError::NotASocket(path.into())),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(fail(source)),
    }
}

fn listen_on(path: &Path, mode: u32) -> io::Result<(UnixListener, (u64, u64))> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file that `bind` makes takes its mode from the socket's own, less the umask: from its first moment it is
    // never open wider than asked. What the umask took is given back before anyone may connect.
    fchmod(&fd, Mode::from_bits_truncate(mode))?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    let identity = identity(path)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok((UnixListener::from_std(fd.into())?, identity))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        for mode in [0o600, 0o660, 0o666] {
            let socket = ControlSocket::bind(&path, mode).unwrap();
            assert_eq!(mode_of(&path), mode);
            let (client, server) = tokio::join!(UnixStream::connect(&path), socket.accept());
            assert!(client.is_ok() && server.is_ok());
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_second_owner_is_refused_while_the_first_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let first = ControlSocket::bind(&path, 0o600).unwrap();
        let refused = ControlSocket::bind(&path, 0o600).unwrap_err().to_string();
        assert!(refused.contains("could not acquire lock on socket file"), "{refused}");
        drop(first);
        ControlSocket::bind(&path, 0o600).unwrap();
    }

    #[tokio::test]
    async fn only_a_stale_socket_is_ever_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(ControlSocket::bind(&path, 0o600).unwrap());

        fs::create_dir(&path).unwrap();
        fs::write(path.join("precious"), "x").unwrap();
        assert!(matches!(ControlSocket::bind(&path, 0o600), Err(SocketError::NotASocket(_))));
        assert!(path.join("precious").exists());
    }

    #[tokio::test]
    async fn a_socket_that_replaced_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let ours = ControlSocket::bind(&path, 0o600).unwrap();
        fs::rename(&path, dir.path().join("away")).unwrap();
        let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_lock_that_cannot_be_made_is_not_taken_for_one_that_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        fs::create_dir(dir.path().join("s.sock.lock")).unwrap();
        let refused = ControlSocket::bind(&path, 0o600).unwrap_err().to_string();
        assert!(refused.contains("set `filename`") && !refused.contains("stop the daemon"), "{refused}");
    }

    #[tokio::test]
    async fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere/s.sock");
        assert!(matches!(ControlSocket::bind(&missing, 0o600), Err(SocketError::NoDirectory(_))));
    }
}
