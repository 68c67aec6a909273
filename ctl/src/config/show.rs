//! What counts in the end: every key of every section with its value, and where that came from.
//!
//! Printed, it is a file of the list form with a remark behind each value: `netmesh node` can be started from it.

use std::{fmt, path::Path};

use netmesh::{json::go_duration, logic::Heartbeat};
use serde_json::{Value, json};

use crate::log::write_on_one_line;

use super::{
    Config, Examined, LogLevel, TOKEN_EXPIRATION,
    check::AGAIN_ELSEWHERE,
    item::Item,
    schema::{SECTIONS, Schema},
    source::{Content, Mark, Node, Scalar},
    yaml11::Plain,
};

/// Stands for a value that is nobody's business.
const HIDDEN: &str = "(hidden)";

/// How far values reach to the right before the remarks begin.
const REMARKS_AT: usize = 48;

/// The sections that count, with all of their keys.
#[derive(Debug)]
pub(crate) struct Shown {
    sections: Vec<Section>,
    /// The socket that is opened though nothing asks for it.
    pub(crate) default_socket: Option<String>,
}

#[derive(Debug)]
struct Section {
    name: &'static str,
    keys: Vec<(&'static str, Given)>,
}

/// The value of a key.
#[derive(Debug, PartialEq)]
enum Given {
    /// It was given, at this place.
    At(String, Text, Value),
    /// Nobody gave it, and this counts.
    Default(Text, Value),
    /// Nobody gave it, and nothing stands in.
    No,
}

/// A value as YAML, on one line.
type Text = String;

impl Examined {
    /// What counts in the end; none while there is a problem.
    pub(crate) fn show(&self, default_socket: impl FnOnce(&Path) -> String) -> Option<Shown> {
        let config = self.config.as_ref()?;
        let counts = |(at, item): &(usize, &Item)| {
            let again = |later: &Item| std::ptr::eq(later.schema, item.schema);
            !(AGAIN_ELSEWHERE.contains(&item.schema.name) && self.items[at + 1..].iter().any(again))
        };
        let given = self.items.iter().enumerate().filter(counts).map(|(_, item)| self.section(item, config));
        let absent = SECTIONS.iter().filter(|schema| ["node", "log-level"].contains(&schema.name));
        let absent = absent.filter(|schema| !self.items.iter().any(|item| item.schema.name == schema.name));
        let sections = absent.map(|schema| absent_section(schema, config)).chain(given).collect();
        let none = config.control_services.iter().all(|control| control.filename.is_none());
        Some(Shown { sections, default_socket: none.then(|| default_socket(&config.datadir)) })
    }

    fn section(&self, item: &Item, config: &Config) -> Section {
        let given = |key: &&'static str| {
            let default = default(item.schema, key, config);
            let Some(value) = item.value(key) else { return (*key, default.map_or(Given::No, from_default)) };
            let place = self.place(item.mark_of(key));
            match default {
                // Written and empty, it says the same as nothing, but for a service, of which there is none then.
                Some((text, value_of)) if value.is_empty() && *key != "service" => {
                    (*key, Given::At(place, text, value_of))
                }
                _ if is_secret(key) => (*key, Given::At(place, quoted(HIDDEN), json!(HIDDEN))),
                _ => (*key, Given::At(place, text_of(value), value_of(value))),
            }
        };
        Section { name: item.schema.name, keys: item.schema.keys.iter().map(given).collect() }
    }

    fn place(&self, mark: Mark) -> String {
        match mark.origin.checked_sub(1).and_then(|at| self.files.get(at)) {
            Some(file) => format!("{}:{}", file.display(), mark.line),
            None => mark.to_string(),
        }
    }
}

fn absent_section(schema: &'static Schema, config: &Config) -> Section {
    let given = |key: &&'static str| (*key, default(schema, key, config).map_or(Given::No, from_default));
    Section { name: schema.name, keys: schema.keys.iter().map(given).collect() }
}

fn from_default((text, value): (Text, Value)) -> Given {
    Given::Default(text, value)
}

/// What counts where a key is not given, or given empty; none where then nothing does.
fn default(section: &Schema, key: &str, config: &Config) -> Option<(Text, Value)> {
    let text = |text: &str| Some((scalar(text), json!(text)));
    let number = |written: &str, number: u32| Some((written.to_owned(), json!(number)));
    let beats = |beats: u8| Some((beats.to_string(), json!(beats)));
    let truth = |truth: bool| Some((truth.to_string(), json!(truth)));
    match (section.name, key) {
        ("node", "id") => text(config.node.as_str()),
        ("node", "datadir") => text(&config.datadir.to_string_lossy()),
        ("node", "maxidleconnectiontimeout") => text(&go_duration(config.idle_limit)),
        ("node", "heartbeat") => text(&go_duration(Heartbeat::default().interval)),
        ("node", "heartbeatmissed") => beats(Heartbeat::default().missed),
        ("node", "heartbeatheard") => beats(Heartbeat::default().heard),
        ("node", "stopduplicate") => truth(false),
        ("node", "minfree") => Some((config.limits.min_free.to_string(), json!(config.limits.min_free))),
        ("log-level", "level") => text(match config.log_level {
            LogLevel::Error => "error",
            LogLevel::Warning => "warning",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }),
        ("local-only", "local") => truth(config.local_only),
        (section, "bindaddr") if section.ends_with("-listener") => text("0.0.0.0"),
        ("tcp-server" | "udp-server", "bindaddr") => text("0.0.0.0"),
        (section, "cost") if section.ends_with("-listener") || section.ends_with("-peer") => number("1", 1),
        ("ws-listener", "path") => text("/"),
        (section, "redial") if section.ends_with("-peer") => truth(true),
        ("control-service", "service") => text("control"),
        ("control-service" | "unix-socket-server", "permissions") => number("0600", 0o600),
        ("tls-server", "requireclientcert" | "skipreceptornamescheck" | "mintls13")
        | ("tls-client", "insecureskipverify" | "skipreceptornamescheck" | "mintls13") => truth(false),
        ("work-command", "allowruntimeparams" | "verifysignature") => truth(false),
        ("work-command", "stderr") => text("merge"),
        ("work-signing", "tokenexpiration") => text(&go_duration(TOKEN_EXPIRATION)),
        _ => None,
    }
}

