//! What the program takes when it is called by the name `receptor`.

use std::path::PathBuf;

/// Under the name `receptor`: what the daemon of that name takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReceptorArgs {
    /// `-c FILE`, `--config FILE`
    Config(PathBuf),
    /// `--version`
    Version,
    /// `--help`, or nothing at all
    Help,
}

/// What `receptor --help` prints.
pub(crate) const RECEPTOR_HELP: &str = "\
Usage: receptor -c FILE | --config FILE | --version | --help
Runs the node that the YAML file describes, as Receptor does. `netmesh --help` shows what else this program can do.";

impl ReceptorArgs {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// A text that says which word was not understood, and what to write instead.
    pub(crate) fn parse(words: &[String]) -> Result<ReceptorArgs, String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] | ["-h" | "--help", ..] => Ok(ReceptorArgs::Help),
            ["--version" | "-version"] => Ok(ReceptorArgs::Version),
            ["-c" | "--config" | "-config", file] => Ok(ReceptorArgs::Config(PathBuf::from(file))),
            ["-c" | "--config" | "-config"] => Err("--config needs the name of a YAML file".to_owned()),
            ["-c" | "--config" | "-config", _, extra, ..] | [extra, ..] => Err(format!(
                "`{extra}` is not supported on the command line yet: put it in a YAML file, and start with `--config FILE`"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_the_name_receptor_only_the_daemon_is_meant() {
        let parse = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            ReceptorArgs::parse(&words)
        };
        assert_eq!(parse("-c f.yml"), Ok(ReceptorArgs::Config("f.yml".into())));
        assert_eq!(parse("--config f.yml"), Ok(ReceptorArgs::Config("f.yml".into())));
        assert_eq!(parse("--version"), Ok(ReceptorArgs::Version));
        assert_eq!(parse(""), Ok(ReceptorArgs::Help));
        assert!(parse("--config").is_err());
        assert!(parse("--node id=foo").unwrap_err().contains("--node"));
        assert!(parse("-c f.yml --log-level debug").unwrap_err().contains("--log-level"));
    }
}
