//! `netmesh reload`

use serde_json::Value;

use super::{Console, Door, ping::text};
use crate::exit::{Code, Failure};

/// Lets the daemon read its configuration again. A refusal leaves Receptor's number: 3, 4, or 5 for any other.
///
/// JSON: the daemon's object: `Success`, and `Error` when it is false.
pub(super) async fn run(door: &Door, console: &mut Console) -> Result<Code, Failure> {
    let reply = Value::Object(door.open().await?.ask(r#"{"command":"reload"}"#).await?);
    if console.json {
        console.pretty(&reply).await?;
    }
    if reply["Success"] == true {
        if !console.json {
            console.line("Reload successful").await?;
        }
        return Ok(Code::OK);
    }
    let error = text(&reply, "Error");
    let (code, next) = if error.contains("ERRORCODE 3") {
        (Code(3), "restart the node for this change")
    } else if error.contains("ERRORCODE 4") {
        (Code(4), "correct the file and reload again")
    } else {
        (Code(5), "the node's log may say more")
    };
    Err(Failure::new(code, format!("reload: {error}; {next}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Script};

    #[tokio::test]
    async fn a_refusal_leaves_its_number() {
        for (reply, code) in [
            (r#"{"Success":true}"#, 0),
            (r#"{"Error":"modified ERRORCODE 3","Success":false}"#, 3),
            (r#"{"Error":"yaml ERRORCODE 4","Success":false}"#, 4),
            (r#"{"Error":"other","Success":false}"#, 5),
        ] {
            let mut fake = Fake::start([Script::new().greet().ask("reload").say(reply)]);
            let left = run(&fake.door(), &mut fake.console).await.unwrap_or_else(|failure| failure.code);
            assert_eq!(left, Code(code), "{reply}");
        }
    }
}
