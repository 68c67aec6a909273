//! Moments as adverts carry them: RFC 3339 text, by the clock of whoever wrote it.

use std::{cmp::Ordering, time::SystemTime};

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment by someone's clock: RFC 3339 text, kept as it came, and its value. Compares by value.
#[derive(Clone, Debug)]
pub struct Timestamp {
    text: String,
    nanos: i128,
}

/// A text that is no RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no RFC 3339 time")]
pub struct BadTimestamp {
    /// The text.
    pub text: String,
}

impl Timestamp {
    /// Reads RFC 3339 text and keeps it.
    ///
    /// # Errors
    /// [`BadTimestamp`] for any other text.
    pub fn parse(text: &str) -> Result<Timestamp, BadTimestamp> {
        match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(moment) => Ok(Timestamp { text: text.to_owned(), nanos: moment.unix_timestamp_nanos() }),
            Err(_) => Err(BadTimestamp { text: text.to_owned() }),
        }
    }

    /// The text for `nanos` after the Unix epoch, in UTC; a moment beyond the year 9999 counts as its end.
    pub fn from_nanos(nanos: i128) -> Timestamp {
        const LAST: i128 = 253_402_300_799_999_999_999;
        let nanos = nanos.clamp(0, LAST);
        let text =
            OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().and_then(|t| t.format(&Rfc3339).ok());
        Timestamp { text: text.unwrap_or_else(|| String::from("1970-01-01T00:00:00Z")), nanos }
    }

    /// `time` in UTC.
    pub fn from_system(time: SystemTime) -> Timestamp {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i128::try_from(since.as_nanos()).unwrap_or(i128::MAX))
    }

    /// Nanoseconds after the Unix epoch.
    pub fn nanos(&self) -> i128 {
        self.nanos
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Timestamp) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Timestamp) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Timestamp) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_text_and_compares_by_value() {
        let here = Timestamp::parse("2024-10-24T16:36:52.123456789-04:00").unwrap();
        let utc = Timestamp::parse("2024-10-24T20:36:52.123456789Z").unwrap();
        assert_eq!(here, utc);
        assert_eq!(here.as_str(), "2024-10-24T16:36:52.123456789-04:00");
        assert_eq!(Timestamp::from_nanos(utc.nanos()).as_str(), utc.as_str());
        assert_eq!(Timestamp::from_nanos(1_500_000_000).as_str(), "1970-01-01T00:00:01.5Z");
        assert_eq!(Timestamp::from_nanos(2_000_000_000).as_str(), "1970-01-01T00:00:02Z");
    }
}
