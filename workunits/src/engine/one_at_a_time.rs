//! Who may make the unit of a request now? One submission at a time, so that the same request twice finds the first
//! one's unit. Different requests do not wait for each other: their syncs overlap, and the file system groups them.

use std::{
    collections::BTreeSet,
    sync::{Condvar, Mutex, PoisonError},
};

use crate::logic::units::Request;

/// The requests whose units are being made.
#[derive(Default)]
pub(super) struct OneAtATime {
    busy: Mutex<BTreeSet<Request>>,
    freed: Condvar,
}

/// The right to make the unit of a request, until it is dropped.
pub(super) struct Turn<'a> {
    of: &'a OneAtATime,
    request: Request,
}

impl OneAtATime {
    /// Waits until nobody else makes the unit of `request`. Blocks.
    pub(super) fn turn(&self, request: &Request) -> Turn<'_> {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let mut busy = self
            .freed
            .wait_while(busy, |busy| busy.contains(request))
            .unwrap_or_else(PoisonError::into_inner);
        busy.insert(request.clone());
        Turn { of: self, request: request.clone() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.of.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.request);
        self.of.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
    };

    use super::*;

    fn request(id: &str) -> Request {
        Request { owner: "uid:1".into(), id: id.into() }
    }

    #[test]
    fn the_same_request_waits_for_its_turn_and_another_does_not() {
        let all = Arc::new(OneAtATime::default());
        let first = all.turn(&request("a"));
        drop(all.turn(&request("b"))); // at once: this thread would wait for itself for ever
        let (told, order) = mpsc::channel();
        let (of, second) = (all.clone(), told.clone());
        let waiting = thread::spawn(move || {
            let _turn = of.turn(&request("a"));
            second.send("second").unwrap();
        });
        told.send("first").unwrap();
        drop(first);
        waiting.join().unwrap();
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["first", "second"]);
    }
}
