//! May a unit be handed over to this node's unit, and who may still act on one that was?
//!
//! ```text
//!   foo submits          baz adopts it           foo adopts it back
//!   (nobody named)  ──►  baz/B1             ──►  foo/F2
//!                        foo/F1 may neither      neither may baz/B1: it is told, and ends
//!                        follow nor end it:
//!                        it is told, and ends
//! ```
//! Who adopts is named by node and unit, so that an adoption may be asked for again after a cut; and one that comes again
//! when somebody else has followed it takes nothing back. Whoever had taken over the end of a unit before may still fetch
//! the rest of its output.

use crate::unit::{Controller, Phase, State, Unit};

/// What an adoption that was asked for means to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It is handed over.
    Take,
    /// It was, and nobody followed.
    Again,
    /// It was, and this one has followed.
    Superseded(&'a Controller),
}

/// What an adoption by `by` means to a unit that was handed to all of `before`, in order.
pub fn decide<'a>(before: &'a [Controller], by: &Controller) -> Verdict<'a> {
    match before.last() {
        Some(last) if last == by => Verdict::Again,
        Some(last) if before.contains(by) => Verdict::Superseded(last),
        _ => Verdict::Take,
    }
}

/// Why a unit cannot be handed over, whoever asks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It stands for a unit of another node.
    #[error("it runs on node {0}: adopt the unit there")]
    Elsewhere(String),
    /// Its payload is not there yet, and only its submitter has it.
    #[error(
        "its payload has yet to arrive, and only its submitter can bring it: try again when it is queued"
    )]
    Arriving,
}

/// Whether a unit can be handed over as it is now.
pub fn is_fit(unit: &Unit) -> Result<(), Unfit> {
    if let Some(remote) = unit.remote() {
        return Err(Unfit::Elsewhere(remote.remote_node.clone()));
    }
    if unit.work_type == "remote" {
        return Err(Unfit::Elsewhere("another".to_owned()));
    }
    let arriving = matches!(unit.phase, Some(Phase::Created | Phase::Uploading));
    if unit.state == State::Pending && arriving { Err(Unfit::Arriving) } else { Ok(()) }
}

/// What somebody is about to do with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Follow it.
    Read,
    /// Cancel or release it.
    End,
}

/// Who asks: a unit of another node that stands for this one (`speaks_for`), or whoever names none.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The unit in whose name they ask.
    pub speaks_for: Option<&'a Controller>,
    /// Whether they are the node that submitted the unit: one that does not know of adoptions (a Receptor node) names no
    /// unit of its own, and must not end what it has no more.
    pub submitted: bool,
}

/// Whether the adoption of a unit, if there was one, leaves `asker` the right to `act`; otherwise who has the unit now.
pub fn may_act<'u>(unit: &'u Unit, asker: Asker<'_>, act: Act) -> Result<(), &'u Controller> {
    let Some(now) = &unit.controller else { return Ok(()) };
    match asker.speaks_for {
        Some(unit) if unit == now => Ok(()),
        Some(_) if act == Act::Read && unit.state.is_terminal() => Ok(()), // they look who has it
        Some(_) => Err(now),
        None if asker.submitted && act == Act::End => Err(now),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Extra, RemoteExtra};

    fn who(node: &str, unit: &str) -> Controller {
        Controller { node: node.into(), unit_id: unit.into() }
    }

    #[test]
    fn an_adoption_that_comes_again_changes_nothing_and_takes_nothing_back() {
        let (baz, foo) = (who("baz", "B1"), who("foo", "F2"));
        assert_eq!(decide(&[], &baz), Verdict::Take);
        assert_eq!(decide(std::slice::from_ref(&baz), &baz), Verdict::Again);
        assert_eq!(decide(std::slice::from_ref(&baz), &foo), Verdict::Take);
        let both = [baz.clone(), foo.clone()];
        assert_eq!(decide(&both, &baz), Verdict::Superseded(&foo));
        assert_eq!(decide(&both, &who("baz", "B2")), Verdict::Take, "another unit is another adoption");
    }

    #[test]
    fn whose_it_was_may_not_act_in_its_name_and_everybody_else_may_as_before() {
        let (baz, foo, other) = (who("baz", "B1"), who("foo", "F1"), who("baz", "B0"));
        let asker = |speaks_for, submitted| Asker { speaks_for, submitted };
        let unit = Unit::default();
        for act in [Act::Read, Act::End] {
            assert_eq!(may_act(&unit, asker(Some(&foo), true), act), Ok(()), "nobody adopted it");
            let adopted = Unit { controller: Some(baz.clone()), ..Unit::default() };
            assert_eq!(may_act(&adopted, asker(Some(&baz), false), act), Ok(()));
            assert_eq!(may_act(&adopted, asker(Some(&foo), true), act), Err(&baz));
            assert_eq!(may_act(&adopted, asker(Some(&other), false), act), Err(&baz));
            assert_eq!(may_act(&adopted, asker(None, false), act), Ok(()), "an operator");
        }
        let ended = Unit { controller: Some(baz.clone()), state: State::Succeeded, ..Unit::default() };
        assert_eq!(may_act(&ended, asker(Some(&foo), true), Act::Read), Ok(()), "the rest of its output");
        assert_eq!(may_act(&ended, asker(Some(&foo), true), Act::End), Err(&baz));
        let adopted = Unit { controller: Some(baz.clone()), ..Unit::default() };
        assert_eq!(may_act(&adopted, asker(None, true), Act::Read), Ok(()));
        assert_eq!(may_act(&adopted, asker(None, true), Act::End), Err(&baz), "a Receptor node comes back");
    }

    #[test]
    fn what_runs_elsewhere_and_what_is_still_arriving_is_not_handed_over() {
        let elsewhere = RemoteExtra { remote_node: "qux".into(), ..RemoteExtra::default() };
        let remote = Unit { extra_data: Extra::Remote(Box::new(elsewhere)), ..Unit::default() };
        assert_eq!(is_fit(&remote), Err(Unfit::Elsewhere("qux".into())));
        for (state, phase, fit) in [
            (State::Pending, Some(Phase::Uploading), false),
            (State::Pending, Some(Phase::Created), false),
            (State::Pending, Some(Phase::Queued), true),
            (State::Running, Some(Phase::Running), true),
            (State::Running, Some(Phase::Canceling), true),
            (State::Succeeded, None, true),
        ] {
            let unit = Unit { state, phase, work_type: "cat".into(), ..Unit::default() };
            assert_eq!(is_fit(&unit).is_ok(), fit, "{state:?} {phase:?}");
        }
    }
}
