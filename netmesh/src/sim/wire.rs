//! One wire between two nodes: its weather, and the sessions that run over it.

use std::time::{Duration, Instant};

use crate::{id::Cost, logic::LinkId};

/// A wire, and the session on it from the view of each end.
#[derive(Debug)]
pub(super) struct Wire {
    /// The two nodes; the first one dials.
    pub(super) ends: [usize; 2],
    pub(super) cost: Cost,
    pub(super) weather: Weather,
    /// Nothing gets through, and nobody is told.
    pub(super) cut: bool,
    /// The wire is out, and both ends know: nobody dials.
    pub(super) unplugged: bool,
    /// The session that each end has now.
    pub(super) sessions: [Option<LinkId>; 2],
    /// When the last message toward each end arrives: on a wire that loses nothing, none overtakes another.
    pub(super) last_arrival: [Option<Instant>; 2],
}

/// How a wire treats messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// How many of a thousand messages are lost.
    pub(super) loss_permille: u64,
    /// The shortest delay, and how much may come on top.
    pub(super) delay: (Duration, Duration),
}

impl Wire {
    pub(super) fn new(ends: [usize; 2], cost: Cost, weather: Weather) -> Wire {
        let (sessions, last_arrival) = ([None; 2], [None; 2]);
        Wire { ends, cost, weather, cut: false, unplugged: false, sessions, last_arrival }
    }

    /// Something could get through.
    pub(super) fn is_whole(&self) -> bool {
        !self.cut && !self.unplugged
    }
}
