//! What neighbours did that they must not do: counted by kind, told once per kind and neighbour, never per message.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::id::NodeId;

/// How long one that was told is not told again.
const TOLD_FOR: Duration = Duration::from_secs(3_600);

/// How many pairs of neighbour and kind are remembered as told; with more, nothing is told until they are forgotten.
const TOLD_MAX: usize = 4_096;

/// What a neighbour sent that was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// A first word of somebody who may not be our peer.
    Greeting,
    /// A message that does not read.
    Malformed,
    /// A word about another neighbour of ours that contradicts what that one says over its own link.
    ForeignWord,
    /// A word in our own name that we have not said.
    OurName,
    /// An order to stop, or an accusation of another node, that cannot be true or that nothing bears out.
    Accusation,
    /// A number that no honest node reaches.
    Absurd,
    /// An advertisement of another neighbour's service that contradicts what that one says, or of a service of ours.
    ForeignAdvert,
    /// A datagram from the mesh that claims to come from this very node.
    OurSource,
}

impl Offence {
    /// The name it has in a status.
    pub fn name(self) -> &'static str {
        match self {
            Offence::Greeting => "greeting",
            Offence::Malformed => "malformed",
            Offence::ForeignWord => "foreign_word",
            Offence::OurName => "our_name",
            Offence::Accusation => "accusation",
            Offence::Absurd => "absurd",
            Offence::ForeignAdvert => "foreign_advert",
            Offence::OurSource => "our_source",
        }
    }

    /// What it means, for the log.
    fn text(self) -> &'static str {
        match self {
            Offence::Greeting => "may not be our peer",
            Offence::Malformed => "sent what is no message",
            Offence::ForeignWord => {
                "passed on a routing update that its origin, a neighbour of ours, contradicts"
            }
            Offence::OurName => "passed on a routing update in our name that is not ours",
            Offence::Accusation => "passed on an accusation of a duplicate that nothing bears out",
            Offence::Absurd => "sent a number that no honest node reaches",
            Offence::ForeignAdvert => "passed on an advertisement that its origin contradicts",
            Offence::OurSource => "sent a datagram that claims to come from us",
        }
    }
}

/// All offences so far.
#[derive(Debug, Default)]
pub(super) struct Offences {
    counts: BTreeMap<Offence, u64>,
    told: BTreeSet<(NodeId, Offence)>,
    since: Option<Instant>,
}

impl Offences {
    /// Counts one that `peer` brought, and gives a text for the log if it is to be told. Whoever brought it may have been
    /// deceived itself: all that is known is over whose link it came.
    pub(super) fn count(&mut self, peer: &NodeId, offence: Offence, now: Instant) -> Option<String> {
        *self.counts.entry(offence).or_default() += 1;
        if self.since.is_none_or(|since| now >= since + TOLD_FOR) {
            self.since = Some(now);
            self.told.clear();
        }
        let new = self.told.len() < TOLD_MAX && self.told.insert((peer.clone(), offence));
        new.then(|| format!("{peer} {}: ignored, and more of this is only counted", offence.text()))
    }

    /// How often each has happened.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.iter().map(|(offence, count)| (offence.name(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_once_per_neighbour_and_hour_and_counted_always() {
        let (mut offences, now) = (Offences::default(), Instant::now());
        let [a, b] = ["a", "b"].map(|name| NodeId::new(name).unwrap());
        let mut told = |peer: &NodeId, offence, at| offences.count(peer, offence, at).is_some();
        assert!(told(&a, Offence::Malformed, now));
        assert!(!told(&a, Offence::Malformed, now));
        assert!(told(&b, Offence::Malformed, now));
        assert!(told(&a, Offence::OurName, now));
        assert!(told(&a, Offence::Malformed, now + TOLD_FOR));
        assert_eq!(offences.counts(), BTreeMap::from([("malformed", 4), ("our_name", 1)]));
    }

    #[test]
    fn neighbours_with_ever_new_names_fill_neither_log_nor_memory() {
        let (mut offences, now) = (Offences::default(), Instant::now());
        let names = (0..2 * TOLD_MAX).map(|n| NodeId::new(&n.to_string()).unwrap());
        let told = names.filter(|peer| offences.count(peer, Offence::Malformed, now).is_some()).count();
        assert_eq!((told, offences.told.len()), (TOLD_MAX, TOLD_MAX));
    }
}
