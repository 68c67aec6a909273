//! The rows, in the order of the table; a file per group, which says what its rows mean.

mod converge;
mod hub;
mod jobs;
mod limits;
mod ping;
mod proxy;
mod start;
mod transfer;
mod units;

use super::suite::Group;

pub(super) const GROUPS: &[Group] = &[
    limits::GROUP,
    start::GROUP,
    jobs::GROUP,
    units::GROUP,
    transfer::GROUP,
    proxy::TCP,
    proxy::QUIC,
    ping::GROUP,
    converge::GROUP,
    hub::GROUP,
];

/// `local`, `1-hop`, `2-hops`, `3-hops`: how far a node is, in a row's name.
fn distance(hops: usize) -> String {
    match hops {
        0 => "local".to_owned(),
        1 => "1-hop".to_owned(),
        more => format!("{more}-hops"),
    }
}

/// The same for people.
fn far(hops: usize) -> String {
    match hops {
        0 => "local".to_owned(),
        1 => "over 1 hop".to_owned(),
        more => format!("over {more} hops"),
    }
}
