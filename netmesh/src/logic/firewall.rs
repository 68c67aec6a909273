//! Which datagrams may pass: rules over the names of both ends, of which the first that fits decides.
//!
//! Every datagram that a node sends, passes on or gets is asked about, pings and notices too. A pattern is a name, or a
//! regular expression between slashes that must fit the whole name. One that cannot be read is refused: left out, it
//! would make its rule fit more than was meant.

use regex::Regex;

use crate::id::{NodeId, ServiceName};

/// Rules, in order. Without any, everything passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    rules: Vec<Rule>,
}

/// What happens to the datagrams that fit all of its patterns; one without patterns fits every datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What happens to them.
    pub action: FirewallAction,
    /// The node that sends.
    pub from_node: Option<Pattern>,
    /// The node that is to get it.
    pub to_node: Option<Pattern>,
    /// The service that sends.
    pub from_service: Option<Pattern>,
    /// The service that is to get it.
    pub to_service: Option<Pattern>,
}

/// What happens to a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirewallAction {
    /// It passes.
    Accept,
    /// It does not pass, and its sender is told.
    Reject,
    /// It does not pass, and nobody is told.
    Drop,
}

/// Why a text is no [`FirewallAction`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown action: {0}")]
pub struct BadAction(pub String);

impl std::str::FromStr for FirewallAction {
    type Err = BadAction;
    fn from_str(text: &str) -> Result<FirewallAction, BadAction> {
        match text.to_lowercase().as_str() {
            "accept" => Ok(FirewallAction::Accept),
            "reject" => Ok(FirewallAction::Reject),
            "drop" => Ok(FirewallAction::Drop),
            _ => Err(BadAction(text.to_owned())),
        }
    }
}

/// What a name must be.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    /// None for a name that is compared as it stands.
    regex: Option<Regex>,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// Why a text is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// The second slash is missing.
    #[error("`{0}` begins like a regular expression and has no `/` at its end")]
    Open(String),
    /// The expression is none.
    #[error("`{text}` is no regular expression: {why}")]
    Regex {
        /// The whole pattern.
        text: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Pattern {
    /// Reads `/regular expression/`, or takes `text` as a name.
    ///
    /// # Errors
    /// [`BadPattern`] for an expression that cannot be read, or has no end.
    pub fn parse(text: &str) -> Result<Pattern, BadPattern> {
        let Some(rest) = text.strip_prefix('/') else {
            return Ok(Pattern { text: text.to_owned(), regex: None });
        };
        let inner = rest.strip_suffix('/').ok_or_else(|| BadPattern::Open(text.to_owned()))?;
        let bad = |error: regex::Error| {
            let why = match &error {
                // The library draws the place on several lines; the last one says what it is.
                regex::Error::Syntax(drawn) => {
                    drawn.lines().last().unwrap_or_default().replace("error: ", "")
                }
                other => other.to_string(),
            };
            BadPattern::Regex { text: text.to_owned(), why }
        };
        // Read alone first: `a)|(b` would be an expression only inside of the group.
        Regex::new(inner).map_err(bad)?;
        let whole = Regex::new(&format!(r"\A(?:{inner})\z")).map_err(bad)?;
        Ok(Pattern { text: text.to_owned(), regex: Some(whole) })
    }

    fn fits(&self, name: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(name),
            None => self.text == name,
        }
    }
}

impl Firewall {
    /// The rules in their order.
    pub fn new(rules: Vec<Rule>) -> Firewall {
        Firewall { rules }
    }

    /// True without rules.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// What happens to a datagram between these two services.
    pub fn decide(&self, from: (&NodeId, ServiceName), to: (&NodeId, ServiceName)) -> FirewallAction {
        if self.rules.is_empty() {
            return FirewallAction::Accept;
        }
        let (from_service, to_service) = (from.1.text(), to.1.text());
        let fits = |pattern: &Option<Pattern>, name: &str| pattern.as_ref().is_none_or(|p| p.fits(name));
        let decides = |rule: &&Rule| {
            fits(&rule.from_node, from.0.as_str())
                && fits(&rule.to_node, to.0.as_str())
                && fits(&rule.from_service, &from_service)
                && fits(&rule.to_service, &to_service)
        };
        self.rules.iter().find(decides).map_or(FirewallAction::Accept, |rule| rule.action)
    }
}

