//! What to do next about a unit that runs elsewhere. Pure: what is on disk in, one step out.
//!
//! Every fact below is durable before the act that it permits, so a step may be dropped at any point (a crash, a cut, an
//! order from the user): the next look at the facts says how to go on, and nothing is ever started twice.
//!
//! ```text
//!             asked == nobody                    asked == a node of ours          asked == a Go node
//!  adopts     Adopt                              Adopt, until it is known whether it is ours; then as started
//!  early      Wait
//!  not        Submit                             Submit (looks its request id     Follow when the payload was sent and
//!  started                                       up first: nothing runs twice)    its id is known, else it never ran
//!  canceled   over: Canceled                     look it up; Cancel if it runs    Cancel if it may run, else Canceled
//!  released   Remove                             Release, by id or request id     Release, or Remove
//!  adopted    whoever adopted it from us has it: Done, and a release removes it here alone
//!  started    Follow until it has ended and every byte is home, then Done
//! ```

use crate::unit::{RemoteExtra, State};

/// Which kind of node was asked to make the unit, and how far the asking got. Durable in the file `remote`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asked {
    /// No submission has left this node.
    #[default]
    Nobody,
    /// Submissions with a request id, so that their fate can be looked up.
    Netmesh {
        /// Which one was the last, from 1. Each is made only when the one before is known never to have run.
        attempt: u32,
    },
    /// A submission that cannot be looked up.
    Go {
        /// Whether the end of the payload may have left this node.
        payload_sent: bool,
    },
}

/// All that the next step depends on.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    pub remote: &'a RemoteExtra,
    pub state: State,
    /// Every byte of output that the other node speaks of is on this node's disk.
    pub complete: bool,
    pub asked: Asked,
    /// It stands for a unit that is there already, and is to become ours.
    pub adopts: bool,
    /// It stood for a unit that somebody else has adopted.
    pub adopted: bool,
    /// The time from which on it may start has not come.
    pub early: bool,
    /// The time in which it must have started is over.
    pub expired: bool,
    /// The other node has already taken our cancel.
    pub cancel_taken: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Wait until the time from which on it may start.
    Wait,
    /// Have the other node make the unit, unless a look-up finds that it has.
    Submit,
    /// Have the other node hand its unit over.
    Adopt,
    /// Find out by request id whether the other node made the unit, without making one.
    LookUp,
    /// Take over status and output as they come.
    Follow,
    /// Have the other node stop the unit.
    Cancel,
    /// Have the other node forget the unit, then remove it here.
    Release,
    /// Remove it here; there is nothing elsewhere.
    Remove,
    /// Over, without another node's word.
    Conclude(Conclusion),
    /// Nothing is left to do.
    Done,
}

/// How a unit ends that no other node ever ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conclusion {
    /// Somebody asked for its end before it was submitted.
    Canceled,
    /// Its time to live was over before it could start.
    Expired,
    /// Its submission to a node that cannot be asked broke off before the payload was complete.
    NotStarted,
}

