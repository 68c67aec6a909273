//! Which units a list asks for.

use super::summary::Summary;
use crate::{request::Filter, unit::State};

/// Whether a filter asks for this unit, as far as what never changes of it goes: all but its state. `here` is the name
/// of the unit's own node, which is where local units run.
pub fn wants(filter: &Filter, unit: &Summary, here: &str) -> bool {
    let Filter { request_id, states: _, work_type, node, owner, since } = filter;
    let (there, type_there) = match &unit.origin.elsewhere {
        Some((node, work_type)) => (&**node, Some(&**work_type)),
        None => (here, None),
    };
    let is_type = |wanted: &str| *unit.origin.work_type == *wanted || type_there == Some(wanted);
    request_id.as_deref().is_none_or(|id| unit.request.as_ref().is_some_and(|made_by| made_by.is(id)))
        && work_type.as_deref().is_none_or(is_type)
        && node.as_deref().is_none_or(|wanted| wanted == there)
        && owner.as_deref().is_none_or(|wanted| wanted == &*unit.origin.owner)
        && since.is_none_or(|since| unit.created >= since)
}

/// Whether a filter asks for units in this state.
pub fn wants_state(filter: &Filter, state: State) -> bool {
    filter.states.is_empty() || filter.states.contains(&state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Moment, Unit};

    fn summary(status: &str) -> Summary {
        Summary::new(&serde_json::from_str::<Unit>(status).unwrap(), Moment(0))
    }

    fn local() -> Summary {
        summary(
            r#"{"State":2,"WorkType":"cat","CreatedAt":"2026-11-21T10:00:00Z","Owner":"uid:1","RequestID":"00112233445566778899aabbccddeeff"}"#,
        )
    }

    fn remote() -> Summary {
        summary(
            r#"{"State":1,"WorkType":"remote","ExtraData":{"RemoteNode":"bar","RemoteWorkType":"cat"},"Owner":"uid:2"}"#,
        )
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn without_a_filter_everything_is_wanted() {
        for unit in [local(), remote()] {
            assert!(wants(&Filter::default(), &unit, "foo"));
        }
        assert!(wants_state(&Filter::default(), State::Unknown(7)));
    }

    #[test]
    fn a_remote_unit_is_of_its_work_type_there_and_of_its_node() {
        for (work_type, wanted) in [("cat", [true, true]), ("remote", [false, true]), ("dog", [false, false])]
        {
            let filter = Filter { work_type: some(work_type), ..Filter::default() };
            assert_eq!([local(), remote()].map(|unit| wants(&filter, &unit, "foo")), wanted, "{work_type}");
        }
        for (node, wanted) in [("foo", [true, false]), ("bar", [false, true]), ("", [false, false])] {
            let filter = Filter { node: some(node), ..Filter::default() };
            assert_eq!([local(), remote()].map(|unit| wants(&filter, &unit, "foo")), wanted, "{node}");
        }
    }

    #[test]
    fn since_means_then_or_later() {
        for (since, wanted) in [
            ("2026-11-21T09:59:59Z", true),
            ("2026-11-21T10:00:00Z", true),
            ("2026-11-21T11:00:00+01:00", true),
            ("2026-11-21T10:00:00.000000001Z", false),
        ] {
            let filter = Filter { since: since.parse().ok(), ..Filter::default() };
            assert_eq!(wants(&filter, &local(), "foo"), wanted, "{since}");
        }
    }

    #[test]
    fn all_that_is_given_must_be_true() {
        let all = Filter {
            request_id: some("00112233445566778899aabbccddeeff"),
            states: vec![State::Failed, State::Succeeded],
            work_type: some("cat"),
            node: some("foo"),
            owner: some("uid:1"),
            since: Some(Moment(1)),
        };
        assert!(wants(&all, &local(), "foo") && wants_state(&all, State::Succeeded));
        assert!(!wants_state(&all, State::Running));
        for spoilt in [
            Filter { request_id: some("00112233445566778899aabbccddeefe"), ..all.clone() },
            Filter { work_type: some("dog"), ..all.clone() },
            Filter { node: some("bar"), ..all.clone() },
            Filter { owner: some("uid:10"), ..all.clone() },
            Filter { since: Some(Moment(i64::MAX)), ..all.clone() },
        ] {
            assert!(!wants(&spoilt, &local(), "foo"), "{spoilt:?}");
        }
    }
}
