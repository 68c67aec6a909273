//! A moment as a number, so that moments can be compared and kept in little room.

use std::{fmt, str::FromStr, time::SystemTime};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::NEVER;

/// A moment: nanoseconds since 1970, UTC. What lies beyond the years 1678 to 2262 counts as their border.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Moment(pub i64);

/// Why a text is no [`Moment`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time such as 2026-11-21T10:00:00Z")]
pub struct BadMoment(pub String);

impl FromStr for Moment {
    type Err = BadMoment;
    fn from_str(text: &str) -> Result<Moment, BadMoment> {
        OffsetDateTime::parse(text, &Rfc3339).map(Moment::from).map_err(|_| BadMoment(text.to_owned()))
    }
}

impl From<OffsetDateTime> for Moment {
    fn from(at: OffsetDateTime) -> Moment {
        let nanos = at.unix_timestamp_nanos();
        Moment(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl From<SystemTime> for Moment {
    fn from(at: SystemTime) -> Moment {
        OffsetDateTime::from(at).into()
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> String {
        moment.to_string()
    }
}

impl TryFrom<String> for Moment {
    type Error = BadMoment;
    fn try_from(text: String) -> Result<Moment, BadMoment> {
        text.parse()
    }
}

impl From<Moment> for SystemTime {
    fn from(moment: Moment) -> SystemTime {
        OffsetDateTime::from(moment).into()
    }
}

impl From<Moment> for OffsetDateTime {
    fn from(moment: Moment) -> OffsetDateTime {
        // Every number of nanoseconds that fits into 64 bits is a year between 1678 and 2262.
        OffsetDateTime::from_unix_timestamp_nanos(moment.0.into()).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

/// As our files write it: RFC 3339, UTC.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(OffsetDateTime::from(*self).format(&Rfc3339).as_deref().unwrap_or(NEVER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_it_was_written_wherever_the_clock_stood() {
        let moment: Moment = "2026-11-21T10:00:00.000000001Z".parse().unwrap();
        assert_eq!(moment.to_string(), "2026-11-21T10:00:00.000000001Z");
        assert_eq!("2026-11-21T12:00:00.000000001+02:00".parse(), Ok(moment));
        assert!(moment > "2026-11-21T10:00:00Z".parse().unwrap());
        for far in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"] {
            assert!(far.parse::<Moment>().is_ok(), "{far}");
        }
        assert!("yesterday".parse::<Moment>().is_err());
    }
}
