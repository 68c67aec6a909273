//! Engine: the handle through which work is submitted, shown, followed, ended and released.

mod access;
mod driver;
mod elsewhere;
mod error;
mod handle;
mod mesh;
mod open;
mod submit;
mod upload;
mod watch;

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use netmesh::wire::WorkCommand;
use tokio::{sync::mpsc, task::JoinSet};

use self::elsewhere::runs_elsewhere;
pub use self::{
    access::{Caller, Way},
    error::{OpenError, WorkError},
    handle::{Life, UnitHandle},
    mesh::{AsyncReadWrite, BoxFuture, Conversation, DialFailed, Mesh, Reach},
    upload::Upload,
    watch::{Frame, Watch},
};
use crate::{
    logic::{
        state::{Effect, Event},
        units::{Request, Units},
    },
    request::{Output, Stderr},
    runner::remote::{Order, Remote},
    sign::{SigningConfig, Verifier},
    store::{Store, notice::Notices, released::Released, tail::Follower},
    unit::{State, Unit, UnitId},
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
    /// The program that supervises, run as `PROGRAM supervise UNITDIR`.
    pub supervisor: PathBuf,
    /// What may be run here.
    pub work_types: Vec<WorkType>,
    /// What signs requests to other nodes.
    pub signing: Option<SigningConfig>,
    /// The public key that checks requests of others.
    pub verification: Option<PathBuf>,
    /// Random, new at each start of the daemon.
    pub incarnation: String,
    /// How many files a command may open, where that is not what this process may
    /// ([`raise`](crate::runner::open_files::raise)).
    pub open_files: Option<u64>,
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
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It runs, here or there.
    Started,
    /// Its node is out of reach; it is kept until that is over.
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
    types: BTreeMap<String, WorkType>,
    store: Store,
    units: Mutex<Units<Entry>>,
    released: Mutex<Released>,
    /// Submissions with a request id, one at a time: the same request twice must find the first one's unit.
    requests: Mutex<()>,
    verifier: Verifier,
    remote: Remote,
    notices: Notices,
    tasks: Mutex<JoinSet<()>>,
    lock: Mutex<Option<File>>,
}

/// A unit in the table.
#[derive(Clone)]
struct Entry {
    handle: UnitHandle,
    /// Of a remote unit: how its runner is spoken to, once it was started.
    orders: Option<mpsc::Sender<Order>>,
    /// Which upload may write its payload; the newest.
    upload: Arc<Mutex<u64>>,
}

impl Engine {
    /// A unit's status now; a running one's with the size that its output has.
    pub fn unit(&self, id: &str) -> Result<Arc<Unit>, WorkError> {
        self.inner.entry(id).map(|entry| live(&entry.handle))
    }

    /// All units' statuses.
    pub fn units(&self) -> BTreeMap<UnitId, Arc<Unit>> {
        let handles: Vec<_> = lock(&self.inner.units).iter().map(|(_, entry)| entry.handle.clone()).collect();
        handles.iter().map(|handle| (handle.id(), live(handle))).collect()
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
        self.inner.authorize_unit(&entry.handle, signature, caller)?;
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
        self.inner.authorize_unit(&entry.handle, signature, caller)?;
        Ok(Watch::new(&entry.handle, stdout_pos, stderr_pos, &self.inner.notices))
    }

    /// Ends a unit. Answers at once; again, or after its end, it is done already.
    pub async fn cancel(&self, id: &str, signature: &str, caller: &Caller) -> Result<Reply, WorkError> {
        let entry = self.inner.entry(id)?;
        self.inner.authorize_unit(&entry.handle, signature, caller)?;
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
        self.inner.authorize_unit(&entry.handle, signature, caller)?;
        if runs_elsewhere(&entry.handle) {
            self.inner.remember_released(&entry.handle, force)?;
            return self.inner.order(&entry.handle, |reply| Order::Release { force, reply }).await;
        }
        self.inner.release_here(entry.handle, force).await?;
        Ok(Reply::Done)
    }

    /// What may be run here, for the node's advert; in the order of the configuration, as in Receptor.
    pub fn work_commands(&self) -> Vec<WorkCommand> {
        let types = self.inner.config.work_types.iter();
        types.map(|of| WorkCommand { work_type: of.name.clone(), secure: of.verify_signature }).collect()
    }

    /// Lets everything go: units run on, and the next engine on this datadir takes them up.
    pub async fn shutdown(&self) {
        let mut tasks = std::mem::take(&mut *lock(&self.inner.tasks));
        tasks.shutdown().await;
        if let Some(file) = lock(&self.inner.lock).take() {
            // Closing alone would leave it held by a child that is just being started, until its program is loaded.
            fs2::FileExt::unlock(&file).ok();
        }
    }
}

impl Inner {
    fn entry(&self, id: &str) -> Result<Entry, WorkError> {
        let unknown = || WorkError::UnknownUnit(id.to_owned());
        let parsed: UnitId = id.parse().map_err(|_| unknown())?;
        lock(&self.units).get(parsed).cloned().ok_or_else(unknown)
    }

    pub(crate) fn forget(&self, id: UnitId) {
        lock(&self.units).remove(id);
    }

    /// Runs `task` until it ends or the engine shuts down.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    async fn cancel_here(&self, handle: UnitHandle) -> Result<(), WorkError> {
        let path = handle.dir().path().to_owned();
        handle::blocking(move || {
            Ok(handle.take_step(&Event::Cancel).map(|effects| {
                if effects.contains(&Effect::Stop) {
                    crate::runner::command::stop(handle.dir());
                }
                handle::settle_if_ended(&handle);
            }))
        })
        .await
        .map_err(WorkError::io("cannot cancel the unit in", &path))?
        .map_err(WorkError::step(path))
    }

    async fn release_here(&self, handle: UnitHandle, force: bool) -> Result<(), WorkError> {
        let path = handle.dir().path().to_owned();
        self.remember_released(&handle, force)?;
        let dir = handle.dir().clone();
        let marked = handle::blocking(move || dir.mark_released()).await;
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
            true if error.kind() == io::ErrorKind::StorageFull => {
                unit.dir().empty().and_then(|()| remember())
            }
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

/// A unit's status as its files say it now; a running one's with the size that its output has.
///
/// Its supervisor writes the file before the driver hears of it, and whoever has read output must not be told Pending.
fn live(unit: &UnitHandle) -> Arc<Unit> {
    let mut current = unit.current();
    if current.state.is_terminal() || current.remote().is_some() {
        return current;
    }
    if current.format > 0
        && let Ok(fresh) = unit.refresh()
    {
        current = fresh;
    }
    if current.state != State::Running {
        return current;
    }
    let (stdout_size, stderr_size) = (unit.dir().stdout_size(), unit.dir().stderr_size());
    Arc::new(Unit { stdout_size, stderr_size, ..Unit::clone(&current) })
}

/// A lock that is held for moments; whoever panicked with it left whole values behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
