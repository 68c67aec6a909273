//! What a certificate says, for people and as JSON.

use std::{path::Path, time::SystemTime};

use netmesh::tls::{CertificateFacts, Lifetime, certificates_in};
use serde::Serialize;

use super::CertError;

/// A certificate, as it is shown. Times are RFC 3339, in UTC.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Shown {
    subject: String,
    issuer: String,
    authority: bool,
    key: String,
    not_before: String,
    not_after: String,
    state: &'static str,
    #[serde(rename = "DNSNames")]
    dns_names: Vec<String>,
    #[serde(rename = "IPAddresses")]
    ip_addresses: Vec<String>,
    #[serde(rename = "NodeIDs")]
    node_ids: Vec<String>,
    #[serde(rename = "SHA256")]
    sha256: String,
}

impl Shown {
    /// How `facts` are shown at `now`.
    pub(crate) fn of(facts: &CertificateFacts, now: SystemTime) -> Shown {
        Shown {
            subject: facts.subject.clone(),
            issuer: facts.issuer.clone(),
            authority: facts.authority,
            key: facts.key.clone(),
            not_before: rfc3339(facts.not_before),
            not_after: rfc3339(facts.not_after),
            state: state(facts.lifetime(now)),
            dns_names: facts.names.dns.clone(),
            ip_addresses: facts.names.ips.iter().map(ToString::to_string).collect(),
            node_ids: facts.names.nodes.clone(),
            sha256: facts.sha256.to_string(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            ("Subject", self.subject.clone()),
            ("Issuer", self.issuer.clone()),
            ("Kind", if self.authority { "authority" } else { "certificate of an end" }.to_owned()),
            ("Key", self.key.clone()),
            ("Valid", format!("{} to {}: {}", self.not_before, self.not_after, self.state)),
        ];
        lines.extend(self.dns_names.iter().map(|name| ("DNS name", name.clone())));
        lines.extend(self.ip_addresses.iter().map(|address| ("IP address", address.clone())));
        lines.extend(self.node_ids.iter().map(|node| ("Node ID", node.clone())));
        lines.push(("SHA-256", self.sha256.clone()));
        lines
            .iter()
            .map(|(what, text)| format!("{what:<11} {}\n", text.replace(char::is_control, "?")))
            .collect()
    }
}

/// What every certificate in the PEM file says: a text, or lines of JSON.
pub(crate) fn show(file: &Path, json: bool) -> Result<String, CertError> {
    let bad = |why| CertError::Read { file: file.to_owned(), why };
    let now = SystemTime::now();
    let all = certificates_in(file).map_err(bad)?;
    let shown = all.iter().map(|(_, facts)| Shown::of(facts, now));
    if json {
        let lines = shown.map(|shown| netmesh::json::to_go_string(&shown) + "\n");
        return Ok(lines.collect());
    }
    Ok(shown.map(|shown| shown.text()).collect::<Vec<_>>().join("\n"))
}

/// A moment of Unix time as text; one beyond all years as the number.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| seconds.to_string())
}

/// Where in its life a certificate is, in a word or two.
pub(crate) fn state(lifetime: Lifetime) -> &'static str {
    match lifetime {
        Lifetime::Good => "valid",
        Lifetime::EndsIn { .. } => "expires soon",
        Lifetime::Expired => "expired",
        Lifetime::NotYet => "not valid yet",
    }
}
