//! How long a certificate is good for, and what to tell of it.

use std::time::{Duration, SystemTime};

use super::files::CertificateFacts;

/// From so long ahead people are told that a certificate will expire.
pub const WARN_AHEAD: Duration = Duration::from_secs(30 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// Where in its life a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It is good, for longer than [`WARN_AHEAD`].
    Good,
    /// It is good, for so many whole days.
    EndsIn {
        /// Whole days.
        days: u64,
    },
    /// It is good no longer.
    Expired,
    /// It is not good yet.
    NotYet,
}

impl CertificateFacts {
    /// Where in its life it is at `now`.
    pub fn lifetime(&self, now: SystemTime) -> Lifetime {
        // Before 1970 no certificate is good.
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()) as i64;
        let left = self.not_after.saturating_sub(now);
        match u64::try_from(left) {
            _ if now < self.not_before => Lifetime::NotYet,
            Err(_) => Lifetime::Expired,
            Ok(left) if left < WARN_AHEAD.as_secs() => Lifetime::EndsIn { days: left / DAY },
            Ok(_) => Lifetime::Good,
        }
    }

    /// What is to be told of its life at `now`, if anything is.
    pub fn warning(&self, now: SystemTime) -> Option<String> {
        let (file, subject) = (self.file.display(), &self.subject);
        let what = if self.authority { "authority" } else { "certificate" };
        match self.lifetime(now) {
            Lifetime::Good => None,
            Lifetime::EndsIn { days: 0 } => {
                Some(format!("the {what} `{subject}` in {file} expires today; renew it"))
            }
            Lifetime::EndsIn { days } => {
                let plural = if days == 1 { "" } else { "s" };
                Some(format!("the {what} `{subject}` in {file} expires in {days} day{plural}; renew it"))
            }
            Lifetime::Expired => Some(format!("the {what} `{subject}` in {file} has expired; renew it")),
            Lifetime::NotYet => {
                Some(format!("the {what} `{subject}` in {file} is not valid yet; look at this host's clock"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Fingerprint, names::Names};

    #[test]
    fn thirty_days_ahead_it_begins_to_warn() {
        let day = DAY as i64;
        let facts = CertificateFacts {
            file: "c.pem".into(),
            subject: "CN=c".into(),
            issuer: "CN=ca".into(),
            names: Names::default(),
            authority: false,
            key: "RSA".into(),
            sha256: Fingerprint::sha256(b""),
            not_before: day,
            not_after: 100 * day,
        };
        let at = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY);
        assert_eq!(facts.lifetime(at(0)), Lifetime::NotYet);
        assert_eq!(facts.lifetime(at(70)), Lifetime::Good);
        assert_eq!(facts.warning(at(70)), None);
        assert_eq!(facts.lifetime(at(71)), Lifetime::EndsIn { days: 29 });
        assert!(facts.warning(at(99)).unwrap().contains("expires in 1 day;"));
        assert!(facts.warning(at(100)).unwrap().contains("today"));
        assert_eq!(facts.lifetime(at(101)), Lifetime::Expired);
    }
}
