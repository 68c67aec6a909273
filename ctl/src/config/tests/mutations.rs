//! Damaged files: whatever the bytes are, the answer is a Config or problems, and never a panic.

#[path = "../../../../fuzz/mutations.rs"]
mod harness;

use super::super::fuzz;

#[test]
fn no_damage_to_a_file_makes_it_panic() {
    harness::hold("config", 4_000, fuzz::config);
}
