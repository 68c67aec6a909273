//! `traceroute NODE`: who is on the way, hop by hop.
//!
//! Reply: one object, its members named by the number of hops: `{"0":{"From":"foo","Time":1741950,"TimeStr":"1.74195ms"}}`.
//! A hop that could not be had also says `Error`, and is the last.

use std::collections::BTreeMap;

use netmesh::{
    control::Params,
    json::{go_duration, to_go_string},
    node::{Node, Probe},
};
use serde::Serialize;

use super::{BadTarget, target};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Hop {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    from: String,
    time: u64,
    time_str: String,
}

impl From<Probe> for Hop {
    fn from(probe: Probe) -> Hop {
        let time = probe.time.as_nanos() as u64;
        Hop { error: probe.error, from: probe.from, time, time_str: go_duration(probe.time) }
    }
}

/// Asks `node` to probe the way to the target.
pub(super) async fn answer(params: &Params, node: &Node) -> Result<String, BadTarget> {
    let probes = match node.resolve(target(params, "traceroute")?) {
        Ok(to) => node.traceroute(&to).await,
        Err(bad) => vec![Probe {
            from: node.id().to_string(),
            time: std::time::Duration::ZERO,
            error: Some(bad.to_string()),
        }],
    };
    let hops: BTreeMap<String, Hop> =
        probes.into_iter().enumerate().map(|(hop, probe)| (hop.to_string(), probe.into())).collect();
    Ok(to_go_string(&hops))
}
