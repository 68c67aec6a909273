//! Who wakes when a file changes: one inotify instance for all units and followers of an engine.
//!
//! A [`Subscription`] only says “look again”. It may say so too often, never too rarely: when the kernel's queue runs
//! over everybody looks again, and where no watch can be had a subscription falls back to looking four times a second.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::UnitDir;

/// Writes alone that come faster than this are heard of so often.
const FLOW: Duration = Duration::from_millis(1);

/// How often a subscription without a watch looks.
const FALLBACK: Duration = Duration::from_millis(250);

/// Hands out subscriptions, and wakes them. A clone is the same one.
#[derive(Clone)]
pub struct Notices {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` where the system has no inotify instance left for us.
    watches: Mutex<Option<Watched>>,
    reader: Option<JoinHandle<()>>,
}

struct Watched {
    watches: Watches,
    wakers: HashMap<WatchDescriptor, Waker>,
}

/// Who wakes with one watch.
struct Waker {
    sender: watch::Sender<()>,
    subscriptions: usize,
    /// Whether any file means something, or those alone that tell how a unit gets on.
    any_file: bool,
}

/// Wakes its holder when the thing that it is about may have changed.
pub struct Subscription {
    waker: Option<(WatchDescriptor, watch::Receiver<()>)>,
    shared: Weak<Shared>,
}

impl Notices {
    /// Starts to listen; needs a tokio runtime.
    pub fn start() -> Notices {
        let opened = Inotify::init().and_then(|inotify| {
            let watches = inotify.watches();
            // SAFETY: an `Inotify` keeps its descriptor open, and the same, until it is dropped.
            Ok((unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }?, watches))
        });
        let (inotify, watches) = match opened {
            Ok((inotify, watches)) => (Some(inotify), Some(Watched { watches, wakers: HashMap::new() })),
            Err(error) => {
                tracing::warn!(%error, "no inotify instance (see fs.inotify.max_user_instances): looking four times a second instead");
                (None, None)
            }
        };
        let shared = Arc::new_cyclic(|weak: &Weak<Shared>| Shared {
            watches: Mutex::new(watches),
            reader: inotify.map(|inotify| tokio::spawn(read(inotify, weak.clone()))),
        });
        Notices { shared }
    }

    /// Wakes when the status in a unit's directory is replaced, an output appears, or the directory goes.
    pub fn unit(&self, dir: &UnitDir) -> Subscription {
        use WatchMask as On;
        self.subscribe(dir.path(), On::MOVED_TO | On::MOVE_SELF | On::CREATE | On::DELETE_SELF, false)
    }

    /// Wakes when the status in a unit's directory is replaced, or written anew `in_place`, which nobody but the runner of
    /// a Go node does; or the directory goes.
    pub fn status(&self, dir: &UnitDir, in_place: bool) -> Subscription {
        use WatchMask as On;
        // Each event wakes this process, so that none is asked for in vain: closed are many files in one step.
        let written = if in_place { On::CLOSE_WRITE } else { On::empty() };
        self.subscribe(dir.path(), On::MOVED_TO | On::MOVE_SELF | On::DELETE_SELF | written, false)
    }

    /// Wakes when any file in a directory is made, moved, closed after writing or removed. Not for a unit's own.
    pub fn directory(&self, path: &Path) -> Subscription {
        use WatchMask as On;
        let moved = On::MOVED_TO | On::MOVED_FROM | On::MOVE_SELF;
        self.subscribe(path, moved | On::CREATE | On::CLOSE_WRITE | On::DELETE | On::DELETE_SELF, true)
    }

    /// Wakes when the file is written to.
    pub fn file(&self, path: &Path) -> Subscription {
        self.subscribe(path, WatchMask::MODIFY | WatchMask::CLOSE_WRITE | WatchMask::DELETE_SELF, true)
    }

    fn subscribe(&self, path: &Path, mask: WatchMask, any_file: bool) -> Subscription {
        let mut watched = self.shared.lock();
        let waker = watched.as_mut().and_then(|watched| match watched.watches.add(path, mask | WatchMask::MASK_ADD) {
            Ok(descriptor) => {
                let fresh = || Waker { sender: watch::Sender::new(()), subscriptions: 0, any_file };
                let waker = watched.wakers.entry(descriptor.clone()).or_insert_with(fresh);
                waker.subscriptions += 1;
                Some((descriptor, waker.sender.subscribe()))
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "no watch: looking four times a second instead");
                None
            }
        });
        Subscription { waker, shared: Arc::downgrade(&self.shared) }
    }
}

impl Subscription {
    /// Waits until it is worth to look again. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        if let Some((_, woken)) = &mut self.waker
            && woken.changed().await.is_ok()
        {
            return;
        }
        sleep(FALLBACK).await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (Some((descriptor, _)), Some(shared)) = (self.waker.take(), self.shared.upgrade()) else {
            return;
        };
        let mut watched = shared.lock();
        let Some(watched) = watched.as_mut() else { return };
        if let Some(waker) = watched.wakers.get_mut(&descriptor) {
            waker.subscriptions -= 1;
            if waker.subscriptions == 0 {
                watched.wakers.remove(&descriptor);
                // Fails when the file is gone, and its watch with it.
                let _ = watched.watches.remove(descriptor);
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Watched>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake<S: AsRef<OsStr>>(&self, event: &Event<S>) {
        let mut watched = self.lock();
        let Some(Watched { wakers, .. }) = watched.as_mut() else { return };
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            wakers.values().for_each(|waker| waker.sender.send_replace(()));
        } else if event.mask.contains(EventMask::IGNORED) {
            // A watch that the kernel dropped wakes nobody any more: its holders fall back to looking.
            wakers.remove(&event.wd);
        } else if let Some(waker) = wakers.get(&event.wd)
            && (waker.any_file || is_news(event))
        {
            waker.sender.send_replace(());
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

async fn read(mut inotify: AsyncFd<Inotify>, shared: Weak<Shared>) {
    let mut buffer = [0; 16 * 1024];
    let mut last = None;
    loop {
        let Ok(mut ready) = inotify.readable_mut().await else { return };
        let events =
            ready.try_io(|inotify| inotify.get_mut().read_events(&mut buffer).map(Iterator::collect));
        let events: Vec<_> = match events {
            Ok(Ok(events)) => events,
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(Err(error)) => {
                tracing::warn!(%error, "inotify failed: looking four times a second instead");
                break;
            }
            Err(_not_ready) => continue,
        };
        let Some(shared) = shared.upgrade() else { return };
        events.iter().for_each(|event| shared.wake(event));
        drop(shared);
        // Of writes to the same file that nobody has heard of yet the kernel keeps one event.
        let now = Instant::now();
        let busy = last.is_some_and(|last| now - last < FLOW);
        if busy && events.iter().all(|event| event.mask == EventMask::MODIFY) {
            sleep(FLOW).await;
        }
        last = Some(now);
    }
    if let Some(shared) = shared.upgrade() {
        shared.lock().take();
    }
}

/// Whether an event may mean something to somebody: of the files in a unit's directory only these are looked at, and each
/// of a unit's steps touches several others.
fn is_news<S: AsRef<OsStr>>(event: &Event<S>) -> bool {
    match event.name.as_ref().map(AsRef::as_ref) {
        // Ours replaces it; a Go runner writes in place.
        Some(name) if name == "status" => event.mask.intersects(EventMask::MOVED_TO | EventMask::CLOSE_WRITE),
        Some(name) if name == "stdout" || name == "stderr" => {
            event.mask.intersects(EventMask::MOVED_TO | EventMask::CREATE)
        }
        Some(_) => false,
        None => true, // the watched thing itself
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(root: &tempfile::TempDir) -> UnitDir {
        let path = root.path().join("aB3dEf9Z");
        std::fs::create_dir(&path).unwrap();
        UnitDir::at(&path).unwrap()
    }

    #[tokio::test]
    async fn a_change_wakes_everybody_who_subscribed_before_it() {
        let root = tempfile::tempdir().unwrap();
        let dir = dir(&root);
        let notices = Notices::start();
        let mut unit = notices.unit(&dir);
        std::fs::write(dir.stdout_path(), "").unwrap();
        unit.changed().await;
        dir.write_whole("status", b"replaced").unwrap();
        unit.changed().await;
        let mut status = notices.status(&dir, true);
        std::fs::write(dir.status_path(), "in place").unwrap();
        status.changed().await;
        unit.changed().await; // one watch, which goes on telling of what either asked for
        std::fs::write(dir.stderr_path(), "").unwrap();
        unit.changed().await;
        let (mut one, mut two) = (notices.file(&dir.stdout_path()), notices.file(&dir.stdout_path()));
        std::fs::write(dir.stdout_path(), "more").unwrap();
        one.changed().await;
        drop(one); // leaves the other's watch in place
        two.changed().await;
    }

    #[tokio::test]
    async fn what_nobody_looks_at_wakes_nobody() {
        let root = tempfile::tempdir().unwrap();
        let dir = dir(&root);
        let notices = Notices::start();
        let unit = notices.unit(&dir);
        for name in ["status.tmp", "status.lock", "events", "launch", "stdin"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        // In order: what comes after all of them is the first to be heard of.
        let mut last = notices.file(&dir.events_path());
        std::fs::write(dir.events_path(), "x").unwrap();
        last.changed().await;
        let woken = unit.waker.as_ref().map(|(_, woken)| woken.has_changed().unwrap());
        assert_eq!(woken, Some(false));
    }

    #[tokio::test]
    async fn without_a_watch_a_subscription_still_looks() {
        let notices = Notices::start();
        notices.unit(&UnitDir::at(Path::new("/nonexistent/aB3dEf9Z")).unwrap()).changed().await;
    }
}
