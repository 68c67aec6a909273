//! Items in; a [`Config`], or every problem at once, out. Keys, defaults and checks stand here for both forms.

mod backend;
mod control;
mod limits;
mod node;
mod process;
mod work;

use std::collections::BTreeMap;

use super::{Config, LoadOptions, Problems, item::Item, problem::Report};

/// What `items` say together.
pub(super) fn check(items: &[Item], options: &LoadOptions, mut report: Report) -> Result<Config, Problems> {
    let report_on = &mut report;
    once(items, report_on);
    let all = |name: &'static str| items.iter().filter(move |item| item.schema.name == name);
    // Of a section that may stand once and stands twice, the first is looked at; the second is a problem already.
    let first = |name: &'static str| all(name).next();

    let node = node::name(first("node"), options, report_on);
    let datadir = node::datadir(first("node"), options, report_on);
    let idle_limit = node::idle_limit(first("node"), report_on);
    let limits = limits::of_node(first("node"), report_on);
    let log_level = node::log_level(first("log-level"), report_on);
    let local_only = node::local_only(first("local-only"), report_on);
    for trace in all("trace") {
        report_on.warning(
            trace.mark,
            "trace",
            "has no effect, as in Receptor; write `log-level: debug` for more",
        );
    }
    let listeners = backend::listeners(items, report_on);
    let peers = backend::peers(items, report_on);
    let control_services = control::services(items, report_on);
    let verification = first("work-verification");
    let work_verification =
        verification.and_then(|item| work::key_file(item, "publickey", &["PUBLIC KEY"], report_on));
    let work_signing = first("work-signing").and_then(|item| work::signing(item, report_on));
    let work_commands = work::commands(items, verification.is_some(), report_on);

    let backends = ["tcp-listener", "tcp-peer", "quic-listener", "quic-peer"];
    let has = |names: &[&str]| items.iter().any(|item| names.contains(&item.schema.name));
    // With another problem told, what is missing may be just what was wrong.
    if report.is_clean() && !local_only && !has(&backends) && !has(&["control-service"]) {
        let text = "nothing to do: no listener, peer or control service; add one, or `local-only` to stay up without";
        report.problem(None, "", text);
    }
    let config = node.map(|node| Config {
        node,
        datadir,
        idle_limit,
        limits,
        log_level,
        local_only,
        listeners,
        peers,
        control_services,
        work_commands,
        work_signing,
        work_verification,
        warnings: Vec::new(),
    });
    report.conclude(config)
}

/// Notes every section that may stand once and stands again.
fn once(items: &[Item], report: &mut Report) {
    let mut seen = BTreeMap::new();
    for item in items.iter().filter(|item| item.schema.once) {
        let name = item.schema.name;
        let first = *seen.entry(name).or_insert(item.mark);
        if first != item.mark {
            let text =
                format!("only one {name} directive is allowed, and line {} has it; remove one", first.line);
            report.problem(item.mark, name, text);
        }
    }
}
