//! Every section and key that Receptor's specification has, in its order: each is taken, or refused by a refusal that names
//! it; in the list form, in the mapping form and on the command line.

use std::{collections::BTreeSet, fs, path::Path};

use super::{super::schema, options};
use crate::config::{Examined, Sources};

/// What becomes of a section.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// It is read; `{}` in the keys that it cannot do without stands for the directory of the fixtures.
    Taken(&'static str),
    /// It is refused, whatever it holds.
    Refused,
}
use Fate::{Refused, Taken};

/// Section, its fate, and its keys with a value each.
type Row = (&'static str, Fate, &'static [(&'static str, &'static str)]);

const LISTENER: &[(&str, &str)] = &[
    ("port", "0"),
    ("bindaddr", "127.0.0.1"),
    ("cost", "1.5"),
    ("nodecost", "{\"a\": 2.0}"),
    ("allowedpeers", "[\"a\"]"),
];
const PEER: &[(&str, &str)] =
    &[("address", "a:1"), ("redial", "false"), ("cost", "1.5"), ("allowedpeers", "[\"a\"]")];
const WS_PEER: &[(&str, &str)] =
    &[("address", "ws://a:1/"), ("redial", "false"), ("cost", "1.5"), ("allowedpeers", "[\"a\"]")];

#[rustfmt::skip]
const SPEC: &[Row] = &[
    // 2.1
    ("node", Taken("id=foo"), &[
        ("id", "foo"), ("datadir", "/d"), ("firewallrules", "[{\"action\": \"accept\", \"fromnode\": \"/a.*/\"}]"),
        ("maxidleconnectiontimeout", "1m30s"), ("receptorkubesupportreconnect", "auto"), ("receptorkubeclientsetqps", "100"),
        ("receptorkubeclientsetburst", "1000"), ("receptorkubeclientsetratelimiter", "never"),
    ]),
    // 2.2, 2.3, 2.4
    ("local-only", Taken(""), &[("local", "true")]),
    ("log-level", Taken(""), &[("level", "WARNING")]),
    ("trace", Taken(""), &[]),
    // 2.5, 2.6
    ("tls-server", Taken("name=s cert={}/node.crt key={}/node.key"), &[
        ("name", "s2"), ("cert", "{}/node.crt"), ("key", "{}/node.key"), ("requireclientcert", "true"), ("clientcas", "{}/ca.crt"),
        ("pinnedclientcert", "[\"0102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1e1f20\"]"),
        ("skipreceptornamescheck", "true"), ("mintls13", "true"),
    ]),
    ("tls-client", Taken("name=c cert={}/node.crt key={}/node.key rootcas={}/ca.crt"), &[
        ("name", "c2"), ("cert", "{}/node.crt"), ("key", "{}/node.key"), ("rootcas", "{}/ca.crt"), ("insecureskipverify", "true"),
        ("pinnedservercert", "[\"0102030405060708090A0B0C0D0E0F101112131415161718191a1b1c1d1e1f20\"]"),
        ("skipreceptornamescheck", "true"), ("mintls13", "true"),
    ]),
    // 2.7, 2.8
    ("tcp-listener", Taken("port=0"), LISTENER),
    ("tcp-listener", Taken("port=0"), &[("tls", "srv")]),
    ("udp-listener", Taken("port=0"), LISTENER),
    ("ws-listener", Taken("port=0"), LISTENER),
    ("ws-listener", Taken("port=0"), &[("tls", "srv"), ("path", "/")]),
    ("tcp-peer", Taken("address=a:1"), PEER),
    ("tcp-peer", Taken("address=a:1"), &[("tls", "cl")]),
    ("udp-peer", Taken("address=a:1"), PEER),
    ("ws-peer", Taken("address=ws://a:1"), WS_PEER),
    ("ws-peer", Taken("address=wss://a:1"), &[("tls", "cl"), ("extraheader", "A: b")]),
    // 2.9
    ("control-service", Taken(""), &[
        ("service", "control"), ("filename", "/run/foo.sock"), ("permissions", "0660"), ("tls", "srv"),
        ("tcplisten", "127.0.0.1:8888"), ("tcptls", "srv"),
    ]),
    // 2.10
    ("command-service", Refused, &[("service", "s"), ("command", "c"), ("tls", "srv")]),
    ("tcp-server", Taken("port=1 remotenode=a remoteservice=s"), &[("port", "1"), ("bindaddr", "::1"), ("remotenode", "a"), ("remoteservice", "s"), ("tlsserver", "srv"), ("tlsclient", "cl")]),
    ("tcp-client", Taken("service=s address=a:1"), &[("service", "s"), ("address", "a:1"), ("tlsserver", "srv"), ("tlsclient", "cl")]),
    ("udp-server", Refused, &[("port", "1"), ("bindaddr", "::1"), ("remotenode", "a"), ("remoteservice", "s")]),
    ("udp-client", Refused, &[("service", "s"), ("address", "a:1")]),
    ("unix-socket-server", Taken("filename=/f remotenode=a remoteservice=s"), &[("filename", "/f"), ("permissions", "0600"), ("remotenode", "a"), ("remoteservice", "s"), ("tls", "cl")]),
    ("unix-socket-client", Taken("service=s filename=/f"), &[("service", "s"), ("filename", "/f"), ("tls", "srv")]),
    ("ip-router", Refused, &[("networkname", "n"), ("interface", "i"), ("localnet", "10.0.0.0/30"), ("routes", "10.1.0.0/16")]),
    // 2.11, 2.12, 2.13
    ("work-command", Taken("worktype=w command=c"), &[
        ("worktype", "w2"), ("command", "c"), ("params", "-x"), ("allowruntimeparams", "true"), ("verifysignature", "true"),
    ]),
    ("work-kubernetes", Refused, &[
        ("worktype", "w"), ("authmethod", "incluster"), ("namespace", "n"), ("kubeconfig", "/k"), ("image", "i"), ("command", "c"),
        ("params", "p"), ("pod", "/p"), ("allowruntimeauth", "true"), ("allowruntimecommand", "true"), ("allowruntimeparams", "true"),
        ("allowruntimepod", "true"), ("deletepodonrestart", "true"), ("streammethod", "tcp"), ("verifysignature", "true"),
    ]),
    ("work-python", Refused, &[("worktype", "w"), ("plugin", "p"), ("function", "f"), ("config", "{\"a\": 1}")]),
    // 2.14
    ("work-signing", Taken("privatekey={}/private.pem"), &[("privatekey", "{}/private.pem"), ("tokenexpiration", "1h30m")]),
    ("work-verification", Taken("publickey={}/public.pem"), &[("publickey", "{}/public.pem")]),
    // 2.15, section 5
    ("cert-init", Taken("commonname=a outcert=/c outkey=/k"), &[
        ("commonname", "a"), ("bits", "2048"), ("notbefore", "2030-01-01T00:00:00Z"), ("notafter", "2031-01-01T00:00:00Z"),
        ("outcert", "/c"), ("outkey", "/k"),
    ]),
    ("cert-makereq", Taken("commonname=a outreq=/r outkey=/k bits=2048"), &[
        ("commonname", "a"), ("bits", "2048"), ("dnsname", "[\"a\"]"), ("ipaddress", "[\"10.0.0.1\"]"), ("nodeid", "[\"a\"]"), ("outreq", "/r"),
        ("outkey", "/k"),
    ]),
    ("cert-makereq", Taken("commonname=a outreq=/r inkey=/k"), &[("inkey", "/k")]),
    ("cert-signreq", Taken("req=/r cacert=/c cakey=/k outcert=/o"), &[
        ("req", "/r"), ("cacert", "/c"), ("cakey", "/k"), ("outcert", "/o"), ("notbefore", "2030-01-01T00:00:00Z"),
        ("notafter", "2031-01-01T00:00:00Z"), ("verify", "true"),
    ]),
    ("version", Refused, &[]),
    // 2.16, 2.17
    ("command-runner", Refused, &[("command", "c"), ("params", "p"), ("unitdir", "/u")]),
    ("pyroscope-client", Refused, &[]),
];

