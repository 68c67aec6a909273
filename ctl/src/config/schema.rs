//! Which sections and keys there are, once for both forms.

/// A section, and what may stand in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Schema {
    /// Its name in the list form. The mapping form says it in the plural, unless `once`.
    pub(super) name: &'static str,
    /// A file has it at most once.
    pub(super) once: bool,
    /// The key that a bare value is for.
    pub(super) bare: Option<&'static str>,
    /// The keys that it cannot do without; among `keys`.
    pub(super) required: &'static [&'static str],
    /// The keys that it takes.
    pub(super) keys: &'static [&'static str],
    /// Keys that Receptor has here and this version does not.
    pub(super) later: &'static [&'static str],
}

const LISTENER: Schema = Schema {
    name: "",
    once: false,
    bare: Some("port"),
    required: &["port"],
    keys: &["port", "bindaddr", "cost", "nodecost", "allowedpeers"],
    later: &["tls"],
};

const PEER: Schema = Schema {
    name: "",
    once: false,
    bare: Some("address"),
    required: &["address"],
    keys: &["address", "redial", "cost", "allowedpeers"],
    later: &["tls"],
};

const PLAIN: Schema = Schema { name: "", once: true, bare: None, required: &[], keys: &[], later: &[] };

/// Every section that is read.
pub(super) static SECTIONS: [Schema; 12] = [
    Schema {
        name: "node",
        bare: Some("id"),
        keys: &[
            "id",
            "datadir",
            "maxidleconnectiontimeout",
            "maxrunning",
            "keepage",
            "keepcount",
            "keepbytes",
            "minfree",
            "receptorkubesupportreconnect",
            "receptorkubeclientsetqps",
            "receptorkubeclientsetburst",
            "receptorkubeclientsetratelimiter",
        ],
        later: &["firewallrules"],
        ..PLAIN
    },
    Schema { name: "local-only", bare: Some("local"), keys: &["local"], ..PLAIN },
    Schema { name: "log-level", bare: Some("level"), keys: &["level"], ..PLAIN },
    Schema { name: "trace", ..PLAIN },
    Schema { name: "tcp-listener", ..LISTENER },
    Schema { name: "quic-listener", ..LISTENER },
    Schema { name: "tcp-peer", ..PEER },
    Schema { name: "quic-peer", ..PEER },
    Schema {
        name: "control-service",
        once: false,
        keys: &["service", "filename", "permissions"],
        later: &["tls", "tcplisten", "tcptls"],
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
        keys: &["privatekey", "tokenexpiration"],
        ..PLAIN
    },
    Schema {
        name: "work-verification",
        bare: Some("publickey"),
        required: &["publickey"],
        keys: &["publickey"],
        ..PLAIN
    },
];

/// Sections that Receptor has and this version does not, in the singular.
pub(super) const LATER: [&str; 21] = [
    "tls-server",
    "tls-client",
    "udp-listener",
    "udp-peer",
    "ws-listener",
    "ws-peer",
    "tcp-server",
    "tcp-client",
    "udp-server",
    "udp-client",
    "unix-socket-server",
    "unix-socket-client",
    "ip-router",
    "iprouter",
    "command-service",
    "work-kubernetes",
    "work-python",
    "cert-init",
    "cert-makereq",
    "cert-signreq",
    "pyroscope-client",
];

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known<T> {
    /// It is read.
    Yes(T),
    /// Receptor has it, this version does not.
    Later,
    /// Nobody has it; the nearest name that is read, if one is near.
    No(Option<&'static str>),
}

/// The section that `name` stands for: lower case, in the singular or plural.
pub(super) fn section(name: &str) -> Known<&'static Schema> {
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
    /// The key of this section that `name` stands for, in lower case.
    pub(super) fn key(&self, name: &str) -> Known<&'static str> {
        if let Some(key) = self.keys.iter().find(|key| **key == name) {
            return Known::Yes(key);
        }
        if self.later.contains(&name) {
            return Known::Later;
        }
        Known::No(nearest(name, self.keys.iter().copied()))
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
        let Known::Yes(work) = section("work-commands") else { panic!() };
        assert_eq!(work.key("allow-runtime-params"), Known::No(Some("allowruntimeparams")));
        assert_eq!(section(&"x".repeat(1_000_000)), Known::No(None));
    }

    #[test]
    fn what_receptor_has_and_we_do_not_is_known() {
        for later in ["tls-servers", "ws-peer", "iprouters", "ip-routers", "work-kubernetes", "cert-init"] {
            assert_eq!(section(later), Known::Later, "{later}");
        }
        let Known::Yes(listener) = section("tcp-listeners") else { panic!() };
        assert_eq!(listener.key("tls"), Known::Later);
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
