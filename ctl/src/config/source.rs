//! YAML text becomes a tree of nodes that know their place in it.
//!
//! serde_yaml, a port of libyaml like the reader that Receptor uses, decides what is YAML. The tree comes from an
//! event parser, because only that tells lines, and whether a scalar was quoted: what a plain scalar means is decided
//! later, by the rules of YAML 1.1. Aliases and merge keys (`<<`) are resolved here; the forms never see them.

use std::{collections::BTreeMap, fmt, mem};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use serde::{Deserialize as _, de::IgnoredAny};

/// How deep nodes may stand in nodes. A configuration needs five levels.
const MAX_DEPTH: usize = 64;

/// How many nodes there may be once aliases are replaced by what they stand for.
const MAX_NODES: usize = 200_000;

/// A place in the configuration. Prints as `line 3`, which is in the first file, `line 3 of file 2`, or `argument 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    /// Which file, from 1; 0 is the command line.
    pub(super) origin: usize,
    /// From 1: the line, or the argument.
    pub(super) line: usize,
    /// From 1; always 1 on the command line.
    pub(super) column: usize,
}

impl Mark {
    /// The argument at `position`, counted from 1, the program's name not counted.
    pub(super) fn of_argument(position: usize) -> Mark {
        Mark { origin: 0, line: position, column: 1 }
    }
}

impl From<Marker> for Mark {
    fn from(marker: Marker) -> Mark {
        Mark { origin: 1, line: marker.line(), column: marker.col() + 1 }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            0 => write!(f, "argument {}", self.line),
            1 => write!(f, "line {}", self.line),
            file => write!(f, "line {} of file {file}", self.line),
        }
    }
}

/// A value and the place where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) content: Content,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    /// In the order of the text; a key may stand there twice.
    Map(Vec<(Node, Node)>),
}

/// Text as it was written, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Without quotes or a `!!str` tag, so that it may mean a number, a truth value or nothing.
    pub(super) plain: bool,
}

/// Why a text is no YAML, or more of it than a configuration needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) mark: Option<Mark>,
    pub(super) text: String,
}

/// The first document of `text`; none when there is nothing in it.
pub(super) fn read(text: &str) -> Result<Option<Node>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if let Some(document) = serde_yaml::Deserializer::from_str(text).next()
        && let Err(error) = IgnoredAny::deserialize(document)
    {
        let mark = error.location().map(|at| Mark { origin: 1, line: at.line(), column: at.column() });
        // An empty stream has no value to ignore, which is no fault of it.
        if mark.is_some() {
            return Err(Fault {
                mark,
                text: format!("this is no YAML: {error}; check indentation and quotes"),
            });
        }
    }
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Fault {
            mark: Some((*error.marker()).into()),
            text: format!("this is no YAML: {}; check indentation and quotes", error.info()),
        })?;
        match event {
            Event::DocumentEnd | Event::StreamEnd => break,
            event => tree.add(event, span.start.into())?,
        }
    }
    Ok(tree.root)
}

/// A tree that grows by one event after the other, without recursion.
#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
}

/// A list or mapping whose end is still to come.
struct Open {
    mark: Mark,
    anchor: usize,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map { entries: Vec<(Node, Node)>, key: Option<Node> },
}

impl Tree {
    fn add(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Fault> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tagged = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                let plain = style == ScalarStyle::Plain && !tagged;
                let content = Content::Scalar(Scalar { text: text.into_owned(), plain });
                self.place(Node { mark, content }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.open(mark, anchor, Inside::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.open(mark, anchor, Inside::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(fault(
                        mark,
                        "this alias stands inside of what it names; write the value out",
                    ));
                };
                // The budget is spent before the copy is made, or a short text could ask for a huge one.
                self.nodes += size(node);
                self.check_size(mark)?;
                let node = Node { mark, content: node.content.clone() };
                self.place(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, mark: Mark, anchor: usize, inside: Inside) -> Result<(), Fault> {
        if self.open.len() == MAX_DEPTH {
            return Err(fault(mark, "nested too deeply for a configuration; check the brackets"));
        }
        self.open.push(Open { mark, anchor, inside });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { mark, anchor, inside }) = self.open.pop() else { return Ok(()) };
        let content = match inside {
            Inside::List(nodes) => Content::List(nodes),
            Inside::Map { entries, .. } => Content::Map(merged(entries)?),
        };
        self.place(Node { mark, content }, anchor)
    }

    /// Puts a finished node where the text has it.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.nodes += 1;
        self.check_size(node.mark)?;
        if anchor != 0 {
            // An anchor is a copy too; an alias to it can be no larger than what was counted here.
            self.nodes += size(&node);
            self.check_size(node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            None => self.root = Some(node),
            Some(Inside::List(nodes)) => nodes.push(node),
            Some(Inside::Map { entries, key }) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.push((key, node)),
            },
        }
        Ok(())
    }

    fn check_size(&self, mark: Mark) -> Result<(), Fault> {
        if self.nodes > MAX_NODES {
            return Err(fault(mark, "too many values for a configuration; check the aliases (`*name`)"));
        }
        Ok(())
    }
}

/// `entries` with those of the mappings under `<<` that they do not have themselves.
fn merged(entries: Vec<(Node, Node)>) -> Result<Vec<(Node, Node)>, Fault> {
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.is_merge());
    for (key, value) in merges {
        let sources = match value.content {
            Content::List(nodes) => nodes,
            _ => vec![value],
        };
        for mut source in sources {
            let Content::Map(more) = mem::replace(&mut source.content, Content::List(Vec::new())) else {
                return Err(fault(key.mark, "`<<` takes a mapping or a list of mappings; write `<<: *name`"));
            };
            for entry in more {
                if !own.iter().any(|(key, _)| key.same_key(&entry.0)) {
                    own.push(entry);
                }
            }
        }
    }
    Ok(own)
}

