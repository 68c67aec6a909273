//! `netmesh work list`

use serde_json::{Map, Value, json};
use workunits::{
    logic::{
        select::{wants, wants_state},
        summary::Summary,
    },
    request::{Filter, Offers, Paging, WorkRequest},
    unit::{Moment, Unit},
};

use crate::{
    args::{ListArgs, work::FilterArgs},
    client::{Console, Door, console::pretty, no_answer::NoAnswer, session::Session},
    exit::{Code, Failure},
};

/// How many units are asked for at once.
const PAGE: u64 = 200;

/// Lists units.
///
/// Text is JSON too, as in receptorctl: unit to status, with all members that the node has. `--quiet` prints one id
/// per line, with `--json` an array of ids. A node that lists page by page is printed page by page, the newest unit
/// first; of any other the list comes whole, in the order of ids, and is filtered here.
pub(super) async fn run(door: &Door, args: ListArgs, console: &mut Console) -> Result<Code, Failure> {
    let mut session = door.beyond(args.via.node.as_deref(), &args.via.tls_client).open().await?;
    let offers = session.offers().await?;
    let mut list = Printed::new(args.quiet, console);
    if !args.unit_id.is_empty() {
        list.put(one(&mut session, args.unit_id, offers, args.quiet).await?).await?;
    } else if offers.list_filter {
        paged(&mut session, filter(args.filter), args.limit, &mut list).await?;
    } else {
        list.put(whole(&mut session, args, offers).await?).await?;
    }
    list.end().await?;
    Ok(Code::OK)
}

fn filter(args: FilterArgs) -> Filter {
    let FilterArgs { state, work_type, on, owner, since } = args;
    Filter { request_id: None, states: state, work_type, node: on, owner, since }
}

type Statuses = Vec<(String, Value)>;

async fn one(session: &mut Session, unit: String, offers: Offers, quiet: bool) -> Result<Statuses, NoAnswer> {
    let all_fields = !quiet && offers.is_ours();
    let list = WorkRequest::List { unit: Some(unit), request_id: None, all_fields };
    Ok(session.ask(&list.to_line()).await?.into_iter().collect())
}

async fn paged(
    session: &mut Session,
    filter: Filter,
    limit: Option<u64>,
    list: &mut Printed<'_>,
) -> Result<(), Failure> {
    let (mut left, mut after) = (limit.unwrap_or(u64::MAX), None);
    while left > 0 {
        let paging = Paging { limit: left.min(PAGE) as usize, after };
        let find =
            WorkRequest::Find { filter: filter.clone(), paging: Some(paging), all_fields: !list.quiet };
        let page = session.ask(&find.to_line()).await?;
        let garbled = || session.garbled(Value::Object(page.clone()).to_string());
        let units = page.get("units").and_then(Value::as_array).ok_or_else(garbled)?;
        let units: Option<Statuses> = units.iter().map(named).collect();
        let units = units.ok_or_else(garbled)?;
        left = left.saturating_sub(units.len() as u64);
        list.put(units).await?;
        after = match page.get("next").and_then(Value::as_str) {
            None => return Ok(()),
            Some(next) => Some(next.parse().map_err(|_| garbled())?),
        };
    }
    Ok(())
}

/// A unit of a page: its id, and its status without it.
fn named(unit: &Value) -> Option<(String, Value)> {
    let mut status = unit.as_object()?.clone();
    match status.remove("UnitID")? {
        Value::String(id) => Some((id, Value::Object(status))),
        _ => None,
    }
}

