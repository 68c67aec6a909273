//! Items in; a [`Config`], or every problem in the report, out. Keys, defaults and checks stand here for both forms.

mod audit;
mod backend;
pub(super) mod cert;
mod control;
mod firewall;
mod grants;
mod heartbeat;
mod limits;
mod node;
mod process;
mod proxy;
pub(super) mod tls;
mod work;

use std::collections::BTreeMap;

use super::{Config, LoadOptions, item::Item, problem::Report, source::Node};

/// What `items` say together; it counts only while `report` has no problem.
pub(super) fn check(items: &[Item], options: &LoadOptions, report: &mut Report) -> Option<Config> {
    let report_on = &mut *report;
    once(items, report_on);
    let all = |name: &'static str| items.iter().filter(move |item| item.schema.name == name);
    // Of a section that may stand once and stands twice, the first is looked at; the second is a problem already.
    let first = |name: &'static str| all(name).next();
    // But one that may be said again elsewhere counts as it was said last.
    let last = |name: &'static str| all(name).next_back();

    cert::jobs(items, report_on);
    if let Some(item) = items.iter().find(|item| cert::is_one(item)) {
        // Only a reload gets here: at a start such a file is carried out, and starts no node.
        let text =
            "this file makes certificates and describes no node; move these sections to a file of their own";
        report_on.problem(item.mark, item.schema.name, text);
    }
    let node = node::name(first("node"), options, report_on);
    let datadir = node::datadir(first("node"), options, report_on);
    let idle_limit = node::idle_limit(first("node"), report_on);
    let stop_duplicate = first("node").and_then(|node| node.get("stopduplicate", report_on, Node::boolean));
    let firewall = firewall::rules(first("node"), report_on);
    let limits = limits::of_node(first("node"), report_on);
    let log_level = node::log_level(last("log-level"), report_on);
    let local_only = node::local_only(last("local-only"), report_on);
    for trace in all("trace") {
        report_on.warning(
            trace.mark,
            "trace",
            "has no effect, as in Receptor; write `log-level: debug` for more",
        );
    }
    let heartbeat = heartbeat::of_node(first("node"), report_on);
    let profiles = tls::Profiles::read(items, node.as_ref(), report_on);
    let listeners = backend::listeners(items, heartbeat, &profiles, report_on);
    let peers = backend::peers(items, heartbeat, &profiles, report_on);
    let control_services = control::services(items, &profiles, report_on);
    let inbound = proxy::inbound(items, &profiles, report_on);
    let proxy::Services { outbound, command_services, ip_routers } =
        proxy::services(items, &profiles, report_on);
    let verification = first("work-verification");
    let work_verification = verification.and_then(|item| work::verification(item, report_on));
    let work_signing = first("work-signing").and_then(|item| work::signing(item, report_on));
    let grants = first("grants").map(|item| grants::grants(item, report_on));
    let audit = first("audit").map(|item| audit::audit(item, report_on));
    let work_commands = work::commands(items, verification.is_some(), report_on);

    let is_backend = |name: &str| name.ends_with("-listener") || name.ends_with("-peer");
    let has = |is: &dyn Fn(&str) -> bool| items.iter().any(|item| is(item.schema.name));
    // With another problem told, what is missing may be just what was wrong.
    if report.is_clean() && !local_only && !has(&is_backend) && !has(&|name| name == "control-service") {
        let text = "nothing to do: no listener, peer or control service; add one, or `local-only` to stay up without";
        report.problem(None, "", text);
    }
    let mut tls_clients = profiles.clients();
    for tls in peers.iter().filter_map(|peer| peer.tls.as_ref()) {
        if !tls_clients.iter().any(|profile| profile.name == tls.name) {
            tls_clients.push(tls.clone()); // the one that nobody has written
        }
    }
    node.map(|node| Config {
        node,
        datadir,
        idle_limit,
        heartbeat,
        stop_duplicate: stop_duplicate.unwrap_or(false),
        firewall,
        limits,
        log_level,
        local_only,
        tls_servers: profiles.servers(),
        tls_clients,
        listeners,
        peers,
        control_services,
        inbound,
        outbound,
        command_services,
        ip_routers,
        work_commands,
        work_signing,
        work_verification,
        grants,
        audit: audit.unwrap_or_default(),
        warnings: Vec::new(),
    })
}

/// Sections that stand once in each file and once on the command line; the last counts, as in Receptor.
pub(super) const AGAIN_ELSEWHERE: [&str; 3] = ["log-level", "local-only", "trace"];

/// Notes every section that may stand once and stands again.
fn once(items: &[Item], report: &mut Report) {
    let mut seen = BTreeMap::new();
    for item in items.iter().filter(|item| item.schema.once) {
        let name = item.schema.name;
        let first = *seen.entry(name).or_insert(item.mark);
        let elsewhere = first.origin != item.mark.origin && AGAIN_ELSEWHERE.contains(&name);
        if first != item.mark && !elsewhere {
            let text = format!("only one {name} directive is allowed, and {first} has it; remove one");
            report.problem(item.mark, name, text);
        }
    }
}
