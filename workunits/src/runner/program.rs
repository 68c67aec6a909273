//! Which file a command's name means, and how Go says that it cannot be run.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

/// The program that `name` means: itself with a slash in it, seen from `directory` if the command runs in one, else the
/// first executable of that name in `PATH`.
///
/// # Errors
/// A text, in Go's words.
pub(super) fn find(name: &str, directory: Option<&Path>) -> Result<PathBuf, String> {
    if name.contains('/') {
        let path = directory.map_or_else(|| PathBuf::from(name), |directory| directory.join(name));
        return match fs::metadata(&path) {
            Ok(meta) if is_program(&meta) => Ok(path),
            Ok(_) => Err(exec_failed(name, Errno::EACCES)),
            Err(error) => Err(exec_failed(name, Errno::from_raw(error.raw_os_error().unwrap_or_default()))),
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = env::split_paths(&path).map(|dir| match dir.as_os_str().is_empty() {
        true => Path::new(".").join(name),
        false => dir.join(name),
    });
    candidates
        .find(|path| fs::metadata(path).is_ok_and(|meta| is_program(&meta)))
        .ok_or_else(|| format!("exec: {name:?}: executable file not found in $PATH"))
}

/// Go's sentence for a program that the kernel would not run.
pub(super) fn exec_failed(name: &str, errno: Errno) -> String {
    let mut text = errno.desc().to_owned();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    format!("fork/exec {name}: {text}")
}

fn is_program(meta: &fs::Metadata) -> bool {
    meta.is_file() && meta.permissions().mode() & 0o111 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_told_in_gos_words() {
        assert_eq!(
            find("nosuch-x", None),
            Err("exec: \"nosuch-x\": executable file not found in $PATH".to_owned())
        );
        assert_eq!(
            find("/nonexistent", None),
            Err("fork/exec /nonexistent: no such file or directory".to_owned())
        );
        assert_eq!(find("/etc/passwd", None), Err("fork/exec /etc/passwd: permission denied".to_owned()));
        assert!(find("sh", None).unwrap().is_absolute());
        assert_eq!(find("./sh", Some(Path::new("/bin"))), Ok(PathBuf::from("/bin/./sh")));
    }
}
