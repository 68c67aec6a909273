//! Which sections and keys there are, once for both forms.

/// A section, and what may stand in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Schema {
    /// Its name in the list form. The mapping form says it in the plural, unless `once`.
    pub(crate) name: &'static str,
    /// A file has it at most once.
    pub(crate) once: bool,
    /// The key that a bare value is for.
    pub(crate) bare: Option<&'static str>,
    /// The keys that it cannot do without; among `keys`.
    pub(crate) required: &'static [&'static str],
    /// The keys that it takes.
    pub(crate) keys: &'static [&'static str],
}

const LISTENER: Schema = Schema {
    name: "",
    once: false,
    bare: Some("port"),
    required: &["port"],
    keys: &[
        "port",
        "bindaddr",
        "cost",
        "nodecost",
        "allowedpeers",
        "heartbeat",
        "heartbeatmissed",
        "heartbeatheard",
        "tls",
    ],
};

/// There is no TLS over datagrams as Receptor sends them.
const UDP_LISTENER: Schema = Schema {
    keys: &[
        "port",
        "bindaddr",
        "cost",
        "nodecost",
        "allowedpeers",
        "heartbeat",
        "heartbeatmissed",
        "heartbeatheard",
    ],
    ..LISTENER
};

const WS_LISTENER: Schema = Schema {
    keys: &[
        "port",
        "bindaddr",
        "path",
        "cost",
        "nodecost",
        "allowedpeers",
        "heartbeat",
        "heartbeatmissed",
        "heartbeatheard",
        "tls",
    ],
    ..LISTENER
};

const PEER: Schema = Schema {
    name: "",
    once: false,
    bare: Some("address"),
    required: &["address"],
    keys: &[
        "address",
        "redial",
        "cost",
        "allowedpeers",
        "heartbeat",
        "heartbeatmissed",
        "heartbeatheard",
        "tls",
    ],
};

const UDP_PEER: Schema = Schema {
    keys: &["address", "redial", "cost", "allowedpeers", "heartbeat", "heartbeatmissed", "heartbeatheard"],
    ..PEER
};

const WS_PEER: Schema = Schema {
    keys: &[
        "address",
        "extraheader",
        "redial",
        "cost",
        "allowedpeers",
        "heartbeat",
        "heartbeatmissed",
        "heartbeatheard",
        "tls",
    ],
    ..PEER
};

const PLAIN: Schema = Schema { name: "", once: true, bare: None, required: &[], keys: &[] };

