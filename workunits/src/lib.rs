//! Work.
pub mod unit;
