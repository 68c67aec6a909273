//! Who may do what? Rules and a request in, a decision with its reason out. Pure.
//!
//! A request shows one or more principals: who came in (`uid:1000`, `node:foo`, `tcp:ADDRESS`), whom a certificate names
//! (`cert:NAME`), for whom a token speaks (`token:NAME`). A rule grants to one of them; whatever no rule grants is
//! refused. A rule for `own` units looks at the very principal that it matched: the unit must be that one's.

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use regex::Regex;

/// What somebody may want to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Make a unit.
    Submit,
    /// See units in a list.
    List,
    /// See how far a unit got; without a unit: the status of the node.
    Status,
    /// Read or follow a unit's output.
    Results,
    /// End a unit.
    Cancel,
    /// End a unit and remove it.
    Release,
    /// Take over a unit that somebody else submitted.
    Adopt,
    /// Have the node read its configuration again.
    Reload,
    /// Have a conversation piped to another service of the mesh.
    Connect,
    /// Have this node submit to a third one in its own name, signed or not, for a node that asked over the mesh.
    Sign,
}

impl Action {
    /// Every action.
    pub const ALL: [Action; 10] = [
        Action::Submit,
        Action::List,
        Action::Status,
        Action::Results,
        Action::Cancel,
        Action::Release,
        Action::Adopt,
        Action::Reload,
        Action::Connect,
        Action::Sign,
    ];

    /// Its word in configurations and audit lines.
    pub fn word(self) -> &'static str {
        match self {
            Action::Submit => "submit",
            Action::List => "list",
            Action::Status => "status",
            Action::Results => "results",
            Action::Cancel => "cancel",
            Action::Release => "release",
            Action::Adopt => "adopt",
            Action::Reload => "reload",
            Action::Connect => "connect",
            Action::Sign => "sign",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Action {
    type Err = BadGrant;
    fn from_str(word: &str) -> Result<Action, BadGrant> {
        let found = Action::ALL.into_iter().find(|action| action.word() == word);
        found.ok_or_else(|| BadGrant::Action(word.to_owned()))
    }
}

/// A text that is this one, any, or one that an expression matches from its first letter to its last.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// `*`
    Any,
    /// As it stands.
    Exact(String),
    /// `/EXPRESSION/`
    Matches(Regex),
}

impl Pattern {
    /// Whether `text` is meant.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Any => true,
            Pattern::Exact(exact) => exact == text,
            Pattern::Matches(expression) => expression.is_match(text),
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        match (self, other) {
            (Pattern::Any, Pattern::Any) => true,
            (Pattern::Exact(one), Pattern::Exact(other)) => one == other,
            (Pattern::Matches(one), Pattern::Matches(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

impl FromStr for Pattern {
    type Err = BadGrant;
    fn from_str(text: &str) -> Result<Pattern, BadGrant> {
        if text.is_empty() {
            return Err(BadGrant::Empty);
        }
        if text == "*" {
            return Ok(Pattern::Any);
        }
        let Some(rest) = text.strip_prefix('/') else { return Ok(Pattern::Exact(text.to_owned())) };
        let Some(expression) = rest.strip_suffix('/').filter(|inner| !inner.is_empty()) else {
            return Err(BadGrant::Unclosed(text.to_owned()));
        };
        // Nobody who writes `/awx/` means to let `not-awx-at-all` in.
        let whole = |_| Regex::new(&format!(r"\A(?:{expression})\z"));
        // First by itself: `a)|(b` is none, and would be a wide one between our parentheses.
        Regex::new(expression)
            .and_then(whole)
            .map(Pattern::Matches)
            .map_err(|error| BadGrant::Expression(error.to_string()))
    }
}

/// Whom a rule grants to: `KIND:PATTERN`, or `*` for everybody.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// `uid`, `node`, `cert`, `token` or `tcp`; nothing means any.
    kind: Option<&'static str>,
    name: Pattern,
}

impl Principal {
    /// The kinds that there are.
    pub const KINDS: [&'static str; 5] = ["uid", "node", "cert", "token", "tcp"];

    fn matches(&self, principal: &str) -> bool {
        let Some(kind) = self.kind else { return true };
        principal.split_once(':').is_some_and(|(of, name)| of == kind && self.name.matches(name))
    }
}

impl FromStr for Principal {
    type Err = BadGrant;
    fn from_str(text: &str) -> Result<Principal, BadGrant> {
        if text == "*" {
            return Ok(Principal { kind: None, name: Pattern::Any });
        }
        let (kind, name) = text.split_once(':').ok_or_else(|| BadGrant::Principal(text.to_owned()))?;
        let known = Principal::KINDS.into_iter().find(|known| *known == kind);
        let kind = known.ok_or_else(|| BadGrant::Principal(text.to_owned()))?;
        Ok(Principal { kind: Some(kind), name: name.parse()? })
    }
}

/// Which units a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// Those of the principal that it matched.
    #[default]
    Own,
    /// Everybody's.
    Any,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// To whom; one of them is enough.
    pub principals: Vec<Principal>,
    /// What.
    pub actions: Vec<Action>,
    /// About which work types; without one about every type, and about what has none.
    pub work_type: Option<Pattern>,
    /// About whose units, where there is a unit already.
    pub units: Units,
}

/// All rules, in their order. None at all grant nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants(pub Vec<Grant>);

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What.
    pub action: Action,
    /// All principals that the request shows, first the one by which it came.
    pub principals: &'a [&'a str],
    /// The work type that it is about, if it is about work.
    pub work_type: Option<&'a str>,
    /// Whose the unit is, if there is one: its owner, and for whom that one acts. Nobody's is the own unit of nobody.
    pub owners: Option<&'a [&'a str]>,
}

/// Whether it may be, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be.
    pub allowed: bool,
    /// Which rule says so, or what is missing.
    pub reason: String,
}

