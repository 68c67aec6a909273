//! Where the node can be controlled.

use std::{collections::BTreeMap, path::PathBuf};

use netmesh::id::ServiceName;

use super::super::{
    ControlService,
    item::Item,
    problem::Report,
    source::{Content, Node},
    value::Converted,
};

/// The mode of the socket when none is given: for its owner only.
const PERMISSIONS: u32 = 0o600;

pub(super) fn services(items: &[Item], report: &mut Report) -> Vec<ControlService> {
    let items = items.iter().filter(|item| item.schema.name == "control-service");
    let (mut services, mut files) = (BTreeMap::new(), BTreeMap::new());
    let mut controls = Vec::new();
    for item in items {
        let control = service(item, report);
        if let Some(name) = control.service
            && let Some(line) = services.insert(name, item.mark.line)
        {
            let text = format!("service {name} is already listening, by line {line}; choose another name");
            report.problem(item.mark_of("service"), "control-service", text);
        }
        if let Some(file) = &control.filename
            && let Some(line) = files.insert(file.clone(), item.mark.line)
        {
            let text = format!("`{}` is the socket of line {line} already; choose another", file.display());
            report.problem(item.mark_of("filename"), "control-service", text);
        }
        controls.push(control);
    }
    controls
}

fn service(item: &Item, report: &mut Report) -> ControlService {
    let named =
        item.get(
            "service",
            report,
            |value| {
                if value.is_empty() { Ok(None) } else { name(&value.text()?).map(Some) }
            },
        );
    let filename =
        item.get("filename", report, |value| if value.is_empty() { Ok(String::new()) } else { value.text() });
    let filename = filename.filter(|file| !file.is_empty()).map(PathBuf::from);
    let service = named.unwrap_or(Some(ServiceName::CONTROL));
    if service.is_none() && filename.is_none() {
        report.problem(
            item.mark,
            "control-service",
            "no listeners specified; give `service`, `filename` or both",
        );
    }
    let mode = item.get("permissions", report, mode).unwrap_or(PERMISSIONS);
    if let Some(value) = item.value("permissions")
        && written_in_octal_digits(value)
        && mode <= 0o777
    {
        let text = format!("permissions: decimal, so the mode is {mode:04o}; write octal with a leading 0");
        report.warning(value.mark, "control-service", text);
    }
    if service.is_some_and(|service| service != ServiceName::CONTROL) {
        let text =
            "other nodes send work to `control`; without a service of that name they cannot reach this one";
        report.warning(item.mark_of("service"), "control-service", text);
    }
    ControlService { service, filename, permissions: mode }
}

fn name(text: &str) -> Converted<ServiceName> {
    let name = ServiceName::new(text).map_err(|error| format!("{error}; use at most 8 bytes"))?;
    if name.is_reserved() {
        return Err(format!("service {text} belongs to the mesh itself; choose another name"));
    }
    if text.chars().any(char::is_control) {
        return Err("a service name has no control characters; choose another name".to_owned());
    }
    Ok(name)
}

fn mode(value: &Node) -> Converted<u32> {
    let number = value.integer()?;
    match u32::try_from(number) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        Ok(mode) if written_in_octal_digits(value) => {
            Err(format!("{number} is decimal and would be mode {mode:o}; write it octal, as 0{number}"))
        }
        _ => Err(format!("{number} is no mode; write it octal, between 0 and 0777")),
    }
}

/// True for `600`, which looks like a mode and is a decimal number.
fn written_in_octal_digits(value: &Node) -> bool {
    let Content::Scalar(scalar) = &value.content else { return false };
    scalar.text.len() == 3
        && !scalar.text.starts_with('0')
        && scalar.text.chars().all(|c| matches!(c, '0'..='7'))
}
