//! Who does the work: a local process under a supervisor, or another node.

mod cgroup;
mod child;
pub mod command;
mod descendants;
pub mod launch;
pub mod launcher;
pub mod open_files;
mod output;
pub mod process;
mod program;
mod reaper;
pub mod remote;
pub mod supervisor;
mod title;
mod user;
