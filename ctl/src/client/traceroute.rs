//! `netmesh traceroute NODE`

use serde_json::{Value, json};

use super::{Console, Door, ping::text};
use crate::exit::{Code, Failure};

/// Shows each hop. The code is 1 when the last hop is an error.
///
/// JSON: the daemon's object, hop number to `From`, `Time` (ns), `TimeStr` and perhaps `Error` and `Code`.
pub(super) async fn run(door: &Door, node: &str, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.open().await?;
    session.offers().await?;
    let line = json!({"command": "traceroute", "target": node}).to_string();
    let reply = session.ask(&line).await?;
    let mut hops: Vec<(u32, &Value)> = Vec::new();
    for (number, hop) in &reply {
        hops.push((number.parse().map_err(|_| session.garbled(format!("hop {number}")))?, hop));
    }
    hops.sort_by_key(|(number, _)| *number);
    let lost = hops.last().is_none_or(|(_, hop)| hop.get("Error").is_some());
    if console.json {
        console.pretty(&Value::Object(reply)).await?;
    } else {
        for (number, hop) in hops {
            let (from, time) = (text(hop, "From"), text(hop, "TimeStr"));
            match hop.get("Error").and_then(Value::as_str) {
                None => console.line(&format!("{number}: {from} in {time}")).await?,
                Some(error) => console.say(&format!("hop {number}: {error} from {from} in {time}")).await,
            }
        }
    }
    Ok(if lost { Code::NEGATIVE } else { Code::OK })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Script};

    fn asked(reply: &str) -> Script {
        Script::new().greet().ask("Features").say("{}").ask("traceroute").say(reply)
    }

    #[tokio::test]
    async fn hops_come_in_the_order_of_their_numbers() {
        let hop = |name: &str| format!(r#"{{"From":"{name}","Time":1,"TimeStr":"1ns"}}"#);
        let reply = format!(r#"{{"0":{},"1":{},"10":{},"2":{}}}"#, hop("a"), hop("b"), hop("k"), hop("c"));
        let mut fake = Fake::start([asked(&reply)]);
        assert_eq!(run(&fake.door(), "k", &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "0: a in 1ns\n1: b in 1ns\n2: c in 1ns\n10: k in 1ns\n");
    }

    #[tokio::test]
    async fn a_trace_that_does_not_arrive_is_a_negative_answer() {
        let reply = r#"{"0":{"From":"a","Time":1,"TimeStr":"1ns"},"1":{"Error":"no route to node","From":"a","Time":1,"TimeStr":"1ns"}}"#;
        let mut fake = Fake::start([asked(reply)]);
        assert_eq!(run(&fake.door(), "k", &mut fake.console).await, Ok(Code::NEGATIVE));
        assert!(fake.err().await.contains("hop 1: no route to node from a"));
    }
}