/// How many datagrams did not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// Their senders were told, as far as there was time for it.
    pub rejected: u64,
    /// Nobody was told.
    pub dropped: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Option<Pattern> {
        (!text.is_empty()).then(|| Pattern::parse(text).unwrap())
    }

    /// Of `ACTION FROM TO FROM_SERVICE TO_SERVICE`, `-` for no pattern.
    fn rule(line: &str) -> Rule {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
        Rule {
            action: words[0].parse().unwrap(),
            from_node: pattern(words[1]),
            to_node: pattern(words[2]),
            from_service: pattern(words[3]),
            to_service: pattern(words[4]),
        }
    }

    fn decide(rules: &[&str], from: &str, to: &str) -> FirewallAction {
        let firewall = Firewall::new(rules.iter().map(|line| rule(line)).collect());
        let end = |text: &str| {
            let (node, service) = text.split_once(':').unwrap();
            (NodeId::new(node).unwrap(), ServiceName::new(service).unwrap())
        };
        let (from, to) = (end(from), end(to));
        firewall.decide((&from.0, from.1), (&to.0, to.1))
    }

    #[test]
    fn the_first_rule_that_fits_decides_and_without_one_it_passes() {
        use FirewallAction::{Accept, Drop, Reject};
        let rules = ["accept - hub - control", "reject - hub - -", "DROP - - x -"];
        assert_eq!(decide(&rules, "a:q", "hub:control"), Accept);
        assert_eq!(decide(&rules, "a:x", "hub:ping"), Reject);
        assert_eq!(decide(&rules, "a:x", "b:ping"), Drop);
        assert_eq!(decide(&rules, "a:y", "b:ping"), Accept);
        assert_eq!(decide(&[], "a:x", "b:y"), Accept);
        assert_eq!(decide(&["drop - - - -"], "a:x", "b:y"), Drop);
    }

    #[test]
    fn all_patterns_of_a_rule_must_fit() {
        let rules = ["reject a b x y"];
        assert_eq!(decide(&rules, "a:x", "b:y"), FirewallAction::Reject);
        for (from, to) in [("c:x", "b:y"), ("a:x", "c:y"), ("a:z", "b:y"), ("a:x", "b:z"), ("A:x", "b:y")] {
            assert_eq!(decide(&rules, from, to), FirewallAction::Accept, "{from} {to}");
        }
    }

    #[test]
    fn an_expression_fits_whole_names_only() {
        for (text, fitting, others) in [
            ("/edge-.*/", &["edge-", "edge-1"][..], &["an-edge-1", "Edge-1", "edge"][..]),
            ("/(?i)edge/", &["EDGE", "edge"], &["edges"]),
            // In Receptor this means “begins with a, or ends with b”.
            ("/a|b/", &["a", "b"], &["ab", "ac", "cb"]),
            ("/(?m)a$|^b/", &["a", "b"], &["a\nb", "c\nb"]),
            ("//", &[""], &["a"]),
            ("/a/b/", &["a/b"], &["a"]),
            ("a.c", &["a.c"], &["abc"]),
        ] {
            let pattern = Pattern::parse(text).unwrap();
            assert!(fitting.iter().all(|name| pattern.fits(name)), "{text}");
            assert!(!others.iter().any(|name| pattern.fits(name)), "{text}");
        }
    }

    #[test]
    fn an_expression_that_cannot_be_read_is_refused_and_never_wider() {
        for open in ["/", "/edge", "/edge-.*"] {
            assert_eq!(Pattern::parse(open), Err(BadPattern::Open(open.to_owned())));
        }
        for bad in ["/(/", "/a)|(b/", "/*/", "/[/", r"/\Qa/", "/(?P<x/", "/a{99999999}/", "/(?=a)/", "/)/"] {
            let Err(BadPattern::Regex { why, .. }) = Pattern::parse(bad) else { panic!("{bad}") };
            assert!(!why.is_empty() && !why.contains('\n'), "{bad}: {why}");
        }
    }

    #[test]
    fn an_action_is_one_of_three_words() {
        assert_eq!("Reject".parse(), Ok(FirewallAction::Reject));
        assert_eq!("".parse::<FirewallAction>().unwrap_err().to_string(), "unknown action: ");
        assert!("deny".parse::<FirewallAction>().is_err());
    }
}
