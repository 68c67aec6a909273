//! `netmesh reload`

use serde_json::Value;
use workunits::request::ErrorCode;

use super::{Console, Door, ping::text};
use crate::exit::{Code, Failure};

/// Lets the daemon read its configuration again. A refusal leaves Receptor's number: 3, 4, or 5 for any other.
///
/// JSON: the daemon's object: `Success`, and `Code` and `Error` when it is false.
pub(super) async fn run(door: &Door, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.open().await?;
    session.offers().await?;
    let reply = Value::Object(session.ask(r#"{"command":"reload"}"#).await?);
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
    let why = reply.get("Code").and_then(Value::as_str).and_then(ErrorCode::of_word);
    let (code, next) = match (why, number(error)) {
        (Some(ErrorCode::RestartNeeded), _) | (None, 3) => (Code(3), "restart the node for this change"),
        (Some(ErrorCode::NoConfig), _) => (Code(4), "start the node with --config FILE"),
        (Some(ErrorCode::ListenFailed), _) => {
            (Code(4), "everything else was taken over: free the address, or name another, and reload again")
        }
        (Some(ErrorCode::Closing), _) => (Code(4), "reload again once it is up"),
        (_, 4) => (Code(4), "correct the file and reload again"),
        _ => (Code(5), "the node's log may say more"),
    };
    Err(Failure::new(code, format!("reload: {error}; {next}")))
}

/// Receptor's number in the text; 0 for none.
fn number(error: &str) -> u8 {
    error.rsplit_once("ERRORCODE ").and_then(|(_, number)| number.trim().parse().ok()).unwrap_or(0)
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
            (r#"{"Code":"restart_needed","Error":"x","Success":false}"#, 3),
            (r#"{"Code":"listen_failed","Error":"x ERRORCODE 4","Success":false}"#, 4),
        ] {
            let script = Script::new().greet().ask("Features").say("{}").ask("reload").say(reply);
            let mut fake = Fake::start([script]);
            let left = run(&fake.door(), &mut fake.console).await.unwrap_or_else(|failure| failure.code);
            assert_eq!(left, Code(code), "{reply}");
        }
    }
}