impl Grants {
    /// Decides.
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        let mut only_own = None;
        for (number, grant) in (1..).zip(&self.0) {
            match grant.meets(ask) {
                Meets::Yes(principal) => {
                    let reason = format!("grant {number}, to {principal}");
                    return Decision { allowed: true, reason };
                }
                Meets::NotOwn => only_own = only_own.or(Some(number)),
                Meets::No => {}
            }
        }
        let reason = match only_own {
            Some(number) => format!("grant {number} is for own units, and this one belongs to another"),
            None => "no grant allows it".to_owned(),
        };
        Decision { allowed: false, reason }
    }

    /// Whether there is a unit for which it would be allowed: what must be known before there is one to look at.
    pub fn may_ever(&self, action: Action, principals: &[&str]) -> Decision {
        let may =
            |grant: &Grant| grant.actions.contains(&action) && grant.grantee(principals).next().is_some();
        match (1..).zip(&self.0).find(|(_, grant)| may(grant)) {
            Some((number, _)) => Decision { allowed: true, reason: format!("grant {number}") },
            None => Decision { allowed: false, reason: "no grant allows it".to_owned() },
        }
    }
}

enum Meets<'a> {
    Yes(&'a str),
    /// All is right but the owner.
    NotOwn,
    No,
}

impl Grant {
    fn grantee<'a>(&self, principals: &[&'a str]) -> impl Iterator<Item = &'a str> {
        principals.iter().copied().filter(|shown| self.principals.iter().any(|one| one.matches(shown)))
    }

    fn meets<'a>(&self, ask: &Ask<'a>) -> Meets<'a> {
        let type_fits = match (&self.work_type, ask.work_type) {
            (None, _) => true,
            (Some(pattern), Some(work_type)) => pattern.matches(work_type),
            (Some(_), None) => false,
        };
        if !type_fits || !self.actions.contains(&ask.action) {
            return Meets::No;
        }
        let mut meets = Meets::No;
        for principal in self.grantee(ask.principals) {
            let is_own = |owners: &[&str]| {
                // A certificate names whoever came, so what is theirs is its holder's. A token speaks for somebody else.
                let came = ask.principals.first().filter(|_| principal.starts_with("cert:"));
                owners.contains(&principal) || came.is_some_and(|came| owners.contains(came))
            };
            match (self.units, ask.owners) {
                (Units::Own, Some(owners)) if !is_own(owners) => meets = Meets::NotOwn,
                _ => return Meets::Yes(principal),
            }
        }
        meets
    }
}

/// Why a rule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGrant {
    /// No such action.
    #[error(
        "`{0}` is no action; there are submit, list, status, results, cancel, release, adopt, reload, connect, sign, and `*` for all"
    )]
    Action(String),
    /// No such kind of principal.
    #[error(
        "`{0}` is no principal; write uid:NUMBER, node:NAME, cert:NAME, token:NAME, tcp:ADDRESS, each also with `*` or /EXPRESSION/, or `*` for everybody"
    )]
    Principal(String),
    /// A pattern of nothing.
    #[error("is empty; write a name, `*` or /EXPRESSION/")]
    Empty,
    /// An expression that does not end.
    #[error("`{0}` begins with `/` and is no /EXPRESSION/; close it with `/`")]
    Unclosed(String),
    /// An expression that is none.
    #[error("cannot be read as an expression: {0}")]
    Expression(String),
}
