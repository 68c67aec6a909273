//! Which bound tokens have been used? Each is remembered until it expires, since after that nobody takes it.
//!
//! As many as [`MOST`] are remembered. When there are more, new ones are refused: to forget one would let it be used again.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};

use super::VerifyError;

/// How many tokens are remembered, at 40 bytes each.
const MOST: usize = 100_000;

/// The tokens that were used, by the second in which they expire.
#[derive(Debug, Default)]
pub(super) struct Seen {
    tokens: BTreeSet<(u64, [u8; 32])>,
}

impl Seen {
    /// Notes the use of the token `number` of `issuer`, which expires at `ended`; both times in seconds since 1970.
    pub(super) fn note(
        &mut self,
        issuer: &str,
        number: &str,
        ended: f64,
        now: f64,
    ) -> Result<(), VerifyError> {
        // Seconds before this one are over. A token of the present second may still be good.
        while self.tokens.first().is_some_and(|(ended, _)| *ended < now as u64) {
            self.tokens.pop_first();
        }
        let mut name = [0; 32];
        // A length between the two, so that no other pair reads the same.
        name.copy_from_slice(
            digest(&SHA256, format!("{} {issuer}{number}", issuer.len()).as_bytes()).as_ref(),
        );
        let token = (ended.ceil() as u64, name);
        if self.tokens.contains(&token) {
            return Err(VerifyError::Replayed);
        }
        if self.tokens.len() >= MOST {
            return Err(VerifyError::TooMany);
        }
        self.tokens.insert(token);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once_and_forgotten_when_it_has_expired() {
        let mut seen = Seen::default();
        seen.note("a", "1", 10.0, 5.0).unwrap();
        assert!(matches!(seen.note("a", "1", 10.0, 9.9), Err(VerifyError::Replayed)));
        seen.note("a", "2", 10.0, 9.9).unwrap();
        seen.note("b", "1", 10.0, 9.9).unwrap();
        assert_eq!(seen.tokens.len(), 3);
        seen.note("a", "3", 20.0, 11.0).unwrap();
        assert_eq!(seen.tokens.len(), 1);
    }

    #[test]
    fn when_too_many_are_to_be_remembered_new_ones_are_refused_and_none_is_forgotten() {
        let mut seen = Seen::default();
        for number in 0..MOST {
            seen.note("a", &number.to_string(), 100.0, 1.0).unwrap();
        }
        assert!(matches!(seen.note("a", "one more", 100.0, 1.0), Err(VerifyError::TooMany)));
        assert!(matches!(seen.note("a", "0", 100.0, 1.0), Err(VerifyError::Replayed)));
        seen.note("a", "one more", 200.0, 101.0).unwrap();
    }
}
