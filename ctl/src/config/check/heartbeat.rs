//! How a node and its neighbours tell each other that they live: of the node, of a listener, of a peer.

use std::time::Duration;

use netmesh::{
    json::go_duration,
    logic::{BEATS_MAX, Heartbeat, INTERVAL_MAX, INTERVAL_MIN},
};

use super::super::{item::Item, problem::Report, source::Node, value::Converted};

/// What holds for every link that says nothing itself.
pub(super) fn of_node(node: Option<&Item>, report: &mut Report) -> Option<Heartbeat> {
    let default = Some(Heartbeat::default());
    node.map_or(default, |node| of_link(node, default, report))
}

/// What holds for the links of one section; `None` where beats are off. What it leaves open the node decides.
pub(super) fn of_link(item: &Item, node: Option<Heartbeat>, report: &mut Report) -> Option<Heartbeat> {
    let interval = item.get("heartbeat", report, |value| said(value, interval)).flatten();
    let missed = item.get("heartbeatmissed", report, |value| said(value, |value| beats(value, 2))).flatten();
    let heard = item.get("heartbeatheard", report, |value| said(value, |value| beats(value, 1))).flatten();
    let base = match interval {
        Some(Duration::ZERO) => return None,
        Some(interval) => Heartbeat { interval, ..node.unwrap_or_default() },
        None => node?,
    };
    Some(Heartbeat { missed: missed.unwrap_or(base.missed), heard: heard.unwrap_or(base.heard), ..base })
}

fn interval(value: &Node) -> Converted<Duration> {
    let asked = value.duration()?;
    if asked.is_zero() || (INTERVAL_MIN..=INTERVAL_MAX).contains(&asked) {
        return Ok(asked);
    }
    let (asked, least, most) = (go_duration(asked), go_duration(INTERVAL_MIN), go_duration(INTERVAL_MAX));
    Err(format!("{asked} is no interval of heartbeats; give one from {least} to {most}, or 0 for none"))
}

fn beats(value: &Node, least: u8) -> Converted<u8> {
    let number = value.integer()?;
    u8::try_from(number)
        .ok()
        .filter(|beats| (least..=BEATS_MAX).contains(beats))
        .ok_or_else(|| format!("{number} is no number of beats; give one from {least} to {BEATS_MAX}"))
}

/// The value, unless it says nothing.
fn said<T>(value: &Node, convert: impl FnOnce(&Node) -> Converted<T>) -> Converted<Option<T>> {
    if value.is_empty() { Ok(None) } else { convert(value).map(Some) }
}
