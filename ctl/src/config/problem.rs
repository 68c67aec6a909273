//! What is wrong with a configuration, and where.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::log::write_on_one_line;

use super::source::Mark;

/// What a configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file.
    File(PathBuf),
    /// The arguments of the program.
    Arguments,
}

/// One thing that is wrong. Prints as `FILE:LINE:COL: section: what was wrong; what to do`, or with `argument N` for the
/// place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What it was found in.
    pub(crate) origin: Origin,
    /// Line and column, or argument and 1, all from 1; none when it concerns the whole.
    pub(crate) at: Option<(usize, usize)>,
    /// The section it was found in; empty outside of one.
    pub(crate) section: String,
    /// What was wrong, and what to do.
    pub(crate) text: String,
}

impl Problem {
    /// Where it is: `FILE:LINE:COL`, `FILE`, `argument N` or `the command line`.
    pub(crate) fn place(&self) -> String {
        match (&self.origin, self.at) {
            (Origin::File(file), Some((line, column))) => format!("{}:{line}:{column}", file.display()),
            (Origin::File(file), None) => file.display().to_string(),
            (Origin::Arguments, Some((position, _))) => format!("argument {position}"),
            (Origin::Arguments, None) => "the command line".to_owned(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = if self.section.is_empty() { String::new() } else { format!(" {}:", self.section) };
        write_on_one_line(f, &format!("{}:{section} {}", self.place(), self.text))
    }
}

/// Everything that is wrong with a configuration, sorted by position, never empty. Prints a line for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems(pub(super) Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where the reading of a configuration collects what it finds.
#[derive(Default)]
pub(super) struct Report {
    files: Vec<PathBuf>,
    problems: Vec<(Place, Problem)>,
    warnings: Vec<(Place, Problem)>,
}

/// How what was found is sorted: the command line, then file after file, what has no place last.
type Place = (usize, usize, usize);

impl Report {
    /// Takes one more file in, and returns the origin of its marks.
    pub(super) fn add_file(&mut self, path: &Path) -> usize {
        self.files.push(path.to_owned());
        self.files.len()
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

    /// Notes that nothing could be made of a whole file, perhaps because of something at a line of it.
    pub(super) fn unreadable(&mut self, origin: usize, mark: Option<Mark>, text: String) {
        let place = mark.map_or((origin, usize::MAX, 0), |mark| (origin, mark.line, mark.column));
        let at = mark.map(|mark| (mark.line, mark.column));
        let problem = Problem { origin: self.origin(origin), at, section: String::new(), text };
        self.problems.push((place, problem));
    }

    /// True while no problem was noted; warnings do not count.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems, the warnings and the files, in order.
    pub(super) fn conclude(self) -> (Vec<Problem>, Vec<Problem>, Vec<PathBuf>) {
        let sorted = |mut list: Vec<(Place, Problem)>| {
            // Stable, so that what is noted of one place keeps its order.
            list.sort_by_key(|(place, _)| *place);
            let mut list: Vec<Problem> = list.into_iter().map(|(_, problem)| problem).collect();
            list.dedup();
            list
        };
        (sorted(self.problems), sorted(self.warnings), self.files)
    }

    fn at(&self, mark: Option<Mark>, section: &str, text: String) -> (Place, Problem) {
        let place = mark.map_or((usize::MAX, 0, 0), |mark| (mark.origin, mark.line, mark.column));
        // What is missing everywhere is told of the first file, where there is one.
        let origin = self.origin(mark.map_or(1, |mark| mark.origin));
        let at = mark.map(|mark| (mark.line, mark.column));
        (place, Problem { origin, at, section: section.to_owned(), text })
    }

    fn origin(&self, origin: usize) -> Origin {
        let file = origin.checked_sub(1).and_then(|at| self.files.get(at));
        file.map_or(Origin::Arguments, |file| Origin::File(file.clone()))
    }
}
