//! What the program takes when it is called by the name `receptor`: files and sections, as Receptor does.

use std::ffi::OsString;

use crate::config::{self, Sources};

/// Under the name `receptor`: what the daemon of that name takes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReceptorArgs {
    /// `-c FILE`, `--config FILE`, `--section key=value ...`, as many of them as are wanted
    Node(Sources),
    /// `--version`
    Version,
    /// `--help`, or nothing at all
    Help,
    /// `--bash-completion`
    BashCompletion,
}

impl ReceptorArgs {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// A text that says which word was not understood, and what to write instead.
    pub(crate) fn parse(words: &[OsString]) -> Result<ReceptorArgs, String> {
        let is = |word: &OsString, names: &[&str]| {
            word.to_str().is_some_and(|word| names.iter().any(|name| word.eq_ignore_ascii_case(name)))
        };
        let alone = |names: &[&str]| words.iter().any(|word| is(word, names)).then_some(words.len() == 1);
        if words.is_empty() || words.iter().any(|word| is(word, &["-h", "--help", "-help"])) {
            return Ok(ReceptorArgs::Help);
        }
        match alone(&["--version", "-version"]) {
            Some(true) => return Ok(ReceptorArgs::Version),
            Some(false) => {
                return Err("cannot specify any other options with version; write it alone".to_owned());
            }
            None => {}
        }
        if alone(&["--bash-completion", "-bash-completion"]).is_some() {
            return Ok(ReceptorArgs::BashCompletion);
        }
        let mut sources = Sources::default();
        sources.add_arguments((1..).zip(words.iter().cloned()));
        Ok(ReceptorArgs::Node(sources))
    }
}

/// What `receptor --help` prints.
pub(crate) fn receptor_help() -> String {
    let mut help = String::from(
        "\
Usage: receptor [-c FILE | --config FILE] ... [--SECTION [KEY=VALUE | VALUE] ...] ...
       receptor --version | --help | --bash-completion
Runs the node that the YAML files and the sections describe together, as Receptor does. `netmesh --help` shows what else
this program can do.

Sections and their keys; a key in brackets takes a value without `KEY=` too:
",
    );
    for section in config::sections() {
        help += &format!("  --{}", section.name);
        for key in section.keys {
            let bare = section.bare == Some(*key);
            help += &if bare { format!(" [{key}=]") } else { format!(" {key}=") };
        }
        help.push('\n');
    }
    help.pop();
    help
}

/// A bash script that completes the words of the program called `name`.
pub(crate) fn bash_completion(name: &str) -> String {
    let mut words = vec!["--bash-completion".to_owned(), "--config".to_owned(), "--help".to_owned()];
    words.push("--version".to_owned());
    for section in config::sections() {
        words.push(format!("--{}", section.name));
        words.extend(section.keys.iter().map(|key| format!("{key}=")));
    }
    words.sort();
    words.dedup();
    // A name is made of what may stand in the name of a function.
    let function: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!(
        "_{function}_completion() {{\n    COMPREPLY=($(compgen -W \"{}\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n}}\n\
         complete -o nospace -o default -F _{function}_completion {name}",
        words.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<ReceptorArgs, String> {
        ReceptorArgs::parse(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn under_the_name_receptor_only_the_daemon_is_meant() {
        assert_eq!(parse("-c f.yml"), Ok(ReceptorArgs::Node(Sources::file("f.yml"))));
        assert_eq!(parse("--config f.yml"), Ok(ReceptorArgs::Node(Sources::file("f.yml"))));
        assert_eq!(parse("--config=f.yml --config-v2"), Ok(ReceptorArgs::Node(Sources::file("f.yml"))));
        assert_eq!(parse("--version"), Ok(ReceptorArgs::Version));
        assert_eq!(parse("--BASH-completion"), Ok(ReceptorArgs::BashCompletion));
        assert_eq!(parse(""), Ok(ReceptorArgs::Help));
        assert_eq!(parse("--node id=foo --help"), Ok(ReceptorArgs::Help));
        assert!(parse("--version --node id=foo").unwrap_err().contains("any other options with version"));
        assert!(matches!(parse("--node id=foo -c f.yml"), Ok(ReceptorArgs::Node(both)) if both.has_file()));
        assert!(matches!(parse("--node id=foo"), Ok(ReceptorArgs::Node(words)) if !words.has_file()));
    }

    #[test]
    fn help_and_completion_name_every_section_and_key() {
        let (help, script) = (receptor_help(), bash_completion("my-receptor"));
        for section in config::sections() {
            for text in [&help, &script] {
                assert!(text.contains(&format!("--{}", section.name)));
                assert!(section.keys.iter().all(|key| text.contains(&format!("{key}="))));
            }
        }
        assert!(help.contains("--tcp-peer [address=]"));
        assert!(script.contains("_my_receptor_completion()"));
    }
}
