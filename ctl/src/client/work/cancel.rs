//! `netmesh work cancel UNIT...`

use workunits::request::WorkRequest;

use crate::{
    args::ManyArgs,
    client::{Console, Door},
    exit::{Code, Failure},
};

/// Ends units. One whose node is out of reach is answered as pending: the daemon goes on trying.
pub(super) async fn run(door: &Door, args: ManyArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.beyond(args.via.node.as_deref(), &args.via.tls_client).open().await?;
    let cancel = |unit| WorkRequest::Cancel { unit, signature: String::new() };
    super::each(&mut session, "Cancelled:", &args.units, cancel, console).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::work::Via,
        client::fake::{Fake, Script},
    };

    fn args(units: &[&str]) -> ManyArgs {
        ManyArgs { units: units.iter().map(|unit| (*unit).to_owned()).collect(), via: Via::default() }
    }

    #[tokio::test]
    async fn every_unit_is_asked_and_a_refusal_decides_the_code() {
        let script = Script::new()
            .greet()
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
            .ask(r#""service":"control""#)
            .say("Connecting")
            .greet()
            .ask("cancel")
            .say(r#"{"cancelled":"one"}"#);
        let mut fake = Fake::start([script]);
        let args = ManyArgs { via: Via { node: Some("bar".into()), ..Via::default() }, ..args(&["one"]) };
        assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code::OK));
    }

    #[tokio::test]
    async fn no_units_are_no_error() {
        let mut fake = Fake::start([Script::new().greet()]);
        assert_eq!(run(&fake.door(), args(&[]), &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "");
    }
}
