//! Where decisions about access are written down: the section `audit`.

use std::path::PathBuf;

use workunits::audit::{AuditConfig, AuditFile};

use super::{
    super::{item::Item, problem::Report, source::Node},
    limits::size,
};

/// How large a file becomes, and how many older ones are kept, when nothing is said.
const MAX_SIZE: u64 = 10 << 20;
const KEEP: u32 = 5;
/// A file that holds a few lines at least.
const LEAST_SIZE: u64 = 4 << 10;

pub(super) fn audit(item: &Item, report: &mut Report) -> AuditConfig {
    let path = item.get("file", report, |value| match value.text()? {
        path if path.starts_with('/') => Ok(PathBuf::from(path)),
        path => {
            Err(format!("`{path}` depends on where the node is started; write a path that begins with /"))
        }
    });
    let max_size = item.get("maxsize", report, |value| match size(value)? {
        small if small < LEAST_SIZE => {
            Err(format!("{small} bytes hold no more than a few lines; give at least 4KiB"))
        }
        size => Ok(size),
    });
    let keep = item.get("keep", report, |value| {
        let number = value.integer()?;
        u32::try_from(number)
            .ok()
            .filter(|keep| *keep <= 1_000)
            .ok_or_else(|| format!("{number} is no number of files to keep; write one between 0 and 1000"))
    });
    let log = item.get("log", report, Node::boolean).unwrap_or(false);
    if item.value("file").is_none() && !log {
        let text = "says nowhere to write to; give `file`, `log: true` or both";
        report.problem(item.mark, "audit", text);
    }
    for key in ["maxsize", "keep"] {
        if item.value("file").is_none() && item.value(key).is_some() {
            report.problem(item.mark_of(key), "audit", format!("{key}: is for a file; add `file`"));
        }
    }
    let file = path.map(|path| AuditFile {
        path,
        max_size: max_size.unwrap_or(MAX_SIZE),
        keep: keep.unwrap_or(KEEP),
    });
    AuditConfig { file, log }
}
