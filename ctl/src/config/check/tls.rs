//! Profiles of TLS: what is shown to the other end, and what it must show.
//!
//! Their files are read here, so that whatever is wrong with them is told before anything starts.

use std::{collections::BTreeMap, path::PathBuf, time::SystemTime};

use netmesh::{
    id::NodeId,
    tls::{
        CertificateFacts, ClientProfile, ClientSettings, Fingerprint, NodeIdRule, ProfileError,
        ServerProfile, ServerSettings,
    },
};

use super::super::{
    item::Item,
    problem::Report,
    source::{Content, Node},
    value::Converted,
};

/// The profile that counts where none is named.
const DEFAULT: &str = "default";

/// All profiles of a file by name; `None` is one that has faults, which are noted.
pub(in super::super) struct Profiles {
    servers: BTreeMap<String, Option<ServerSettings>>,
    clients: BTreeMap<String, Option<ClientSettings>>,
}

impl Profiles {
    /// Reads every `tls-server` and `tls-client`, and the files that they name.
    pub(in super::super) fn read(items: &[Item], node: Option<&NodeId>, report: &mut Report) -> Profiles {
        let mut profiles = Profiles { servers: BTreeMap::new(), clients: BTreeMap::new() };
        for item in items.iter().filter(|item| matches!(item.schema.name, "tls-server" | "tls-client")) {
            let Some(name) = item.get("name", report, not_empty) else { continue };
            let again = match item.schema.name {
                "tls-server" => {
                    profiles.servers.insert(name.clone(), server(item, &name, node, report)).is_some()
                }
                _ => profiles.clients.insert(name.clone(), client(item, &name, node, report)).is_some(),
            };
            if again {
                let text = format!("name: `{name}` stands above already; this one counts, remove the other");
                report.warning(item.mark_of("name"), item.schema.name, text);
            }
        }
        profiles
    }

    /// Every profile of an end that is called.
    pub(super) fn servers(&self) -> Vec<ServerSettings> {
        self.servers.values().flatten().cloned().collect()
    }

    /// Every profile of an end that calls.
    pub(in super::super) fn clients(&self) -> Vec<ClientSettings> {
        self.clients.values().flatten().cloned().collect()
    }

    /// What counts where `wss` is called and no profile named. Receptor then looks for one called `default`, and has none;
    /// here, where nobody has written one, the authorities of the system are trusted, as a browser would.
    pub(super) fn default_client(&self) -> ClientSettings {
        let own = self.clients.get(DEFAULT).cloned().flatten();
        own.unwrap_or_else(|| ClientSettings {
            name: DEFAULT.to_owned(),
            identity: None,
            root_cas: None,
            insecure_skip_verify: false,
            pinned: Vec::new(),
            min_tls13: false,
            own_node: None,
            node_id_rule: NodeIdRule::default(),
        })
    }

    /// The `tls-server` that `key` of `item` names, if it names one.
    pub(super) fn server_of(&self, item: &Item, key: &str, report: &mut Report) -> Option<ServerSettings> {
        let other = |name: &str| self.clients.contains_key(name).then_some("tls-client");
        find(&self.servers, "tls-server", other, item, key, report)
    }

    /// The `tls-client` that `key` of `item` names, if it names one.
    pub(super) fn client_of(&self, item: &Item, key: &str, report: &mut Report) -> Option<ClientSettings> {
        let other = |name: &str| self.servers.contains_key(name).then_some("tls-server");
        find(&self.clients, "tls-client", other, item, key, report)
    }
}

fn find<T: Clone>(
    all: &BTreeMap<String, Option<T>>,
    section: &str,
    other: impl Fn(&str) -> Option<&'static str>,
    item: &Item,
    key: &str,
    report: &mut Report,
) -> Option<T> {
    let name = item.get(key, report, text)??;
    match all.get(&name) {
        Some(profile) => profile.clone(),
        None => {
            let text = match other(&name) {
                Some(other) => format!(
                    "{key}: unknown TLS config {name}: this end needs a `{section}`, and `{name}` is a `{other}`; name a `{section}`"
                ),
                None => format!("{key}: unknown TLS config {name}; add a `{section}` of that name"),
            };
            report.problem(item.mark_of(key), item.schema.name, text);
            None
        }
    }
}

