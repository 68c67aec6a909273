//! The list form: a list of entries, each a section with its keys. Receptor's first form, and its default.

use super::{
    item::Item,
    problem::Report,
    schema::{self, Known},
    source::{Content, Mark, Node, Scalar},
};

/// The items that `entries` make; what is wrong with the others goes to `report`.
pub(super) fn items(entries: &[Node], report: &mut Report) -> Vec<Item> {
    entries.iter().filter_map(|entry| item(entry, report)).collect()
}

fn item(entry: &Node, report: &mut Report) -> Option<Item> {
    match &entry.content {
        // A word alone is a section without keys.
        Content::Scalar(word) if !entry.is_null() => {
            let nothing = Node {
                mark: entry.mark,
                content: Content::Scalar(Scalar { text: String::new(), plain: true }),
            };
            section(&word.text, entry.mark, &nothing, report)
        }
        Content::Map(pairs) => match pairs.as_slice() {
            [(name, value)] => match name.text() {
                Ok(text) => section(&text, name.mark, value, report),
                Err(_) => no_section(name.mark, report),
            },
            [] => no_section(entry.mark, report),
            [_, (second, _), ..] => {
                let text = "this entry has several names; begin each section with `- `, and indent its keys below it";
                report.problem(second.mark, "", text);
                None
            }
        },
        _ => no_section(entry.mark, report),
    }
}

fn section(name: &str, mark: Mark, value: &Node, report: &mut Report) -> Option<Item> {
    let lower = name.to_ascii_lowercase();
    match schema::section(&lower) {
        Known::Yes(schema) if name == lower => return Some(Item::read(schema, mark, value, report)),
        Known::Yes(_) | Known::Later if name != lower => {
            report.problem(mark, name, format!("names of sections are lower case; write `{lower}`"));
        }
        Known::Yes(_) | Known::Later => {
            report.problem(mark, name, "this section is not supported yet; remove it");
        }
        Known::No(_) if lower == "version" => {
            report.problem(
                mark,
                name,
                "a list has no version; remove this entry (`netmesh --version` prints ours)",
            );
        }
        Known::No(Some(near)) => {
            report.problem(mark, "", format!("unknown section `{name}`; did you mean `{near}`?"))
        }
        Known::No(None) => report.problem(mark, "", format!("unknown section `{name}`; remove it")),
    }
    None
}

fn no_section(mark: Mark, report: &mut Report) -> Option<Item> {
    report.problem(
        mark,
        "",
        "this entry names no section; write `- section:` with its keys indented below it",
    );
    None
}
