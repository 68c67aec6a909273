//! Who may do what: the rules of the section `grants`, read in one go. A rule that cannot be read is a problem, never a wider one.

use std::str::FromStr;

use workunits::logic::grants::{Action, BadGrant, Grant, Grants, Pattern, Principal, Units};

use super::super::{
    item::Item,
    problem::Report,
    source::{Content, Node},
};

const SECTION: &str = "grants";

/// The rules; a section without any grants nothing to anybody.
pub(super) fn grants(item: &Item, report: &mut Report) -> Grants {
    let rules = match item.value("rules").map(|value| (value, &value.content)) {
        None => &[],
        Some((_, Content::List(rules))) => rules.as_slice(),
        Some((value, _)) if value.is_empty() => &[],
        Some((value, _)) => {
            let text = "is no list; write rules below it, each `- {principal: ..., actions: [...]}`";
            report.problem(value.mark, SECTION, text);
            return Grants::default();
        }
    };
    if rules.is_empty() {
        let text =
            "there is no rule, so nobody may do anything, not even root; write one, or remove the section";
        report.warning(item.mark, SECTION, text);
    }
    Grants(rules.iter().filter_map(|rule| grant(rule, report)).collect())
}

/// One rule, unless something is wrong with it.
fn grant(rule: &Node, report: &mut Report) -> Option<Grant> {
    let Content::Map(pairs) = &rule.content else {
        report.problem(
            rule.mark,
            SECTION,
            "a rule is a mapping; write `principal: ...` and `actions: [...]`",
        );
        return None;
    };
    let (mut principals, mut actions) = (None, None);
    let (mut work_type, mut units) = (Some(None), Some(Units::default()));
    let mut seen = Vec::new();
    for (key, value) in pairs {
        let name = key.text().unwrap_or_default().to_ascii_lowercase();
        if seen.contains(&name) {
            report.problem(
                key.mark,
                SECTION,
                format!("`{name}` stands twice in one rule; put all of it into one"),
            );
        }
        match name.as_str() {
            "principal" => principals = each::<Principal>(value, "principal", report),
            "actions" => actions = self::actions(value, report),
            "worktype" => work_type = one::<Pattern>(value, "worktype", report).map(Some),
            "units" => units = self::units(value, report),
            _ => {
                let text = format!(
                    "unknown key `{name}`; the keys of a rule are principal, actions, worktype, units"
                );
                report.problem(key.mark, SECTION, text);
            }
        }
        seen.push(name);
    }
    for key in ["principal", "actions"] {
        if !seen.iter().any(|name| name == key) {
            report.problem(
                rule.mark,
                SECTION,
                format!("required parameter missing: {key}; add it to the rule"),
            );
        }
    }
    Some(Grant { principals: principals?, actions: actions?, work_type: work_type?, units: units? })
}

fn actions(value: &Node, report: &mut Report) -> Option<Vec<Action>> {
    match value.text().as_deref() {
        Ok("*") => Some(Action::ALL.to_vec()),
        _ => each::<Action>(value, "actions", report),
    }
}

fn units(value: &Node, report: &mut Report) -> Option<Units> {
    match value.text().as_deref() {
        Ok("own") => Some(Units::Own),
        Ok("any") => Some(Units::Any),
        _ => {
            report.problem(value.mark, SECTION, "units: write `own` or `any`");
            None
        }
    }
}

/// One text, or a list of them.
fn each<T: FromStr<Err = BadGrant>>(value: &Node, key: &str, report: &mut Report) -> Option<Vec<T>> {
    let nodes = match &value.content {
        Content::List(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(value),
    };
    if nodes.is_empty() {
        report.problem(value.mark, SECTION, format!("{key}: is empty; give a value"));
        return None;
    }
    nodes.iter().map(|node| one(node, key, report)).collect()
}

fn one<T: FromStr<Err = BadGrant>>(value: &Node, key: &str, report: &mut Report) -> Option<T> {
    let read = value.text().and_then(|text| text.parse::<T>().map_err(|bad| bad.to_string()));
    read.map_err(|why| report.problem(value.mark, SECTION, format!("{key}: {why}"))).ok()
}