fn server(item: &Item, name: &str, node: Option<&NodeId>, report: &mut Report) -> Option<ServerSettings> {
    let flag = |key, report: &mut Report| item.get(key, report, Node::boolean).unwrap_or(false);
    let cert = item.get("cert", report, not_empty);
    let key = item.get("key", report, not_empty);
    let client_cas = item.get("clientcas", report, text).flatten();
    let pinned = item.get("pinnedclientcert", report, pins).unwrap_or_default();
    let settings = ServerSettings {
        name: name.to_owned(),
        require_client_cert: flag("requireclientcert", report),
        client_cas: client_cas.map(PathBuf::from),
        pinned,
        min_tls13: flag("mintls13", report),
        own_node: node.filter(|_| !flag("skipreceptornamescheck", report)).cloned(),
        node_id_rule: item.get("requirenodeid", report, node_id_rule).unwrap_or_default(),
        cert: cert?.into(),
        key: key?.into(),
    };
    if settings.node_id_rule == NodeIdRule::Required && !settings.asks_callers() {
        let text = "requirenodeid: callers are asked for no certificate; add `requireclientcert: true` and `clientcas`";
        report.problem(item.mark_of("requirenodeid"), "tls-server", text);
    }
    if !settings.pinned.is_empty() && !settings.require_client_cert {
        let text = "pinnedclientcert: a caller that shows no certificate is let in all the same; add `requireclientcert: true`";
        report.warning(item.mark_of("pinnedclientcert"), "tls-server", text);
    }
    let loaded = ServerProfile::load(settings.clone()).map(|profile| profile.facts());
    told(item, loaded, report).then_some(settings)
}

fn client(item: &Item, name: &str, node: Option<&NodeId>, report: &mut Report) -> Option<ClientSettings> {
    let flag = |key, report: &mut Report| item.get(key, report, Node::boolean).unwrap_or(false);
    let (cert, key) = (item.get("cert", report, text).flatten(), item.get("key", report, text).flatten());
    let identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => {
            let text = "cert and key must both be supplied or neither; add the other";
            report.problem(item.mark, "tls-client", text);
            return None;
        }
    };
    let root_cas = item.get("rootcas", report, text).flatten();
    let settings = ClientSettings {
        name: name.to_owned(),
        identity,
        root_cas: root_cas.map(PathBuf::from),
        insecure_skip_verify: flag("insecureskipverify", report),
        pinned: item.get("pinnedservercert", report, pins).unwrap_or_default(),
        min_tls13: flag("mintls13", report),
        own_node: node.filter(|_| !flag("skipreceptornamescheck", report)).cloned(),
        node_id_rule: item.get("requirenodeid", report, node_id_rule).unwrap_or_default(),
    };
    if settings.insecure_skip_verify {
        let (mark, pinned) = (item.mark_of("insecureskipverify"), !settings.pinned.is_empty());
        if settings.node_id_rule == NodeIdRule::Required && !pinned {
            let text = "requirenodeid: with `insecureskipverify` a certificate proves nothing; remove one of the two";
            report.problem(item.mark_of("requirenodeid"), "tls-client", text);
        } else if !pinned {
            let text = "insecureskipverify: anyone can be the other end; give `rootcas` instead";
            report.warning(mark, "tls-client", text);
        }
    }
    let loaded = ClientProfile::load(settings.clone()).map(|profile| profile.facts());
    told(item, loaded, report).then_some(settings)
}

/// Notes what is wrong with the files of a profile; true if they can be used.
fn told(item: &Item, loaded: Result<Vec<CertificateFacts>, ProfileError>, report: &mut Report) -> bool {
    let section = item.schema.name;
    match loaded {
        Ok(facts) => {
            let now = SystemTime::now();
            for warning in facts.iter().filter_map(|facts| facts.warning(now)) {
                report.warning(item.mark, section, warning);
            }
            true
        }
        Err(ProfileError { option, text }) => {
            let text = match text.contains(';') {
                true => text,
                false => format!("{text}; name a PEM file that this node can use"),
            };
            report.problem(item.mark_of(option), section, format!("{option}: {text}"));
            false
        }
    }
}

fn not_empty(value: &Node) -> Converted<String> {
    text(value)?.ok_or_else(|| "is empty; give a value".to_owned())
}

/// Text, or nothing where nothing is written.
fn text(value: &Node) -> Converted<Option<String>> {
    if value.is_empty() { Ok(None) } else { value.text().map(Some) }
}

fn pins(value: &Node) -> Converted<Vec<Fingerprint>> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let pin = |text: &String| {
        Fingerprint::parse(text).map_err(|error| {
            format!("`{text}`: {error}; write what `openssl x509 -noout -fingerprint -sha256` prints behind the `=`")
        })
    };
    value.texts()?.iter().map(pin).collect()
}

/// `off` is a word of YAML for false.
fn node_id_rule(value: &Node) -> Converted<NodeIdRule> {
    if value.is_empty() {
        return Ok(NodeIdRule::IfNamed);
    }
    if let Content::Scalar(scalar) = &value.content
        && scalar.text.eq_ignore_ascii_case("off")
    {
        return Ok(NodeIdRule::Off);
    }
    match value.boolean() {
        Ok(true) => Ok(NodeIdRule::Required),
        Ok(false) => Ok(NodeIdRule::Off),
        Err(_) => Err("is neither `true` nor `off`; write one of these, or remove the key".to_owned()),
    }
}
