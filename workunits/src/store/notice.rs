//! Who wakes when a file changes: one inotify instance for all units and followers of an engine.
//!
//! A [`Subscription`] only says “look again”. It may say so too often, never too rarely: when the kernel's queue runs
//! over everybody looks again, and where no watch can be had a subscription falls back to looking four times a second.

use std::{
    collections::HashMap,
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask, Watches};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    task::JoinHandle,
};

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
    wakers: HashMap<WatchDescriptor, (watch::Sender<()>, usize)>,
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

    /// Wakes when a file in the directory is made, moved in, closed after writing or removed.
    pub fn directory(&self, path: &Path) -> Subscription {
        use WatchMask as On;
        let moved = On::MOVED_TO | On::MOVED_FROM | On::MOVE_SELF;
        self.subscribe(path, moved | On::CREATE | On::CLOSE_WRITE | On::DELETE | On::DELETE_SELF)
    }

    /// Wakes when the file is written to.
    pub fn file(&self, path: &Path) -> Subscription {
        self.subscribe(path, WatchMask::MODIFY | WatchMask::CLOSE_WRITE | WatchMask::DELETE_SELF)
    }

    fn subscribe(&self, path: &Path, mask: WatchMask) -> Subscription {
        let mut watched = self.shared.lock();
        let waker = watched.as_mut().and_then(|watched| match watched.watches.add(path, mask) {
            Ok(descriptor) => {
                let (waker, count) =
                    watched.wakers.entry(descriptor.clone()).or_insert_with(|| (watch::Sender::new(()), 0));
                *count += 1;
                Some((descriptor, waker.subscribe()))
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
        tokio::time::sleep(FALLBACK).await;
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (Some((descriptor, _)), Some(shared)) = (self.waker.take(), self.shared.upgrade()) else {
            return;
        };
        let mut watched = shared.lock();
        let Some(watched) = watched.as_mut() else { return };
        if let Some((_, count)) = watched.wakers.get_mut(&descriptor) {
            *count -= 1;
            if *count == 0 {
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

    fn wake(&self, descriptor: Option<&WatchDescriptor>, forget: bool) {
        let mut watched = self.lock();
        let Some(watched) = watched.as_mut() else { return };
        match descriptor {
            Some(descriptor) if forget => drop(watched.wakers.remove(descriptor)),
            Some(descriptor) => {
                if let Some((waker, _)) = watched.wakers.get(descriptor) {
                    waker.send_replace(());
                }
            }
            None => watched.wakers.values().for_each(|(waker, _)| waker.send_replace(())),
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
        for event in events {
            let descriptor = (!event.mask.contains(EventMask::Q_OVERFLOW)).then_some(&event.wd);
            // A watch that the kernel dropped wakes nobody any more: its holders fall back to looking.
            shared.wake(descriptor, event.mask.contains(EventMask::IGNORED));
        }
    }
    if let Some(shared) = shared.upgrade() {
        shared.lock().take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_wakes_everybody_who_subscribed_before_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("stdout");
        let notices = Notices::start();
        let mut directory = notices.directory(root.path());
        std::fs::write(&file, "").unwrap();
        directory.changed().await;
        let (mut one, mut two) = (notices.file(&file), notices.file(&file));
        std::fs::write(&file, "more").unwrap();
        one.changed().await;
        drop(one); // leaves the other's watch in place
        two.changed().await;
    }

    #[tokio::test]
    async fn without_a_watch_a_subscription_still_looks() {
        let notices = Notices::start();
        notices.directory(Path::new("/nonexistent/unit")).changed().await;
    }
}
