//! `netmesh version`

use serde_json::{Value, json};

use super::{Console, Door};
use crate::{
    args::RECEPTOR_VERSION,
    exit::{Code, Failure},
};

/// Shows our versions and the daemon's.
///
/// JSON: `netmesh` and `receptor` are this program's; `daemon` has `Version`, and of a node of ours `NetmeshVersion`.
pub(super) async fn run(door: &Door, console: &mut Console) -> Result<Code, Failure> {
    let question = json!({"command": "status", "requested_fields": ["Version", "NetmeshVersion"]});
    let daemon = Value::Object(door.open().await?.ask(&question.to_string()).await?);
    let ours = env!("CARGO_PKG_VERSION");
    if console.json {
        console.pretty(&json!({"netmesh": ours, "receptor": RECEPTOR_VERSION, "daemon": daemon})).await?;
        return Ok(Code::OK);
    }
    console.line(&format!("netmesh      {ours} (Receptor {RECEPTOR_VERSION})")).await?;
    console.line(&format!("daemon       {}", of_daemon(&daemon))).await?;
    Ok(Code::OK)
}

fn of_daemon(daemon: &Value) -> String {
    let receptor = daemon.get("Version").and_then(Value::as_str).unwrap_or("unknown");
    match daemon.get("NetmeshVersion").and_then(Value::as_str) {
        Some(netmesh) => format!("{netmesh} (Receptor {receptor})"),
        None => format!("Receptor {receptor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Script};

    #[tokio::test]
    async fn a_daemon_says_what_it_is() {
        for (reply, line) in [
            (r#"{"Version":"1.6.9"}"#, "daemon       Receptor 1.6.9\n"),
            (r#"{"Version":"1.6.9","NetmeshVersion":"0.1.0"}"#, "daemon       0.1.0 (Receptor 1.6.9)\n"),
        ] {
            let mut fake = Fake::start([Script::new().greet().ask("NetmeshVersion").say(reply)]);
            assert_eq!(run(&fake.door(), &mut fake.console).await, Ok(Code::OK));
            assert!(fake.out().await.ends_with(line), "{reply}");
        }
    }
}
