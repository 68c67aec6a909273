//! The flags of `netmesh bench`.

use std::path::PathBuf;

use clap::Args;

/// `netmesh bench`
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Measure this program too, and print how the two compare: something that understands Receptor's files.
    #[arg(long, value_name = "PATH")]
    pub(crate) peer: Option<PathBuf>,
    /// Take about a minute (more with --peer) and print rough figures.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Measure only these rows: whole names or their beginnings, such as `job,proxy-tcp-2-hops`.
    #[arg(long, value_name = "ROWS", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Name the rows, and measure nothing.
    #[arg(long)]
    pub(crate) list: bool,
}
