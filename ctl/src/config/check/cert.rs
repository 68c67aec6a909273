//! Certificates that a file asks to be made. Such a file describes no node.

use std::path::PathBuf;

use netmesh::tls::{issue::Validity, names::Names};

use super::super::{item::Item, problem::Report, source::Node, value::Converted};
use crate::certificate::{Job, ip_address, key_file, key_kind, moment};

/// The sections, in the order in which they are carried out: one file may make a whole set.
const SECTIONS: [&str; 3] = ["cert-init", "cert-makereq", "cert-signreq"];

/// True for what belongs here.
pub(in super::super) fn is_one(item: &Item) -> bool {
    SECTIONS.contains(&item.schema.name)
}

/// What `items` ask for, all of it or what is wrong.
pub(in super::super) fn jobs(items: &[Item], report: &mut Report) -> Vec<Job> {
    let of = |section| items.iter().filter(move |item| item.schema.name == section);
    if let (Some(certificate), Some(other)) =
        (items.iter().find(|item| is_one(item)), items.iter().find(|item| !is_one(item)))
    {
        let text = format!(
            "cannot specify any other options with {}; move one of the two to a file of its own",
            certificate.schema.name
        );
        report.problem(other.mark, other.schema.name, text);
    }
    SECTIONS.into_iter().flat_map(of).filter_map(|item| job(item, report)).collect()
}

fn job(item: &Item, report: &mut Report) -> Option<Job> {
    let common_name = item.get("commonname", report, |value| match not_empty(value) {
        Err(_) => Err("must provide CommonName; give a name".to_owned()),
        name => name,
    });
    let path = |key, report: &mut Report| item.get(key, report, not_empty).map(PathBuf::from);
    let optional = |key, report: &mut Report| item.get(key, report, text).flatten().map(PathBuf::from);
    let validity = Validity {
        not_before: item.get("notbefore", report, when).flatten(),
        not_after: item.get("notafter", report, when).flatten(),
    };
    let bits = item.get("bits", report, bits).flatten();
    match item.schema.name {
        "cert-init" => {
            let (out_cert, out_key) = (path("outcert", report), path("outkey", report));
            Some(Job::Authority {
                common_name: common_name?,
                key: key_kind(bits),
                validity,
                out_cert: out_cert?,
                out_key: out_key?,
            })
        }
        "cert-makereq" => {
            let list = |key, report: &mut Report| item.get(key, report, texts).unwrap_or_default();
            let ips = item.get("ipaddress", report, |value| {
                let all = texts(value)?;
                all.iter()
                    .map(|text| ip_address(text).map_err(|error| format!("{error}; write it like 10.0.0.1")))
                    .collect()
            });
            let names = Names {
                dns: list("dnsname", report),
                ips: ips.unwrap_or_default(),
                nodes: list("nodeid", report),
            };
            let key = key_file(optional("inkey", report), optional("outkey", report), bits);
            let key = key.map_err(|why| report.problem(item.mark, item.schema.name, why)).ok();
            let out_req = path("outreq", report);
            Some(Job::Request { common_name: common_name?, names, key: key?, out_req: out_req? })
        }
        _ => {
            let verified = item.get("verify", report, Node::boolean).unwrap_or(false);
            let [req, ca_cert, ca_key, out_cert] =
                ["req", "cacert", "cakey", "outcert"].map(|key| path(key, report));
            Some(Job::Sign {
                req: req?,
                ca_cert: ca_cert?,
                ca_key: ca_key?,
                validity,
                verified,
                out_cert: out_cert?,
            })
        }
    }
}

fn not_empty(value: &Node) -> Converted<String> {
    text(value)?.ok_or_else(|| "is empty; give a value".to_owned())
}

fn text(value: &Node) -> Converted<Option<String>> {
    if value.is_empty() { Ok(None) } else { value.text().map(Some) }
}

fn texts(value: &Node) -> Converted<Vec<String>> {
    if value.is_empty() { Ok(Vec::new()) } else { value.texts() }
}

fn when(value: &Node) -> Converted<Option<time::OffsetDateTime>> {
    text(value)?.map(|text| moment(&text)).transpose()
}

/// 0 means 2048, as in Receptor; none given is no RSA key.
fn bits(value: &Node) -> Converted<Option<u32>> {
    match value.integer()? {
        0 => Ok(Some(2048)),
        bits @ (2048 | 3072 | 4096 | 8192) => Ok(Some(bits as u32)),
        other => Err(format!(
            "an RSA key of {other} bits cannot be made; give 2048, 3072, 4096 or 8192, or none for an ECDSA key"
        )),
    }
}
