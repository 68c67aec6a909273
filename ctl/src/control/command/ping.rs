//! `ping NODE`: one probe, there and back.
//!
//! Reply: `{"From":"bar","Success":true,"Time":801018,"TimeStr":"801.018µs"}`, the time in nanoseconds too; or
//! `{"Error":"no route to node","Success":false}`, which is a reply like any other and no refusal; whoever wants codes
//! gets `Code` besides.

use netmesh::{
    control::Params,
    json::{go_duration, to_go_string},
    logic::HOPS_MAX,
    node::Node,
};
use serde_json::json;
use workunits::request::ErrorCode;

use super::{BadTarget, target};
use crate::control::code;

/// Asks `node` to probe the target.
pub(super) async fn answer(params: &Params, codes: bool, node: &Node) -> Result<String, BadTarget> {
    let to = match node.resolve(target(params, "ping")?) {
        Ok(to) => to,
        Err(bad) => return Ok(failed(&bad.to_string(), codes.then_some(ErrorCode::BadNode))),
    };
    let probe = node.ping(&to, HOPS_MAX).await;
    Ok(match probe.error {
        Some(error) => failed(&error, codes.then(|| code::of_probe(&error))),
        None => to_go_string(&json!({
            "From": probe.from,
            "Success": true,
            "Time": probe.time.as_nanos() as u64,
            "TimeStr": go_duration(probe.time),
        })),
    })
}

fn failed(error: &str, code: Option<ErrorCode>) -> String {
    to_go_string(&match code {
        Some(code) => json!({ "Code": code.word(), "Error": error, "Success": false }),
        None => json!({ "Error": error, "Success": false }),
    })
}