/// Every section that is read.
pub(super) static SECTIONS: [Schema; 31] = [
    Schema {
        name: "node",
        bare: Some("id"),
        keys: &[
            "id",
            "datadir",
            "maxidleconnectiontimeout",
            "heartbeat",
            "heartbeatmissed",
            "heartbeatheard",
            "stopduplicate",
            "firewallrules",
            "maxrunning",
            "maxunits",
            "keepage",
            "keepcount",
            "keepbytes",
            "minfree",
            "receptorkubesupportreconnect",
            "receptorkubeclientsetqps",
            "receptorkubeclientsetburst",
            "receptorkubeclientsetratelimiter",
        ],
        ..PLAIN
    },
    Schema { name: "local-only", bare: Some("local"), keys: &["local"], ..PLAIN },
    Schema { name: "log-level", bare: Some("level"), keys: &["level"], ..PLAIN },
    Schema { name: "trace", ..PLAIN },
    Schema {
        name: "tls-server",
        once: false,
        required: &["cert", "key", "name"],
        keys: &[
            "name",
            "cert",
            "key",
            "requireclientcert",
            "clientcas",
            "pinnedclientcert",
            "requirenodeid",
            "skipreceptornamescheck",
            "mintls13",
        ],
        ..PLAIN
    },
    Schema {
        name: "tls-client",
        once: false,
        required: &["name"],
        keys: &[
            "name",
            "cert",
            "key",
            "rootcas",
            "insecureskipverify",
            "pinnedservercert",
            "requirenodeid",
            "skipreceptornamescheck",
            "mintls13",
        ],
        ..PLAIN
    },
    Schema { name: "tcp-listener", ..LISTENER },
    Schema { name: "udp-listener", ..UDP_LISTENER },
    Schema { name: "ws-listener", ..WS_LISTENER },
    Schema { name: "quic-listener", ..LISTENER },
    Schema { name: "tcp-peer", ..PEER },
    Schema { name: "udp-peer", ..UDP_PEER },
    Schema { name: "ws-peer", ..WS_PEER },
    Schema { name: "quic-peer", ..PEER },
    Schema {
        name: "control-service",
        once: false,
        keys: &["service", "filename", "permissions", "tls", "tcplisten", "tcptls"],
        ..PLAIN
    },
    Schema {
        name: "tcp-server",
        once: false,
        required: &["port", "remotenode", "remoteservice"],
        keys: &["port", "bindaddr", "remotenode", "remoteservice", "tlsserver", "tlsclient"],
        ..PLAIN
    },
    Schema {
        name: "tcp-client",
        once: false,
        required: &["address", "service"],
        keys: &["service", "address", "tlsserver", "tlsclient"],
        ..PLAIN
    },
    Schema {
        name: "unix-socket-server",
        once: false,
        required: &["filename", "remotenode", "remoteservice"],
        keys: &["filename", "permissions", "remotenode", "remoteservice", "tls"],
        ..PLAIN
    },
    Schema {
        name: "unix-socket-client",
        once: false,
        required: &["filename", "service"],
        keys: &["service", "filename", "tls"],
        ..PLAIN
    },
    Schema {
        name: "udp-server",
        once: false,
        required: &["port", "remotenode", "remoteservice"],
        keys: &["port", "bindaddr", "remotenode", "remoteservice"],
        ..PLAIN
    },
    Schema {
        name: "udp-client",
        once: false,
        required: &["address", "service"],
        keys: &["service", "address"],
        ..PLAIN
    },
    Schema {
        name: "command-service",
        once: false,
        required: &["command", "service"],
        keys: &["service", "command", "tls"],
        ..PLAIN
    },
    Schema {
        name: "ip-router",
        once: false,
        required: &["localnet", "networkname"],
        keys: &["networkname", "interface", "localnet", "routes"],
        ..PLAIN
    },
    Schema {
        name: "work-command",
        once: false,
        required: &["command", "worktype"],
        keys: &[
            "worktype",
            "command",
            "params",
            "allowruntimeparams",
            "verifysignature",
            "stderr",
            "maxrunning",
            "keepage",
            "keepcount",
            "keepbytes",
            "args",
            "user",
            "directory",
            "env",
            "cleanenv",
            "passenv",
            "timeout",
            "maxoutput",
            "limits",
            "stop",
            "allowruntimecommand",
            "allowruntimeuser",
            "allowruntimedirectory",
            "allowruntimeenv",
        ],
        ..PLAIN
    },
    Schema {
        name: "work-signing",
        bare: Some("privatekey"),
        required: &["privatekey"],
        keys: &["privatekey", "tokenexpiration", "keyid"],
        ..PLAIN
    },
    Schema {
        name: "work-verification",
        bare: Some("publickey"),
        keys: &["publickey", "publickeys", "accept"],
        ..PLAIN
    },
    Schema { name: "grants", bare: Some("rules"), keys: &["rules"], ..PLAIN },
    Schema { name: "audit", bare: Some("file"), keys: &["file", "maxsize", "keep", "log"], ..PLAIN },
    Schema {
        name: "cert-init",
        once: false,
        required: &["commonname", "outcert", "outkey"],
        keys: &["commonname", "bits", "notbefore", "notafter", "outcert", "outkey"],
        ..PLAIN
    },
    Schema {
        name: "cert-makereq",
        once: false,
        required: &["commonname", "outreq"],
        keys: &["commonname", "bits", "dnsname", "ipaddress", "nodeid", "outreq", "inkey", "outkey"],
        ..PLAIN
    },
    Schema {
        name: "cert-signreq",
        once: false,
        required: &["cacert", "cakey", "outcert", "req"],
        keys: &["req", "cacert", "cakey", "notbefore", "notafter", "outcert", "verify"],
        ..PLAIN
    },
];

