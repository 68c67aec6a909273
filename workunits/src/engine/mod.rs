//! Engine: the handle through which work is submitted, shown, followed, ended and released.

mod access;
mod adopt;
mod arrival;
mod driver;
mod elsewhere;
mod error;
mod handle;
mod janitor;
mod list;
mod mesh;
mod one_at_a_time;
mod open;
mod prepare;
mod queue;
mod quota;
mod rules;
mod scan;
mod space;
mod submit;
mod table;
mod upload;
mod view;
mod wall;
mod watch;

use std::{
    fs::File,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicU32},
    time::SystemTime,
};

use netmesh::wire::WorkCommand;
use tokio::task::JoinSet;

pub use self::{
    access::{Caller, Policy, Way},
    error::{OpenError, WorkError},
    handle::{Life, UnitHandle},
    list::Page,
    mesh::{AsyncReadWrite, BoxFuture, Conversation, DialFailed, Mesh, Reach},
    rules::WorkRules,
    space::make_room,
    upload::Upload,
    watch::{Frame, Watch},
};
use self::{
    elsewhere::runs_elsewhere,
    janitor::Janitor,
    one_at_a_time::OneAtATime,
    queue::RunQueue,
    quota::Quota,
    rules::Snapshot,
    space::{Space, is_full},
    table::Place,
};
use crate::{
    logic::{
        grants::Action,
        retention::Keep,
        sandbox::Rules,
        state::{Effect, Event},
        units::{Request, Units},
    },
    request::{Output, Stderr},
    runner::{
        launcher::Launcher,
        remote::{Order, Remote},
    },
    sign::{SigningConfig, Verification},
    store::{Store, notice::Notices, released::Released, status::StepError, tail::Follower},
    unit::Unit,
};

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The node whose units it keeps.
    pub node: String,
    /// Where: below it `{node}` holds the units.
    pub datadir: PathBuf,
    /// Where the node keeps what is its own, `{datadir}/.netmesh/{node}`.
    pub state_dir: PathBuf,
    /// The program that supervises: [`launcher::main`](crate::runner::launcher::main) under its word.
    pub supervisor: PathBuf,
    /// What may be run here.
    pub work_types: Vec<WorkType>,
    /// What signs requests to other nodes.
    pub signing: Option<SigningConfig>,
    /// What checks requests of others.
    pub verification: Option<Verification>,
    /// Random, new at each start of the daemon.
    pub incarnation: String,
    /// How many files a command may open, where that is not what this process may
    /// ([`raise`](crate::runner::open_files::raise)).
    pub open_files: Option<u64>,
    /// How many units may run at a time, how many ended ones are kept, and how full the disk may get.
    pub limits: Limits,
}

/// What bounds the units of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many may run here at a time, whatever their type.
    pub max_running: Option<usize>,
    /// How many that have not ended one principal may have here.
    pub max_units: Option<usize>,
    /// Which ended ones are kept, where their type does not say; of units that ran elsewhere too.
    pub keep: Keep,
    /// How many bytes of the datadir's file system must be free for a new one to be taken; 0 asks for none.
    pub min_free: u64,
}

/// Less free room than this, and a node takes no new work, unless its configuration says otherwise.
pub const MIN_FREE: u64 = 16 << 20;

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_running: None, max_units: None, keep: Keep::default(), min_free: MIN_FREE }
    }
}

/// Something that may be run here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkType {
    /// What submitters call it.
    pub name: String,
    /// The program, looked up in `PATH`.
    pub command: String,
    /// Its arguments, split like a shell's words.
    pub params: String,
    /// Whether a submission may add arguments.
    pub allow_runtime_params: bool,
    /// Whether requests about it must be signed, except on a Unix socket.
    pub verify_signature: bool,
    /// What becomes of its error output, where the submitter can tell the two apart and asks for nothing else.
    pub stderr: Stderr,
    /// How many units of it may run at a time; the others wait in the order of their coming.
    pub max_running: Option<usize>,
    /// Which of its ended units are kept; what it leaves open the node's [`Limits`] say.
    pub keep: Keep,
    /// How its process is run, bounded and stopped.
    pub rules: Rules,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It runs, here or there.
    Started,
    /// It waits: its node is out of reach, its time has not come, or no place is free. It starts when that is over.
    Submitted,
}

