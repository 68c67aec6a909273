//! How many units may run at a time, which ended ones are kept, and how full the disk may get: of the node, of a work type.

use workunits::{
    engine::{Limits, MIN_FREE},
    logic::retention::Keep,
    request::Size,
};

use super::super::{item::Item, problem::Report, source::Node, value::Converted};

pub(super) fn of_node(node: Option<&Item>, report: &mut Report) -> Limits {
    let Some(node) = node else { return Limits::default() };
    let min_free = node.get("minfree", report, |value| said(value, size));
    Limits {
        max_running: max_running(node, report),
        max_units: node
            .get("maxunits", report, |value| {
                said(value, |value| count(value, "nobody could submit anything"))
            })
            .flatten(),
        keep: keep(node, report),
        min_free: min_free.flatten().unwrap_or(MIN_FREE),
    }
}

pub(super) fn max_running(item: &Item, report: &mut Report) -> Option<usize> {
    item.get("maxrunning", report, |value| said(value, |value| count(value, "nothing would ever run")))
        .flatten()
}

pub(super) fn keep(item: &Item, report: &mut Report) -> Keep {
    const GONE: &str = "every unit would be gone before its output could be read";
    let age = item.get("keepage", report, |value| {
        said(value, |value| Some(value.duration()?).filter(|age| !age.is_zero()).ok_or_else(|| none(GONE)))
    });
    let bytes = item.get("keepbytes", report, |value| {
        said(value, |value| Some(size(value)?).filter(|bytes| *bytes > 0).ok_or_else(|| none(GONE)))
    });
    let count = item.get("keepcount", report, |value| said(value, |value| count(value, GONE)));
    Keep { age: age.flatten(), count: count.flatten(), bytes: bytes.flatten() }
}

/// The value, unless it says nothing.
fn said<T>(value: &Node, convert: impl FnOnce(&Node) -> Converted<T>) -> Converted<Option<T>> {
    if value.is_empty() { Ok(None) } else { convert(value).map(Some) }
}

fn count(value: &Node, of_none: &str) -> Converted<usize> {
    match value.integer()? {
        0 => Err(none(of_none)),
        number => {
            usize::try_from(number).map_err(|_| format!("{number} is no count; write a whole number above 0"))
        }
    }
}

pub(super) fn size(value: &Node) -> Converted<u64> {
    let text = value.text()?;
    text.parse().map(|Size(bytes)| bytes).map_err(|_| {
        format!("`{text}` is no size; write a number of bytes, or one with KiB, MiB, GiB or TiB behind it")
    })
}

fn none(why: &str) -> String {
    format!("with 0 {why}; give more, or remove the key")
}
