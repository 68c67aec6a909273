//! Where the node can be controlled.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use netmesh::id::ServiceName;

use super::backend::{ANY, bind_host};
use super::{
    super::{
        ControlService,
        item::Item,
        problem::Report,
        source::{Content, Node},
        value::Converted,
    },
    tls::Profiles,
};

/// The mode of the socket when none is given: for its owner only.
pub(super) const PERMISSIONS: u32 = 0o600;

pub(super) fn services(items: &[Item], profiles: &Profiles, report: &mut Report) -> Vec<ControlService> {
    let items = items.iter().filter(|item| item.schema.name == "control-service");
    let (mut services, mut files, mut ports) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut controls = Vec::new();
    for item in items {
        let control = service(item, profiles, report);
        if let Some(name) = control.service
            && let Some(mark) = services.insert(name, item.mark)
        {
            let text = format!("service {name} is already listening, by {mark}; choose another name");
            report.problem(item.mark_of("service"), "control-service", text);
        }
        if let Some(file) = &control.filename
            && let Some(mark) = files.insert(file.clone(), item.mark)
        {
            let text = format!("`{}` is the socket of {mark} already; choose another", file.display());
            report.problem(item.mark_of("filename"), "control-service", text);
        }
        if let Some(address) = control.tcp.as_ref().filter(|address| !address.ends_with(":0"))
            && let Some(mark) = ports.insert(address.clone(), item.mark)
        {
            let text = format!("`{address}` is taken by {mark} already; choose another");
            report.problem(item.mark_of("tcplisten"), "control-service", text);
        }
        controls.push(control);
    }
    controls
}

fn service(item: &Item, profiles: &Profiles, report: &mut Report) -> ControlService {
    let named = item.get("service", report, |value| {
        if value.is_empty() { Ok(None) } else { service_name(&value.text()?).map(Some) }
    });
    let filename =
        item.get("filename", report, |value| if value.is_empty() { Ok(String::new()) } else { value.text() });
    let filename = filename.filter(|file| !file.is_empty()).map(PathBuf::from);
    let service = named.unwrap_or(Some(ServiceName::CONTROL));
    let tcp = item.get("tcplisten", report, |value| {
        if value.is_empty() { Ok(None) } else { port_address(&value.text()?).map(Some) }
    });
    // Given and wrong, it is a problem of its own.
    let no_port = tcp.is_none() && item.value("tcplisten").is_none() || tcp == Some(None);
    let tcp = tcp.flatten();
    if service.is_none() && filename.is_none() && no_port {
        report.problem(
            item.mark,
            "control-service",
            "no listeners specified; give `service`, `filename`, `tcplisten` or several of them",
        );
    }
    let mode = item.get("permissions", report, mode).unwrap_or(PERMISSIONS);
    warn_of_decimal_mode(item, mode, report);
    if service.is_some_and(|service| service != ServiceName::CONTROL) {
        let text =
            "other nodes send work to `control`; without a service of that name they cannot reach this one";
        report.warning(item.mark_of("service"), "control-service", text);
    }
    let tls = profiles.server_of(item, "tls", report);
    if tls.is_some() && service.is_none() {
        let text =
            "tls: is for the service on the mesh, and there is none; give `service`, or remove the key";
        report.warning(item.mark_of("tls"), "control-service", text);
    }
    let tcp_tls = profiles.server_of(item, "tcptls", report);
    // Whoever must show a certificate is known.
    let known = tcp_tls.as_ref().is_some_and(|profile| profile.require_client_cert);
    if let Some(address) = tcp.as_ref().filter(|address| !known && !is_local(address)) {
        let next = match &tcp_tls {
            None => "keep others away from it, write 127.0.0.1:PORT, or add `tcptls`".to_owned(),
            Some(profile) => {
                format!("keep others away from it, or give `{}` `requireclientcert: true`", profile.name)
            }
        };
        let text = format!("tcplisten: whoever reaches {address} controls this node; {next}");
        report.warning(item.mark_of("tcplisten"), "control-service", text);
    }
    match &tcp {
        None if tcp_tls.is_some() && no_port => {
            let text = "tcptls: is for the TCP port, and there is none; give `tcplisten`, or remove the key";
            report.warning(item.mark_of("tcptls"), "control-service", text);
        }
        Some(_) if tls.is_some() && tcp_tls.is_none() => {
            let text = "has TLS on the mesh and none on its TCP port; add `tcptls`";
            report.warning(item.mark_of("tcplisten"), "control-service", text);
        }
        _ => {}
    }
    ControlService { service, filename, permissions: mode, tls, tcp, tcp_tls }
}

/// A port, which means all addresses, or `host:port`.
fn port_address(text: &str) -> Converted<String> {
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let number: Option<u16> = port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit()));
    let Some(number) = number else {
        return Err(format!("`{text}` has no port up to 65535; write PORT, or HOST:PORT"));
    };
    let host = if host.is_empty() { ANY.to_owned() } else { bind_host(host)? };
    Ok(format!("{host}:{number}"))
}

/// True for an address that other machines cannot reach.
fn is_local(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || ip.is_some_and(|ip| ip.is_loopback())
}

pub(super) fn service_name(text: &str) -> Converted<ServiceName> {
    let name = ServiceName::new(text).map_err(|error| format!("{error}; use at most 8 bytes"))?;
    if name.is_reserved() {
        return Err(format!("service {text} belongs to the mesh itself; choose another name"));
    }
    if text.chars().any(char::is_control) {
        return Err("a service name has no control characters; choose another name".to_owned());
    }
    Ok(name)
}

pub(super) fn mode(value: &Node) -> Converted<u32> {
    let number = value.integer()?;
    match u32::try_from(number) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        Ok(mode) if written_in_octal_digits(value) => {
            Err(format!("{number} is decimal and would be mode {mode:o}; write it octal, as 0{number}"))
        }
        _ => Err(format!("{number} is no mode; write it octal, between 0 and 0777")),
    }
}

/// Tells of a mode that was most likely meant as another.
pub(super) fn warn_of_decimal_mode(item: &Item, mode: u32, report: &mut Report) {
    if let Some(value) = item.value("permissions")
        && written_in_octal_digits(value)
        && mode <= 0o777
    {
        let text = format!("permissions: decimal, so the mode is {mode:04o}; write octal with a leading 0");
        report.warning(value.mark, item.schema.name, text);
    }
}

/// True for `600`, which looks like a mode and is a decimal number.
fn written_in_octal_digits(value: &Node) -> bool {
    let Content::Scalar(scalar) = &value.content else { return false };
    scalar.text.len() == 3
        && !scalar.text.starts_with('0')
        && scalar.text.chars().all(|c| matches!(c, '0'..='7'))
}
