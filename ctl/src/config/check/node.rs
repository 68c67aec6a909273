//! The node itself: its name, its data, its patience, what it logs.

use std::{path::PathBuf, time::Duration};

use netmesh::{id::NodeId, json::go_duration};

use super::super::{IDLE_LIMIT, LoadOptions, LogLevel, item::Item, problem::Report, source::Node};

pub(super) fn name(node: Option<&Item>, options: &LoadOptions, report: &mut Report) -> Option<NodeId> {
    let given = node.and_then(|node| node.value("id")).is_some();
    let id = node.and_then(|node| node.get("id", report, Node::text));
    match (node, id) {
        (Some(node), Some(id)) if !id.is_empty() => node.get("id", report, |_| named(&id)),
        // It was given and wrong, which is noted.
        (_, None) if given => None,
        _ => host(node, options, report),
    }
}

/// A node's name is the name of a directory too.
fn named(id: &str) -> Result<NodeId, String> {
    let node = NodeId::new(id).map_err(|error| format!("{error}; choose another name"))?;
    if id.contains('/') || id.starts_with('.') {
        return Err(format!(
            "`{id}` cannot name a directory of the datadir; choose one without `/` and a first `.`"
        ));
    }
    Ok(node)
}

fn host(node: Option<&Item>, options: &LoadOptions, report: &mut Report) -> Option<NodeId> {
    let host = options.host_name.as_str();
    let mark = node.map(|node| node.mark);
    let lower = host.to_ascii_lowercase();
    if host.is_empty() || lower == "localhost" || lower.starts_with("localhost.") {
        let text = format!("no node ID specified and local host name is `{host}`; add `id`");
        report.problem(mark, "node", text);
        return None;
    }
    let named = named(host);
    named
        .map_err(|why| {
            report.problem(mark, "node", format!("the host name is no node ID: {why}, or add `id`"))
        })
        .ok()
}

pub(super) fn datadir(node: Option<&Item>, options: &LoadOptions, report: &mut Report) -> PathBuf {
    match node.and_then(|node| node.get("datadir", report, Node::text)) {
        Some(path) if path.is_empty() => options.temp_dir.join("receptor"),
        Some(path) => PathBuf::from(path),
        None => options.datadir.clone(),
    }
}

pub(super) fn idle_limit(node: Option<&Item>, report: &mut Report) -> Duration {
    let limit = node.and_then(|node| {
        node.get("maxidleconnectiontimeout", report, |value| {
            if value.is_empty() {
                return Ok(IDLE_LIMIT);
            }
            let limit = value.duration()?;
            let (asked, least) = (go_duration(limit), go_duration(IDLE_LIMIT));
            if limit < IDLE_LIMIT {
                Err(format!("{asked} is less than {least}; give at least that"))
            } else {
                Ok(limit)
            }
        })
    });
    limit.unwrap_or(IDLE_LIMIT)
}

pub(super) fn log_level(section: Option<&Item>, report: &mut Report) -> LogLevel {
    // Receptor logs errors only when the section stands there without a value, and more when it is absent.
    let Some(section) = section else { return LogLevel::default() };
    let level = section.get("level", report, |value| {
        let level = value.text()?;
        level.parse().map_err(|error: super::super::BadLogLevel| error.to_string())
    });
    level.unwrap_or(LogLevel::Error)
}

pub(super) fn local_only(section: Option<&Item>, report: &mut Report) -> bool {
    section.is_some_and(|section| section.get("local", report, Node::boolean).unwrap_or(true))
}
