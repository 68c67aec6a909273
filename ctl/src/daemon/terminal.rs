//! A command in a terminal of its own: started, talked to, and ended with everything that it started there.
//!
//! The command leads a session whose controlling terminal is the pty, so that it sees what it would see at a screen: its
//! input is echoed, lines end in CR LF, and job control works. The other end of the pty is ours alone: should this process
//! die, the kernel hangs up.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt as _, process::CommandExt as _},
    },
    process::{Child, Command},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    libc,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, Signal, killpg, signal},
        termios::{LocalFlags, SpecialCharacterIndices, tcgetattr},
    },
    unistd::{Pid, setsid},
};
use tokio::io::{Interest, unix::AsyncFd};
use workunits::runner::process::PidFd;

/// What was hung up has this long to end by itself.
const GRACE: Duration = Duration::from_secs(2);
/// What was killed goes at once, but for what hangs in the kernel; nobody waits longer for that.
const DYING: Duration = Duration::from_secs(2);
/// What the service manager tells this process alone, by the beginning of the names.
const OURS_ALONE: [&str; 3] = ["NOTIFY_", "WATCHDOG_", "LISTEN_"];

/// A command that runs in a terminal. Dropped, it is killed with its session.
pub(super) struct Terminal {
    /// None when it has been ended.
    command: Option<Child>,
    leader: PidFd,
    screen: AsyncFd<OwnedFd>,
}

impl Terminal {
    /// Starts `argv`, which is not empty, with `env` besides our own environment; `open_files` is how many files it may
    /// have open.
    ///
    /// # Errors
    /// When there is no terminal to be had, or the program cannot be run.
    pub(super) fn start(
        argv: &[String],
        env: &[(&str, String)],
        open_files: Option<u64>,
    ) -> io::Result<Terminal> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let ours = posix_openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let mut theirs = OpenOptions::new();
        theirs.read(true).write(true).custom_flags(libc::O_NOCTTY);
        let theirs: File = theirs.open(ptsname_r(&ours)?)?;
        let ours = OwnedFd::from(ours);
        // SAFETY: an `OwnedFd` stays open, and the same, until `screen` is dropped.
        let screen =
            unsafe { AsyncFd::register_with_interest(ours, Interest::READABLE | Interest::WRITABLE) }?;
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).envs(env.iter().map(|(name, value)| (name, value)));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| OURS_ALONE.iter().any(|ours| name.starts_with(ours))) {
                command.env_remove(name);
            }
        }
        command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs);
        // SAFETY: between fork and exec there are system calls alone; nothing is allocated, and no lock is taken.
        unsafe { command.pre_exec(move || at_its_terminal(open_files)) };
        let mut command = command.spawn()?;
        let leader = i32::try_from(command.id()).map_err(io::Error::other).and_then(PidFd::of);
        match leader {
            Ok(leader) => Ok(Terminal { command: Some(command), leader, screen }),
            Err(error) => {
                let _ = command.kill(); // what has ended by itself needs no kill
                let _ = command.wait();
                Err(error)
            }
        }
    }

    /// Waits until the command itself has ended. What it left in the background may still have the terminal.
    pub(super) async fn ended(&self) {
        // An error says that no more can be waited for; then the end of its output tells.
        if self.leader.gone().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What is written there; 0 when nobody has the terminal any more. May be dropped at any time.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = |screen: &OwnedFd| Ok(nix::unistd::read(screen, buffer)?);
        match self.screen.async_io(Interest::READABLE, read).await {
            // Nobody has the other end open any more.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            done => done,
        }
    }

    /// Types all of `keys`.
    pub(super) async fn write_all(&self, mut keys: &[u8]) -> io::Result<()> {
        while !keys.is_empty() {
            let write = |screen: &OwnedFd| Ok(nix::unistd::write(screen, keys)?);
            let written = self.screen.async_io(Interest::WRITABLE, write).await?;
            keys = &keys[written..];
        }
        Ok(())
    }

    /// Types what ends the input of a program that reads lines, after a line that is `open`. One that reads keys has no
    /// such thing, and is told nothing.
    pub(super) async fn end_input(&self, open: bool) -> io::Result<()> {
        let settings = tcgetattr(self.screen.get_ref())?;
        if !settings.local_flags.contains(LocalFlags::ICANON) {
            return Ok(());
        }
        let end = settings.control_chars[SpecialCharacterIndices::VEOF as usize];
        // The first ends an open line, and the input only the second.
        let keys = [end, end];
        self.write_all(if open { &keys } else { &keys[..1] }).await
    }

    /// Hangs up, and waits until the command and all that it started in its terminal have ended; after two seconds they
    /// are killed.
    pub(super) async fn end(mut self) {
        let Some(command) = self.command.take() else { return };
        // An error says that the runtime ends, and with it this process.
        let _ = tokio::task::spawn_blocking(move || end(command, GRACE)).await;
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.command.take().into_iter().for_each(|command| end(command, Duration::ZERO));
    }
}

