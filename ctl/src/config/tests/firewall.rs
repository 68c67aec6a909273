//! Rules of the firewall, in every form.

use netmesh::{
    id::{NodeId, ServiceName},
    logic::{Firewall, FirewallAction},
};

use super::{config, options, problems};
use crate::config::{Config, Sources};

fn decide(firewall: &Firewall, from: &str, to: &str, service: &str) -> FirewallAction {
    let (from, to) = (NodeId::new(from).unwrap(), NodeId::new(to).unwrap());
    firewall.decide((&from, ServiceName::new("x").unwrap()), (&to, ServiceName::new(service).unwrap()))
}

#[test]
fn a_rule_says_the_same_in_both_forms_and_on_the_command_line() {
    let list = config(
        "- local-only\n- node:\n    FirewallRules:\n    - {Action: Reject, ToNode: hub, toservice: control}\n    - {action: drop, fromnode: '/edge-.*/'}\n",
    );
    let map = config(
        "local-only: {}\nnode:\n  firewallrules:\n  - {action: reject, tonode: hub, toservice: control}\n  - {action: drop, fromnode: /edge-.*/, fromservice: ''}\n",
    );
    let mut sources = Sources::default();
    let rules = r#"firewallrules=[{"action":"reject","tonode":"hub","toservice":"control"},{"action":"drop","fromnode":"/edge-.*/"}]"#;
    sources.add_arguments([(1, "--local-only".into()), (2, "--node".into()), (3, rules.into())]);
    let line = Config::load(&sources, &options()).unwrap();
    assert_eq!((&list, &list), (&map, &line));
    let firewall = &list.firewall;
    assert_eq!(firewall.len(), 2);
    assert_eq!(decide(firewall, "a", "hub", "control"), FirewallAction::Reject);
    assert_eq!(decide(firewall, "edge-1", "b", "control"), FirewallAction::Drop);
    assert_eq!(decide(firewall, "a", "b", "control"), FirewallAction::Accept);
    assert!(config("- local-only\n- node: {firewallrules: null}").firewall.is_empty());
}

#[rustfmt::skip]
const MISTAKES: &[(&str, &str)] = &[
    ("x", "firewallrules: is no list"),
    ("{action: drop}", "firewallrules: is no list"),
    ("[drop]", "firewallrules: error in rule 0: it is no mapping"),
    ("[{action: drop}, {tonode: a}]", "firewallrules: error in rule 1: unknown action: ; add"),
    ("[{action: deny, tonode: a}]", "firewallrules: error in rule 0: unknown action: deny; write accept"),
    ("[{action: drop, to: a}]", "firewallrules: error in rule 0: invalid firewall rule. unknown key: to;"),
    ("[{action: drop, tonode: 5}]", "firewallrules: error in rule 0: invalid firewall rule. tonode must be a string"),
    ("[{action: drop, tonode: [a]}]", "firewallrules: error in rule 0: invalid firewall rule. tonode must be a string"),
    ("[{action: drop, tonode: ~}]", "firewallrules: error in rule 0: invalid firewall rule. tonode must be a string"),
    ("[{action: drop, tonode: /a}]", "firewallrules: error in rule 0: tonode: `/a` begins like a regular expression"),
    ("[{action: drop, tonode: /}]", "firewallrules: error in rule 0: tonode: `/` begins like a regular expression"),
    ("[{action: drop, tonode: /a)|(b/}]", "firewallrules: error in rule 0: tonode: `/a)|(b/` is no regular expression: "),
];

#[test]
fn a_rule_that_cannot_be_read_is_a_problem_and_never_wider() {
    for (rules, expected) in MISTAKES {
        let told = problems(&format!("- local-only\n- node: {{firewallrules: {rules}}}\n"));
        let one = told.len() == 1 && told[0].starts_with("f.yml:2:") && told[0].contains(';');
        assert!(one && told[0].contains(&format!("node: {expected}")), "{rules}: {told:#?}");
    }
}
