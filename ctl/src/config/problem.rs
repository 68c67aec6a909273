//! What is wrong with a configuration, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::log::write_on_one_line;

use super::{
    Config,
    source::{Fault, Mark},
};

/// One thing that is wrong. Prints as `FILE:LINE:COL: section: what was wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file it was found in.
    pub(crate) file: PathBuf,
    /// Line and column, both from 1; none when it concerns the file as a whole.
    pub(crate) at: Option<(usize, usize)>,
    /// The section it was found in; empty outside of one.
    pub(crate) section: String,
    /// What was wrong, and what to do.
    pub(crate) text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = format!("{}:", self.file.display());
        if let Some((line, column)) = self.at {
            told += &format!("{line}:{column}:");
        }
        if !self.section.is_empty() {
            told += &format!(" {}:", self.section);
        }
        write_on_one_line(f, &format!("{told} {}", self.text))
    }
}

/// Everything that is wrong with a file, sorted by position, never empty. Prints a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// One problem with the file `path` as a whole.
    pub(super) fn of_file(path: &Path, text: String) -> Problems {
        Problems(vec![Problem { file: path.to_owned(), at: None, section: String::new(), text }])
    }

    /// The file `path` is no YAML.
    pub(super) fn of_syntax(path: &Path, fault: Fault) -> Problems {
        let at = fault.mark.map(|mark| (mark.line, mark.column));
        Problems(vec![Problem { file: path.to_owned(), at, section: String::new(), text: fault.text }])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where the reading of one file collects what it finds.
pub(super) struct Report {
    file: PathBuf,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Report {
    pub(super) fn new(file: &Path) -> Report {
        Report { file: file.to_owned(), problems: Vec::new(), warnings: Vec::new() }
    }

    /// Notes a reason not to start. An empty `section` stands for the file.
    pub(super) fn problem(&mut self, at: impl Into<Option<Mark>>, section: &str, text: impl Into<String>) {
        let problem = self.at(at.into(), section, text.into());
        self.problems.push(problem);
    }

    /// Notes what looks wrong but stops nothing.
    pub(super) fn warning(&mut self, at: impl Into<Option<Mark>>, section: &str, text: impl Into<String>) {
        let warning = self.at(at.into(), section, text.into());
        self.warnings.push(warning);
    }

    /// True while no problem was noted; warnings do not count.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// `config` with the warnings, unless a problem was noted.
    pub(super) fn conclude(mut self, config: Option<Config>) -> Result<Config, Problems> {
        for list in [&mut self.problems, &mut self.warnings] {
            // Stable, so that what is noted of one place keeps its order. The file as a whole comes last.
            list.sort_by_key(|p| p.at.unwrap_or((usize::MAX, usize::MAX)));
            list.dedup();
        }
        match config {
            Some(config) if self.problems.is_empty() => Ok(Config { warnings: self.warnings, ..config }),
            _ => Err(Problems(self.problems)),
        }
    }

    fn at(&self, mark: Option<Mark>, section: &str, text: String) -> Problem {
        let at = mark.map(|mark| (mark.line, mark.column));
        Problem { file: self.file.clone(), at, section: section.to_owned(), text }
    }
}
