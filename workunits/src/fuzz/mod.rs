//! What must hold whatever comes in or stands on disk: a body for each target of the fuzzer (`fuzz/` in the repository).
//!
//! A body takes any bytes and panics where a promise does not hold. `cargo test` runs them over the kept seeds and over
//! mutations of these; built with `--cfg fuzzing`, as `cargo fuzz` does, they are the fuzzer's.

mod files;
mod request;
mod script;
mod state;
mod token;

pub use self::{
    files::{directory, journal},
    request::{reply, request, words},
    state::state,
    token::token,
};

#[cfg(test)]
pub(crate) use self::token::url_safe;

#[cfg(test)]
#[path = "../../../fuzz/mutations.rs"]
mod mutations;

#[cfg(test)]
mod tests {
    use super::{mutations::hold, *};

    #[test]
    fn a_request_that_reads_is_written_and_read_the_same() {
        hold("request", 5_000, request);
    }

    #[test]
    fn no_reply_confuses_who_asked() {
        hold("reply", 4_000, reply);
    }

    #[test]
    fn sizes_spans_moments_and_limits_read_as_they_are_written() {
        hold("words", 4_000, words);
    }

    #[test]
    fn a_token_proves_what_it_says_and_no_more() {
        hold("token", 3_000, token);
    }

    #[test]
    fn no_order_of_events_breaks_a_unit() {
        hold("state", 4_000, state);
    }

    #[test]
    fn no_damage_to_a_units_files_is_more_than_an_error() {
        hold("directory", 1_000, directory);
    }

    #[test]
    fn a_status_that_is_torn_or_gone_is_told_by_its_log() {
        hold("journal", 200, journal);
    }
}
