//! The command line as configuration: `--section key=value key=value --section value`, as Receptor takes it.
//!
//! Names of sections and keys may be in any case. A value is everything behind the first `=`. Of a key that is given
//! twice the last value counts; lists grow. A word without `=` is for the key that its section is most about.

use super::{
    item::Item,
    problem::Report,
    schema::{self, Known, Schema},
    source::{Content, Mark, Node, Scalar},
};

/// One argument, and which it is, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) position: usize,
}

impl Word {
    /// The name of the section that begins here, in lower case.
    fn section(&self) -> Option<String> {
        let name = self.text.strip_prefix('-')?;
        Some(name.strip_prefix('-').unwrap_or(name).to_ascii_lowercase())
    }

    fn mark(&self) -> Mark {
        Mark::of_argument(self.position)
    }

    fn node(&self, text: &str) -> Node {
        let content = Content::Scalar(Scalar { text: text.to_owned(), plain: false });
        Node { mark: self.mark(), content }
    }
}

/// The items that `words` make; what is wrong with the others goes to `report`.
pub(super) fn items(words: &[Word], report: &mut Report) -> Vec<Item> {
    let first = words.iter().position(|word| word.section().is_some()).unwrap_or(words.len());
    for stray in &words[..first] {
        let text = format!(
            "parameter specified before command: `{}`; write `--section key=value`, the section first",
            stray.text
        );
        report.problem(stray.mark(), "", text);
    }
    let sections = words[first..].chunk_by(|_, next| next.section().is_none());
    sections.filter_map(|words| item(words, report)).collect()
}

/// The item of one section: its name and the words up to the next.
fn item(words: &[Word], report: &mut Report) -> Option<Item> {
    let (head, keys) = words.split_first()?;
    let name = head.section()?;
    match schema::section(&name) {
        Known::Yes(schema) => {
            let value = value(schema, head, keys, report);
            return Some(Item::read(schema, head.mark(), &value, report));
        }
        Known::Later => {
            report.problem(head.mark(), &name, "this section is not supported yet; remove it");
        }
        Known::No(Some(near)) => {
            let text = format!("unknown config type {name}: `{}`; did you mean `--{near}`?", head.text);
            report.problem(head.mark(), "", text);
        }
        Known::No(None) => {
            let text = format!("unknown config type {name}: `{}`; remove it", head.text);
            report.problem(head.mark(), "", text);
        }
    }
    None
}

/// What a file would hold under the section's name.
fn value(schema: &Schema, head: &Word, words: &[Word], report: &mut Report) -> Node {
    let mut entries: Vec<(Node, Node)> = Vec::new();
    for word in words {
        let (key, value) = match (word.text.split_once('='), schema.bare) {
            (Some(both), _) => both,
            (None, Some(bare)) => (bare, word.text.as_str()),
            (None, None) => {
                let text = format!("command does not allow bare values: `{}`; write `key=value`", word.text);
                report.problem(word.mark(), schema.name, text);
                continue;
            }
        };
        let (key, value) = (word.node(key), word.node(value));
        let earlier = entries.iter_mut().find(|(earlier, _)| earlier.same_key(&key));
        match earlier.filter(|(key, _)| key.text().is_ok_and(|key| schema::is_list(&key))) {
            Some((_, list)) => append(list, value),
            None => entries.push((key, value)),
        }
    }
    let content = match entries.as_slice() {
        [] => Content::Scalar(Scalar { text: String::new(), plain: true }),
        _ => Content::Map(entries),
    };
    Node { mark: head.mark(), content }
}

/// Makes one list of a value and those that came before it.
fn append(list: &mut Node, value: Node) {
    let one_by_one = |node: Node| match (&node.content, node.texts()) {
        (Content::List(nodes), _) => nodes.clone(),
        // A text may hold a whole list, as JSON; one that does not hold what it should is told of where it is read.
        (_, Ok(texts)) => {
            let scalar =
                |text| Node { mark: node.mark, content: Content::Scalar(Scalar { text, plain: false }) };
            texts.into_iter().map(scalar).collect()
        }
        (_, Err(_)) => vec![node],
    };
    let mut nodes = one_by_one(list.clone());
    nodes.extend(one_by_one(value));
    list.content = Content::List(nodes);
}
