//! Which datagrams may pass: `firewallrules` of the node, rule by rule. What cannot be read is never left out, since a
//! rule without one of its patterns fits more.

use netmesh::logic::{Firewall, Pattern, Rule};

use super::super::{
    item::Item,
    problem::Report,
    source::{self, Content, Node, Scalar},
    yaml11::Plain,
};

const KEYS: &str = "action, fromnode, tonode, fromservice, toservice";

pub(super) fn rules(node: Option<&Item>, report: &mut Report) -> Firewall {
    let Some(value) = node.and_then(|node| node.value("firewallrules")) else { return Firewall::default() };
    if value.is_empty() {
        return Firewall::default();
    }
    let read = match &value.content {
        // On the command line, and where people quote it, a list is written as JSON.
        Content::Scalar(Scalar { text, .. }) => match source::read(text) {
            Ok(Some(list)) => list.at(value.mark),
            _ => value.clone(),
        },
        _ => value.clone(),
    };
    let Content::List(nodes) = &read.content else {
        let text = format!("firewallrules: is no list; write a list of rules with the keys {KEYS}");
        report.problem(value.mark, "node", text);
        return Firewall::default();
    };
    Firewall::new(nodes.iter().enumerate().filter_map(|(n, node)| rule(n, node, report)).collect())
}

/// One rule; none when something is wrong with it, which is noted.
fn rule(n: usize, node: &Node, report: &mut Report) -> Option<Rule> {
    let mut wrong = |node: &Node, text: &str| {
        report.problem(node.mark, "node", format!("firewallrules: error in rule {n}: {text}"));
    };
    let Content::Map(entries) = &node.content else {
        wrong(node, &format!("it is no mapping; write the keys {KEYS}"));
        return None;
    };
    let (mut action, mut clean) = (None, true);
    let [mut from_node, mut to_node, mut from_service, mut to_service] = [None, None, None, None];
    for (key, value) in entries {
        let name = key.text().unwrap_or_default().to_ascii_lowercase();
        let place = match name.as_str() {
            "action" => None,
            "fromnode" => Some(&mut from_node),
            "tonode" => Some(&mut to_node),
            "fromservice" => Some(&mut from_service),
            "toservice" => Some(&mut to_service),
            _ => {
                let what = format!("invalid firewall rule. unknown key: {name}; the keys are {KEYS}");
                wrong(key, &what);
                clean = false;
                continue;
            }
        };
        let Some(text) = text(value) else {
            wrong(value, &format!("invalid firewall rule. {name} must be a string; put it in quotes"));
            clean = false;
            continue;
        };
        match place {
            None => match text.parse() {
                Ok(read) => action = Some(read),
                Err(bad) => {
                    wrong(value, &format!("{bad}; write accept, reject or drop"));
                    return None;
                }
            },
            // Empty is not given, as in Receptor; written over an earlier one it takes that back.
            Some(place) if text.is_empty() => *place = None,
            Some(place) => match Pattern::parse(text) {
                Ok(pattern) => *place = Some(pattern),
                Err(bad) => {
                    wrong(value, &format!("{name}: {bad}; correct it, or write the name alone"));
                    clean = false;
                }
            },
        }
    }
    let Some(action) = action else {
        wrong(node, "unknown action: ; add `action`: accept, reject or drop");
        return None;
    };
    clean.then_some(Rule { action, from_node, to_node, from_service, to_service })
}

/// A text that is one: a number or a truth value might be another text than it looks like.
fn text(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar(scalar) if scalar.meaning() == Plain::Text => Some(&scalar.text),
        _ => None,
    }
}
