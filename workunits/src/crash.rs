//! Where can this process be made to die? At a named point before every effect that others can see.
//!
//! Only with the feature `crash-points`, which no product has: without it a point is nothing. The harness
//! (`tests/every_effect.rs`) sets `NETMESH_CRASH` to `WHO:KIND:K`: the K-th point (or, for `torn`, the K-th write, of which
//! half is done first) of every daemon or supervisor that inherits it kills that process at once, as a power switch would.
//! Points before each effect are points after the one before.

/// An effect named `name` is about to happen.
#[inline(always)]
pub fn point(name: &'static str) {
    #[cfg(feature = "crash-points")]
    armed::point(name);
    #[cfg(not(feature = "crash-points"))]
    let _ = name;
}

/// `bytes` are about to be written to `file`, under this name.
#[inline(always)]
pub fn write(name: &'static str, file: &std::fs::File, bytes: &[u8]) {
    #[cfg(feature = "crash-points")]
    armed::write(name, bytes, |half| drop(std::io::Write::write(&mut &*file, half)));
    #[cfg(not(feature = "crash-points"))]
    let _ = (name, file, bytes);
}

/// `bytes` are about to be written to `file`, at an offset.
#[inline(always)]
pub fn write_at(name: &'static str, file: &std::fs::File, bytes: &[u8], at: u64) {
    #[cfg(feature = "crash-points")]
    armed::write(name, bytes, |half| drop(std::os::unix::fs::FileExt::write_at(file, half, at)));
    #[cfg(not(feature = "crash-points"))]
    let _ = (name, file, bytes, at);
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::{
        env, fs,
        io::Write,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    /// At which point this process dies, if at any. A process has one end, so this alone is global.
    static PLAN: LazyLock<Option<Plan>> = LazyLock::new(Plan::of_this_process);

    struct Plan {
        torn: bool,
        at: u64,
        passed: AtomicU64,
    }

    impl Plan {
        fn of_this_process() -> Option<Plan> {
            let plan = env::var("NETMESH_CRASH").ok()?;
            let mut words = plan.split(':');
            let (who, kind, at) = (words.next()?, words.next()?, words.next()?);
            let supervises = env::args_os().nth(1).is_some_and(|word| word == "supervise");
            let ours = supervises == (who == "supervisor");
            let at = at.parse().ok()?;
            ours.then(|| Plan { torn: kind == "torn", at, passed: AtomicU64::new(0) })
        }

        fn is_next(&self) -> bool {
            self.passed.fetch_add(1, Ordering::SeqCst) + 1 == self.at
        }
    }

    pub(super) fn point(name: &str) {
        if PLAN.as_ref().is_some_and(|plan| !plan.torn && plan.is_next()) {
            die(name);
        }
    }

    /// `tear` writes what it is given, as far as the disk likes.
    pub(super) fn write(name: &str, bytes: &[u8], tear: impl Fn(&[u8])) {
        point(name);
        if PLAN.as_ref().is_some_and(|plan| plan.torn && plan.is_next()) {
            tear(&bytes[..bytes.len() / 2]);
            die(name);
        }
    }

    /// Tells the harness where, and ends this process without another instruction of it.
    fn die(name: &str) -> ! {
        if let Some(path) = env::var_os("NETMESH_CRASH_LOG") {
            let told = fs::OpenOptions::new().append(true).create(true).open(path);
            let _ = told.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes())); // then the harness misses it
        }
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        loop {
            std::thread::park();
        }
    }
}
