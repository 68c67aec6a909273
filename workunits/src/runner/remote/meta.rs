//! What of a unit's promises must its node keep, and can it? Pure.
//!
//! | promise | kept by |
//! |---|---|
//! | `timeout`, `max_output` | the node that runs it; one that cannot is not asked |
//! | `ttl` | this node until it is submitted, then the other one: it is told how much is left, so their clocks need not agree |
//! | `not_before`, `keep` | this node: it submits no earlier, and what it lets go is let go there too |

use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::went::Went;
use crate::{
    request::{Meta, Offers, Span},
    unit::{NEVER, RemoteExtra},
};

/// What the other node is to be told.
///
/// # Errors
/// A refusal when it cannot keep what it would have to.
pub(super) fn to_tell(
    meta: &Meta,
    remote: &RemoteExtra,
    offers: Offers,
    now: OffsetDateTime,
) -> Result<Meta, Went> {
    let must = Meta { timeout: meta.timeout, max_output: meta.max_output, ..Meta::default() };
    if offers.meta {
        return Ok(Meta { ttl: left(remote, now), ..must });
    }
    let names = [("timeout", must.timeout.is_some()), ("max_output", must.max_output.is_some())];
    let asked: Vec<_> = names.iter().filter(|(_, asked)| *asked).map(|(name, _)| *name).collect();
    match asked.is_empty() {
        true => Ok(must),
        false => Err(Went::denied(format!(
            "node {} cannot keep {}: submit without, or update that node",
            remote.remote_node,
            asked.join(" and ")
        ))),
    }
}

/// How much is left of the time in which it must have started.
fn left(remote: &RemoteExtra, now: OffsetDateTime) -> Option<Span> {
    if remote.expiration == NEVER {
        return None;
    }
    let until = OffsetDateTime::parse(&remote.expiration, &Rfc3339).ok()?;
    Some(Span(Duration::try_from(until - now).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Excess, MaxOutput};

    fn now() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn a_node_is_told_what_it_must_keep_and_how_much_time_is_left() {
        let until = (now() + Duration::from_secs(90)).format(&Rfc3339).unwrap();
        let remote = RemoteExtra { expiration: until, ..RemoteExtra::default() };
        let meta = Meta {
            timeout: Some(Span(Duration::from_secs(5))),
            ttl: Some(Span(Duration::from_secs(600))),
            not_before: Some("2026-11-21T04:00:00Z".parse().unwrap()),
            keep: Some(Span(Duration::from_secs(9))),
            ..Meta::default()
        };
        let told = to_tell(&meta, &remote, Offers::ALL, now()).unwrap();
        let wanted =
            Meta { timeout: meta.timeout, ttl: Some(Span(Duration::from_secs(90))), ..Meta::default() };
        assert_eq!(told, wanted);
        let late = to_tell(&meta, &remote, Offers::ALL, now() + Duration::from_secs(100)).unwrap();
        assert_eq!(late.ttl, Some(Span(Duration::ZERO)));
    }

    #[test]
    fn a_node_that_cannot_keep_a_promise_is_not_asked() {
        let remote = RemoteExtra { remote_node: "go".into(), ..RemoteExtra::default() };
        let max_output = Some(MaxOutput { bytes: 1, then: Excess::Kill });
        for meta in [
            Meta { max_output, ..Meta::default() },
            Meta { timeout: Some(Span(Duration::from_secs(5))), ..Meta::default() },
        ] {
            let Err(Went::Refused { text, .. }) = to_tell(&meta, &remote, Offers::default(), now()) else {
                panic!("{meta:?}")
            };
            assert!(text.starts_with("node go cannot keep "), "{text}");
        }
        let kept_here = Meta { keep: Some(Span(Duration::from_secs(9))), ..Meta::default() };
        assert_eq!(to_tell(&kept_here, &remote, Offers::default(), now()).unwrap(), Meta::default());
    }
}