/// What a child does before it becomes the command: it takes the terminal for its own, and forgets what it has of us.
fn at_its_terminal(open_files: Option<u64>) -> io::Result<()> {
    setsid()?;
    // SAFETY: the call takes two numbers.
    if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
        return Err(io::Error::last_os_error());
    }
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    if let Some(soft) = open_files {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard)?;
    }
    Ok(())
}

/// Ends a command and its session: what has not gone within `grace` is killed. Blocks.
fn end(mut command: Child, grace: Duration) {
    // Until it is waited for nobody else can have its number, nor a session of that number.
    let Ok(leader) = i32::try_from(command.id()) else { return };
    if !grace.is_zero() {
        let group = Pid::from_raw(leader);
        // An error says that nobody is left in it.
        let _ = killpg(group, Signal::SIGHUP);
        let _ = killpg(group, Signal::SIGCONT);
        if let Ok(process) = PidFd::of(leader) {
            process.wait(grace);
        }
    }
    // Looked through again for what it has started meanwhile.
    let until = Instant::now() + DYING;
    while kill_session(leader, until) && Instant::now() < until {}
    let _ = command.kill(); // of the session, and dead already
    let _ = command.wait();
}

/// Kills every process of the session `leader`, and waits for their ends; false if there was none.
fn kill_session(leader: i32, until: Instant) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut killed = Vec::new();
    for pid in pids {
        // Opened before it is looked at, so that the number cannot pass to another in between.
        let Ok(process) = PidFd::of(pid) else { continue };
        if lives_in(pid, leader) && process.signal(Signal::SIGKILL).is_ok() {
            killed.push(process);
        }
    }
    killed.iter().for_each(|process| process.wait(until.saturating_duration_since(Instant::now())));
    !killed.is_empty()
}

/// True if the process `pid` lives and is of the session `leader`.
fn lives_in(pid: i32, leader: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; behind it come state, parent, group and session.
    let mut fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ')).into_iter().flatten();
    let dead = fields.next().is_none_or(|state| matches!(state, "Z" | "X"));
    !dead && fields.nth(2).and_then(|session| session.parse().ok()) == Some(leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Terminal {
        let argv = ["sh", "-c", line].map(str::to_owned);
        Terminal::start(&argv, &[("NETMESH_TEST", "set".to_owned())], None).expect("a terminal")
    }

    /// All that is written until `end` or the end.
    async fn until(terminal: &Terminal, end: &str) -> String {
        let (mut heard, mut buffer) = (String::new(), [0; 1024]);
        while !heard.contains(end) || end.is_empty() {
            let len = terminal.read(&mut buffer).await.expect("it can be read");
            if len == 0 {
                break;
            }
            heard += std::str::from_utf8(&buffer[..len]).expect("text");
        }
        heard
    }

    #[tokio::test]
    async fn a_command_has_a_terminal_of_its_own_and_what_it_is_told() {
        let terminal = shell("test -t 0 && test -t 1 && echo $NETMESH_TEST; cat < /dev/tty");
        assert_eq!(until(&terminal, "\n").await, "set\r\n");
        terminal.write_all(b"word\n").await.expect("it reads");
        assert_eq!(until(&terminal, "word\r\nword\r\n").await, "word\r\nword\r\n", "echoed, and said by cat");
        terminal.end_input(false).await.expect("it reads lines");
        assert_eq!(until(&terminal, "").await, "");
        terminal.end().await;
    }

    #[tokio::test]
    async fn the_end_of_input_behind_an_open_line_is_an_end_too() {
        let terminal = shell("cat; echo over");
        terminal.write_all(b"open").await.expect("it reads");
        terminal.end_input(true).await.expect("it reads lines");
        assert!(until(&terminal, "").await.ends_with("over\r\n"));
    }

    #[tokio::test]
    async fn its_end_takes_along_whatever_it_started_even_what_ignores_that_it_hangs_up() {
        let ignores = "trap '' HUP TERM; set -m; sleep 1000 & (sleep 1001 &) ; echo pids $$; wait";
        let terminal = shell(ignores);
        let said = until(&terminal, "\n").await;
        let leader = terminal.command.as_ref().expect("it runs").id() as i32;
        assert!(said.contains(&leader.to_string()), "{said}");
        terminal.end().await;
        assert!(!kill_session(leader, Instant::now()), "nothing of it is left");
    }

    #[tokio::test]
    async fn a_session_is_found_as_long_as_one_of_it_lives() {
        let terminal = shell("set -m; sleep 1000 & echo $!; exit");
        let said = until(&terminal, "\n").await;
        terminal.ended().await;
        let (leader, left) = (
            terminal.command.as_ref().expect("not waited for").id() as i32,
            said.trim().parse().expect("a pid"),
        );
        assert!(lives_in(left, leader) && !lives_in(leader, leader), "the command has ended, and left one");
        terminal.end().await;
        assert!(!lives_in(left, leader));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error_and_no_process() {
        let failed = Terminal::start(&["/nonexistent/program".to_owned()], &[], None);
        assert_eq!(failed.err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
    }
}
