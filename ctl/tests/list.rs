//! `work list` of some units, and page by page: from the flags to the words on the socket, across a restart.

mod common;

use common::{Daemon, World};
use serde_json::Value;

const TYPES: &str = "
    - work-command: {worktype: cat, command: cat}
    - work-command: {worktype: fails, command: \"false\"}
";

/// The ids that a list prints with these flags, in its order.
fn listed(daemon: &Daemon, flags: &[&str]) -> Vec<String> {
    let words = [&["work", "list", "-q"], flags].concat();
    daemon.run(&words).ok().lines().map(str::to_owned).collect()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))
}

#[test]
fn units_are_chosen_by_state_type_node_owner_and_age() {
    let world = World::new();
    let mut daemon = world.start("foo", TYPES);
    let good = daemon.submit(&["cat", "--no-payload"]);
    daemon.follow(&good);
    let bad = daemon.submit(&["fails", "--no-payload"]);
    daemon.follow(&bad);
    // For a node that is not there: it waits.
    let away = daemon.submit(&["cat", "--node", "bar", "--no-payload"]);
    let owner = daemon.status(&good)["Owner"].as_str().expect("an owner").to_owned();
    let second = daemon.status(&bad)["CreatedAt"].as_str().expect("a time").to_owned();
    // The same from memory and from disk.
    for _ in 0..2 {
        for (flags, wanted) in [
            (&[][..], vec![&away, &bad, &good]),
            (&["--state", "failed"], vec![&bad]),
            (&["--state", "Succeeded,PENDING"], vec![&away, &good]),
            (&["--type", "cat"], vec![&away, &good]),
            (&["--type", "remote"], vec![&away]),
            (&["--on", "bar"], vec![&away]),
            (&["--on", "foo"], vec![&bad, &good]),
            (&["--owner", &owner], vec![&away, &bad, &good]),
            (&["--owner", "node:bar"], vec![]),
            (&["--since", &second], vec![&away, &bad]),
            (&["--since", "24h", "--state", "succeeded"], vec![&good]),
            (&["--limit", "2"], vec![&away, &bad]),
            (&["--limit", "2", "--type", "cat"], vec![&away, &good]),
        ] {
            assert_eq!(listed(&daemon, flags).iter().collect::<Vec<_>>(), wanted, "{flags:?}");
        }
        daemon = daemon.restart();
    }
    let whole = json(&daemon.run(&["work", "list", "--state", "failed"]).ok());
    assert_eq!((&whole[&bad]["StateName"], &whole[&bad]["ExitCode"]), (&"Failed".into(), &1.into()));
    assert_eq!(whole.as_object().map(serde_json::Map::len), Some(1));
    for flags in [["--state", "frob"], ["--since", "yesterday"], ["--limit", "0"]] {
        let ran = daemon.run(&[&["work", "list"], &flags[..]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    }
}

#[test]
fn a_page_says_where_the_next_one_begins_and_what_is_not_asked_for_anew_is_answered_as_ever() {
    let world = World::new();
    let daemon = world.start("foo", TYPES);
    let mut ids: Vec<String> = (0..3).map(|_| daemon.submit(&["cat", "--no-payload"])).collect();
    for id in &ids {
        daemon.follow(id);
    }
    let ask =
        |more: &str| json(&daemon.talk_once(&format!(r#"{{"command":"work","subcommand":"list"{more}}}"#)));
    let first = ask(r#","limit":2"#);
    let named = |page: &Value| -> Vec<String> {
        let units = page["units"].as_array().expect("units");
        units.iter().map(|unit| unit["UnitID"].as_str().expect("an id").to_owned()).collect()
    };
    let after = first["next"].as_str().expect("there is more").to_owned();
    let last = ask(&format!(r#","limit":2,"after":"{after}""#));
    ids.reverse();
    assert_eq!([named(&first), named(&last)].concat(), ids);
    assert!(last.get("next").is_none(), "{last}");
    // Without a limit it has the old shape, and a unit in it the old members.
    let plain = r#"{"Detail":"exit status 0","ExtraData":null,"State":2,"StateName":"Succeeded","StdoutSize":0,"WorkType":"cat"}"#;
    ids.sort();
    let all: Vec<_> = ids.iter().map(|id| format!("\"{id}\":{plain}")).collect();
    let all = format!("{{{}}}", all.join(","));
    for old in [
        "work list",
        r#"{"command":"work","subcommand":"list"}"#,
        r#"{"command":"work","subcommand":"list","worktype":"cat"}"#,
    ] {
        assert_eq!(daemon.talk_once(old), all, "{old}");
    }
    assert_eq!(ask(r#","state":"running""#), json("{}"));
    let refused = daemon.talk_once(r#"{"command":"work","subcommand":"list","state":"frob"}"#);
    assert_eq!(
        refused,
        r#"ERROR: field state: unknown value "frob", expected Pending, Running, Succeeded, Failed or Canceled"#
    );
}
