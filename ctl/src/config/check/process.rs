//! How a work type's process is run, bounded and stopped: the keys of `work-command` that are ours, not Receptor's.

use std::{collections::BTreeMap, time::Duration};

use workunits::{
    logic::sandbox::{Allow, Inherit, Ladder, Rules, StopStep},
    request::{Limits, MaxOutput, check_variable},
};

use super::super::{
    item::Item,
    problem::Report,
    source::{Content, Node},
    value::Converted,
};

const SECTION: &str = "work-command";

/// What the keys of one entry say.
pub(super) fn rules(item: &Item, report: &mut Report) -> Rules {
    let args = item.get("args", report, Node::texts);
    if let (Some(_), Some(_)) = (&args, item.value("params")) {
        let text = "args: stands beside `params`; give the arguments as a list or as one text, not both";
        report.problem(item.mark_of("args"), SECTION, text);
    }
    let mut allows = |key| item.get(key, report, Node::boolean).unwrap_or(false);
    let allow = Allow {
        command: allows("allowruntimecommand"),
        user: allows("allowruntimeuser"),
        directory: allows("allowruntimedirectory"),
        env: allows("allowruntimeenv"),
    };
    Rules {
        args: args.unwrap_or_default(),
        user: item.get("user", report, user),
        directory: item.get("directory", report, directory),
        env: env(item, report),
        inherit: inherit(item, report),
        timeout: item.get("timeout", report, timeout),
        max_output: item.get("maxoutput", report, max_output),
        limits: limits(item, report),
        stop: stop(item, report),
        allow,
    }
}

fn user(value: &Node) -> Converted<String> {
    let text = value.text()?;
    let words: Vec<&str> = text.split(':').collect();
    let whole = |word: &&str| !word.is_empty() && !word.contains(|letter: char| letter.is_whitespace());
    match words.len() <= 2 && words.iter().all(whole) {
        true => Ok(text),
        false => Err(format!(
            "`{text}` names no user; write a name or number, or two of them as in `backup:users`"
        )),
    }
}

fn directory(value: &Node) -> Converted<String> {
    match value.text()? {
        path if path.starts_with('/') => Ok(path),
        path => {
            Err(format!("`{path}` depends on where the node is started; write a path that begins with /"))
        }
    }
}

fn timeout(value: &Node) -> Converted<Duration> {
    match value.duration()? {
        Duration::ZERO => Err("nothing can be done in no time; give more than 0, as in 1h30m".to_owned()),
        limit => Ok(limit),
    }
}

fn max_output(value: &Node) -> Converted<MaxOutput> {
    value.text()?.parse().map_err(|error| format!("{error}; write it like 10MiB or 10MiB:truncate"))
}

/// The pairs of a mapping; a value that is none is told.
fn pairs<'i>(item: &'i Item, key: &str, report: &mut Report) -> &'i [(Node, Node)] {
    match item.value(key).map(|value| (value.mark, &value.content)) {
        None => &[],
        Some((_, Content::Map(pairs))) => pairs,
        Some((_, Content::Scalar(scalar))) if scalar.text.is_empty() => &[],
        Some((mark, _)) => {
            report.problem(
                mark,
                SECTION,
                format!("{key}: is no mapping; write `name: value` pairs below it"),
            );
            &[]
        }
    }
}

/// Name and text of a pair.
fn texts(name: &Node, value: &Node) -> Converted<(String, String)> {
    Ok((name.text()?, value.text()?))
}

fn env(item: &Item, report: &mut Report) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, value) in pairs(item, "env", report) {
        let read = texts(name, value).and_then(|(name, value)| match check_variable(&name, &value) {
            Ok(()) => Ok((name, value)),
            Err(bad) => {
                Err(format!("{}; write `NAME: value`", bad.to_string().trim_start_matches("`env`: ")))
            }
        });
        match read {
            Ok((name, value)) => drop(env.insert(name, value)),
            Err(why) => report.problem(name.mark, SECTION, format!("env: {why}")),
        }
    }
    env
}

fn inherit(item: &Item, report: &mut Report) -> Inherit {
    let clean = item.get("cleanenv", report, Node::boolean).unwrap_or(false);
    let names = item.get("passenv", report, Node::texts);
    match (clean, names) {
        (true, names) => Inherit::Only(names.unwrap_or_default()),
        (false, None) => Inherit::All,
        (false, Some(_)) => {
            let text = "passenv: everything is passed on already; add `cleanenv: true`, or remove the key";
            report.problem(item.mark_of("passenv"), SECTION, text);
            Inherit::All
        }
    }
}

fn limits(item: &Item, report: &mut Report) -> Limits {
    let mut limits = Limits::default();
    for (name, value) in pairs(item, "limits", report) {
        let set = texts(name, value).and_then(|(name, amount)| {
            limits.set(&name, &amount).map_err(|bad| format!("{bad}; write it like memory: 1GiB or cpu: 60"))
        });
        if let Err(why) = set {
            report.problem(name.mark, SECTION, format!("limits: {why}"));
        }
    }
    limits
}

fn stop(item: &Item, report: &mut Report) -> Ladder {
    let Some(value) = item.value("stop") else { return Ladder::default() };
    let steps = match &value.content {
        Content::List(steps) => steps.as_slice(),
        _ => std::slice::from_ref(value),
    };
    let mut ladder: Vec<StopStep> = Vec::new();
    for step in steps {
        match step.text().and_then(|text| text.parse().map_err(|bad| format!("{bad}"))) {
            Ok(step) => ladder.push(step),
            Err(why) => report.problem(step.mark, SECTION, format!("stop: {why}")),
        }
    }
    Ladder::new(ladder)
}
