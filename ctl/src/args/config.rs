//! `netmesh config`: which configuration to look at.

use std::ffi::OsString;

use clap::{Args, Subcommand};

use crate::config::Sources;

/// `netmesh config`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Tell everything that is wrong or suspicious, and start nothing.
    Check(ConfigArgs),
    /// Show every key with the value that counts, and where it came from.
    Show(ConfigArgs),
}

/// What `netmesh config` looks at.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// YAML files that make one configuration together; sections (`--node id=foo`) may follow.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILE")]
    words: Vec<OsString>,
}

impl ConfigArgs {
    /// What to look at, and whether `--json` stood behind it. `words` is how many words the whole command line has, the
    /// program's name too.
    pub(crate) fn read(&self, words: usize) -> (Sources, bool) {
        let first = words.saturating_sub(self.words.len());
        let mut json = false;
        let mut files = Sources::default();
        let mut left = Vec::new();
        for (position, word) in (first..).zip(&self.words) {
            if word == "--json" {
                json = true;
            } else if left.is_empty() && !word.to_string_lossy().starts_with('-') {
                files.add_file(word);
            } else {
                left.push((position, word.clone()));
            }
        }
        files.add_arguments(left);
        (files, json)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    #[test]
    fn files_come_first_and_sections_follow() {
        let words = ["netmesh", "config", "show", "a.yml", "b.yml", "--json", "--node", "id=c"];
        let command = Cli::try_parse_from(words).unwrap_or_else(|bad| panic!("{bad}")).command;
        let Command::Config(ConfigCommand::Show(args)) = command else { panic!("{command:?}") };
        let mut expected = Sources::file("a.yml");
        expected.add_file("b.yml");
        expected.add_arguments([(6, "--node".into()), (7, "id=c".into())]);
        assert_eq!(args.read(words.len()), (expected, true));
        assert!(Cli::try_parse_from(["netmesh", "config", "check"]).is_err());
    }
}
