//! `netmesh ping NODE`

use std::time::Duration;

use serde_json::{Value, json};
use workunits::request::ErrorCode;

use super::{Console, Door};
use crate::{
    args::PingArgs,
    exit::{Code, Failure},
};

/// Asks as often as told. The code is 1 when any probe stayed without its reply.
///
/// JSON: one object per probe and line, as the daemon gives it: `From`, `Success`, `Time` (ns), `TimeStr`, or
/// `Code`, `Error` and `Success`.
pub(super) async fn run(door: &Door, args: PingArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.open().await?;
    session.offers().await?;
    let count = args.count.unwrap_or(4);
    let delay = args.delay.unwrap_or(Duration::from_secs(1));
    let mut code = Code::OK;
    for probe in 0..count {
        if probe > 0 {
            tokio::time::sleep(delay).await; // the pace that was asked for
        }
        let reply =
            Value::Object(session.ask(&json!({"command": "ping", "target": args.node}).to_string()).await?);
        let arrived = reply["Success"] == true;
        if !arrived {
            code = Code::NEGATIVE;
        }
        match (console.json, arrived) {
            (true, _) => console.compact(&reply).await?,
            (false, true) => console.line(&reply_line(&reply)).await?,
            (false, false) => console.say(&error_line(&args.node, &reply)).await,
        }
    }
    Ok(code)
}

fn reply_line(reply: &Value) -> String {
    format!("Reply from {} in {}", text(reply, "From"), text(reply, "TimeStr"))
}

fn error_line(node: &str, reply: &Value) -> String {
    let error = text(reply, "Error");
    let from = match reply.get("From").and_then(Value::as_str) {
        Some(from) if !from.is_empty() => format!(" (from {from} in {})", text(reply, "TimeStr")),
        _ => String::new(),
    };
    let no_route = match reply.get("Code").and_then(Value::as_str) {
        Some(code) => code == ErrorCode::NoRoute.word(),
        None => error == "no route to node",
    };
    match no_route {
        true => format!("ping {node}: {error}{from}; `netmesh status` lists the nodes in reach"),
        false => format!("ping {node}: {error}{from}"),
    }
}

/// A text member; `?` where it is missing.
pub(super) fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value.get(member).and_then(Value::as_str).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Script};

    fn args(count: u32) -> PingArgs {
        PingArgs { node: "bar".into(), count: Some(count), delay: Some(Duration::ZERO) }
    }

    #[tokio::test]
    async fn each_reply_is_a_line() {
        let reply = r#"{"From":"bar","Success":true,"Time":801018,"TimeStr":"801.018µs"}"#;
        let script =
            Script::new().greet().ask("Features").say("{}").ask("ping").say(reply).ask("ping").say(reply);
        let mut fake = Fake::start([script]);
        assert_eq!(run(&fake.door(), args(2), &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "Reply from bar in 801.018µs\nReply from bar in 801.018µs\n");
    }

    #[tokio::test]
    async fn no_reply_is_a_negative_answer() {
        for (features, asked, reply) in [
            ("{}", r#"{"command":"ping""#, r#"{"Error":"no route to node","Success":false}"#),
            (
                r#"{"Features":["error-codes"]}"#,
                r#""errors":"json""#,
                r#"{"Code":"no_route","Error":"nobody knows the way","Success":false}"#,
            ),
        ] {
            let script = Script::new().greet().ask("Features").say(features).ask(asked).say(reply);
            let mut fake = Fake::start([script]);
            assert_eq!(run(&fake.door(), args(1), &mut fake.console).await, Ok(Code::NEGATIVE));
            let told = fake.err().await;
            assert!(told.starts_with("netmesh: ping bar: ") && told.contains("`netmesh status`"), "{told}");
        }
    }
}
