//! The published client drives our socket, unmodified: every subcommand that it has.

mod common;

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use common::{Daemon, RECEPTORCTL_VERSION as VERSION, Ran, World, finish, line, receptorctl};

struct Client<'a> {
    program: PathBuf,
    world: &'a World,
}

impl Client<'_> {
    fn run(&self, node: &Daemon, words: &[&str]) -> Ran {
        self.run_with(node, words, Stdio::null())
    }

    fn run_with(&self, node: &Daemon, words: &[&str], stdin: Stdio) -> Ran {
        let child = Command::new(&self.program)
            .arg("--socket")
            .arg(self.world.socket(&node.node))
            .args(words)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("receptorctl starts");
        finish(child, words)
    }
}

const WORK: &str = "\
- work-command: {worktype: upper, command: tr, params: \"a-z A-Z\"}
- work-command: {worktype: echo, command: echo, allowruntimeparams: true}
- work-command: {worktype: fail, command: sh, params: \"-c 'echo out; exit 3'\"}
- work-command: {worktype: forever, command: sleep, params: \"1000\"}
";

#[test]
fn every_subcommand_of_the_published_client_works() {
    let Some(program) = receptorctl() else { return };
    let world = World::new();
    let [a, _b, c] = line(&world, "tcp", WORK, "", WORK);
    let client = Client { program, world: &world };
    let ok = |words: &[&str]| {
        let ran = client.run(&a, words);
        assert!(!ran.stderr.contains("different versions"), "{ran:#?}");
        ran.ok()
    };

    assert_eq!(ok(&["version"]), format!("receptorctl  {VERSION}\nreceptor     {VERSION}\n"));
    let status: serde_json::Value = serde_json::from_str(&ok(&["status", "--json"])).expect("JSON");
    let members: Vec<_> = status.as_object().expect("an object").keys().map(String::as_str).collect();
    let receptors = [
        "Advertisements",
        "Connections",
        "KnownConnectionCosts",
        "NodeID",
        "RoutingTable",
        "SystemCPUCount",
        "SystemMemoryMiB",
        "Version",
    ];
    assert_eq!(members, receptors);
    let table = ok(&["status"]);
    assert!(
        table.contains("Node ID: a") && table.contains("Route") && table.contains("Control Service"),
        "{table}"
    );
    let pings = ok(&["ping", "c", "--count", "2", "--delay", "0"]);
    assert_eq!(pings.matches("Reply from c in ").count(), 2, "{pings}");
    assert_eq!(client.run(&a, &["ping", "nosuch", "--count", "1"]).code, Some(2));
    let hops = ok(&["traceroute", "c"]);
    assert!(
        hops.starts_with("0: a in ") && hops.contains("\n1: b in ") && hops.contains("\n2: c in "),
        "{hops}"
    );
    assert_eq!(ok(&["reload"]), "Reload successful\n");

    for node in ["localhost", "c"] {
        let submit = ["work", "submit", "--node", node];
        let with = |more: &[&'static str]| [submit.as_slice(), more].concat();
        let shouted = ok(&with(&["upper", "-l", "grüße 🎉", "-f", "--rm"]));
        assert!(shouted.starts_with("GRüßE 🎉\n") && shouted.contains(", released)"), "{node}: {shouted}");
        assert_eq!(client.run(&a, &with(&["echo", "-n", "-f", "one", "two"])).ok(), "one two\n");
        assert_eq!(ok(&with(&["echo", "-n", "-f", "-a", "params=three"])), "three\n");
        let failed = client.run(&a, &with(&["fail", "-n", "-f"]));
        assert_eq!((failed.code, failed.stdout.contains("out\n")), (Some(1), true), "{failed:#?}");
        let refused = client.run(&a, &with(&["nosuch", "-n"]));
        assert!(
            refused.code == Some(101)
                && (refused.stdout + &refused.stderr).contains("unknown work type nosuch")
        );

        let submitted = ok(&with(&["forever", "-n"]));
        assert!(submitted.contains("Result: Job Started"), "{submitted}");
        let unit =
            submitted.lines().find_map(|line| line.strip_prefix("Unit ID: ")).expect("an id").to_owned();
        assert!(ok(&["work", "list", "--unit_id", &unit]).contains("\"StateName\""));
        let cancelled = ok(&["work", "cancel", &unit]);
        assert!(cancelled.contains(&format!("({unit}, cancelled)")), "{cancelled}");
        // The results of a canceled unit end.
        client.run(&a, &["work", "results", &unit]).ok();
        assert!(ok(&["work", "list", "--unit_id", &unit]).contains("\"Detail\": \"Canceled\""));
        let released = ok(&["work", "release", &unit]);
        assert!(released.contains(&format!("({unit}, released)")), "{released}");
    }
    let there = ok(&["work", "list", "-q", "--node", "c"]);
    assert_eq!(there, client.run(&c, &["work", "list", "-q"]).ok(), "`--node` speaks to c through the mesh");
    let file = world.path().join("payload");
    std::fs::write(&file, "from a file").expect("a payload");
    let stdin = Stdio::from(std::fs::File::open(&file).expect("the payload"));
    let from_stdin = client.run_with(&a, &["work", "submit", "upper", "--node", "c", "-p", "-", "-f"], stdin);
    assert_eq!(from_stdin.ok(), "FROM A FILE");
    let path = file.display().to_string();
    assert_eq!(ok(&["work", "submit", "upper", "--node", "c", "-p", &path, "-f"]), "FROM A FILE");
    let waiting = ok(&["work", "submit", "upper", "--node", "nowhere", "-n", "--ttl", "10h"]);
    assert!(waiting.contains("Result: Job Submitted"), "{waiting}");
    let unit = waiting.lines().find_map(|line| line.strip_prefix("Unit ID: ")).expect("an id").to_owned();
    assert!(ok(&["work", "release", "--force", &unit]).contains(&format!("({unit}, released)")));
    let all = ok(&["work", "release", "--all"]);
    assert!(all.contains("released)"), "{all}");
    assert_eq!(ok(&["work", "list"]).trim(), "{}");
}
