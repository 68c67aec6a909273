//! Decides: no async, no clock, no disk.

pub mod process;
pub mod recovery;
pub mod split;
pub mod state;
pub mod units;
