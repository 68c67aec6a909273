//! `ping NODE`: one probe, there and back.
//!
//! Reply: `{"From":"bar","Success":true,"Time":801018,"TimeStr":"801.018µs"}`, the time in nanoseconds too; or
//! `{"Error":"no route to node","Success":false}`, which is a reply like any other and no refusal.

use netmesh::{
    control::Params,
    json::{go_duration, to_go_string},
    logic::HOPS_MAX,
    node::Node,
};
use serde_json::json;

use super::{BadTarget, target};

/// Asks `node` to probe the target.
pub(super) async fn answer(params: &Params, node: &Node) -> Result<String, BadTarget> {
    let to = match node.resolve(target(params, "ping")?) {
        Ok(to) => to,
        Err(bad) => return Ok(failed(&bad.to_string())),
    };
    let probe = node.ping(&to, HOPS_MAX).await;
    Ok(match probe.error {
        Some(error) => failed(&error),
        None => to_go_string(&json!({
            "From": probe.from,
            "Success": true,
            "Time": probe.time.as_nanos() as u64,
            "TimeStr": go_duration(probe.time),
        })),
    })
}

fn failed(error: &str) -> String {
    to_go_string(&json!({ "Error": error, "Success": false }))
}
