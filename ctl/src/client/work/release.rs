//! `netmesh work release UNIT...`, `netmesh work force-release UNIT...`

use workunits::request::WorkRequest;

use crate::{
    args::{ManyArgs, ReleaseArgs},
    client::{Console, Door},
    exit::{Code, Failure},
};

/// Ends units and removes their files: those that are named, or all.
pub(super) async fn run(door: &Door, args: ReleaseArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.beyond(args.via.node.as_deref(), &args.via.tls_client).open().await?;
    session.offers().await?;
    let units = match args.all {
        true => {
            let list = WorkRequest::List { unit: None, request_id: None, all_fields: false };
            session.ask(&list.to_line()).await?.into_iter().map(|(unit, _)| unit).collect()
        }
        false => args.units,
    };
    let release = |unit| WorkRequest::Release { unit, force: args.force, signature: String::new() };
    super::each(&mut session, "Released:", &units, release, console).await
}

/// The same even when the units' node cannot be asked.
pub(super) async fn force(door: &Door, args: ManyArgs, console: &mut Console) -> Result<Code, Failure> {
    let ManyArgs { units, via } = args;
    run(door, ReleaseArgs { units, force: true, all: false, via }, console).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        args::work::Via,
        client::fake::{Fake, Script},
    };

    #[tokio::test]
    async fn all_means_every_unit_in_the_list() {
        let script = Script::new()
            .greet()
            .ask("Features")
            .say("{}")
            .ask(r#""subcommand":"list""#)
            .say(r#"{"one":{"State":2},"two":{"State":1}}"#)
            .ask(r#""subcommand":"release""#)
            .say(r#"{"released":"one"}"#)
            .ask(r#""unitid":"two""#)
            .say(r#"{"release pending":"two"}"#);
        let mut fake = Fake::start([script]);
        let args = ReleaseArgs { units: vec![], force: false, all: true, via: Via::default() };
        assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "Released:\n(one, released)\n(two, release pending)\n");
    }

    #[tokio::test]
    async fn force_is_another_word_to_the_daemon() {
        let script = Script::new()
            .greet()
            .ask("Features")
            .say("{}")
            .ask(r#""subcommand":"force-release""#)
            .say(r#"{"released":"one"}"#);
        let mut fake = Fake::start([script]);
        fake.console.json = true;
        let args = ManyArgs { units: vec!["one".into()], via: Via::default() };
        assert_eq!(force(&fake.door(), args, &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "{\"released\":\"one\"}\n");
    }
}
