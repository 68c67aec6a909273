//! How much may be under way, so that what waits on the way stays short?
//!
//! Cubic fills every queue until something is lost, and then whatever else goes that way waits behind megabytes. Here it
//! is held to as much as the way carries, and a little more: the quickest packet of a round trip tells how long the queues
//! are that never empty, since what slows down single packets, such as a busy machine, does not slow down all. While that
//! is more than [`QUEUE_MAX`] above the quickest of the last seconds, less may be under way. Loss is answered as ever.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;

/// How long what we send may wait on the way, beyond the time that the way takes; on a way that takes longer, half of that.
const QUEUE_MAX: Duration = Duration::from_millis(1);
/// This much may be under way in any case.
const FLOOR_PACKETS: u64 = 8;
/// And this much on a way that takes less than [`SHORT_WAY`]: there a busy machine at either end looks like a queue, and to
/// send less makes it no less busy.
const SHORT_FLOOR_PACKETS: u64 = 24;
const SHORT_WAY: Duration = Duration::from_millis(1);
/// The quickest packet of this time, and of as much before, tells how long the way is: it may be another way tomorrow.
const MEMORY: Duration = Duration::from_secs(5);

/// Makes controllers, over cubic as it is configured.
#[derive(Debug)]
pub(super) struct CalmConfig(pub(super) Arc<CubicConfig>);

impl ControllerFactory for CalmConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Calm { cubic: self.0.clone().build(now, mtu), cap: Cap::new(now, mtu) })
    }
}

/// The controller of one connection.
struct Calm {
    cubic: Box<dyn Controller>,
    cap: Cap,
}

/// What may be under way, whatever cubic says.
#[derive(Clone, Copy)]
struct Cap {
    bytes: u64,
    mtu: u64,
    way: Quickest,
    /// The quickest packet of this round trip.
    quickest: Duration,
    /// A packet sent after this belongs to the next.
    ends: Instant,
}

/// The quickest packet of this spell and of the one before.
#[derive(Clone, Copy)]
struct Quickest {
    before: Duration,
    now: Duration,
    since: Instant,
}

impl Quickest {
    fn new(now: Instant) -> Quickest {
        Quickest { before: Duration::MAX, now: Duration::MAX, since: now }
    }

    /// One more packet. At the first of a new spell says whether the way seems longer than it was in the spell before.
    fn hear(&mut self, took: Duration, now: Instant) -> Option<bool> {
        let over = now.saturating_duration_since(self.since) > MEMORY;
        let longer = self.before.checked_add(self.before / 4).is_some_and(|before| self.now > before);
        if over {
            *self = Quickest { before: self.now, now: Duration::MAX, since: now };
        }
        self.now = self.now.min(took);
        over.then_some(longer)
    }

    fn of_all(&self) -> Duration {
        self.before.min(self.now)
    }
}

impl Cap {
    fn new(now: Instant, mtu: u16) -> Cap {
        let (bytes, mtu, way) = (u64::MAX, mtu.into(), Quickest::new(now));
        Cap { bytes, mtu, way, quickest: Duration::MAX, ends: now }
    }

    fn floor(&self) -> u64 {
        let short = self.way.of_all() < SHORT_WAY;
        self.mtu * if short { SHORT_FLOOR_PACKETS } else { FLOOR_PACKETS }
    }

    /// A packet has arrived, while cubic would have had `cubic` bytes under way.
    fn hear(&mut self, now: Instant, sent: Instant, cubic: u64) {
        let took = now.saturating_duration_since(sent);
        if self.way.hear(took, now).is_some_and(|longer| longer || self.bytes != u64::MAX) {
            // Looks under the queue, lest it pass for the way.
            self.bytes = (self.bytes.min(cubic) / 4).max(FLOOR_PACKETS * self.mtu);
        }
        if sent < self.ends {
            self.quickest = self.quickest.min(took);
            return;
        }
        if self.quickest != Duration::MAX {
            self.judge(cubic);
        }
        (self.quickest, self.ends) = (took, now);
    }

    /// A round trip is over: judges what waited in it.
    fn judge(&mut self, cubic: u64) {
        let way = self.way.of_all();
        let most = way + QUEUE_MAX.max(way / 2);
        if self.quickest > most {
            // As much less as it took longer, and no less than half at once.
            let part = (most.as_secs_f64() / self.quickest.as_secs_f64()).max(0.5);
            let floor = self.floor().min(self.bytes); // less than that is a look under the queue, and stays
            self.bytes = ((self.bytes.min(cubic) as f64 * part) as u64).max(floor);
        } else {
            self.bytes = self.bytes.saturating_add((self.bytes / 4).max(self.mtu));
            if self.bytes > cubic {
                self.bytes = u64::MAX; // cubic is the stricter one
            }
        }
    }
}

