//! Decides: no async, no clock, no disk.

pub mod adoption;
pub mod grants;
pub mod process;
pub mod queue;
pub mod recovery;
pub mod retention;
pub mod sandbox;
pub mod select;
pub mod split;
pub mod state;
pub mod stopping;
pub mod summary;
pub mod units;
