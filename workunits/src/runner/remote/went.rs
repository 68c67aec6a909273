//! How a step toward another node ended when it did not simply go on.

use std::io;

use super::{adopt::was_adopted, talk::NoAnswer};
use crate::{
    request::{ErrorCode, Refusal},
    unit::Outcome,
};

/// Why a step did not get through.
#[derive(Debug)]
pub(super) enum Went {
    /// The node cannot be reached, or the conversation broke off: worth another try.
    Away(String),
    /// The node does not know the unit.
    Gone,
    /// The node said no, or will never say yes: the text for people.
    Refused {
        /// How the unit ends if this was its submission.
        outcome: Outcome,
        /// What was said.
        text: String,
    },
    /// Another controller has the unit now: who, for people.
    Adopted(String),
    /// The node that was asked is not of the kind any more that can be asked again.
    Unanswerable,
    /// This node's own disk.
    Local(io::Error),
}

impl Went {
    pub(super) fn denied(text: String) -> Went {
        Went::Refused { outcome: Outcome::Denied, text }
    }

    /// What a refused submission means: a node that has its hands full, or is stopping, is asked again.
    pub(super) fn not_submitted(refusal: Refusal) -> Went {
        let code = refusal.known();
        let text = format!("could not parse response: ERROR: {}", refusal.text);
        match code {
            Some(ErrorCode::Busy | ErrorCode::Closing) => Went::Away(refusal.text),
            Some(ErrorCode::NoSpace) => Went::Refused { outcome: Outcome::NoSpace, text },
            _ => Went::denied(text),
        }
    }

    pub(super) fn failed(text: String) -> Went {
        Went::Refused { outcome: Outcome::StartFailed, text }
    }
}

impl From<NoAnswer> for Went {
    fn from(none: NoAnswer) -> Went {
        match none {
            NoAnswer::Broken(error) => Went::Away(format!("the conversation broke off: {error}")),
            NoAnswer::Refused(refusal) if refusal.is_unknown_unit() => Went::Gone,
            NoAnswer::Refused(refusal) if was_adopted(&refusal) => Went::Adopted(refusal.text),
            NoAnswer::Refused(refusal) => Went::denied(refusal.text),
            NoAnswer::Garbled(line) => Went::Away(format!("its answer makes no sense: {line:?}")),
        }
    }
}

impl From<io::Error> for Went {
    /// An error of this node's own disk: those of a conversation are [`NoAnswer::Broken`].
    fn from(error: io::Error) -> Went {
        Went::Local(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_may_say_yes_later_is_asked_again() {
        let said = |code: Option<&str>| {
            Went::not_submitted(Refusal { code: code.map(str::to_owned), text: "no".to_owned() })
        };
        for code in ["busy", "closing"] {
            assert!(matches!(said(Some(code)), Went::Away(why) if why == "no"), "{code}");
        }
        assert!(matches!(said(Some("no_space")), Went::Refused { outcome: Outcome::NoSpace, .. }));
        for code in [Some("denied"), Some("of_tomorrow"), None] {
            assert!(matches!(said(code), Went::Refused { outcome: Outcome::Denied, .. }), "{code:?}");
        }
    }
}
