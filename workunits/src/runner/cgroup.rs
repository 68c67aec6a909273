//! A control group (cgroup v2) for one unit: it holds every descendant, whatever session or parent that has chosen.
//!
//! It is made below the node's own group, where that may be written in (systemd: `Delegate=yes`). Nothing is limited by
//! it, so that no controller must be enabled: it is there to end whatever is in it, with one write to `cgroup.kill`.

use std::{
    fs::{self, File},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::unit::UnitId;

/// The group of one unit.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the group of `unit` below `own`; `None` where no group is delegated to us, or the kernel cannot kill one
    /// (before 5.14).
    pub(super) fn make(own: Option<&Path>, unit: UnitId) -> Option<Cgroup> {
        let path = own?.join(format!("{PREFIX}{unit}"));
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return None,
            _ => {}
        }
        let made = Cgroup { path };
        if !made.path.join("cgroup.kill").exists() {
            made.remove();
            return None;
        }
        Some(made)
    }

    /// The group that was recorded for a unit, if it still exists.
    pub(super) fn at(path: &str) -> Option<Cgroup> {
        let path = PathBuf::from(path);
        let ours =
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
        (ours && path.join("cgroup.kill").exists()).then_some(Cgroup { path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Kills all that is in it, and what that starts meanwhile.
    pub(super) fn kill(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1"); // gone is what we want
    }

    /// Removes it once it is empty; waits for that up to `limit`.
    pub(super) fn remove_when_empty(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while !self.remove() {
            let Ok(events) = File::open(self.path.join("cgroup.events")) else { return };
            // Read before waiting: the file says that it changed since it was read last.
            match io::read_to_string(&events) {
                Ok(text) if text.contains("populated 0") && self.remove() => return,
                Ok(_) => {}
                Err(_) => return,
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            let wait = PollTimeout::try_from(rest.as_millis()).unwrap_or(PollTimeout::MAX);
            let mut changed = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            if rest.is_zero() || poll(&mut changed, wait).is_err() {
                return;
            }
        }
    }

    /// Removes it, and lets what is still in it live on in the group above.
    pub(super) fn dissolve(&self) {
        const ROUNDS: usize = 16; // what is moved may fork meanwhile, but not for ever in time
        let above = self.path.parent().map(|above| above.join("cgroup.procs"));
        for _ in 0..ROUNDS {
            if self.remove() {
                return;
            }
            let Ok(inside) = fs::read_to_string(self.path.join("cgroup.procs")) else { return };
            for pid in inside.lines() {
                if let Some(above) = &above {
                    let _ = fs::write(above, pid); // ended meanwhile
                }
            }
        }
    }

    /// Whether it is gone now.
    fn remove(&self) -> bool {
        match fs::remove_dir(&self.path) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }
}

/// What the groups that we make are called, before the unit's id.
const PREFIX: &str = "netmesh-";

/// The directory of the group that this process is in.
pub(super) fn own() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    directory(&groups, &mounts)
}

/// Where `/proc/self/cgroup` and `/proc/self/mountinfo` say that the group of a process is.
fn directory(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if kind.split(' ').next() != Some("cgroup2") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A mount may show a part of the tree only.
        let below = Path::new(group).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_under_any_mount() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw\n";
        let part = "30 23 0:26 /kube/pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        for (groups, mounts, found) in [
            ("0::/system.slice/n.service\n", unified, Some("/sys/fs/cgroup/system.slice/n.service")),
            ("9:cpu:/x\n0::/\n", hybrid, Some("/sys/fs/cgroup/unified/")),
            ("0::/kube/pod1/c\n", part, Some("/sys/fs/cgroup/c")),
            ("0::/elsewhere\n", part, None),
            ("9:cpu:/x\n", hybrid, None),
            ("0::/\n", "30 23 0:26 / / rw - ext4 /dev/vda rw\n", None),
        ] {
            assert_eq!(directory(groups, mounts), found.map(PathBuf::from), "{groups} {mounts}");
        }
    }

    #[test]
    fn a_recorded_path_that_is_no_group_of_ours_is_left_alone() {
        assert!(Cgroup::at("/sys/fs/cgroup").is_none() && Cgroup::at("/tmp/netmesh-aB3dEf9Z").is_none());
    }
}
