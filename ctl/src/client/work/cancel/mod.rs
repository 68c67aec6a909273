//! `netmesh work cancel UNIT...`

mod wait;

use workunits::request::WorkRequest;

use crate::{
    args::CancelArgs,
    client::{Console, Door},
    exit::{Code, Failure},
};

/// Ends units. One whose node is out of reach is answered as pending: the daemon goes on trying. With `--wait` each is
/// followed to its end.
pub(super) async fn run(door: &Door, args: CancelArgs, console: &mut Console) -> Result<Code, Failure> {
    let door = door.beyond(args.via.node.as_deref(), &args.via.tls_client);
    let mut session = door.open().await?;
    session.offers().await?;
    if args.wait {
        return wait::run(&door, session, args, console).await;
    }
    super::each(&mut session, "Cancelled:", &args.units, cancel, console).await
}

fn cancel(unit: String) -> WorkRequest {
    WorkRequest::Cancel { unit, signature: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::work::Via,
        client::fake::{Fake, Script},
    };

    fn args(units: &[&str]) -> CancelArgs {
        let units = units.iter().map(|unit| (*unit).to_owned()).collect();
        CancelArgs { units, wait: false, timeout: None, tail: None, via: Via::default() }
    }

    #[tokio::test]
    async fn every_unit_is_asked_and_a_refusal_decides_the_code() {
        let script = Script::new()
            .greet()
            .ask("Features")
            .say("{}")
            .ask(r#""unitid":"one""#)
            .say(r#"{"cancelled":"one"}"#)
            .ask(r#""unitid":"two""#)
            .say("ERROR: unknown work unit two")
            .ask(r#""unitid":"three""#)
            .say(r#"{"cancel pending":"three"}"#);
        let mut fake = Fake::start([script]);
        assert_eq!(
            run(&fake.door(), args(&["one", "two", "three"]), &mut fake.console).await,
            Ok(Code::NOT_DONE)
        );
        assert_eq!(fake.out().await, "Cancelled:\n(one, cancelled)\n(three, cancel pending)\n");
        assert!(fake.err().await.contains("two: unknown work unit two; `netmesh work list`"));
    }

    #[tokio::test]
    async fn the_units_of_another_node_are_reached_through_ours() {
        let script = Script::new()
            .greet()
            .ask("Features")
            .say("{}")
            .ask(r#""service":"control""#)
            .say("Connecting")
            .greet()
            .ask("Features")
            .say("{}")
            .ask("cancel")
            .say(r#"{"cancelled":"one"}"#);
        let mut fake = Fake::start([script]);
        let args = CancelArgs { via: Via { node: Some("bar".into()), ..Via::default() }, ..args(&["one"]) };
        assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code::OK));
    }

    #[tokio::test]
    async fn a_refusal_has_its_code_in_json_and_the_code_decides_what_to_do_next() {
        let script = Script::new()
            .greet()
            .ask("Features")
            .say(r#"{"Features":["error-codes"]}"#)
            .ask(r#""errors":"json""#)
            .say(r#"{"code":"unknown_unit","error":"never heard of it"}"#);
        let mut fake = Fake::start([script]);
        fake.console.json = true;
        assert_eq!(run(&fake.door(), args(&["one"]), &mut fake.console).await, Ok(Code::NOT_DONE));
        let object = r#"{"code":"unknown_unit","error":"never heard of it","unitid":"one"}"#;
        assert_eq!(fake.out().await, format!("{object}\n"));
        assert!(fake.err().await.contains("one: never heard of it; `netmesh work list`"));
    }

    #[tokio::test]
    async fn no_units_are_no_error() {
        let mut fake = Fake::start([Script::new().greet().ask("Features").say("{}")]);
        assert_eq!(run(&fake.door(), args(&[]), &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "");
    }
}
