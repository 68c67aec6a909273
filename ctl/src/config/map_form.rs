//! The mapping form: sections by name, those that may stand several times as lists. Receptor's `version: 2`.

use super::{
    item::Item,
    problem::Report,
    schema::{self, Known},
    source::{Content, Mark, Node},
};

/// The items that `sections` make, in the order of the text; what is wrong with the others goes to `report`.
pub(super) fn items(sections: &[(Node, Node)], report: &mut Report) -> Vec<Item> {
    let mut items = Vec::new();
    let mut seen: Vec<(String, Mark)> = Vec::new();
    for (name, value) in sections {
        let Ok(given) = name.text() else {
            report.problem(name.mark, "", "a section must be named by a word; write `node:`");
            continue;
        };
        let lower = given.to_ascii_lowercase();
        if let Some((_, mark)) = seen.iter().find(|(earlier, _)| *earlier == lower) {
            let text = format!("the section stands on {mark} already; put all of it there");
            report.problem(name.mark, &given, text);
            continue;
        }
        seen.push((lower.clone(), name.mark));
        match schema::section(&lower) {
            Known::Yes(schema) => match &value.content {
                Content::List(nodes) if !schema.once => {
                    items.extend(nodes.iter().map(|node| Item::read(schema, node.mark, node, report)));
                }
                _ => items.push(Item::read(schema, name.mark, value, report)),
            },
            Known::Later if value.is_empty() => {}
            Known::Later => report.problem(name.mark, &given, "this section is not supported yet; remove it"),
            // Receptor runs files of this form whatever the number; it knows of these two.
            Known::No(_) if lower == "version" => match value.integer() {
                Ok(1 | 2) => {}
                _ => report.problem(
                    value.mark,
                    "version",
                    "only `version: 2` is known; write that, or leave it out",
                ),
            },
            Known::No(Some(near)) => {
                report.problem(name.mark, "", format!("unknown section `{given}`; did you mean `{near}`?"));
            }
            Known::No(None) => report.problem(name.mark, "", format!("unknown section `{given}`; remove it")),
        }
    }
    items
}