/// The list of a node that knows no filters.
async fn whole(session: &mut Session, args: ListArgs, offers: Offers) -> Result<Statuses, Failure> {
    let filter = filter(args.filter);
    let needs_ours = filter.since.is_some() || filter.owner.is_some();
    if needs_ours && !offers.is_ours() {
        return Err(Failure::not_done(
            "this node does not say whose a unit is or when it was created: --owner and --since need a netmesh node",
        ));
    }
    let all_fields = offers.is_ours() && (!args.quiet || needs_ours || args.limit.is_some());
    let list = WorkRequest::List { unit: None, request_id: None, all_fields };
    let units = session.ask(&list.to_line()).await?;
    let here = match &filter.node {
        Some(_) => own_name(session).await?,
        None => String::new(),
    };
    let mut chosen = chosen(units, &filter, &here);
    if let Some(limit) = args.limit {
        chosen.sort_by_key(|(created, ..)| std::cmp::Reverse(*created));
        chosen.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok(chosen.into_iter().map(|(_, id, status)| (id, status)).collect())
}

/// The units that the filter asks for, and when they were created.
fn chosen(units: Map<String, Value>, filter: &Filter, here: &str) -> Vec<(Moment, String, Value)> {
    let all = *filter == Filter::default();
    let choose = |(id, status): (String, Value)| {
        let unit: Unit = serde_json::from_value(status.clone()).unwrap_or_default();
        let summary = Summary::new(&unit, Moment::default());
        let wanted = all || wants(filter, &summary, here) && wants_state(filter, unit.state);
        wanted.then_some((summary.created, id, status))
    };
    units.into_iter().filter_map(choose).collect()
}

async fn own_name(session: &mut Session) -> Result<String, NoAnswer> {
    let status = session.ask(r#"{"command":"status","requested_fields":["NodeID"]}"#).await?;
    Ok(status.get("NodeID").and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// The list on its way to the terminal, so that a long one is never in memory as a whole.
struct Printed<'c> {
    console: &'c mut Console,
    quiet: bool,
    any: bool,
}

impl Printed<'_> {
    fn new(quiet: bool, console: &mut Console) -> Printed<'_> {
        Printed { console, quiet, any: false }
    }

    /// Prints some more units.
    async fn put(&mut self, units: Statuses) -> Result<(), Failure> {
        let mut text = Vec::new();
        for (id, status) in units {
            if self.quiet && !self.console.json {
                text.extend_from_slice(format!("{id}\n").as_bytes());
                continue;
            }
            let one = match self.quiet {
                true => json!([id]),
                false => Value::Object(Map::from_iter([(id, status)])),
            };
            // Printed as a list of its own, and taken out of that list's brackets: so it stands as deep as in the whole.
            let one = pretty(&one)?;
            let (_, inner) = self.brackets();
            let inner_end = one.len().saturating_sub(inner.len());
            text.extend_from_slice(if self.any { b",\n" } else { self.brackets().0 });
            text.extend_from_slice(one.get(2..inner_end).unwrap_or_default());
            self.any = true;
        }
        if text.is_empty() { Ok(()) } else { self.console.bytes(&text).await }
    }

    /// Prints what ends the list.
    async fn end(self) -> Result<(), Failure> {
        let text = match (self.quiet && !self.console.json, self.any, self.quiet) {
            (true, ..) => return Ok(()),
            (false, true, _) => [self.brackets().1, b"\n"].concat(),
            (false, false, true) => b"[]\n".to_vec(),
            (false, false, false) => b"{}\n".to_vec(),
        };
        self.console.bytes(&text).await
    }

    /// What stands before the first unit and behind the last.
    fn brackets(&self) -> (&'static [u8], &'static [u8]) {
        if self.quiet { (b"[\n", b"\n]") } else { (b"{\n", b"\n}") }
    }
}

#[cfg(test)]
mod tests {
    use workunits::unit::State;

    use super::*;
    use crate::client::fake::{Fake, Script};

    const PAGES: &str = r#"{"Features":["watch","list-filter"]}"#;

    fn args(quiet: bool, unit_id: &str) -> ListArgs {
        ListArgs { quiet, unit_id: unit_id.into(), ..ListArgs::default() }
    }

    fn script(features: &str) -> Script {
        Script::new().greet().ask("Features").say(features)
    }

    #[tokio::test]
    async fn quiet_prints_ids_alone() {
        for (json, printed) in [(false, "one\ntwo\n"), (true, "[\n    \"one\",\n    \"two\"\n]\n")] {
            let script = script("{}").ask("list").say(r#"{"one":{"State":2},"two":{"State":1}}"#);
            let mut fake = Fake::start([script]);
            fake.console.json = json;
            assert_eq!(run(&fake.door(), args(true, ""), &mut fake.console).await, Ok(Code::OK));
            assert_eq!(fake.out().await, printed);
        }
    }

    #[tokio::test]
    async fn a_daemon_of_ours_is_asked_for_everything_and_a_go_daemon_is_not() {
        for (features, wanted) in
            [(r#"{"Features":["watch"]}"#, r#""fields":"all""#), ("{}", r#""list","unitid":"one""#)]
        {
            let script = script(features).ask(wanted).say(r#"{"one":{"State":2}}"#);
            let mut fake = Fake::start([script]);
            assert_eq!(run(&fake.door(), args(false, "one"), &mut fake.console).await, Ok(Code::OK));
            assert_eq!(fake.out().await, "{\n    \"one\": {\n        \"State\": 2\n    }\n}\n");
        }
    }

    #[tokio::test]
    async fn pages_are_printed_as_one_list_however_many_there_are() {
        let next = "0000000000000001aB3dEf9Z";
        let (two, one) = (r#"{"UnitID":"two","State":1}"#, r#"{"UnitID":"one","State":2,"X":{}}"#);
        for quiet in [false, true] {
            let script = script(PAGES)
                .ask(r#""limit":200"#)
                .say(&format!(r#"{{"units":[{two}],"next":"{next}"}}"#))
                .ask(&format!(r#""after":"{next}""#))
                .say(&format!(r#"{{"units":[{one}]}}"#));
            let mut fake = Fake::start([script]);
            assert_eq!(run(&fake.door(), args(quiet, ""), &mut fake.console).await, Ok(Code::OK));
            let whole = "{\n    \"two\": {\n        \"State\": 1\n    },\n    \"one\": {\n        \"State\": 2,\n        \"X\": {}\n    }\n}\n";
            assert_eq!(fake.out().await, if quiet { "two\none\n" } else { whole });
        }
    }

    #[tokio::test]
    async fn no_units_are_a_list_all_the_same() {
        for (quiet, json, printed) in [(false, false, "{}\n"), (true, true, "[]\n"), (true, false, "")] {
            for (features, nothing) in [(PAGES, r#"{"units":[]}"#), ("{}", "{}")] {
                let mut fake = Fake::start([script(features).ask("list").say(nothing)]);
                fake.console.json = json;
                assert_eq!(run(&fake.door(), args(quiet, ""), &mut fake.console).await, Ok(Code::OK));
                assert_eq!(fake.out().await, printed);
            }
        }
    }

    #[tokio::test]
    async fn a_limit_is_asked_for_and_ends_the_list() {
        let page = r#"{"units":[{"UnitID":"two"}],"next":"0000000000000001aB3dEf9Z"}"#;
        let mut fake = Fake::start([script(PAGES).ask(r#""limit":1,"state":["Failed"]"#).say(page)]);
        let filter = FilterArgs { state: vec![State::Failed], ..FilterArgs::default() };
        let args = ListArgs { limit: Some(1), filter, ..args(true, "") };
        assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code::OK));
        assert_eq!(fake.out().await, "two\n");
    }

    #[tokio::test]
    async fn the_list_of_a_go_node_is_filtered_here() {
        let units = r#"{"away":{"State":2,"WorkType":"remote","ExtraData":{"RemoteNode":"bar","RemoteWorkType":"cat"}},"dead":{"State":3,"WorkType":"cat","ExtraData":null},"here":{"State":2,"WorkType":"cat","ExtraData":null}}"#;
        let on = |node: &str| FilterArgs { on: Some(node.into()), ..FilterArgs::default() };
        let done = FilterArgs { state: vec![State::Succeeded], ..FilterArgs::default() };
        for (filter, limit, printed) in [
            (done.clone(), None, "away\nhere\n"),
            (done, Some(1), "away\n"),
            (on("bar"), None, "away\n"),
            (on("fake"), None, "dead\nhere\n"),
        ] {
            let asks_name = filter.on.is_some();
            let mut script = script("{}").ask("list").say(units);
            if asks_name {
                script = script.ask("NodeID").say(r#"{"NodeID":"fake"}"#);
            }
            let mut fake = Fake::start([script]);
            let args = ListArgs { filter, limit, ..args(true, "") };
            assert_eq!(run(&fake.door(), args, &mut fake.console).await, Ok(Code::OK));
            assert_eq!(fake.out().await, printed);
        }
    }

    #[tokio::test]
    async fn what_a_go_node_cannot_tell_is_no_empty_list() {
        let mut fake = Fake::start([script("{}")]);
        let filter = FilterArgs { owner: Some("uid:0".into()), ..FilterArgs::default() };
        let refused = run(&fake.door(), ListArgs { filter, ..args(true, "") }, &mut fake.console).await;
        assert_eq!(refused.unwrap_err().code, Code::NOT_DONE);
        assert_eq!(fake.out().await, "");
    }
}
