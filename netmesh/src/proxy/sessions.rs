//! Conversations of datagrams: what comes from one address is one of them, until nobody says anything for long.
//!
//! Each has a task and a short queue of its own, so that one whose way is full holds up no other. There are only so many;
//! one more takes the place of the one that has been silent longest, as in a router that translates addresses.

use std::{
    collections::HashMap,
    future::Future,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// How many conversations a proxy for datagrams has at once.
pub const SESSIONS_MAX: usize = 1024;
/// After so long without a word either way a conversation is over. Source: RFC 4787, requirement 5.
pub const SESSION_IDLE: Duration = Duration::from_secs(300);
/// Datagrams of one conversation that may wait; what comes then is dropped.
const WAITING_MAX: usize = 64;
/// How many bytes may wait in all conversations of a proxy.
const WAITING_BYTES: usize = 8 << 20;

/// The conversations of one proxy, by where they come from.
pub(super) struct Sessions<K> {
    live: HashMap<K, Live>,
    tasks: JoinSet<K>,
    room: Arc<Semaphore>,
    limit: usize,
    idle: Duration,
}

struct Live {
    queue: mpsc::Sender<Waiting>,
    pulse: Arc<Pulse>,
    task: AbortHandle,
}

/// A datagram, and the room that it takes.
struct Waiting {
    payload: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What waits to be sent on in one conversation.
pub(super) struct Queue {
    waiting: mpsc::Receiver<Waiting>,
    pulse: Arc<Pulse>,
}

impl Queue {
    /// The next datagram; `None` when the conversation is over.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.waiting.recv().await.map(|waiting| waiting.payload)
    }

    /// What must hear of every datagram that comes back.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Sessions<K> {
    pub(super) fn new() -> Sessions<K> {
        Sessions::bounded(SESSIONS_MAX, SESSION_IDLE)
    }

    fn bounded(limit: usize, idle: Duration) -> Sessions<K> {
        let room = Arc::new(Semaphore::new(WAITING_BYTES));
        Sessions { live: HashMap::new(), tasks: JoinSet::new(), room, limit, idle }
    }

    /// Hands a datagram to the conversation of `key`, which `open` begins if there is none. False when it was dropped.
    pub(super) fn hand<F>(&mut self, key: &K, payload: Bytes, open: impl FnOnce(Queue) -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Nothing is smaller than what a datagram costs besides its bytes.
        let cost = u32::try_from(payload.len() + size_of::<Waiting>()).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(cost) else { return false };
        let waiting = Waiting { payload, _room: room };
        if let Some(live) = self.live.get(key) {
            live.pulse.beat();
            match live.queue.try_send(waiting) {
                Ok(()) => return true,
                Err(mpsc::error::TrySendError::Full(_)) => return false,
                Err(mpsc::error::TrySendError::Closed(again)) => return self.begin(key, again, open),
            }
        }
        self.begin(key, waiting, open)
    }

    fn begin<F>(&mut self, key: &K, first: Waiting, open: impl FnOnce(Queue) -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.forget(key);
        if self.live.len() >= self.limit
            && let Some(silent) = self.live.iter().min_by_key(|(_, live)| live.pulse.last())
        {
            let silent = silent.0.clone();
            self.forget(&silent);
        }
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let pulse = Arc::new(Pulse::new());
        let conversation = open(Queue { waiting, pulse: pulse.clone() });
        let (name, fading, idle) = (key.clone(), pulse.clone(), self.idle);
        let task = self.tasks.spawn(async move {
            tokio::select! {
                () = conversation => {}
                () = fading.fade(idle) => {}
            }
            name
        });
        let sent = queue.try_send(first).is_ok();
        self.live.insert(key.clone(), Live { queue, pulse, task });
        sent
    }

    /// Ends the conversation of `key`, if there is one.
    pub(super) fn forget(&mut self, key: &K) {
        if let Some(live) = self.live.remove(key) {
            live.task.abort();
        }
    }

    /// Waits until a conversation has ended, and forgets it; for ever while there is none.
    pub(super) async fn ended(&mut self) {
        let Some(ended) = self.tasks.join_next().await else { return std::future::pending().await };
        // One that was aborted is forgotten already, and its place may be another's by now.
        if let Ok(key) = ended
            && self.live.get(&key).is_some_and(|live| live.queue.is_closed())
        {
            self.live.remove(&key);
        }
    }
}

/// When something was last said in a conversation.
pub(super) struct Pulse {
    born: Instant,
    last_ms: AtomicU64,
}

impl Pulse {
    fn new() -> Pulse {
        Pulse { born: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    /// Something was said.
    pub(super) fn beat(&self) {
        self.last_ms.store(self.born.elapsed().as_millis() as u64, Relaxed);
    }

    /// When that was.
    fn last(&self) -> Instant {
        self.born + Duration::from_millis(self.last_ms.load(Relaxed))
    }

    /// Waits until nothing was said for `idle`.
    async fn fade(&self, idle: Duration) {
        loop {
            let end = self.last() + idle;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// Something that is told once, and again only after it was well in between.
#[derive(Debug, Default)]
pub(super) struct Once(AtomicBool);

impl Once {
    /// True the first time.
    pub(super) fn is_first(&self) -> bool {
        !self.0.swap(true, Relaxed)
    }

    /// It is well.
    pub(super) fn is_well(&self) {
        if self.0.load(Relaxed) {
            self.0.store(false, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::backend::BoxFuture;

    /// Conversations that write down what they heard, and under which number they began.
    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<(usize, Bytes)>>>);

    impl Heard {
        fn conversation(&self, number: usize) -> impl FnOnce(Queue) -> BoxFuture<'static, ()> + use<> {
            let heard = self.clone();
            move |mut queue| {
                Box::pin(async move {
                    while let Some(payload) = queue.next().await {
                        heard.0.lock().unwrap().push((number, payload));
                    }
                })
            }
        }

        fn numbers(&self) -> Vec<usize> {
            self.0.lock().unwrap().iter().map(|(number, _)| *number).collect()
        }
    }

    fn some() -> Bytes {
        Bytes::from_static(b"x")
    }

    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_keeps_its_conversation_until_it_is_silent_for_long() {
        let (mut sessions, heard) = (Sessions::bounded(8, SESSION_IDLE), Heard::default());
        assert!(sessions.hand(&"a", some(), heard.conversation(1)));
        tokio::time::advance(SESSION_IDLE / 2).await;
        assert!(sessions.hand(&"a", some(), heard.conversation(2)));
        tokio::time::advance(SESSION_IDLE * 3 / 4).await;
        settle().await;
        assert!(sessions.hand(&"a", some(), heard.conversation(3)), "it spoke in between");
        settle().await;
        tokio::time::advance(SESSION_IDLE).await;
        sessions.ended().await;
        assert!(sessions.live.is_empty());
        assert!(sessions.hand(&"a", some(), heard.conversation(4)));
        settle().await;
        assert_eq!(heard.numbers(), [1, 1, 1, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_too_many_takes_the_place_of_the_one_that_was_silent_longest() {
        let (mut sessions, heard) = (Sessions::bounded(3, SESSION_IDLE), Heard::default());
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            sessions.hand(&name, some(), heard.conversation(number));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        sessions.hand(&"a", some(), heard.conversation(10));
        tokio::time::advance(Duration::from_secs(1)).await;
        sessions.hand(&"d", some(), heard.conversation(3));
        settle().await;
        let mut left: Vec<_> = sessions.live.keys().copied().collect();
        left.sort_unstable();
        assert_eq!(left, ["a", "c", "d"]);
        let b = sessions.tasks.join_next().await.unwrap();
        assert!(b.unwrap_err().is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_conversation_whose_way_is_full_drops_its_own_datagrams_alone() {
        let (mut sessions, heard) = (Sessions::bounded(8, SESSION_IDLE), Heard::default());
        let stuck = |queue: Queue| async move {
            let _queue = queue;
            std::future::pending::<()>().await;
        };
        let taken = (0..1_000).filter(|_| sessions.hand(&"stuck", some(), stuck)).count();
        assert_eq!(taken, WAITING_MAX);
        assert!(sessions.hand(&"well", some(), heard.conversation(1)));
        settle().await;
        assert_eq!(heard.numbers(), [1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_in_all_conversations_together_is_bounded() {
        let mut sessions = Sessions::bounded(1_000, SESSION_IDLE);
        let large = Bytes::from(vec![0; 60_000]);
        let stuck = |queue: Queue| async move {
            let _queue = queue;
            std::future::pending::<()>().await;
        };
        let taken = (0..500).filter(|name| sessions.hand(name, large.clone(), stuck)).count();
        assert!((100..=WAITING_BYTES / 60_000).contains(&taken), "{taken}");
    }
}
