//! What is remembered of a unit while nobody asks for it: enough to find it and to choose it, in little room.

use std::{collections::BTreeSet, sync::Arc};

use crate::unit::{Moment, Outcome, State, Unit};

/// A unit in brief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it is and whose; the same for many units, and shared by them.
    pub origin: Arc<Origin>,
    /// When it was created. A Go node does not note that: then the time of its status stands in.
    pub created: Moment,
    /// The request that made it.
    pub request: Option<RequestKey>,
    /// How far it got.
    pub standing: Standing,
}

/// What a unit is and whose: it never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// Its work type; `remote` for one that runs elsewhere.
    pub work_type: Box<str>,
    /// Of one that runs elsewhere: the node, and its work type there.
    pub elsewhere: Option<(Box<str>, Box<str>)>,
    /// Who asked for it; empty when nobody knows.
    pub owner: Box<str>,
}

/// How far a unit got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its state.
    pub state: State,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When it ended. A Go node does not note that: then the time of its status stands in.
    pub ended: Option<Moment>,
    /// Bytes of output of both kinds, as its status says.
    pub output: u64,
}

/// The id that a submitter chose for a request: 16 bytes where it has its usual form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKey {
    /// 32 lower-case hex digits.
    Usual([u8; 16]),
    /// Any other text.
    Other(Box<str>),
}

/// The origins that units share.
#[derive(Debug, Default)]
pub struct Origins {
    known: BTreeSet<Arc<Origin>>,
}

impl Summary {
    /// A unit in brief; `at` is when its status was written, which stands in for times that it does not say.
    pub fn new(unit: &Unit, at: Moment) -> Summary {
        let remote = unit.remote();
        Summary {
            origin: Arc::new(Origin {
                work_type: unit.work_type.as_str().into(),
                elsewhere: remote
                    .map(|it| (it.remote_node.as_str().into(), it.remote_work_type.as_str().into())),
                owner: unit.owner.as_deref().unwrap_or_default().into(),
            }),
            created: unit.created_at.as_deref().and_then(|at| at.parse().ok()).unwrap_or(at),
            request: unit.request_id.as_deref().map(RequestKey::new),
            standing: Standing::new(unit, at),
        }
    }
}

impl Standing {
    /// How far a unit got; `at` is when its status was written.
    pub fn new(unit: &Unit, at: Moment) -> Standing {
        let ended = || unit.ended_at.as_deref().and_then(|at| at.parse().ok()).unwrap_or(at);
        Standing {
            state: unit.state,
            outcome: unit.outcome,
            ended: unit.state.is_terminal().then(ended),
            output: unit.stdout_size.saturating_add(unit.stderr_size.unwrap_or(0)),
        }
    }
}

impl RequestKey {
    /// The key of a request id.
    pub fn new(id: &str) -> RequestKey {
        let other = || RequestKey::Other(id.into());
        let Ok(digits) = <&[u8; 32]>::try_from(id.as_bytes()) else { return other() };
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return other() };
            *byte = high << 4 | low;
        }
        RequestKey::Usual(bytes)
    }

    /// Whether it is the key of this id.
    pub fn is(&self, id: &str) -> bool {
        *self == RequestKey::new(id)
    }
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None, // an upper-case letter makes another id
    }
}

impl Origins {
    /// The origin that says the same as this one, and that all units have in common.
    pub fn shared(&mut self, origin: Arc<Origin>) -> Arc<Origin> {
        match self.known.get(&origin) {
            Some(known) => known.clone(),
            None => {
                self.known.insert(origin.clone());
                origin
            }
        }
    }

    /// Lets go what this was the last unit of.
    pub fn release(&mut self, origin: Arc<Origin>) {
        // Ours and the set's own: nobody else has it, and nobody else can get it meanwhile.
        if Arc::strong_count(&origin) <= 2 {
            self.known.remove(&origin);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_request_ids_have_one_key_only_if_they_are_the_same() {
        let ids = ["00", "", &"0f".repeat(16), &"0F".repeat(16), &"f0".repeat(16), &"0g".repeat(16)];
        for (a, one) in ids.iter().enumerate() {
            for (b, other) in ids.iter().enumerate() {
                assert_eq!(RequestKey::new(one) == RequestKey::new(other), a == b, "{one} {other}");
            }
        }
        assert_eq!(RequestKey::new(&"0f".repeat(16)), RequestKey::Usual([15; 16]));
    }

    #[test]
    fn what_a_go_node_does_not_note_is_taken_from_its_file() {
        let unit: Unit =
            serde_json::from_str(r#"{"State":2,"StdoutSize":3,"WorkType":"cat","ExtraData":null}"#).unwrap();
        let summary = Summary::new(&unit, Moment(7));
        assert_eq!((summary.created, summary.standing.ended), (Moment(7), Some(Moment(7))));
        assert_eq!((&*summary.origin.owner, summary.standing.output), ("", 3));
    }

    #[test]
    fn an_origin_is_kept_as_long_as_somebody_has_it() {
        let mut origins = Origins::default();
        let fresh = || Arc::new(Origin { work_type: "cat".into(), ..Origin::default() });
        let (one, two) = (origins.shared(fresh()), origins.shared(fresh()));
        assert!(Arc::ptr_eq(&one, &two));
        origins.release(one);
        assert_eq!(origins.len(), 1);
        origins.release(two);
        assert!(origins.is_empty());
    }
}