/// The next step. Total: every combination of facts has one.
pub(super) fn next(facts: &Facts) -> Step {
    let known = !facts.remote.remote_unit_id.is_empty();
    if facts.adopted {
        return if facts.remote.local_released { Step::Remove } else { Step::Done };
    }
    if facts.adopts && !facts.remote.remote_started {
        return match facts.asked {
            _ if facts.state.is_terminal() && facts.remote.local_released => Step::Remove,
            _ if facts.state.is_terminal() => Step::Done,
            Asked::Nobody if facts.remote.local_released => Step::Remove,
            Asked::Nobody if facts.remote.local_cancelled => Step::Conclude(Conclusion::Canceled),
            // It may be ours already: whatever else is asked of it, that is found out first.
            Asked::Nobody | Asked::Netmesh { .. } | Asked::Go { .. } => Step::Adopt,
        };
    }
    if facts.remote.local_released {
        return match facts.asked {
            _ if known => Step::Release,
            Asked::Netmesh { .. } => Step::LookUp,
            // Without an id no payload can have been sent: that unit fails by itself.
            Asked::Nobody | Asked::Go { .. } => Step::Remove,
        };
    }
    if facts.state.is_terminal() {
        return if known && !facts.complete { Step::Follow } else { Step::Done };
    }
    if facts.remote.local_cancelled && !facts.cancel_taken {
        return match facts.asked {
            _ if facts.remote.remote_started => Step::Cancel,
            // What has not started there is removed there, so that it never will.
            Asked::Netmesh { .. } => Step::LookUp,
            Asked::Go { payload_sent: true } if known => Step::Cancel,
            Asked::Nobody | Asked::Go { .. } => Step::Conclude(Conclusion::Canceled),
        };
    }
    if facts.remote.remote_started {
        return Step::Follow;
    }
    match facts.asked {
        // A Go daemon made this unit and did not get to note that it was started: its node knows.
        Asked::Nobody if known => Step::Follow,
        Asked::Nobody if facts.expired => Step::Conclude(Conclusion::Expired),
        Asked::Nobody if facts.early => Step::Wait,
        Asked::Nobody => Step::Submit,
        Asked::Netmesh { .. } if facts.expired => Step::LookUp,
        Asked::Netmesh { .. } => Step::Submit,
        Asked::Go { payload_sent: true } if known => Step::Follow,
        Asked::Go { .. } => Step::Conclude(Conclusion::NotStarted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Asked = Asked::Netmesh { attempt: 1 };

    fn facts(remote: &RemoteExtra) -> Facts<'_> {
        Facts {
            remote,
            state: State::Pending,
            complete: false,
            asked: Asked::Nobody,
            adopts: false,
            adopted: false,
            early: false,
            expired: false,
            cancel_taken: false,
        }
    }

    fn fresh() -> RemoteExtra {
        RemoteExtra::default()
    }

    fn known() -> RemoteExtra {
        RemoteExtra { remote_unit_id: "aB3dEf9Z".into(), ..fresh() }
    }

    fn started() -> RemoteExtra {
        RemoteExtra { remote_started: true, ..known() }
    }

    #[test]
    fn a_unit_waits_to_be_submitted_until_its_time_is_over() {
        let remote = fresh();
        assert_eq!(next(&facts(&remote)), Step::Submit);
        assert_eq!(next(&Facts { expired: true, ..facts(&remote) }), Step::Conclude(Conclusion::Expired));
    }

    #[test]
    fn a_unit_that_is_early_waits_and_obeys_every_order_meanwhile() {
        let remote = fresh();
        let early = Facts { early: true, ..facts(&remote) };
        assert_eq!(next(&early), Step::Wait);
        assert_eq!(next(&Facts { expired: true, ..early.clone() }), Step::Conclude(Conclusion::Expired));
        let canceled = RemoteExtra { local_cancelled: true, ..fresh() };
        assert_eq!(next(&Facts { remote: &canceled, ..early.clone() }), Step::Conclude(Conclusion::Canceled));
        let released = RemoteExtra { local_released: true, ..canceled };
        assert_eq!(next(&Facts { remote: &released, ..early.clone() }), Step::Remove);
        // A clock that was set back changes nothing about what was asked before.
        assert_eq!(next(&Facts { asked: OURS, ..early.clone() }), Step::Submit);
        let remote = started();
        assert_eq!(next(&Facts { remote: &remote, ..early }), Step::Follow);
    }

    #[test]
    fn a_node_of_ours_is_asked_again_and_a_go_node_never() {
        for remote in [fresh(), known()] {
            assert_eq!(next(&Facts { asked: OURS, ..facts(&remote) }), Step::Submit);
            let cut = Facts { asked: Asked::Go { payload_sent: false }, ..facts(&remote) };
            assert_eq!(next(&cut), Step::Conclude(Conclusion::NotStarted));
        }
        let remote = known();
        let sent = Facts { asked: Asked::Go { payload_sent: true }, ..facts(&remote) };
        assert_eq!(next(&sent), Step::Follow, "its id is known, so its fate can be asked");
    }

    #[test]
    fn a_canceled_unit_is_never_submitted_again() {
        for remote in [fresh(), known(), started()] {
            let remote = RemoteExtra { local_cancelled: true, ..remote };
            for asked in
                [Asked::Nobody, OURS, Asked::Go { payload_sent: false }, Asked::Go { payload_sent: true }]
            {
                for (cancel_taken, expired) in [(false, false), (false, true), (true, false), (true, true)] {
                    if cancel_taken && !remote.remote_started && asked != (Asked::Go { payload_sent: true }) {
                        continue; // a cancel is only sent where something may run
                    }
                    let step = next(&Facts { asked, cancel_taken, expired, ..facts(&remote) });
                    assert_ne!(step, Step::Submit, "{remote:?} {asked:?} {cancel_taken} {expired}");
                }
            }
        }
    }

    #[test]
    fn a_unit_that_a_go_daemon_left_half_submitted_is_asked_about() {
        let remote = known();
        assert_eq!(next(&facts(&remote)), Step::Follow);
    }

    #[test]
    fn an_adoption_is_asked_for_until_it_is_known_and_whatever_was_ordered_meanwhile_comes_after_it() {
        let ordered = |cancelled, released, remote: RemoteExtra| RemoteExtra {
            local_cancelled: cancelled,
            local_released: released,
            ..remote
        };
        for (cancelled, released, unasked, known) in [
            (false, false, Step::Adopt, Step::Follow),
            (true, false, Step::Conclude(Conclusion::Canceled), Step::Cancel),
            (true, true, Step::Remove, Step::Release),
        ] {
            let remote = ordered(cancelled, released, fresh());
            let adopts = Facts { adopts: true, ..facts(&remote) };
            assert_eq!(next(&adopts), unasked);
            assert_eq!(next(&Facts { asked: OURS, ..adopts.clone() }), Step::Adopt, "it may be ours");
            let denied = Facts { state: State::Failed, asked: OURS, ..adopts };
            assert_eq!(next(&denied), if released { Step::Remove } else { Step::Done });
            let remote = ordered(cancelled, released, started());
            let ours = Facts { adopts: true, asked: OURS, ..facts(&remote) };
            assert_eq!(next(&ours), known);
        }
    }

    #[test]
    fn what_somebody_else_has_adopted_is_not_asked_about_any_more() {
        for remote in [fresh(), known(), started()] {
            for complete in [false, true] {
                let adopted =
                    Facts { state: State::Failed, asked: OURS, adopted: true, complete, ..facts(&remote) };
                assert_eq!(next(&adopted), Step::Done);
                let released = RemoteExtra { local_released: true, ..remote.clone() };
                assert_eq!(next(&Facts { remote: &released, ..adopted }), Step::Remove);
            }
        }
    }

    #[test]
    fn a_unit_that_may_have_started_does_not_expire_unasked() {
        let remote = known();
        assert_eq!(next(&Facts { asked: OURS, expired: true, ..facts(&remote) }), Step::LookUp);
        let remote = started();
        assert_eq!(next(&Facts { asked: OURS, expired: true, ..facts(&remote) }), Step::Follow);
    }

    #[test]
    fn a_running_unit_is_followed_until_it_has_ended_and_every_byte_is_home() {
        let remote = started();
        let running = Facts { state: State::Running, asked: OURS, ..facts(&remote) };
        assert_eq!(next(&running), Step::Follow);
        let ended = Facts { state: State::Succeeded, ..running.clone() };
        assert_eq!(next(&ended), Step::Follow);
        assert_eq!(next(&Facts { complete: true, ..ended }), Step::Done);
    }

    #[test]
    fn a_cancel_goes_to_whoever_may_have_the_unit_and_only_once() {
        let cancelled = |remote: RemoteExtra| RemoteExtra { local_cancelled: true, ..remote };
        let remote = cancelled(fresh());
        assert_eq!(next(&facts(&remote)), Step::Conclude(Conclusion::Canceled));
        assert_eq!(next(&Facts { asked: OURS, ..facts(&remote) }), Step::LookUp);
        let remote = cancelled(known());
        assert_eq!(next(&Facts { asked: OURS, ..facts(&remote) }), Step::LookUp, "it may not have started");
        let sent = Facts { asked: Asked::Go { payload_sent: true }, ..facts(&remote) };
        assert_eq!(next(&sent), Step::Cancel);
        assert_eq!(next(&Facts { cancel_taken: true, ..sent }), Step::Follow);
        let unsent = Facts { asked: Asked::Go { payload_sent: false }, ..facts(&remote) };
        assert_eq!(next(&unsent), Step::Conclude(Conclusion::Canceled));
        let remote = cancelled(started());
        let facts = Facts { state: State::Running, asked: OURS, ..facts(&remote) };
        assert_eq!(next(&facts), Step::Cancel);
        assert_eq!(next(&Facts { cancel_taken: true, ..facts.clone() }), Step::Follow);
        assert_eq!(
            next(&Facts { state: State::Succeeded, complete: true, ..facts }),
            Step::Done,
            "it ended first"
        );
    }

    #[test]
    fn a_release_reaches_the_other_node_before_the_directory_goes() {
        let released =
            |remote: RemoteExtra| RemoteExtra { local_cancelled: true, local_released: true, ..remote };
        let remote = released(fresh());
        assert_eq!(next(&facts(&remote)), Step::Remove);
        assert_eq!(next(&Facts { asked: Asked::Go { payload_sent: false }, ..facts(&remote) }), Step::Remove);
        assert_eq!(next(&Facts { asked: OURS, ..facts(&remote) }), Step::LookUp);
        let remote = released(started());
        for state in [State::Running, State::Succeeded, State::Failed] {
            assert_eq!(next(&Facts { state, ..facts(&remote) }), Step::Release);
        }
    }
}