/// True for a name whose value may let somebody in.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "password", "passwd", "credential", "authtoken", "apikey", "extraheader"]
        .iter()
        .any(|word| name.contains(word))
}

/// A value as JSON, by the rules of YAML 1.1.
fn value_of(node: &Node) -> Value {
    match &node.content {
        Content::Scalar(scalar) => match scalar.meaning() {
            Plain::Null => Value::Null,
            Plain::Bool(truth) => json!(truth),
            Plain::Int(number) => i64::try_from(number).map_or_else(|_| json!(scalar.text), |n| json!(n)),
            Plain::Float(number) if number.is_finite() => json!(number),
            Plain::Float(_) | Plain::Text => json!(scalar.text),
        },
        Content::List(nodes) => nodes.iter().map(value_of).collect(),
        Content::Map(entries) => {
            entries.iter().map(|(key, value)| (name_of(key), entry_of(key, value))).collect()
        }
    }
}

fn entry_of(key: &Node, value: &Node) -> Value {
    if is_secret(&name_of(key)) { json!(HIDDEN) } else { value_of(value) }
}

fn name_of(key: &Node) -> String {
    key.text().unwrap_or_default()
}

/// A value as YAML on one line.
fn text_of(node: &Node) -> Text {
    match &node.content {
        // As it was written: a leading zero says that a number is octal.
        Content::Scalar(Scalar { text, plain: true }) if is_plain(text) => text.clone(),
        Content::Scalar(Scalar { plain: true, .. }) if node.is_null() => "null".to_owned(),
        Content::Scalar(Scalar { text, .. }) => scalar(text),
        Content::List(nodes) => format!("[{}]", nodes.iter().map(text_of).collect::<Vec<_>>().join(", ")),
        Content::Map(entries) => {
            let entry = |(key, value): &(Node, Node)| {
                let hidden = is_secret(&name_of(key));
                format!("{}: {}", text_of(key), if hidden { quoted(HIDDEN) } else { text_of(value) })
            };
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text as YAML.
fn scalar(text: &str) -> Text {
    let meant = Scalar { text: text.to_owned(), plain: true }.meaning();
    if meant == Plain::Text && is_plain(text) { text.to_owned() } else { quoted(text) }
}

/// True for what needs no quotes, anywhere.
fn is_plain(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric() || c == '/';
    text.starts_with(ends)
        && text.ends_with(ends)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@".contains(c))
}

/// A text in the quotes of JSON, which YAML reads too.
fn quoted(text: &str) -> Text {
    json!(text).to_string()
}

impl Shown {
    /// For machines: sections in order, each key with `value` and `from`.
    pub(crate) fn to_json(&self) -> Value {
        let key = |(key, given): &(&str, Given)| {
            let (value, from) = match given {
                Given::At(place, _, value) => (value.clone(), place.as_str()),
                Given::Default(_, value) => (value.clone(), "default"),
                Given::No => (Value::Null, "default"),
            };
            ((*key).to_owned(), json!({"value": value, "from": from}))
        };
        let section = |section: &Section| {
            let keys: serde_json::Map<String, Value> = section.keys.iter().map(key).collect();
            json!({"section": section.name, "keys": keys})
        };
        let sections: Vec<Value> = self.sections.iter().map(section).collect();
        json!({"sections": sections, "default_socket": self.default_socket})
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |text: &str| {
            write_on_one_line(f, text)?;
            f.write_str("\n")
        };
        for Section { name, keys } in &self.sections {
            line(&format!("- {name}:"))?;
            for (key, given) in keys {
                let (said, from) = match given {
                    Given::At(place, text, _) => (format!("    {key}: {text}"), place.as_str()),
                    Given::Default(text, _) => (format!("    {key}: {text}"), "default"),
                    Given::No => (format!("    # {key}"), "not set"),
                };
                line(&format!("{said:<REMARKS_AT$} # {from}"))?;
            }
        }
        if let Some(socket) = &self.default_socket {
            line(&format!("# No control-service has a filename, so clients find the socket {socket}"))?;
        }
        Ok(())
    }
}