impl Controller for Calm {
    fn on_sent(&mut self, now: Instant, bytes: u64, last: u64) {
        self.cubic.on_sent(now, bytes, last);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        // What it could not use does not grow.
        if self.cubic.window() <= self.cap.bytes {
            self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
        }
        self.cap.hear(now, sent, self.cubic.window());
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        self.cubic.on_congestion_event(now, sent, persistent, lost);
    }

    fn on_mtu_update(&mut self, mtu: u16) {
        self.cap.mtu = mtu.into();
        self.cap.bytes = self.cap.bytes.max(self.cap.floor());
        self.cubic.on_mtu_update(mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.cap.bytes)
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Calm { cubic: self.cubic.clone_box(), cap: self.cap })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 16 << 10;
    /// What the way carries in its own time.
    const FULL: u64 = 80_000;
    const WAY: Duration = Duration::from_micros(200);

    /// A sender that is held up by its cap alone, and by a window that grows as long as it is used.
    struct Sender {
        now: Instant,
        cubic: u64,
        cap: Cap,
    }

    impl Sender {
        fn new() -> Sender {
            let now = Instant::now();
            Sender { now, cubic: 10 * PACKET, cap: Cap::new(now, PACKET as u16) }
        }

        fn window(&self) -> u64 {
            self.cubic.min(self.cap.bytes)
        }

        /// A round trip on a way of `way`, where what does not fit it waits; all packets but the first are `late` besides.
        fn round(&mut self, way: Duration, late: Duration) {
            self.round_of(FULL, way, late);
        }

        /// The same on a way that carries `full` in its own time.
        fn round_of(&mut self, full: u64, way: Duration, late: Duration) {
            let (sent, window) = (self.now, self.window());
            let waits = WAY.mul_f64(window as f64 / full as f64);
            self.now += way.max(waits);
            for at in 0..window / PACKET {
                let now = if at == 0 { self.now } else { self.now + late };
                if self.cubic <= self.cap.bytes {
                    self.cubic = (self.cubic + PACKET).min(4 << 20);
                }
                self.cap.hear(now, sent, self.cubic);
            }
        }
    }

    #[test]
    fn what_waits_stays_short_and_the_way_stays_full() {
        let mut sender = Sender::new();
        (0..100).for_each(|_| sender.round(WAY, Duration::ZERO));
        let bytes_of = |time: Duration| FULL * time.as_micros() as u64 / WAY.as_micros() as u64;
        for _ in 0..50_000 {
            sender.round(WAY, Duration::ZERO);
            let window = sender.window();
            assert!(window >= FULL, "with {window} bytes the way is not full");
            assert!(window < bytes_of(2 * (WAY + QUEUE_MAX)) + PACKET, "{window} bytes wait for too long");
        }
    }

    #[test]
    fn a_slow_line_is_no_busy_machine() {
        let mut sender = Sender::new();
        // A hundredth of the speed, so that a packet alone takes four times as long as the way.
        let slow = |sender: &mut Sender| sender.round_of(FULL / 100, WAY, Duration::ZERO);
        (0..2_000).for_each(|_| slow(&mut sender));
        for _ in 0..2_000 {
            slow(&mut sender);
            assert!(sender.window() < SHORT_FLOOR_PACKETS * PACKET, "{} bytes wait", sender.window());
        }
    }

    #[test]
    fn packets_that_are_late_by_themselves_are_no_queue() {
        let mut sender = Sender::new();
        for _ in 0..3 {
            sender.round(WAY, 20 * QUEUE_MAX);
        }
        assert_eq!(sender.cap.bytes, u64::MAX);
    }

    #[test]
    fn a_longer_way_is_learned_in_time() {
        let mut sender = Sender::new();
        (0..1_000).for_each(|_| sender.round(WAY, Duration::ZERO));
        // Rerouted: 50 ms, however little is under way.
        let long = Duration::from_millis(50);
        sender.round(long, Duration::ZERO);
        (0..20).for_each(|_| sender.round(long, Duration::ZERO));
        assert_eq!(sender.window(), SHORT_FLOOR_PACKETS * PACKET, "it looks like a queue");
        (0..400).for_each(|_| sender.round(long, Duration::ZERO));
        assert!(sender.window() > 2 << 20, "{} bytes are little for such a way", sender.window());
    }
}
