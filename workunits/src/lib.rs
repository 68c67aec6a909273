//! Work: what a node was asked to do, and how far it got.
//!
//! ```text
//!  submit ──► Pending ──payload complete──► Pending ──supervisor──► Running ──exit──► Succeeded | Failed
//!             uploading                     queued                     │
//!                │ cut: Failed                │ cancel: Canceled       └─cancel─► canceling ──exit──► Canceled
//! ```
//! Every unit is a directory, and the directory is the truth: `spec` says what was asked, `events` what happened, and
//! `status` is a view of both. [`engine::Engine`] is the door; [`logic`] decides, [`store`] keeps, [`runner`] performs.
//! A command runs under a small supervisor of its own, which outlives the daemon and records the end by itself.

#[cfg(feature = "io")]
pub mod audit;
#[cfg(feature = "io")]
pub mod crash;
#[cfg(feature = "io")]
pub mod engine;
#[cfg(all(any(test, fuzzing), feature = "io"))]
pub mod fuzz;
pub mod logic;
pub mod request;
#[cfg(feature = "io")]
pub mod runner;
#[cfg(feature = "io")]
pub mod sign;
#[cfg(feature = "io")]
pub mod store;
pub mod unit;