/// Sections that Receptor has and this version does not, in the singular.
pub(super) const LATER: [&str; 3] = ["work-kubernetes", "work-python", "pyroscope-client"];

/// Keys that hold a list of texts: on the command line each further value is one more, and none replaces another.
const LISTS: [&str; 6] =
    ["allowedpeers", "pinnedclientcert", "pinnedservercert", "dnsname", "ipaddress", "nodeid"];

/// True for a key, in any case, that holds a list of texts.
pub(super) fn is_list(key: &str) -> bool {
    LISTS.iter().any(|list| list.eq_ignore_ascii_case(key))
}

/// What is known of a section's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is read.
    Yes(&'static Schema),
    /// Receptor has it, this version does not.
    Later,
    /// Nobody has it; the nearest name that is read, if one is near.
    No(Option<&'static str>),
}

/// The section that `name` stands for: lower case, in the singular or plural.
pub(super) fn section(name: &str) -> Known {
    // Receptor's mapping form says it without the hyphen.
    let name = if matches!(name, "iprouter" | "iprouters") { "ip-router" } else { name };
    let is = |candidate: &str| name == candidate || name.strip_suffix('s') == Some(candidate);
    if let Some(schema) = SECTIONS.iter().find(|schema| is(schema.name)) {
        return Known::Yes(schema);
    }
    if LATER.iter().any(|later| is(later)) {
        return Known::Later;
    }
    Known::No(nearest(name, SECTIONS.iter().map(|schema| schema.name)))
}

impl Schema {
    /// Whether its bare value is a list.
    pub(super) fn takes_list(&self) -> bool {
        self.name == "grants"
    }

    /// The key of this section that `name` stands for, in lower case; or the nearest one, if one is near.
    pub(super) fn key(&self, name: &str) -> Result<&'static str, Option<&'static str>> {
        let key = self.keys.iter().find(|key| **key == name).copied();
        key.ok_or_else(|| nearest(name, self.keys.iter().copied()))
    }
}

/// The candidate that `name` is most likely a slip for.
fn nearest(name: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    // A key of an endless length is no slip, and the comparison takes the product of the lengths.
    if name.len() > 64 {
        return None;
    }
    // Keys have neither hyphens nor underscores in Receptor, which is the commonest slip.
    let squeezed = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
    let name = squeezed(name);
    candidates
        .map(|candidate| (distance(&name, &squeezed(candidate)), candidate))
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters to add, drop, change, or swap with the next to make `a` of `b`.
///
/// Source: optimal string alignment distance.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_name_that_was_meant() {
        for (slip, meant) in
            [("tpc-listener", "tcp-listener"), ("control_service", "control-service"), ("nod", "node")]
        {
            assert_eq!(section(slip), Known::No(Some(meant)), "{slip}");
        }
        assert_eq!(section("banana"), Known::No(None));
        for name in ["iprouters", "iprouter", "ip-routers"] {
            assert_eq!(section(name), section("ip-router"), "{name}");
        }
        let Known::Yes(work) = section("work-commands") else { panic!() };
        assert_eq!(work.key("allow-runtime-params"), Err(Some("allowruntimeparams")));
        assert_eq!(section(&"x".repeat(1_000_000)), Known::No(None));
    }

    #[test]
    fn what_receptor_has_and_we_do_not_is_known() {
        for later in ["work-pythons", "pyroscope-client", "work-kubernetes"] {
            assert_eq!(section(later), Known::Later, "{later}");
        }
    }

    #[test]
    fn every_required_and_bare_key_is_a_key() {
        for schema in &SECTIONS {
            assert!(
                schema.required.iter().chain(&schema.bare).all(|key| schema.keys.contains(key)),
                "{schema:?}"
            );
        }
    }
}