/// What became of a cancel or a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is done, or will be without anybody's help.
    Done,
    /// The unit's node is out of reach; it is kept until that is over.
    Pending,
}

/// All units of one node. A clone is the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: EngineConfig,
    rules: RwLock<Arc<Snapshot>>,
    store: Store,
    units: Mutex<Units<Place>>,
    /// Counts how often a unit came to rest.
    spells: AtomicU32,
    /// Closes with the engine, for those who follow a unit of it.
    closing: tokio::sync::watch::Sender<()>,
    released: Mutex<Released>,
    requests: OneAtATime,
    queue: RunQueue,
    quota: Quota,
    janitor: Janitor,
    space: Space,
    launcher: Launcher,
    policy: Mutex<Arc<Policy>>,
    remote: Remote,
    notices: Notices,
    tasks: Mutex<JoinSet<()>>,
    lock: Mutex<Option<File>>,
}

impl Engine {
    /// A unit's status now; a running one's with the size that its output has.
    pub fn unit(&self, id: &str) -> Result<Arc<Unit>, WorkError> {
        let unknown = || WorkError::UnknownUnit(id.to_owned());
        self.inner.shown(id.parse().map_err(|_| unknown())?).ok_or_else(unknown)
    }

    /// Follows a unit's output from a byte on, until the unit has ended and all of it was read.
    pub async fn results(
        &self,
        id: &str,
        from: i64,
        which: Output,
        signature: &str,
        caller: &Caller,
    ) -> Result<Follower, WorkError> {
        let entry = self.inner.entry(id)?;
        self.inner.admit(&entry.handle, Action::Results, signature, caller).await?;
        Ok(Follower::new(&entry.handle, which, u64::try_from(from).ok(), &self.inner.notices))
    }

    /// Follows a unit's status and outputs at once.
    pub async fn watch(
        &self,
        id: &str,
        stdout_pos: u64,
        stderr_pos: u64,
        signature: &str,
        caller: &Caller,
    ) -> Result<Watch, WorkError> {
        let entry = self.inner.entry(id)?;
        self.inner.admit(&entry.handle, Action::Results, signature, caller).await?;
        Ok(Watch::new(&entry.handle, stdout_pos, stderr_pos, &self.inner.notices))
    }

    /// Ends a unit. Answers at once; again, or after its end, it is done already.
    pub async fn cancel(&self, id: &str, signature: &str, caller: &Caller) -> Result<Reply, WorkError> {
        let entry = self.inner.entry(id)?;
        self.inner.admit(&entry.handle, Action::Cancel, signature, caller).await?;
        if runs_elsewhere(&entry.handle) {
            return self.inner.order(&entry.handle, |reply| Order::Cancel { reply }).await;
        }
        self.inner.cancel_here(entry.handle).await?;
        Ok(Reply::Done)
    }

    /// Ends a unit and removes it; its directory goes when the last of its processes has ended.
    pub async fn release(
        &self,
        id: &str,
        force: bool,
        signature: &str,
        caller: &Caller,
    ) -> Result<Reply, WorkError> {
        let entry = self.inner.entry(id)?;
        self.inner.admit(&entry.handle, Action::Release, signature, caller).await?;
        if runs_elsewhere(&entry.handle) {
            self.inner.remember_released(&entry.handle, force)?;
            return self.inner.order(&entry.handle, |reply| Order::Release { force, reply }).await;
        }
        self.inner.release_here(entry.handle, force).await?;
        Ok(Reply::Done)
    }

