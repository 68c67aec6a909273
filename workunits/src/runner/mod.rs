//! Who does the work: a local process under a supervisor, or another node.

pub mod command;
pub mod launch;
pub mod open_files;
pub mod process;
mod program;
mod reaper;
pub mod remote;
pub mod supervisor;
