//! A command between fork and exec: everything of it is in place but its program, which waits at a gate.
//!
//! All that takes memory, or may fail for a reason worth telling, is done before the fork. Between fork and exec there are
//! system calls alone.

use std::{
    ffi::{CString, c_char},
    fs::File,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask},
    },
    unistd::{ForkResult, Pid, chdir, fork, getppid, setsid},
};

use super::{
    cgroup::Cgroup,
    launch::Launch,
    open_files,
    output::{Ends, Output},
    program,
    user::Who,
};
use crate::{request::Limits, store::UnitDir};

/// A command that waits at the gate.
pub(super) struct Child {
    /// Its process, which leads a session and a group.
    pub(super) pid: Pid,
    /// The control group that it is in, if it has one of its own.
    pub(super) cgroup: Option<Cgroup>,
    /// What copies its output, where that is limited.
    pub(super) output: Option<Output>,
    gate: PipeWriter,
    failed: PipeReader,
}

/// What the child was about to do when it failed; told through a pipe, by number.
#[derive(Clone, Copy)]
enum Step {
    Exec = 0,
    Limits = 1,
    User = 2,
    Directory = 3,
}

/// The flag of clone3(2); the `libc` crate gives it a type that it does not fit into.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How long what the child tells is: an errno, and a step.
const TOLD_BYTES: usize = 8;

impl Child {
    /// Forks the command.
    ///
    /// # Errors
    /// A text: why it cannot be started.
    pub(super) fn fork(dir: &UnitDir, launch: &Launch, own_group: Option<&Path>) -> Result<Child, String> {
        let plain = |error: io::Error| format!("cannot prepare the command: {error}");
        let directory = launch.directory.as_deref().map(Path::new);
        let program = program::find(&launch.argv[0], directory)?;
        let who = match &launch.user {
            Some(user) => Some(Who::look_up(user).map_err(|why| format!("cannot run the command: {why}"))?),
            None => None,
        };
        let (ends, output) = Output::open(dir, launch.stderr, launch.max_output).map_err(plain)?;
        let prepared = Prepared::new(dir, launch, program, who, ends).map_err(plain)?;
        let (at_gate, gate) = io::pipe().map_err(plain)?;
        let (failed, failure) = io::pipe().map_err(plain)?;
        let mut cgroup = Cgroup::make(own_group, dir.id());
        let parent = Pid::this();
        // SAFETY: this process has one thread, so the child may call anything between fork and exec.
        match unsafe { fork_into(&mut cgroup) }.map_err(|errno| plain(errno.into()))? {
            ForkResult::Parent { child } => {
                prepared.leave();
                Ok(Child { pid: child, cgroup, output, gate, failed })
            }
            ForkResult::Child => {
                drop((gate, failed));
                let Err((step, errno)) = prepared.become_command(parent, at_gate);
                let mut told = [0; TOLD_BYTES];
                told[..4].copy_from_slice(&(errno as i32).to_ne_bytes());
                told[4..].copy_from_slice(&(step as i32).to_ne_bytes());
                let _ = (&failure).write_all(&told);
                // SAFETY: ends the process at once, without the parent's buffers and handlers.
                unsafe { libc::_exit(127) }
            }
        }
    }

    /// Opens the gate; says why if the command could not be run after all.
    pub(super) fn release(&mut self, launch: &Launch) -> Result<(), String> {
        let _ = self.gate.write_all(&[1]); // a child that is gone says so through the other pipe
        self.why_failed(launch).map_or(Ok(()), Err)
    }

    /// Why the child gave up; waits until it has, or runs its program.
    pub(super) fn why_failed(&mut self, launch: &Launch) -> Option<String> {
        let mut told = [0; TOLD_BYTES];
        self.failed.read_exact(&mut told).ok()?; // closed by exec, or by a kill
        let [number, step] =
            [0, 4].map(|at| i32::from_ne_bytes([told[at], told[at + 1], told[at + 2], told[at + 3]]));
        let errno = Errno::from_raw(number);
        let what = errno.desc().to_lowercase();
        Some(match step {
            step if step == Step::Limits as i32 => format!("cannot set the limits of the command: {what}"),
            step if step == Step::User as i32 => format!(
                "cannot run the command as user {}: {what}; only a node that runs as root can",
                launch.user.as_deref().unwrap_or_default()
            ),
            step if step == Step::Directory as i32 => {
                format!("chdir {}: {what}", launch.directory.as_deref().unwrap_or_default())
            }
            _ => program::exec_failed(&launch.argv[0], errno),
        })
    }
}

/// Forks, and has the child begin its life in `cgroup`; where the kernel does not let us, there is none afterwards.
///
/// Moving a process costs up to some milliseconds, in which the whole system may fork nothing; starting it there, none.
///
/// # Safety
/// As for `fork`.
unsafe fn fork_into(cgroup: &mut Option<Cgroup>) -> nix::Result<ForkResult> {
    if let Some(group) = cgroup.take() {
        if let Ok(opened) = File::open(group.path()) {
            // SAFETY: the kernel's own struct of numbers, of which 0 means “not asked for”.
            let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
            args.flags = CLONE_INTO_CGROUP;
            args.exit_signal = libc::SIGCHLD.cast_unsigned().into();
            args.cgroup = opened.as_raw_fd().cast_unsigned().into();
            // SAFETY: without CLONE_VM this is a fork: the child has a stack and memory of its own.
            let pid =
                unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
            match i32::try_from(pid) {
                Ok(0) => return Ok(ForkResult::Child),
                Ok(pid) if pid > 0 => {
                    *cgroup = Some(group);
                    return Ok(ForkResult::Parent { child: Pid::from_raw(pid) });
                }
                _ => {}
            }
        }
        group.dissolve();
    }
    // SAFETY: the caller's promise.
    unsafe { fork() }
}

