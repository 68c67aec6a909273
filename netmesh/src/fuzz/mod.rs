//! What must hold whatever comes in: a body for each target of the fuzzer (`fuzz/` in the repository).
//!
//! A body takes any bytes and panics where a promise does not hold. `cargo test` runs them over the kept seeds and over
//! mutations of these; built with `--cfg fuzzing`, as `cargo fuzz` does, they are the fuzzer's.

mod certificate;
mod control;
mod door;
mod greeting;
mod packet;
mod proxy;
mod router;
mod wire;

pub use self::{
    certificate::certificate,
    control::control,
    door::door,
    greeting::greeting,
    packet::packet,
    proxy::proxy,
    router::router,
    wire::{frames, message, notice},
};

/// What the input still has to say; of nothing more comes nothing but zeros.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> u64 {
        // One byte chooses how large: most numbers are small, and the ends of the range come up.
        match self.byte() {
            small @ 0..=199 => u64::from(small % 8),
            medium @ 200..=239 => u64::from(medium) << 8 | u64::from(self.byte()),
            240..=247 => u64::MAX,
            _ => u64::from(self.byte()) << 53,
        }
    }

    /// So many bytes as the next one says.
    fn bytes(&mut self) -> &[u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
#[path = "../../../fuzz/mutations.rs"]
mod mutations;

#[cfg(test)]
mod tests {
    use super::{mutations::hold, *};

    #[test]
    fn frames_are_cut_the_same_however_they_arrive() {
        hold("frames", 2_000, frames);
    }

    #[test]
    fn a_message_that_reads_is_written_and_read_the_same() {
        hold("message", 6_000, message);
    }

    #[test]
    fn a_notice_that_reads_is_written_and_read_the_same() {
        hold("notice", 2_000, notice);
    }

    #[test]
    fn no_line_confuses_the_control_grammar() {
        hold("control", 4_000, control);
    }

    #[test]
    fn no_request_confuses_the_door_of_websockets() {
        hold("door", 3_000, door);
    }

    #[test]
    fn no_answer_of_a_proxy_lets_us_through_early_or_takes_what_is_not_its_own() {
        hold("proxy", 4_000, proxy);
    }

    #[test]
    fn a_greeting_is_handed_on_the_same_however_it_arrives_and_hashed_as_it_came() {
        hold("greeting", 2_000, greeting);
    }

    #[test]
    fn no_certificate_of_a_stranger_forges_a_line_or_a_name() {
        hold("certificate", 4_000, certificate);
    }

    #[test]
    fn a_packet_goes_where_its_whole_header_says() {
        hold("packet", 4_000, packet);
    }

    #[test]
    fn no_story_breaks_the_router() {
        hold("router", 600, router);
    }
}
