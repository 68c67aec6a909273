//! What every unit may be told besides its work: how long, until when, how much, how long kept.
//!
//! ```text
//! {"timeout":"1h20m30s","ttl":"10m0s","not_before":"2026-11-21T04:00:00Z",
//!  "max_output":{"bytes":1048576,"then":"truncate"},"keep":"168h0m0s"}
//! ```
//! A key that this version does not know is refused, so that nobody believes in a promise that is not kept.

use std::{fmt, str::FromStr, time::Duration};

use netmesh::json::{BadDuration, go_duration, parse_go_duration};
use serde::{Deserialize, Serialize};

use crate::unit::Moment;

/// What every unit may be told besides its work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Meta {
    /// How long it may run; the work type's own limit holds too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// From its creation until it must have started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// It does not start earlier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Moment>,
    /// How much it may write; the work type's own limit holds too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output: Option<MaxOutput>,
    /// How long it is kept after its end before the node releases it by itself; nothing is kept longer than its work
    /// type's `keep` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<Span>,
}

/// How much a command may write, stdout and stderr together, and what happens to one that writes more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxOutput {
    /// In bytes.
    pub bytes: u64,
    /// What happens then.
    #[serde(default)]
    pub then: Excess,
}

/// What happens to a command that writes more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Excess {
    /// It is stopped, and has failed.
    #[default]
    Kill,
    /// It runs on, and what it writes from then on is thrown away.
    Truncate,
}

/// A stretch of time, written as Go writes durations: `1h20m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Span(pub Duration);

/// A number of bytes, written `1048576`, `64KiB`, `10MiB`, `2GiB`, or with the powers of ten `kB`, `MB`, `GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size: write a number of bytes, or one with KiB, MiB, GiB or TiB behind it")]
pub struct BadSize(pub String);

/// Why a text is no limit of output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMaxOutput {
    /// Its size.
    #[error(transparent)]
    Size(#[from] BadSize),
    /// What is to happen then.
    #[error("{0:?} is unknown: write `truncate` or `kill` behind the size, as in 10MiB:truncate")]
    Excess(String),
}

impl From<Span> for String {
    fn from(span: Span) -> String {
        go_duration(span.0)
    }
}

impl TryFrom<String> for Span {
    type Error = BadDuration;
    fn try_from(text: String) -> Result<Span, BadDuration> {
        text.parse()
    }
}

impl FromStr for Span {
    type Err = BadDuration;
    fn from_str(text: &str) -> Result<Span, BadDuration> {
        parse_go_duration(text).map(Span)
    }
}

impl FromStr for Size {
    type Err = BadSize;
    fn from_str(text: &str) -> Result<Size, BadSize> {
        let bad = || BadSize(text.to_owned());
        let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let scale: u64 = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" | "K" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            "TiB" | "T" => 1 << 40,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(bad()),
        };
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).map(Size).ok_or_else(bad)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(scale, _)| self.0 >= *scale && self.0.is_multiple_of(*scale)) {
            Some((scale, unit)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

/// `SIZE`, `SIZE:kill` or `SIZE:truncate`.
impl FromStr for MaxOutput {
    type Err = BadMaxOutput;
    fn from_str(text: &str) -> Result<MaxOutput, BadMaxOutput> {
        let (size, then) = text.split_once(':').unwrap_or((text, "kill"));
        let then = match then {
            "kill" => Excess::Kill,
            "truncate" => Excess::Truncate,
            other => return Err(BadMaxOutput::Excess(other.to_owned())),
        };
        Ok(MaxOutput { bytes: size.parse::<Size>()?.0, then })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_reads_and_writes_as_it_is_documented() {
        let text = r#"{"timeout":"1h20m30s","ttl":"10m0s","not_before":"2026-11-21T04:00:00Z","max_output":{"bytes":1048576,"then":"truncate"},"keep":"168h0m0s"}"#;
        let meta: Meta = serde_json::from_str(text).unwrap();
        assert_eq!(meta.timeout, Some(Span(Duration::from_secs(4830))));
        assert_eq!(serde_json::to_string(&meta).unwrap(), text);
        assert_eq!(serde_json::to_string(&Meta::default()).unwrap(), "{}");
    }

    #[test]
    fn a_promise_that_cannot_be_kept_is_refused() {
        for bad in [
            r#"{"retry":3}"#,
            r#"{"timeout":5}"#,
            r#"{"timeout":"5 days"}"#,
            r#"{"not_before":"tomorrow"}"#,
            r#"{"max_output":{"bytes":-1}}"#,
            r#"{"max_output":{"bytes":1,"then":"explode"}}"#,
        ] {
            assert!(serde_json::from_str::<Meta>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("1048576", 1 << 20), ("64KiB", 64 << 10), ("2 GiB", 2 << 30), ("5MB", 5_000_000)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "MiB", "-1", "1.5GiB", "10 apples", "99999999999TiB"] {
            assert_eq!(bad.parse::<Size>(), Err(BadSize(bad.to_owned())));
        }
        assert_eq!((Size(64 << 10).to_string(), Size(1000).to_string()), ("64KiB".into(), "1000".into()));
        assert_eq!("1KiB:truncate".parse(), Ok(MaxOutput { bytes: 1024, then: Excess::Truncate }));
        assert!("1KiB:often".parse::<MaxOutput>().is_err());
    }
}