/// A list of texts as execve(2) wants it.
struct Texts {
    /// What `pointers` points into.
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Texts {
    fn new(texts: Vec<CString>) -> Texts {
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Texts { _texts: texts, pointers }
    }
}

/// All that the child needs, made before the fork.
struct Prepared {
    program: CString,
    argv: Texts,
    env: Texts,
    who: Option<Who>,
    directory: Option<CString>,
    open_files: Option<u64>,
    limits: [(Resource, Option<u64>); 6],
    stdin: OwnedFd,
    ends: Ends,
}

impl Prepared {
    fn new(
        dir: &UnitDir,
        launch: &Launch,
        program: PathBuf,
        who: Option<Who>,
        ends: Ends,
    ) -> io::Result<Prepared> {
        let argv = launch.argv.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>()?;
        let env = environment(launch, who.as_ref())?;
        Ok(Prepared {
            program: CString::new(program.as_os_str().as_bytes())?,
            argv: Texts::new(argv),
            env: Texts::new(env),
            who,
            directory: launch.directory.as_deref().map(CString::new).transpose()?,
            open_files: launch.open_files,
            limits: resources(&launch.limits),
            stdin: File::open(dir.stdin_path())?.into(),
            ends,
        })
    }

    /// Closes what is the child's. The rest stays until the process ends, soon after the command: to give it back now would
    /// make a copy of each page of it, since the child has the same.
    fn leave(self) {
        let Prepared { program, argv, env, who, directory, stdin, ends, .. } = self;
        drop((stdin, ends));
        std::mem::forget((program, argv, env, who, directory));
    }

    /// Turns the child into the command, once the gate is open.
    fn become_command(
        self,
        parent: Pid,
        mut gate: PipeReader,
    ) -> Result<std::convert::Infallible, (Step, Errno)> {
        let at = |step| move |errno| (step, errno);
        self.detach().map_err(at(Step::Exec))?;
        self.bound().map_err(at(Step::Limits))?;
        if let Some(who) = &self.who {
            who.become_it().map_err(at(Step::User))?;
        }
        if let Some(directory) = &self.directory {
            chdir(directory.as_c_str()).map_err(at(Step::Directory))?; // with that user's own rights
        }
        // Another user's process has forgotten it.
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(Step::Exec))?;
        if getppid() != parent {
            return Err((Step::Exec, Errno::ESRCH)); // the supervisor died before it could take us with it
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(at(Step::Exec))?;
        let mut open = [0];
        if gate.read_exact(&mut open).is_err() {
            return Err((Step::Exec, Errno::ECANCELED)); // the gate fell: never run
        }
        // SAFETY: both lists end with a null pointer, and what they point to lives as long as `self`.
        unsafe {
            libc::execve(self.program.as_ptr(), self.argv.pointers.as_ptr(), self.env.pointers.as_ptr())
        };
        Err((Step::Exec, Errno::last()))
    }

    /// Makes it a session of its own, with its own descriptors and no signal ignored.
    fn detach(&self) -> nix::Result<()> {
        setsid()?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        nix::unistd::dup2_stdin(self.stdin.as_fd())?;
        nix::unistd::dup2_stdout(self.ends.stdout.as_fd())?;
        nix::unistd::dup2_stderr(self.ends.stderr.as_fd())?;
        // What is ignored would be inherited: SIGPIPE by Rust, SIGHUP by us, SIGINT and more by whoever started the
        // daemon in the background.
        for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP))
        {
            // SAFETY: the default action runs no code of ours.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
        Ok(())
    }

    /// Sets its limits; they only ever get lower, and nobody below can raise them again.
    fn bound(&self) -> nix::Result<()> {
        self.open_files.map_or(Ok(()), open_files::put_back)?;
        for (resource, limit) in self.limits {
            if let Some(limit) = limit {
                let (_, hard) = getrlimit(resource)?;
                setrlimit(resource, limit.min(hard), limit.min(hard))?;
            }
        }
        Ok(())
    }
}

fn resources(limits: &Limits) -> [(Resource, Option<u64>); 6] {
    [
        (Resource::RLIMIT_CPU, limits.cpu),
        (Resource::RLIMIT_AS, limits.memory),
        (Resource::RLIMIT_NOFILE, limits.files),
        (Resource::RLIMIT_NPROC, limits.processes),
        (Resource::RLIMIT_FSIZE, limits.filesize),
        (Resource::RLIMIT_CORE, limits.core),
    ]
}

/// The command's environment: what is inherited, then what its user brings, then what is set.
fn environment(launch: &Launch, who: Option<&Who>) -> io::Result<Vec<CString>> {
    let user: &[(&str, String)] = who.map_or(&[], |who| &who.env);
    let brought = user.iter().filter(|(name, _)| !launch.env.contains_key(*name));
    let set = brought
        .map(|(name, value)| (*name, value.as_str()))
        .chain(launch.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let mut env = set
        .clone()
        .map(|(name, value)| CString::new(format!("{name}={value}")))
        .collect::<Result<Vec<_>, _>>()?;
    for (name, value) in std::env::vars_os() {
        let taken = name.to_str().is_some_and(|name| set.clone().any(|(set, _)| set == name));
        let passes = launch.inherit.passes(&name.to_string_lossy());
        if passes && !taken {
            env.push(CString::new([name.into_vec(), value.into_vec()].join(&b'='))?);
        }
    }
    Ok(env)
}
