//! What a configuration is read from: files, and sections among the arguments of the program, in the order given.

use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    MAX_FILE_BYTES,
    cmdline_form::{self, Word},
    item::Item,
    list_form, map_form,
    problem::Report,
    source::{self, Content, Mark},
};

/// Files and arguments that make one configuration together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    File(PathBuf),
    /// Sections and their keys.
    Words(Vec<Word>),
    /// The argument at this position wants the name of a file behind it, and none is there.
    NoFile(usize),
    /// The argument at this position is no text.
    NoText(usize),
}

impl Sources {
    /// One file alone.
    pub(crate) fn file(path: impl Into<PathBuf>) -> Sources {
        Sources(vec![Part::File(path.into())])
    }

    /// Takes one more file in.
    pub(crate) fn add_file(&mut self, path: impl Into<PathBuf>) {
        self.0.push(Part::File(path.into()));
    }

    /// Takes arguments in, each with its position: `--config FILE` (`-c FILE`) names a file, everything else are sections
    /// and their keys. `--config-v2` says nothing, since the form of a file is seen.
    pub(crate) fn add_arguments(&mut self, arguments: impl IntoIterator<Item = (usize, OsString)>) {
        let mut arguments = arguments.into_iter();
        while let Some((position, argument)) = arguments.next() {
            match argument.to_str() {
                Some("-c" | "--config" | "-config") => self.0.push(match arguments.next() {
                    Some((_, file)) => Part::File(PathBuf::from(file)),
                    None => Part::NoFile(position),
                }),
                Some("--config-v2") => {}
                Some(text) if text.starts_with("--config=") => {
                    self.0.push(Part::File(PathBuf::from(&text["--config=".len()..])));
                }
                Some(text) => {
                    let word = Word { text: text.to_owned(), position };
                    match self.0.last_mut() {
                        Some(Part::Words(words)) => words.push(word),
                        _ => self.0.push(Part::Words(vec![word])),
                    }
                }
                None => self.0.push(Part::NoText(position)),
            }
        }
    }

    /// True when a file is among them, so that they can say something else later.
    pub(crate) fn has_file(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::File(_)))
    }

    /// Reads all of them; what is wrong goes to `report`.
    pub(super) fn items(&self, report: &mut Report) -> Vec<Item> {
        let mut items = Vec::new();
        for part in &self.0 {
            match part {
                Part::File(path) => {
                    let origin = report.add_file(path);
                    match read(path) {
                        Ok(text) => items.extend(items_of_text(&text, origin, report)),
                        Err(why) => report.unreadable(origin, None, why),
                    }
                }
                Part::Words(words) => items.extend(cmdline_form::items(words, report)),
                Part::NoFile(position) => {
                    let text = "a YAML file is wanted behind it; write `--config FILE`";
                    report.problem(Mark::of_argument(*position), "", text);
                }
                Part::NoText(position) => {
                    let text = "it is no UTF-8 text; only the name of a file may be something else";
                    report.problem(Mark::of_argument(*position), "", text);
                }
            }
        }
        items
    }
}

/// The items of a file's text, whose marks are to have `origin`; what is wrong goes to `report`.
pub(super) fn items_of_text(text: &str, origin: usize, report: &mut Report) -> Vec<Item> {
    let root = match source::read(text) {
        Ok(None) => return Vec::new(),
        Ok(Some(root)) => root.of_file(origin),
        Err(fault) => {
            report.unreadable(origin, fault.mark, fault.text);
            return Vec::new();
        }
    };
    match &root.content {
        Content::List(entries) => list_form::items(entries, report),
        Content::Map(entries) => map_form::items(entries, report),
        Content::Scalar(_) if root.is_null() => Vec::new(),
        Content::Scalar(_) => {
            let what = "the file holds a single value; write a list of sections (`- node:`) or a mapping of them (`node:`)";
            report.problem(root.mark, "", what);
            Vec::new()
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let failed =
        |e: std::io::Error| format!("cannot read the configuration: {e}; name an existing, readable file");
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err("cannot read the configuration: this is a directory; name the file in it".to_owned());
    }
    let mut bytes = Vec::new();
    // A pipe or a device has no length to ask for, so the bound is on what is read.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("more than {MAX_FILE_BYTES} bytes; is this a configuration?"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        format!("not UTF-8 text (line {line}); save the file as UTF-8")
    })
}