    /// What may be run here, for the node's advert; in the order of the configuration, as in Receptor.
    pub fn work_commands(&self) -> Vec<WorkCommand> {
        let rules = self.inner.rules();
        let types = rules.order.iter().filter_map(|name| rules.types.get(name));
        types.map(|of| WorkCommand { work_type: of.name.clone(), secure: of.verify_signature }).collect()
    }

    /// Lets everything go: units run on, and the next engine on this datadir takes them up.
    pub async fn shutdown(&self) {
        self.inner.queue.close();
        let mut tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        tasks.shutdown().await;
        self.inner.launcher.end();
        if let Some(file) = lock(&self.inner.lock).take() {
            // Closing alone would leave it held by a child that is just being started, until its program is loaded.
            fs2::FileExt::unlock(&file).ok();
        }
    }
}

impl Inner {
    /// Runs `task` until it ends or the engine shuts down.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    async fn cancel_here(&self, handle: UnitHandle) -> Result<(), WorkError> {
        let (id, path) = (handle.id(), handle.dir().path().to_owned());
        let space = self.space.clone();
        let canceled = handle::blocking(move || {
            let cancel = || handle.take_step(&Event::Cancel);
            let full = |error: &StepError| matches!(error, StepError::Io(error) if is_full(error));
            Ok(space.at_any_rate(cancel, full).map(|effects| {
                if effects.contains(&Effect::Stop) {
                    crate::runner::command::stop(handle.dir());
                }
                handle::settle_if_ended(&handle);
            }))
        })
        .await;
        canceled
            .map_err(WorkError::io("cannot cancel the unit in", &path))?
            .map_err(WorkError::step(path))?;
        self.withdraw(id);
        Ok(())
    }

    async fn release_here(&self, handle: UnitHandle, force: bool) -> Result<(), WorkError> {
        let path = handle.dir().path().to_owned();
        self.remember_released(&handle, force)?;
        let (dir, space) = (handle.dir().clone(), self.space.clone());
        let marked = handle::blocking(move || space.at_any_rate(|| dir.mark_released(), is_full)).await;
        let canceled = match marked {
            Ok(()) => self.cancel_here(handle.clone()).await,
            Err(error) => Err(WorkError::io("cannot mark as released", &path)(error)),
        };
        // The unit's driver acts on the mark too: where it was faster, the directory is gone and all is done.
        if !force && path.exists() {
            canceled?;
        }
        // What still runs is removed by its driver, here or after a restart, when its last process has ended.
        if handle.current().state.is_terminal() {
            match handle.remove().await {
                Err(error) if !force && path.exists() => {
                    return Err(WorkError::io("cannot remove", path)(error));
                }
                _ => {}
            }
        }
        handle.forget();
        Ok(())
    }

    /// Remembers that the request of a unit was released, so that it does not run again when it comes late.
    fn remember_released(&self, unit: &UnitHandle, force: bool) -> Result<(), WorkError> {
        let Some(request) = request_of(unit) else { return Ok(()) };
        let remember = || lock(&self.released).remember(request.clone(), SystemTime::now());
        let remembered = remember().or_else(|error| match unit.current().state.is_terminal() {
            // Releasing is how room is made on a full disk: what is to go makes room for the memory of it.
            true if is_full(&error) => unit.dir().empty().and_then(|()| remember()),
            false if is_full(&error) => self.space.at_any_rate(remember, is_full),
            _ => Err(error),
        });
        match remembered {
            Err(error) if force => {
                tracing::error!(unit = %unit.id(), %error, "cannot remember a release: should its request come again, it would run again");
                Ok(())
            }
            done => done.map_err(WorkError::io("cannot remember a release in", &self.config.state_dir)),
        }
    }
}

/// The request that made a unit.
fn request_of(unit: &UnitHandle) -> Option<Request> {
    let spec = unit.spec();
    spec.request_id.clone().map(|id| Request { owner: spec.owner.clone(), id })
}

/// A lock that is held for moments; whoever panicked with it left whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
