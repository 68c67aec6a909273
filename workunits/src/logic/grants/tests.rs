//! What rules grant and what they do not.

use super::*;

fn grant(principals: &[&str], actions: &[Action], work_type: Option<&str>, units: Units) -> Grant {
    Grant {
        principals: principals.iter().map(|one| one.parse().unwrap()).collect(),
        actions: actions.to_vec(),
        work_type: work_type.map(|one| one.parse().unwrap()),
        units,
    }
}

fn ask<'a>(action: Action, principals: &'a [&'a str], work_type: Option<&'a str>) -> Ask<'a> {
    Ask { action, principals, work_type, owners: None }
}

#[test]
fn nothing_is_granted_by_no_rules() {
    for action in Action::ALL {
        assert!(!Grants::default().decide(&ask(action, &["uid:0"], Some("cat"))).allowed, "{action}");
        assert!(!Grants::default().may_ever(action, &["uid:0"]).allowed, "{action}");
    }
}

#[test]
fn a_principal_is_a_kind_and_a_whole_name() {
    for (rule, shown, meant) in [
        ("uid:0", "uid:0", true),
        ("uid:0", "uid:01", false),
        ("uid:0", "node:0", false),
        ("uid:*", "uid:1000", true),
        ("uid:*", "node:1000", false),
        ("node:/awx-.*/", "node:awx-1", true),
        ("node:/awx-.*/", "node:not-awx-1", false),
        ("node:/a|b/", "node:ab", false),
        ("token:uid:5@foo", "token:uid:5@foo", true),
        ("*", "cert:whoever", true),
        ("cert:/(?s)x.*/", "cert:x\n", true),
    ] {
        assert_eq!(rule.parse::<Principal>().unwrap().matches(shown), meant, "{rule} {shown}");
    }
}

#[test]
fn what_cannot_be_read_is_never_taken_for_something_wider() {
    for bad in [
        "",
        "root",
        "uid",
        "user:0",
        "uid:",
        "node:/x",
        "node:/",
        "node://",
        "node:/(/",
        "node:/a)|(b/",
        "UID:0",
    ] {
        assert!(bad.parse::<Principal>().is_err(), "{bad}");
    }
    assert!("Submit".parse::<Action>().is_err());
    assert!("".parse::<Pattern>().is_err());
}

#[test]
fn own_means_that_of_the_principal_that_the_rule_matched() {
    let grants = Grants(vec![grant(&["token:*"], &[Action::Cancel], None, Units::Own)]);
    let shown = ["node:a", "token:uid:5@a"];
    let with = |owners: &[&str]| {
        grants.decide(&Ask { owners: Some(owners), ..ask(Action::Cancel, &shown, Some("cat")) })
    };
    assert!(with(&["node:a", "token:uid:5@a"]).allowed);
    // The node's unit, but for another of its users: the rule is for tokens.
    let refused = with(&["node:a", "token:uid:6@a"]);
    assert!(!refused.allowed && refused.reason.contains("own units"), "{refused:?}");
    assert!(!with(&[]).allowed, "nobody's unit is nobody's own");
}

#[test]
fn a_certificate_is_of_whoever_came_so_their_units_are_its_own() {
    let grants = Grants(vec![grant(&["cert:*"], &[Action::Cancel], None, Units::Own)]);
    let shown = ["node:a", "cert:a", "token:x"];
    let with = |owners: &[&str]| {
        grants.decide(&Ask { owners: Some(owners), ..ask(Action::Cancel, &shown, Some("cat")) }).allowed
    };
    assert!(with(&["node:a"]) && with(&["cert:a"]));
    assert!(!with(&["node:b", "token:x"]));
}

#[test]
fn a_rule_for_a_work_type_says_nothing_of_what_has_none() {
    let grants = Grants(vec![grant(&["uid:5"], &Action::ALL, Some("/ca./"), Units::Any)]);
    assert!(grants.decide(&ask(Action::Submit, &["uid:5"], Some("cat"))).allowed);
    assert!(!grants.decide(&ask(Action::Submit, &["uid:5"], Some("cats"))).allowed);
    assert!(!grants.decide(&ask(Action::Reload, &["uid:5"], None)).allowed);
}

#[test]
fn the_reason_names_the_first_rule_that_grants_and_to_whom() {
    let grants = Grants(vec![
        grant(&["uid:1"], &[Action::Submit], None, Units::Own),
        grant(&["uid:2", "node:*"], &[Action::Submit], None, Units::Own),
    ]);
    let decision = grants.decide(&ask(Action::Submit, &["node:x"], Some("cat")));
    assert_eq!(decision, Decision { allowed: true, reason: "grant 2, to node:x".into() });
    assert!(grants.may_ever(Action::Submit, &["uid:2"]).allowed);
    assert!(!grants.may_ever(Action::Cancel, &["uid:2"]).allowed);
}
