//! One raw entry of a configuration, in either form: its section, its keys, and the line each came from.

use super::{
    problem::Report,
    schema::Schema,
    source::{Content, Mark, Node},
    value::Converted,
};

/// A section with the keys it was given.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) schema: &'static Schema,
    pub(super) mark: Mark,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    key: &'static str,
    mark: Mark,
    value: Node,
}

impl Item {
    /// The section `schema`, whose name stands at `mark`, with what its `value` gives: nothing, a bare value, or keys.
    ///
    /// What is wrong with the keys goes to `report`; those that are right are in the item all the same.
    pub(super) fn read(schema: &'static Schema, mark: Mark, value: &Node, report: &mut Report) -> Item {
        let mut item = Item { schema, mark, entries: Vec::new() };
        match (&value.content, schema.bare) {
            (Content::Scalar(_), _) if value.is_null() => {}
            (Content::Scalar(_), Some(key)) => {
                item.entries.push(Entry { key, mark: value.mark, value: value.clone() });
            }
            (Content::Scalar(scalar), None) => {
                let text =
                    format!("a bare value, `{}`, says nothing here; write keys (`key: value`)", scalar.text);
                report.problem(value.mark, schema.name, text);
                return item;
            }
            (Content::List(_), Some(key)) if schema.takes_list() => {
                item.entries.push(Entry { key, mark: value.mark, value: value.clone() });
            }
            (Content::List(_), _) => {
                report.problem(value.mark, schema.name, "is given a list; write keys (`key: value`)");
                return item;
            }
            (Content::Map(pairs), _) => {
                for (key, value) in pairs {
                    item.add(key, value, report);
                }
            }
        }
        item.require(report);
        item
    }

    /// The value that was given for `key`.
    pub(super) fn value(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Where `key` stands, or the section when it was not given.
    pub(super) fn mark_of(&self, key: &str) -> Mark {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.mark, |entry| entry.mark)
    }

    /// The value of `key` as `convert` takes it; none when it was not given, or is wrong, which is noted.
    pub(super) fn get<T>(
        &self,
        key: &str,
        report: &mut Report,
        convert: impl FnOnce(&Node) -> Converted<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        match convert(value) {
            Ok(converted) => Some(converted),
            Err(why) => {
                report.problem(value.mark, self.schema.name, format!("{key}: {why}"));
                None
            }
        }
    }

    fn add(&mut self, key: &Node, value: &Node, report: &mut Report) {
        let section = self.schema.name;
        let Ok(given) = key.text() else {
            return report.problem(key.mark, section, "a key must be a word; write `key: value`");
        };
        match self.schema.key(&given.to_ascii_lowercase()) {
            Ok(name) => {
                let earlier = self.entries.iter().position(|entry| entry.key == name);
                if let Some(earlier) = earlier {
                    let mark = self.entries.remove(earlier).mark;
                    let text =
                        format!("`{given}` was given on {mark} already; this one counts, remove the other");
                    report.warning(key.mark, section, text);
                }
                self.entries.push(Entry { key: name, mark: key.mark, value: value.clone() });
            }
            Err(Some(near)) => {
                report.problem(key.mark, section, format!("unknown key `{given}`; did you mean `{near}`?"));
            }
            Err(None) if self.schema.keys.is_empty() => {
                report.problem(key.mark, section, format!("unknown key `{given}`; this section takes none"));
            }
            Err(None) => {
                let keys = self.schema.keys.join(", ");
                report.problem(key.mark, section, format!("unknown key `{given}`; the keys here are {keys}"));
            }
        }
    }

    fn require(&self, report: &mut Report) {
        let missing: Vec<_> =
            self.schema.required.iter().copied().filter(|key| self.value(key).is_none()).collect();
        let text = match missing.as_slice() {
            [] => return,
            [key] => format!("required parameter missing: {key}; add it"),
            keys => format!("required parameters missing: {}; add them", keys.join(", ")),
        };
        report.problem(self.mark, self.schema.name, text);
    }
}
