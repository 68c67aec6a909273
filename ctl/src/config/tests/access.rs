//! Grants, audit and keys: what they say in both forms, and that nothing that cannot be read is taken for something wider.

use workunits::{
    audit::{AuditConfig, AuditFile},
    logic::grants::{Action, Units},
    sign::Accept,
};

use super::{config, key_file, problems};

const RULES: &str = "
  - principal: uid:0
    actions: \"*\"
    units: any
  - {principal: ['node:/awx-.*/', 'cert:x'], actions: [submit, results], worktype: /ansible-.*/}
";

#[test]
fn rules_are_a_list_below_their_section_in_both_forms() {
    let list = config(&format!("- local-only\n- grants:{}", RULES.replace("\n  ", "\n      ")));
    let map = config(&format!("local-only: {{}}\ngrants:{RULES}"));
    let named = config(&format!("local-only: {{}}\ngrants:\n  rules:{}", RULES.replace("\n  ", "\n    ")));
    assert_eq!(list, map);
    assert_eq!(list, named);
    let grants = list.grants.unwrap().0;
    assert_eq!((grants[0].actions.len(), grants[0].units), (Action::ALL.len(), Units::Any));
    assert_eq!((grants[1].principals.len(), grants[1].units), (2, Units::Own));
    assert_eq!(grants[1].actions, [Action::Submit, Action::Results]);
    assert!(config("- local-only\n").grants.is_none());
}

#[test]
fn a_section_without_rules_grants_nothing_and_says_so() {
    for text in [
        "- local-only\n- grants\n",
        "- local-only\n- grants: []\n",
        "local-only:\ngrants: []\n",
        "local-only:\ngrants:\n",
    ] {
        let config = config(text);
        assert_eq!(config.grants.map(|grants| grants.0.len()), Some(0), "{text}");
        assert!(
            config.warnings.iter().any(|warning| warning.text.contains("nobody may do anything")),
            "{text}"
        );
    }
}

#[test]
fn a_rule_that_cannot_be_read_is_a_problem_with_its_line() {
    for (rule, expected) in [
        ("{actions: [submit]}", "f.yml:2:12: grants: required parameter missing: principal"),
        ("{principal: uid:0}", "f.yml:2:12: grants: required parameter missing: actions"),
        ("{principal: root, actions: [submit]}", "f.yml:2:24: grants: principal: `root` is no principal"),
        (
            "{principal: 'node:/(/', actions: [submit]}",
            "f.yml:2:24: grants: principal: cannot be read as an expression",
        ),
        ("{principal: uid:0, actions: [run]}", "f.yml:2:41: grants: actions: `run` is no action"),
        ("{principal: uid:0, actions: []}", "f.yml:2:40: grants: actions: is empty"),
        (
            "{principal: uid:0, actions: [submit], units: all}",
            "f.yml:2:57: grants: units: write `own` or `any`",
        ),
        ("{principal: uid:0, actions: [submit], worktype: ''}", "f.yml:2:60: grants: worktype: is empty"),
        (
            "{principal: uid:0, actions: [submit], work-type: x}",
            "f.yml:2:50: grants: unknown key `work-type`",
        ),
        (
            "{principal: uid:0, actions: [submit], actions: [list]}",
            "f.yml:2:50: grants: `actions` stands twice",
        ),
        ("uid:0", "f.yml:2:12: grants: a rule is a mapping"),
    ] {
        let told = problems(&format!("- local-only\n- grants: [{rule}]\n"));
        assert!(told.iter().any(|line| line.starts_with(expected)), "{rule}: {told:#?}");
    }
    assert!(problems("- local-only\n- grants: yes please\n")[0].contains("is no list"));
    assert!(problems("- local-only\n- grant: []\n")[0].contains("did you mean `grants`"));
}

#[test]
fn an_audit_says_where_to() {
    let full = config("- local-only\n- audit: {file: /var/log/audit, maxsize: 64KiB, keep: 2, log: true}\n");
    let file = |max_size, keep| Some(AuditFile { path: "/var/log/audit".into(), max_size, keep });
    assert_eq!(full.audit, AuditConfig { file: file(64 << 10, 2), log: true });
    let bare = config("- local-only\n- audit: /var/log/audit\n");
    assert_eq!(bare.audit, AuditConfig { file: file(10 << 20, 5), log: false });
    assert_eq!(config("local-only:\naudit: {log: true}\n").audit, AuditConfig { file: None, log: true });
    for (keys, expected) in [
        ("{}", "says nowhere to write to"),
        ("{log: false}", "says nowhere to write to"),
        ("{file: audit}", "depends on where the node is started"),
        ("{file: /a, maxsize: 10}", "give at least 4KiB"),
        ("{file: /a, keep: -1}", "is no number of files"),
        ("{log: true, keep: 1}", "is for a file"),
    ] {
        assert!(problems(&format!("- local-only\n- audit: {keys}\n"))[0].contains(expected), "{keys}");
    }
}

#[test]
fn keys_have_names_and_a_node_says_which_tokens_it_takes() {
    let (_dir, key) = key_file("PUBLIC KEY");
    let text = |keys: &str| {
        format!("- local-only\n- work-verification: {}\n", keys.replace("KEY", key.to_str().unwrap()))
    };
    let verification = config(&text("{publickey: KEY, publickeys: {old: KEY, '7': KEY}, accept: bound}"));
    let verification = verification.work_verification.unwrap();
    let ids: Vec<_> = verification.keys.iter().map(|key| key.id.as_deref()).collect();
    assert_eq!((ids, verification.accept), (vec![None, Some("old"), Some("7")], Accept::Bound));
    assert_eq!(config(&text("KEY")).work_verification.unwrap().accept, Accept::Compatible);
    for (keys, expected) in [
        ("{}", "required parameter missing: publickey"),
        ("{publickeys: {a: /nowhere}}", "publickeys: /nowhere does not exist"),
        ("{publickeys: [KEY]}", "publickeys: is no mapping"),
        ("{publickey: KEY, accept: all}", "accept: `all` is unknown"),
    ] {
        assert!(problems(&text(keys))[0].contains(expected), "{keys}: {:?}", problems(&text(keys)));
    }
    let (_dir, key) = key_file("PRIVATE KEY");
    let signing =
        config(&format!("- local-only\n- work-signing: {{privatekey: {}, keyid: k}}\n", key.display()));
    assert_eq!(signing.work_signing.unwrap().key_id.as_deref(), Some("k"));
}
