//! What may be run, and how requests for it are signed and verified.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use workunits::{
    request::Stderr,
    sign::{Accept, Verification, VerificationKey},
};

use super::{
    super::{
        TOKEN_EXPIRATION, WorkCommand, WorkSigning,
        item::Item,
        problem::Report,
        source::{Content, Mark, Node},
        value::Converted,
    },
    limits, process,
};

pub(super) fn commands(items: &[Item], can_verify: bool, report: &mut Report) -> Vec<WorkCommand> {
    let mut lines = BTreeMap::new();
    let mut commands = Vec::new();
    for item in items.iter().filter(|item| item.schema.name == "work-command") {
        let work_type = item.get("worktype", report, |value| {
            let name = not_empty(value)?;
            match lines.insert(name.clone(), value.mark) {
                _ if name == "remote" => Err("`remote` is built in; choose another name".to_owned()),
                Some(mark) => {
                    Err(format!("work type {name} already registered, on {mark}; choose another name"))
                }
                None => Ok(name),
            }
        });
        let command = item.get("command", report, not_empty);
        let params = item
            .get("params", report, |value| if value.is_null() { Ok(String::new()) } else { value.text() });
        let allow_runtime_params = item.get("allowruntimeparams", report, Node::boolean).unwrap_or(false);
        let verify_signature = item.get("verifysignature", report, Node::boolean).unwrap_or(false);
        if verify_signature && !can_verify {
            let text = "verifysignature: there is no key to verify with; add a `work-verification` section with `publickey`";
            report.problem(item.mark_of("verifysignature"), "work-command", text);
        }
        let stderr = item.get("stderr", report, stderr).unwrap_or_default();
        let (max_running, keep) = (limits::max_running(item, report), limits::keep(item, report));
        let rules = process::rules(item, report);
        if let (Some(work_type), Some(command)) = (work_type, command) {
            let params = params.unwrap_or_default();
            commands.push(WorkCommand {
                work_type,
                command,
                params,
                allow_runtime_params,
                verify_signature,
                stderr,
                max_running,
                keep,
                rules,
            });
        }
    }
    commands
}

pub(super) fn signing(item: &Item, report: &mut Report) -> Option<WorkSigning> {
    let token_expiration = item.get("tokenexpiration", report, |value| {
        if value.is_empty() {
            return Ok(TOKEN_EXPIRATION);
        }
        match value.duration()? {
            Duration::ZERO => {
                Err("a token that is never good signs nothing; give more than 0, as in 5m".to_owned())
            }
            duration => Ok(duration),
        }
    });
    let private_key = key_file(item, "privatekey", &["PRIVATE KEY", "RSA PRIVATE KEY"], report)?;
    let key_id = item.get("keyid", report, not_empty);
    Some(WorkSigning { private_key, key_id, token_expiration: token_expiration.unwrap_or(TOKEN_EXPIRATION) })
}

/// The keys that check what is signed, and which tokens are good enough.
pub(super) fn verification(item: &Item, report: &mut Report) -> Option<Verification> {
    let mut keys = Vec::new();
    let first = key_file(item, "publickey", &["PUBLIC KEY"], report);
    keys.extend(first.map(|path| VerificationKey { id: None, path }));
    if let Some(value) = item.value("publickeys") {
        let pairs = match &value.content {
            Content::Map(pairs) => pairs.as_slice(),
            _ => {
                let text = "publickeys: is no mapping; write `KEYID: file` pairs below it";
                report.problem(value.mark, item.schema.name, text);
                &[]
            }
        };
        for (id, path) in pairs {
            let id_mark = id.mark;
            let read = not_empty(id).and_then(|id| Ok((id, existing(path)?)));
            match read {
                Ok((id, path)) => {
                    look_at(&path, "publickeys", id_mark, &["PUBLIC KEY"], item.schema.name, report);
                    keys.push(VerificationKey { id: Some(id), path });
                }
                Err(why) => report.problem(id_mark, item.schema.name, format!("publickeys: {why}")),
            }
        }
    }
    if item.value("publickey").is_none() && item.value("publickeys").is_none() {
        let text = "required parameter missing: publickey; add it, or several as `publickeys`";
        report.problem(item.mark, item.schema.name, text);
    }
    let accept = item.get("accept", report, |value| match value.text()?.as_str() {
        "compatible" => Ok(Accept::Compatible),
        "bound" => Ok(Accept::Bound),
        other => Err(format!("`{other}` is unknown; write `compatible` or `bound`")),
    });
    (!keys.is_empty()).then(|| Verification { keys, accept: accept.unwrap_or_default() })
}

/// The file that `key` names. It must exist; a content that is of no use is a warning, as Receptor reads it at each use.
pub(super) fn key_file(item: &Item, key: &str, labels: &[&str], report: &mut Report) -> Option<PathBuf> {
    let path = item.get(key, report, existing)?;
    look_at(&path, key, item.mark_of(key), labels, item.schema.name, report);
    Some(path)
}

fn existing(value: &Node) -> Converted<PathBuf> {
    let path = PathBuf::from(not_empty(value)?);
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{} does not exist; name the PEM file of the key", path.display()))
        }
        _ => Ok(path),
    }
}

/// Warns of a file that holds no such key.
fn look_at(path: &Path, key: &str, mark: Mark, labels: &[&str], section: &str, report: &mut Report) {
    if let Err(why) = holds(path, labels) {
        let text = format!("{key}: {why}; until it is, whatever needs the key will fail");
        report.warning(mark, section, text);
    }
}

fn holds(path: &Path, labels: &[&str]) -> Result<(), String> {
    // A device or a pipe could be read for ever; a key is a file.
    let read =
        fs::metadata(path).and_then(|meta| if meta.is_file() { fs::read(path) } else { Ok(Vec::new()) });
    let bytes =
        read.map_err(|error| format!("{} cannot be read: {error}; make it readable", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    if labels.iter().any(|label| text.contains(&format!("-----BEGIN {label}-----"))) {
        return Ok(());
    }
    Err(format!("{} holds no {}; it should be a key in PEM form", path.display(), labels.join(" or ")))
}

fn not_empty(value: &Node) -> Converted<String> {
    match value.text()? {
        text if text.is_empty() => Err("is empty; give a value".to_owned()),
        text => Ok(text),
    }
}

fn stderr(value: &Node) -> Converted<Stderr> {
    match value.text()?.as_str() {
        "merge" => Ok(Stderr::Merge),
        "separate" => Ok(Stderr::Separate),
        other => Err(format!("`{other}` is unknown; write `merge` or `separate`")),
    }
}