fn size(node: &Node) -> usize {
    1 + match &node.content {
        Content::Scalar(_) => 0,
        Content::List(nodes) => nodes.iter().map(size).sum(),
        Content::Map(entries) => entries.iter().map(|(key, value)| size(key) + size(value)).sum(),
    }
}

fn fault(mark: Mark, text: &str) -> Fault {
    Fault { mark: Some(mark), text: text.to_owned() }
}

impl Node {
    /// The same tree, as part of file `origin`.
    pub(super) fn of_file(mut self, origin: usize) -> Node {
        self.change_marks(&|mark| mark.origin = origin);
        self
    }

    /// The same tree, all of it at one place: it was a text there.
    pub(super) fn at(mut self, place: Mark) -> Node {
        self.change_marks(&|mark| *mark = place);
        self
    }

    // The depth of a tree has a bound.
    fn change_marks(&mut self, change: &impl Fn(&mut Mark)) {
        change(&mut self.mark);
        match &mut self.content {
            Content::Scalar(_) => {}
            Content::List(nodes) => nodes.iter_mut().for_each(|node| node.change_marks(change)),
            Content::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
                key.change_marks(change);
                value.change_marks(change);
            }),
        }
    }

    fn is_merge(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.plain && scalar.text == "<<")
    }

    pub(super) fn same_key(&self, other: &Node) -> bool {
        match (&self.content, &other.content) {
            (Content::Scalar(one), Content::Scalar(two)) => one.text.eq_ignore_ascii_case(&two.text),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Vec<(Node, Node)> {
        match read(text).unwrap().unwrap().content {
            Content::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    fn text(node: &Node) -> &str {
        match &node.content {
            Content::Scalar(scalar) => &scalar.text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_node_knows_its_line_and_column() {
        let entries = map("---\n# remark\na: 1\nb:\n  - 'x'\n");
        assert_eq!(entries[0].0.mark, Mark { origin: 1, line: 3, column: 1 });
        assert_eq!(entries[0].1.mark, Mark { origin: 1, line: 3, column: 4 });
        let Content::List(list) = &entries[1].1.content else { panic!() };
        assert_eq!(list[0].mark, Mark { origin: 1, line: 5, column: 5 });
    }

    #[test]
    fn nothing_is_no_fault() {
        for nothing in ["", "\n\n", "# remark\n", "\u{feff}"] {
            assert_eq!(read(nothing), Ok(None), "{nothing:?}");
        }
    }

    #[test]
    fn an_alias_stands_for_its_value_and_a_merge_for_its_entries() {
        let entries = map("base: &b {x: 1, y: 2}\nmore: {<<: *b, y: 3}\nsame: *b\n");
        let Content::Map(more) = &entries[1].1.content else { panic!() };
        let more: Vec<_> = more.iter().map(|(k, v)| (text(k), text(v))).collect();
        assert_eq!(more, [("y", "3"), ("x", "1")]);
        assert_eq!(entries[2].1.content, entries[0].1.content);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let before = vec![format!("*a{}", i - 1); 10].join(",");
            bomb += &format!("a{i}: &a{i} [{before}]\n");
        }
        assert!(read(&bomb).unwrap_err().text.contains("too many values"));
        assert!(read(&"[".repeat(100_000)).is_err());
        assert!(read("a: &a [*a]").is_err());
    }

    #[test]
    fn a_fault_says_where() {
        let fault = read("node:\n\tid: x\n").unwrap_err();
        assert_eq!(fault.mark.unwrap().line, 2, "{fault:?}");
        assert_eq!(read("a: [1,\nb: *gone\n").unwrap_err().mark.unwrap().line, 2);
    }
}