/// Certificates, keys, and the profiles that others name.
struct Fixtures(tempfile::TempDir);

impl Fixtures {
    fn new() -> Fixtures {
        use netmesh::tls::{issue, names::Names};
        let fixtures = Fixtures(tempfile::tempdir().unwrap());
        let key = issue::Key::generate(issue::KeyKind::Ecdsa).unwrap();
        let ca = issue::authority("ca", &key, Default::default()).unwrap();
        let names = Names { nodes: vec!["foo".to_owned()], ..Names::default() };
        let asked = issue::request("foo", &names, &key).unwrap();
        let asked = issue::Request::from_pem(asked.as_bytes()).unwrap();
        let signed = asked.sign(ca.as_bytes(), &key, Default::default()).unwrap();
        for (file, text) in [
            ("ca.crt", ca),
            ("node.crt", signed),
            ("node.key", key.to_pem().unwrap()),
            ("private.pem", "-----BEGIN RSA PRIVATE KEY-----\n".to_owned()),
            ("public.pem", "-----BEGIN PUBLIC KEY-----\n".to_owned()),
        ] {
            fs::write(fixtures.0.path().join(file), text).unwrap();
        }
        fixtures
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// What else a configuration needs in which `section` stands, as arguments.
    fn beside(&self, section: &str) -> String {
        if section.starts_with("cert-") {
            return String::new(); // such a configuration holds nothing else
        }
        let others = [
            ("node", "--node id=foo"),
            ("tls-server", "--tls-server name=srv cert={}/node.crt key={}/node.key"),
            ("tls-client", "--tls-client name=cl rootcas={}/ca.crt"),
            ("work-verification", "--work-verification publickey={}/public.pem"),
            ("local-only", "--local-only"),
        ];
        others.iter().filter(|(name, _)| *name != section).map(|(_, words)| format!("{words} ")).collect()
    }

    /// The keys of a row's section in one configuration: those it needs, and `key` with its value.
    fn keys(&self, needed: &str, key: Option<(&str, &str)>) -> Vec<(String, String)> {
        let fill = |text: &str| text.replace("{}", &self.path().display().to_string());
        let needed = needed.split_whitespace().filter_map(|word| word.split_once('='));
        let mut keys: Vec<_> = needed.map(|(name, value)| (name.to_owned(), fill(value))).collect();
        if let Some((name, value)) = key {
            keys.retain(|(known, _)| known != name);
            keys.push((name.to_owned(), fill(value)));
        }
        keys
    }

    /// What is wrong with a section in each form: list, mapping, command line.
    fn problems(&self, section: &str, keys: &[(String, String)]) -> [Vec<String>; 3] {
        // Written in JSON, which is YAML; a word stands for itself, and everything else as it is.
        let map: Vec<String> = keys
            .iter()
            .map(|(key, value)| {
                let plain = value.starts_with(['[', '{']) || value.starts_with("06");
                if plain { format!("{key}: {value}") } else { format!("{key}: {value:?}") }
            })
            .collect();
        let map = format!("{{{}}}", map.join(", "));
        let words = |text: &str| text.split_whitespace().map(Into::into).collect::<Vec<std::ffi::OsString>>();
        let beside = words(&self.beside(section).replace("{}", &self.path().display().to_string()));
        let of_text = |text: String| {
            let file = self.path().join("spec.yml");
            fs::write(&file, text).unwrap();
            let mut sources = Sources::file(&file);
            sources.add_arguments((1..).zip(beside.iter().cloned()));
            told(&sources)
        };
        let mut line = words(&format!("--{section}"));
        line.extend(keys.iter().map(|(key, value)| format!("{key}={value}").into()));
        let mut sources = Sources::default();
        sources.add_arguments((1..).zip(beside.iter().cloned().chain(line)));
        [of_text(format!("- {section}: {map}\n")), of_text(format!("{section}: {map}\n")), told(&sources)]
    }
}

fn told(sources: &Sources) -> Vec<String> {
    Examined::of(sources, &options()).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn every_section_and_key_of_the_specification_is_taken_or_refused_by_name_in_every_form() {
    let fixtures = Fixtures::new();
    let mut looked_at = 0;
    for (section, fate, keys) in SPEC {
        let needed = if let Taken(needed) = fate { needed } else { "" };
        let rows = std::iter::once(None).chain(keys.iter().map(|(key, value)| Some((*key, *value))));
        for row in rows {
            let forms = fixtures.problems(section, &fixtures.keys(needed, row));
            for (form, problems) in ["list", "mapping", "arguments"].iter().zip(&forms) {
                looked_at += 1;
                match fate {
                    Taken(_) => assert!(problems.is_empty(), "{section} {row:?} as {form}: {problems:#?}"),
                    Refused if problems.is_empty() => {
                        // In the mapping form `version` is its number, and an empty section asks for nothing.
                        let nothing = *form == "mapping" && row.is_none();
                        assert!(nothing, "{section} {row:?} as {form} is taken");
                    }
                    Refused => {
                        let named = problems.iter().any(|problem| problem.contains(section));
                        assert!(named, "{section} {row:?} as {form}: {problems:#?}");
                    }
                }
            }
        }
    }
    assert!(looked_at > 300, "{looked_at}");
}

#[test]
fn the_table_above_misses_nothing_that_is_read_and_is_receptors() {
    // What is ours alone; the guide says so.
    let ours = [
        "node.maxrunning",
        "node.keepage",
        "node.keepcount",
        "node.keepbytes",
        "node.minfree",
        "node.maxunits",
        "node.stopduplicate",
        "work-signing.keyid",
        "work-verification.publickeys",
        "work-verification.accept",
        "tls-server.requirenodeid",
        "tls-client.requirenodeid",
    ];
    let listed: BTreeSet<String> = SPEC
        .iter()
        .flat_map(|(section, _, keys)| keys.iter().map(move |(key, _)| format!("{section}.{key}")))
        .collect();
    for section in schema::SECTIONS.iter().filter(|section| !["grants", "audit"].contains(&section.name)) {
        let quic = section.name.starts_with("quic-");
        assert!(quic || SPEC.iter().any(|(name, ..)| *name == section.name), "{}", section.name);
        for key in section.keys.iter().map(|key| format!("{}.{key}", section.name)) {
            let more = section.name == "work-command"; // what a sandbox adds
            assert!(
                quic || more || key.contains(".heartbeat") || listed.contains(&key) || ours.contains(&&*key),
                "{key} is in neither list"
            );
        }
    }
}
