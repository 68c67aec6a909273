//! `traceroute NODE`: who is on the way, hop by hop.
//!
//! Reply: one object, its members named by the number of hops: `{"0":{"From":"foo","Time":1741950,"TimeStr":"1.74195ms"}}`.
//! A hop that could not be had also says `Error`, to whoever wants codes `Code` too, and is the last.

use std::{collections::BTreeMap, time::Duration};

use netmesh::{
    control::Params,
    json::{go_duration, to_go_string},
    node::{Node, Probe},
};
use serde::Serialize;
use workunits::request::ErrorCode;

use super::{BadTarget, target};
use crate::control::code;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Hop {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    from: String,
    time: u64,
    time_str: String,
}

impl Hop {
    fn of(probe: Probe) -> Hop {
        let time = probe.time.as_nanos() as u64;
        let code = probe.error.as_deref().map(|error| code::of_probe(error).word());
        Hop { code, error: probe.error, from: probe.from, time, time_str: go_duration(probe.time) }
    }
}

/// Asks `node` to probe the way to the target.
pub(super) async fn answer(params: &Params, codes: bool, node: &Node) -> Result<String, BadTarget> {
    let mut hops: Vec<Hop> = match node.resolve(target(params, "traceroute")?) {
        Ok(to) => node.traceroute(&to).await.into_iter().map(Hop::of).collect(),
        Err(bad) => vec![Hop {
            code: Some(ErrorCode::BadNode.word()),
            error: Some(bad.to_string()),
            from: node.id().to_string(),
            time: 0,
            time_str: go_duration(Duration::ZERO),
        }],
    };
    if !codes {
        hops.iter_mut().for_each(|hop| hop.code = None);
    }
    let hops: BTreeMap<String, Hop> =
        hops.into_iter().enumerate().map(|(number, hop)| (number.to_string(), hop)).collect();
    Ok(to_go_string(&hops))
}
