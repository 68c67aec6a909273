//! JSON and durations as Go's standard library writes and reads them.
//!
//! Receptor's files, wire and control replies all come out of `encoding/json` and `time.Duration`; what reads them
//! may compare text. So every byte that a Receptor client or node sees is made here.

use std::{borrow::Cow, fmt, io, marker::PhantomData, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeSeed, MapAccess, Visitor},
};
use serde_json::ser::Formatter;

/// `value` as compact JSON in Go's spelling.
///
/// Shape: `<`, `>`, `&`, U+2028 and U+2029 are escaped; floats without a fraction print as integers, very small and
/// very large ones with an exponent; struct fields keep their order. Maps print in their own order, so give it a
/// `BTreeMap` (or a `serde_json::Map`), as Go sorts.
///
/// A value that JSON cannot hold, such as a map with keys that are no strings, gives `null`.
pub fn to_go_string<T: Serialize + ?Sized>(value: &T) -> String {
    let mut out = Vec::with_capacity(256);
    match value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Go)) {
        Ok(()) => String::from_utf8(out).unwrap_or_else(|_| String::from("null")),
        Err(_) => String::from("null"),
    }
}

/// `duration` as Go prints it: `801.018µs`, `1m0.5s`, `1h0m0s`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let fraction = |value: u128, unit: u128, name: &str| {
        let digits = unit.ilog10() as usize;
        let rest = format!("{:0digits$}", value % unit);
        let rest = rest.trim_end_matches('0');
        match rest {
            "" => format!("{}{name}", value / unit),
            _ => format!("{}.{rest}{name}", value / unit),
        }
    };
    let seconds = nanos / 1_000_000_000;
    match nanos {
        0 => String::from("0s"),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
            let tail = fraction(nanos - (hours * 60 + minutes) * 60_000_000_000, 1_000_000_000, "s");
            match (hours, minutes) {
                (0, 0) => tail,
                (0, _) => format!("{minutes}m{tail}"),
                _ => format!("{hours}h{minutes}m{tail}"),
            }
        }
    }
}

/// Why a text is no duration; prints what Go prints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDuration {
    /// It does not read as numbers with units, or is too long or negative.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number stands without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit is none of `ns us µs ms s m h`.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// What stood where a unit should.
        unit: String,
        /// The whole text.
        text: String,
    },
}

/// Reads a duration as Go does: `1h20m30s`, `1.5h`, `90s`, `0`, with an optional `+`.
///
/// # Errors
/// [`BadDuration`] with Go's text. A negative duration, which Go accepts, is invalid here: nothing can wait that long.
pub fn parse_go_duration(text: &str) -> Result<Duration, BadDuration> {
    let invalid = || BadDuration::Invalid(text.to_owned());
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (part, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && part.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(BadDuration::MissingUnit(text.to_owned())),
            _ => return Err(BadDuration::UnknownUnit { unit: unit.to_owned(), text: text.to_owned() }),
        };
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        nanos = whole.checked_mul(scale).and_then(|n| n.checked_add(nanos)).ok_or_else(invalid)?;
        // Eighteen digits are finer than a nanosecond of an hour; more would only overflow.
        let part = &part[..part.len().min(18)];
        if !part.is_empty() {
            let value: u128 = part.parse().map_err(|_| invalid())?;
            nanos += value * scale / 10_u128.pow(part.len() as u32);
        }
        rest = after;
    }
    if text.starts_with('-') && nanos > 0 {
        return Err(invalid());
    }
    i64::try_from(nanos).map(|n| Duration::from_nanos(n.unsigned_abs())).map_err(|_| invalid())
}

/// A struct that is read as Go reads one: keys in any case, unknown keys skipped, `null` leaves the zero value.
pub(crate) trait GoObject: Default {
    /// Takes the value of `key` if it knows the key; `Ok(false)` leaves it to be skipped.
    fn field<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads one JSON object from `bytes`; invalid UTF-8 becomes U+FFFD, as in Go.
pub(crate) fn from_go_slice<T: GoObject>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let text = String::from_utf8_lossy(bytes);
    let mut reader = serde_json::Deserializer::from_str(&text);
    let value = GoSeed(PhantomData).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Puts the next value of `map` into `slot`, unless it is `null`.
pub(crate) fn read_into<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
    slot: &mut T,
    map: &mut A,
) -> Result<bool, A::Error> {
    if let Some(value) = map.next_value()? {
        *slot = value;
    }
    Ok(true)
}

/// A [`GoObject`] inside another value, for instance in a list.
#[derive(Default)]
pub(crate) struct Nested<T>(pub(crate) T);

impl<'de, T: GoObject> Deserialize<'de> for Nested<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        GoSeed(PhantomData).deserialize(deserializer).map(Nested)
    }
}

struct GoSeed<T>(PhantomData<T>);

impl<'de, T: GoObject> DeserializeSeed<'de> for GoSeed<T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: GoObject> Visitor<'de> for GoSeed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(Key(key)) = map.next_key::<Key<'de>>()? {
            if !value.field(&key, &mut map)? {
                map.next_value::<serde::de::IgnoredAny>()?;
            }
        }
        Ok(value)
    }
}

/// A key, borrowed from the text where it holds no escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The spelling of `encoding/json`.
struct Go;

impl Formatter for Go {
    fn write_f64<W: ?Sized + io::Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size == 0.0 || (1e-6..1e21).contains(&size) {
            return write!(out, "{value}");
        }
        // Rust writes `1e21` and `1e-7` where Go writes `1e+21` and `1e-7`.
        let text = format!("{value:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => write!(out, "{digits}e+{exponent}"),
            _ => out.write_all(text.as_bytes()),
        }
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let mut done = 0;
        for (at, found) in text.match_indices(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let code = found.chars().next().map_or(0, u32::from);
            write!(out, "{}\\u{code:04x}", &text[done..at])?;
            done = at + found.len();
        }
        out.write_all(&text.as_bytes()[done..])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn floats_print_as_go_prints_them() {
        for (value, text) in [
            (1.0, "1"),
            (2.6, "2.6"),
            (0.0, "0"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
        ] {
            assert_eq!(to_go_string(&value), text);
        }
    }

    #[test]
    fn text_is_escaped_as_go_escapes_it() {
        assert_eq!(
            to_go_string("<a>&\u{2028}\u{2029}\"\\/\n\u{1}é"),
            r#""\u003ca\u003e\u0026\u2028\u2029\"\\/\n\u0001é""#
        );
        assert_eq!(to_go_string(&BTreeMap::from([("b", 1), ("a", 2)])), r#"{"a":2,"b":1}"#);
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (801_018, "801.018µs"),
            (1_500_000, "1.5ms"),
            (60_500_000_000, "1m0.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (5_000_000_000, "5s"),
        ] {
            assert_eq!(go_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("1h20m30s", 4_830_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("90s", 90_000_000_000),
            ("0", 0),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("60us", 60_000),
            ("3µs", 3_000),
        ] {
            assert_eq!(parse_go_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn a_bad_duration_reads_as_go_complains() {
        for (text, complaint) in [
            ("", "time: invalid duration \"\""),
            ("x", "time: invalid duration \"x\""),
            ("10", "time: missing unit in duration \"10\""),
            ("60d", "time: unknown unit \"d\" in duration \"60d\""),
            ("-1s", "time: invalid duration \"-1s\""),
            ("9999999999h", "time: invalid duration \"9999999999h\""),
        ] {
            assert_eq!(parse_go_duration(text).unwrap_err().to_string(), complaint);
        }
    }
}
