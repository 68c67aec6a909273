//! What a unit's supervisor is to run: the work type's rules, and what the submission asked for within them.

use std::collections::BTreeMap;

use super::{EngineConfig, UnitHandle, WorkType};
use crate::{request::Sandbox, runner::launch::Launch, store::Spec, unit::UnitId};

/// The launch of a unit of the type `of`.
///
/// # Errors
/// A text: why it cannot be started. The configuration may have changed since the unit was submitted.
pub(super) fn prepare(config: &EngineConfig, of: &WorkType, unit: &UnitHandle) -> Result<Launch, String> {
    launch(config, of, unit.id(), unit.spec())
}

fn launch(config: &EngineConfig, of: &WorkType, id: UnitId, spec: &Spec) -> Result<Launch, String> {
    let (rules, asked) = (&of.rules, &spec.sandbox);
    rules.permit(asked, of.allow_runtime_params).map_err(|refusal| refusal.to_string())?;
    let params = spec.arguments.as_deref().unwrap_or(&of.params);
    let argv = rules.argv(&of.command, params, asked).map_err(|bad| bad.to_string())?;
    let mut launch = Launch::new(argv, spec.stderr.unwrap_or_default(), env(config, of, id, spec));
    launch.open_files = config.open_files;
    launch.stop = rules.stop.steps().to_vec();
    launch.user = asked.user.clone().or_else(|| rules.user.clone());
    launch.directory = asked.directory.clone().or_else(|| rules.directory.clone());
    launch.inherit = rules.inherit.clone();
    launch.timeout_ms =
        rules.timeout(&spec.meta).map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    launch.max_output = rules.max_output(&spec.meta);
    launch.limits = rules.limits.and(&asked.limits);
    Ok(launch)
}

/// What is set for a command; what the node says of the unit comes last, so nobody else can say it.
fn env(config: &EngineConfig, of: &WorkType, id: UnitId, spec: &Spec) -> BTreeMap<String, String> {
    let mut env = of.rules.env(&spec.sandbox);
    let node = [
        ("NETMESH_NODE", Some(config.node.clone())),
        ("NETMESH_UNIT", Some(id.to_string())),
        ("NETMESH_WORK_TYPE", Some(of.name.clone())),
        ("NETMESH_OWNER", Some(spec.owner.clone())),
        ("NETMESH_REQUEST_ID", spec.request_id.clone()),
        ("NETMESH_PARENT", spec.parent.clone()),
    ];
    env.extend(node.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    env
}

/// The one argument string of a submission: the configured one and the submitter's, after one space. A program of the
/// submitter's own takes none of what is configured for another.
pub(super) fn arguments(of: &WorkType, asked: &Sandbox, params: &str) -> String {
    let configured = if asked.command.is_some() { "" } else { of.params.as_str() };
    let parts = [configured, params].into_iter().filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join(" ")
}
