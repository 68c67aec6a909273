//! What a node of the tree means to a key that wants text, a number, a list: configuration values of Receptor.
//!
//! Each conversion answers with the value, or with what was wrong and what to do.

use std::{collections::BTreeMap, time::Duration};

use netmesh::json::parse_go_duration;

use super::{
    source::{Content, Node, Scalar},
    yaml11::{self, Plain},
};

/// A value, or what was wrong and what to do.
pub(super) type Converted<T> = Result<T, String>;

impl Scalar {
    pub(super) fn meaning(&self) -> Plain {
        if self.plain { yaml11::resolve(&self.text) } else { Plain::Text }
    }

    fn to_text(&self) -> Converted<String> {
        match self.meaning() {
            Plain::Null => Err("has no value; give one, or remove the key".to_owned()),
            Plain::Bool(value) => Ok(value.to_string()),
            Plain::Int(value) => Ok(value.to_string()),
            // Receptor would write six decimals; nobody means them.
            Plain::Float(_) | Plain::Text => Ok(self.text.clone()),
        }
    }

    fn to_float(&self) -> Converted<f64> {
        match self.meaning() {
            // A cost or count this large has lost its meaning long before it loses digits.
            Plain::Int(value) => Ok(value as f64),
            Plain::Float(value) => Ok(value),
            _ => yaml11::float(&self.text)
                .ok_or_else(|| format!("`{}` is no number; write one, as in 1.5", self.text)),
        }
    }
}

impl Node {
    /// True for a value that was left out or is written `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.meaning() == Plain::Null)
    }

    /// True for a value that says nothing: none, empty text, an empty list or mapping.
    pub(super) fn is_empty(&self) -> bool {
        match &self.content {
            Content::Scalar(scalar) => scalar.text.is_empty() || scalar.meaning() == Plain::Null,
            Content::List(nodes) => nodes.is_empty(),
            Content::Map(entries) => entries.is_empty(),
        }
    }

    fn scalar(&self) -> Converted<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) => Ok(scalar),
            Content::List(_) => Err("is a list; write a single value".to_owned()),
            Content::Map(_) => Err("is a mapping; write a single value".to_owned()),
        }
    }

    pub(super) fn text(&self) -> Converted<String> {
        self.scalar()?.to_text()
    }

    pub(super) fn integer(&self) -> Converted<i128> {
        let scalar = self.scalar()?;
        match scalar.meaning() {
            Plain::Int(value) => Ok(value),
            // Saturates, so that what is out of every range stays so.
            Plain::Float(value) if !value.is_nan() => Ok(value as i128),
            Plain::Text => yaml11::integer(&scalar.text)
                .ok_or_else(|| format!("`{}` is no whole number; write one", scalar.text)),
            _ => Err(format!("`{}` is no whole number; write one", scalar.text)),
        }
    }

    pub(super) fn number(&self) -> Converted<f64> {
        self.scalar()?.to_float()
    }

    pub(super) fn boolean(&self) -> Converted<bool> {
        let scalar = self.scalar()?;
        let value = match scalar.meaning() {
            Plain::Bool(value) => Some(value),
            Plain::Text => yaml11::boolean(&scalar.text),
            _ => None,
        };
        value.ok_or_else(|| format!("`{}` is neither true nor false; write one of these", scalar.text))
    }

    pub(super) fn duration(&self) -> Converted<Duration> {
        let text = self.text()?;
        parse_go_duration(&text).map_err(|error| format!("{error}; write it like 1h30m, 1.5h or 90s"))
    }

    /// A list of texts; a single text stands for a list of one, and a text that begins with `[` is read as JSON.
    pub(super) fn texts(&self) -> Converted<Vec<String>> {
        match &self.content {
            Content::List(nodes) => nodes.iter().map(Node::text).collect(),
            Content::Map(_) => Err("is a mapping; write a list of texts".to_owned()),
            Content::Scalar(scalar) => {
                let text = scalar.to_text()?;
                if !text.starts_with('[') {
                    return Ok(vec![text]);
                }
                serde_json::from_str(&text).map_err(|error| format!("is no JSON list of texts: {error}"))
            }
        }
    }

    /// Numbers by name: a mapping, or a text that holds a JSON object.
    pub(super) fn numbers(&self) -> Converted<BTreeMap<String, f64>> {
        match &self.content {
            Content::Map(entries) => {
                entries.iter().map(|(key, value)| Ok((key.text()?, value.number()?))).collect()
            }
            Content::List(_) => Err("is a list; write a mapping of names to numbers".to_owned()),
            Content::Scalar(scalar) => serde_json::from_str(&scalar.text)
                .map_err(|error| format!("is no mapping of names to numbers: {error}; write {{name: 1.5}}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::source::read, *};

    fn node(text: &str) -> Node {
        read(text).unwrap().unwrap()
    }

    #[test]
    fn text_is_taken_as_receptor_takes_it() {
        for (yaml, text) in
            [("yes", "true"), ("'yes'", "yes"), ("010", "8"), ("1.50", "1.50"), ("!!str 010", "010")]
        {
            assert_eq!(node(yaml).text().as_deref(), Ok(text), "{yaml}");
        }
        assert!(node("~").text().is_err());
        assert!(node("[a]").text().is_err());
    }

    #[test]
    fn a_whole_number_may_be_quoted_or_have_a_fraction() {
        for (yaml, number) in
            [("0600", 0o600), ("'0600'", 0o600), ("0x180", 0x180), ("5.9", 5), ("\"27199\"", 27199)]
        {
            assert_eq!(node(yaml).integer(), Ok(number), "{yaml}");
        }
        for bad in ["port", "true", "", "[1]", ".nan", "'1.5'"] {
            assert!(node(&format!("- {bad}")).integer().is_err(), "{bad}");
        }
        assert_eq!(node("1e300").integer(), Ok(i128::MAX));
    }

    #[test]
    fn truth_is_a_word_and_never_a_number() {
        assert_eq!((node("on").boolean(), node("'Yes'").boolean()), (Ok(true), Ok(true)));
        assert!(node("1").boolean().is_err());
        assert!(node("'on'").boolean().is_err());
    }

    #[test]
    fn a_list_may_be_one_text_or_json() {
        assert_eq!(node("[a, 7]").texts().unwrap(), ["a", "7"]);
        assert_eq!(node("a,b").texts().unwrap(), ["a,b"]);
        assert_eq!(node(r#"'["a","b"]'"#).texts().unwrap(), ["a", "b"]);
        assert!(node("[~]").texts().is_err());
    }

    #[test]
    fn numbers_by_name_may_be_json() {
        let expected = BTreeMap::from([("A".to_owned(), 2.0), ("8".to_owned(), 0.5)]);
        assert_eq!(node("{A: 2, 010: '0.5'}").numbers().unwrap(), expected);
        assert_eq!(node(r#"'{"A": 2.0, "8": 0.5}'"#).numbers().unwrap(), expected);
        assert!(node("{a: x}").numbers().is_err());
    }
}
