//! `netmesh work list`

use serde_json::{Value, json};
use workunits::request::WorkRequest;

use crate::{
    args::ListArgs,
    client::{Console, Door},
    exit::{Code, Failure},
};

/// Lists units.
///
/// Text is JSON too, as in receptorctl: unit to status, with all members that the node has. `--quiet` prints one id
/// per line, with `--json` an array of ids.
pub(super) async fn run(door: &Door, args: ListArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.beyond(args.via.node.as_deref(), &args.via.tls_client).open().await?;
    let all_fields = !args.quiet && session.offers().await?.is_ours();
    let unit = Some(args.unit_id).filter(|unit| !unit.is_empty());
    let list = WorkRequest::List { unit, request_id: None, all_fields };
    let units = session.ask(&list.to_line()).await?;
    match (args.quiet, console.json) {
        (false, _) => console.pretty(&Value::Object(units)).await?,
        (true, true) => console.pretty(&json!(units.keys().collect::<Vec<_>>())).await?,
        (true, false) => {
            let ids: String = units.keys().map(|unit| format!("{unit}\n")).collect();
            console.bytes(ids.as_bytes()).await?;
        }
    }
    Ok(Code::OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::work::Via,
        client::fake::{Fake, Script},
    };

    fn args(quiet: bool, unit_id: &str) -> ListArgs {
        ListArgs { quiet, unit_id: unit_id.into(), via: Via::default() }
    }

    #[tokio::test]
    async fn quiet_prints_ids_alone() {
        let script = Script::new().greet().ask("list").say(r#"{"one":{"State":2},"two":{"State":1}}"#);
        let mut fake = Fake::start([script]);
        assert_eq!(run(&fake.door(), args(true, ""), &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "one\ntwo\n");
    }

    #[tokio::test]
    async fn a_daemon_of_ours_is_asked_for_everything_and_a_go_daemon_is_not() {
        for (features, wanted) in
            [(r#"{"Features":["watch"]}"#, r#""fields":"all""#), ("{}", r#""list","unitid":"one""#)]
        {
            let script =
                Script::new().greet().ask("Features").say(features).ask(wanted).say(r#"{"one":{"State":2}}"#);
            let mut fake = Fake::start([script]);
            assert_eq!(run(&fake.door(), args(false, "one"), &mut fake.console).await, Ok(Code::OK));
            assert_eq!(fake.out().await, "{\n    \"one\": {\n        \"State\": 2\n    }\n}\n");
        }
    }
}
