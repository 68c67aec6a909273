//! What makes a world go: events in the order of their times, and the shell that each router believes it has.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Event, REDIAL, World};
use crate::logic::{Action, LinkConfig, LinkId, Router};

impl World {
    pub(super) fn schedule(&mut self, delay: Duration, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + delay, self.events), event);
    }

    /// Does the next thing that happens up to `end`; false if there is none.
    pub(super) fn step(&mut self, end: Instant) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
            return false;
        };
        self.now = entry.key().0;
        match entry.remove() {
            Event::Arrive { wire, end, link, message } => self.arrive(wire, end, link, &message),
            Event::Ended { wire, end, link } => self.end_session(wire, end, link),
            Event::Dial { wire } => self.dial(wire),
            Event::Wake { node } => self.wake(node),
        }
        true
    }

    pub(super) fn arrive(&mut self, wire: usize, end: usize, link: LinkId, message: &Bytes) {
        if !self.wires[wire].is_whole() || self.wires[wire].sessions[end] != Some(link) {
            return;
        }
        let place = self.wires[wire].ends[end];
        self.note(format_args!("{} hears on {}: {}", place, link.0, message.escape_ascii()));
        let now = self.now;
        if let Some(router) = &mut self.nodes[place].router {
            router.handle_message(link, message, now);
        }
        self.drive(place);
    }

    pub(super) fn end_session(&mut self, wire: usize, end: usize, link: LinkId) {
        if self.wires[wire].cut || self.wires[wire].sessions[end] != Some(link) {
            return;
        }
        self.wires[wire].sessions[end] = None;
        let place = self.wires[wire].ends[end];
        self.note(format_args!("{place} loses {}", link.0));
        let now = self.now;
        if let Some(router) = &mut self.nodes[place].router {
            router.handle_link_down(link, now);
        }
        if end == 0 {
            self.schedule(REDIAL, Event::Dial { wire });
        }
        self.drive(place);
    }

    /// The dialler makes a new session, if it has none; the other end may still believe in an older one.
    pub(super) fn dial(&mut self, wire: usize) {
        let here = &self.wires[wire];
        let both_up = here.ends.iter().all(|place| self.nodes[*place].router.is_some());
        if here.sessions[0].is_some() || here.unplugged {
            return;
        }
        if here.cut || !both_up {
            return self.schedule(REDIAL, Event::Dial { wire });
        }
        self.links += 1;
        let link = LinkId(self.links);
        let config = LinkConfig { cost: here.cost, ..LinkConfig::default() };
        let now = self.now;
        for end in 0..2 {
            let place = self.wires[wire].ends[end];
            self.wires[wire].sessions[end] = Some(link);
            self.wires[wire].last_arrival[end] = None;
            self.owners.insert((place, link), wire);
            if let Some(router) = &mut self.nodes[place].router {
                router.handle_link_up(link, config.clone(), now);
            }
        }
        self.note(format_args!("wire {wire} has session {}", link.0));
        for end in 0..2 {
            self.drive(self.wires[wire].ends[end]);
        }
    }

    pub(super) fn wake(&mut self, node: usize) {
        if self.nodes[node].wake.is_none_or(|wake| self.now < wake) {
            return;
        }
        self.nodes[node].wake = None;
        let now = self.now;
        if let Some(router) = &mut self.nodes[node].router {
            router.handle_timeout(now);
        }
        self.drive(node);
    }

    /// Performs what a router wants, and sets its timer.
    pub(super) fn drive(&mut self, place: usize) {
        while let Some(action) = self.nodes[place].router.as_mut().and_then(Router::poll_action) {
            match action {
                Action::Send { link, message, .. } => self.send(place, link, message),
                Action::Close { link, reason } => self.close(place, link, &reason),
                Action::TablesChanged
                | Action::Established { .. }
                | Action::Rejected { .. }
                | Action::Log { .. } => {}
                other => self.nodes[place].heard.push(other),
            }
        }
        let node = &mut self.nodes[place];
        let due = node.router.as_ref().and_then(Router::poll_timeout).map(|due| due.max(self.now));
        if let Some(due) = due
            && node.wake.is_none_or(|wake| due < wake)
        {
            node.wake = Some(due);
            self.schedule(due - self.now, Event::Wake { node: place });
        }
    }

    pub(super) fn send(&mut self, place: usize, link: LinkId, message: Bytes) {
        let Some((wire, end)) = self.end_of(place, link) else {
            return;
        };
        let there = 1 - end;
        let weather = self.wires[wire].weather;
        let (shortest, spread) = weather.delay;
        let extra = spread.as_micros() as u64;
        let delay = shortest + Duration::from_micros(self.dice.roll() % (extra + 1));
        if self.dice.roll() % 1000 < weather.loss_permille || !self.wires[wire].is_whole() {
            return;
        }
        let mut arrival = self.now + delay;
        if weather.loss_permille == 0 {
            let last = &mut self.wires[wire].last_arrival[there];
            arrival = last.map_or(arrival, |last| last.max(arrival));
            *last = Some(arrival);
        }
        self.schedule(arrival - self.now, Event::Arrive { wire, end: there, link, message });
    }

    /// One end closes a session; the other hears of it after everything that was sent before.
    pub(super) fn close(&mut self, place: usize, link: LinkId, reason: &str) {
        let Some((wire, end)) = self.end_of(place, link) else {
            return;
        };
        self.note(format_args!("{place} closes {}: {reason}", link.0));
        self.wires[wire].sessions[end] = None;
        if end == 0 {
            self.schedule(REDIAL, Event::Dial { wire });
        }
        let (shortest, spread) = self.wires[wire].weather.delay;
        self.schedule(shortest + spread, Event::Ended { wire, end: 1 - end, link });
    }

    pub(super) fn tell_both_ends(&mut self, wire: usize) {
        for end in 0..2 {
            if let Some(link) = self.wires[wire].sessions[end] {
                self.end_session(wire, end, link);
            }
        }
    }

    pub(super) fn end_of(&self, place: usize, link: LinkId) -> Option<(usize, usize)> {
        let wire = *self.owners.get(&(place, link))?;
        let end = (0..2).find(|end| self.wires[wire].ends[*end] == place)?;
        (self.wires[wire].sessions[end] == Some(link)).then_some((wire, end))
    }
}
