//! `netmesh node`: files, sections, and how the log looks.

use std::{ffi::OsString, path::PathBuf};

use clap::Args;

use crate::{
    config::{LogLevel, Sources},
    exit::Failure,
    log::LogFormat,
};

/// `netmesh node`
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// A YAML file that describes the node; several make one configuration together.
    #[arg(long, short, value_name = "FILE", required_unless_present = "sections")]
    config: Vec<PathBuf>,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// The least level of event that is logged, instead of the file's: error, warning, info or debug.
    #[arg(long, value_name = "LEVEL", value_parser = level)]
    pub(crate) log_level: Option<LogLevel>,
    /// Sections of the configuration, such as `--node id=foo --tcp-listener port=27199`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "--SECTION [KEY=VALUE]")]
    sections: Vec<OsString>,
}

impl NodeArgs {
    /// What the node is configured by, and how its log looks. `words` is how many words the whole command line has, the
    /// program's name too: what is left to the sections stands at its end.
    ///
    /// # Errors
    /// Bad usage: a format that nobody knows, behind a section.
    pub(crate) fn read(&self, words: usize) -> Result<(Sources, LogFormat), Failure> {
        let mut sources = Sources::default();
        self.config.iter().for_each(|file| sources.add_file(file));
        let mut log_format = self.log_format;
        let mut left: Vec<(usize, OsString)> =
            (words.saturating_sub(self.sections.len())..).zip(self.sections.iter().cloned()).collect();
        // Behind the first section nothing is a flag of ours to the reader of flags, and people write them there.
        while let Some(at) = left.iter().position(|(_, word)| word == "--log-format") {
            let value = left.get(at + 1).and_then(|(_, word)| word.to_str()).unwrap_or_default();
            log_format = value.parse().map_err(|bad| Failure::usage(format!("--log-format: {bad}")))?;
            left.drain(at..=at + 1);
        }
        sources.add_arguments(left);
        Ok((sources, log_format))
    }
}

/// A level as a flag has it, or as Receptor's section of the same name.
fn level(text: &str) -> Result<LogLevel, String> {
    let text = text.strip_prefix("level=").unwrap_or(text);
    text.parse().map_err(|bad: crate::config::BadLogLevel| bad.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};

    fn read(line: &str) -> Result<(Sources, LogFormat), Failure> {
        let words: Vec<&str> = line.split(' ').collect();
        match Cli::try_parse_from(&words).unwrap_or_else(|bad| panic!("{line}: {bad}")).command {
            Command::Node(args) => args.read(words.len()),
            other => panic!("{other:?}"),
        }
    }

    fn sources(line: &str) -> Sources {
        read(line).unwrap_or_else(|bad| panic!("{line}: {bad}")).0
    }

    #[test]
    fn sections_follow_the_flags_and_keep_their_place_on_the_line() {
        let mut expected = Sources::file("f.yml");
        expected.add_arguments(
            [(6, "--node"), (7, "id=foo"), (8, "--local-only")].map(|(at, word)| (at, word.into())),
        );
        assert_eq!(sources("netmesh node -c f.yml --log-format json --node id=foo --local-only"), expected);
        assert_eq!(
            read("netmesh node --node id=foo --log-format json").map(|read| read.1),
            Ok(LogFormat::Json)
        );
        assert!(read("netmesh node --local-only --log-format").is_err());
    }

    #[test]
    fn a_file_may_stand_before_among_or_instead_of_sections() {
        assert_eq!(sources("netmesh node --config f.yml"), Sources::file("f.yml"));
        assert!(sources("netmesh node --node id=foo --config f.yml").has_file());
        assert!(!sources("netmesh node --node id=foo").has_file());
    }
}
