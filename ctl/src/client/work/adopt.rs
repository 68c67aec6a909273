//! `netmesh work adopt NODE UNIT`

use serde_json::Value;
use workunits::request::{Adopt, WorkRequest};

use super::refused;
use crate::{
    args::AdoptArgs,
    client::{Console, Door, no_answer::NoAnswer},
    exit::{Code, Failure},
};

/// Has the daemon take over a unit of another node.
///
/// Text: as for a submission, so that scripts read the new unit's id from either. JSON: `{"adopted":"<unit>"}` or
/// `{"adopt pending":"<unit>"}`, and a refusal as for any unit.
pub(super) async fn run(door: &Door, args: AdoptArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.open().await?;
    if !session.offers().await?.adopt {
        return Err(Failure::not_done(
            "this daemon cannot adopt units: it runs Receptor, or an older version of this program",
        ));
    }
    let request = WorkRequest::Adopt(Adopt {
        node: args.on,
        unit: args.unit.clone(),
        tls_client: args.tls_client,
        sign_work: args.signwork,
        ..Adopt::default()
    });
    match session.ask(&request.to_line()).await {
        Ok(answer) if console.json => console.compact(&Value::Object(answer)).await?,
        Ok(answer) => {
            let pending = answer.get("adopt pending");
            let unit = pending.or(answer.get("adopted")).and_then(Value::as_str).unwrap_or("?");
            let result = if pending.is_some() { "Adopt Pending" } else { "Adopted" };
            console.line(&format!("Result: {result}\nUnit ID: {unit}")).await?;
        }
        Err(NoAnswer::Refused(refusal)) => {
            refused(&args.unit, &refusal, console).await?;
            return Ok(Code::NOT_DONE);
        }
        Err(gone) => return Err(gone.into()),
    }
    Ok(Code::OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::{Fake, Script};

    fn args() -> AdoptArgs {
        AdoptArgs { on: "bar".into(), unit: "one".into(), signwork: true, tls_client: String::new() }
    }

    #[tokio::test]
    async fn the_new_unit_is_told_as_after_a_submission() {
        for (answer, told) in [("adopted", "Adopted"), ("adopt pending", "Adopt Pending")] {
            let script = Script::new()
                .greet()
                .ask("Features")
                .say(r#"{"Features":["adopt"]}"#)
                .ask(r#""node":"bar","signwork":"true","subcommand":"adopt","unitid":"one""#)
                .say(&format!(r#"{{"{answer}":"two"}}"#));
            let mut fake = Fake::start([script]);
            assert_eq!(run(&fake.door(), args(), &mut fake.console).await, Ok(Code::OK));
            assert_eq!(fake.out().await, format!("Result: {told}\nUnit ID: two\n"));
        }
    }

    #[tokio::test]
    async fn a_daemon_that_cannot_is_not_asked() {
        let mut fake = Fake::start([Script::new().greet().ask("Features").say("{}")]);
        let failed = run(&fake.door(), args(), &mut fake.console).await.unwrap_err();
        assert!(format!("{failed:?}").contains("cannot adopt"), "{failed:?}");
    }
}
