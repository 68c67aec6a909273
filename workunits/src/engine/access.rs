//! Who asks, whether they may, and what is written down of it.
//!
//! ```text
//! request ─► the unit, if it is about one ─► signature ─► grants ─► an audit line ─► done, or refused
//! ```
//! Every request of the engine that a caller makes passes here once, and so do those of the program that are about no
//! work ([`Engine::permit`]). A node decides about what it does itself, whatever another one has decided before.

use std::{
    sync::{Arc, MutexGuard},
    time::SystemTime,
};

use super::{Engine, Inner, UnitHandle, WorkError, lock};
use crate::{
    audit::{Entry, Journal},
    logic::grants::{Action, Ask, Decision, Grants},
    sign::{Asked, Proof},
    unit::{Controller, Extra, Unit},
};

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// How they came in.
    pub way: Way,
    /// Who they are: `uid:1000`, `node:foo`.
    pub principal: String,
    /// Whom their certificate names, as `cert:NAME`, if they showed one and are known by something else.
    pub certificate: Option<String>,
    /// The digest of their request ([`crate::sign::digest`]), if it is signed: a bound token must be for this one.
    pub request: Option<String>,
}

impl Caller {
    /// Somebody who showed no certificate.
    pub fn new(way: Way, principal: impl Into<String>) -> Caller {
        Caller { way, principal: principal.into(), certificate: None, request: None }
    }
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The Unix socket, which its file mode guards: no signatures are asked for.
    UnixSocket,
    /// A TCP port.
    Tcp,
    /// A TCP port, inside TLS.
    Tls,
    /// The mesh.
    Mesh,
}

/// An adoption, at either end.
pub(super) enum Adoption<'a> {
    /// A unit of another node, by this one: what is signed is up to whoever asks, as with a submission.
    From {
        /// Whether requests for it are signed.
        sign_work: bool,
        /// The node that has it.
        node: &'a str,
        /// What it is called there.
        unit: &'a str,
    },
    /// A unit of this node, by another one.
    Of {
        /// The unit.
        unit: &'a UnitHandle,
        /// Who is to have it.
        to: &'a Controller,
    },
}

impl Way {
    /// Its word in audit lines.
    pub fn word(self) -> &'static str {
        match self {
            Way::UnixSocket => "socket",
            Way::Tcp => "tcp",
            Way::Tls => "tls",
            Way::Mesh => "mesh",
        }
    }
}

/// Who may do what on this node, and where that is written down. It is replaced as a whole, see [`Engine::set_policy`].
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The rules; without any, everybody may do what Receptor lets them.
    pub grants: Option<Grants>,
    /// Where decisions are written down.
    pub journal: Journal,
}

/// What a request has shown of who makes it.
#[derive(Clone, Debug)]
pub(super) struct Shown<'c> {
    caller: &'c Caller,
    /// For whom its token speaks, as `token:NAME`.
    pub(super) speaks_for: Option<String>,
    /// Whether its token is for this request alone.
    pub(super) bound: bool,
}

impl<'c> Shown<'c> {
    fn unsigned(caller: &'c Caller) -> Shown<'c> {
        Shown { caller, speaks_for: None, bound: false }
    }

    pub(super) fn principals(&self) -> Vec<&str> {
        let Caller { principal, certificate, .. } = self.caller;
        [Some(principal.as_str()), certificate.as_deref(), self.speaks_for.as_deref()]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// What a request is about.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct About<'a> {
    pub(super) work_type: Option<&'a str>,
    pub(super) unit: Option<&'a str>,
    pub(super) owners: Option<&'a [&'a str]>,
    pub(super) node: Option<&'a str>,
}

impl<'a> About<'a> {
    /// A unit, but for its owners.
    fn of(unit: &'a Unit, id: &'a str) -> About<'a> {
        About {
            work_type: Some(work_type(unit)),
            unit: Some(id),
            owners: None,
            node: unit.remote().map(|remote| remote.remote_node.as_str()),
        }
    }
}

/// Which units somebody may see in a list.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    policy: Arc<Policy>,
    principals: Vec<String>,
    /// Whether it looks for one request's unit, which whoever may submit may do.
    looks_up: bool,
}

impl Engine {
    /// Has `policy` decide from now on; gives back the one before. What has been decided stays so.
    pub fn set_policy(&self, policy: Policy) -> Arc<Policy> {
        std::mem::replace(&mut *self.inner.policy_lock(), Arc::new(policy))
    }

    /// What decides now.
    pub fn policy(&self) -> Arc<Policy> {
        self.inner.policy()
    }

    /// Decides about something that is no work: a status of the node, a reload, a connection to `node`.
    ///
    /// # Errors
    /// [`WorkError::NotGranted`].
    pub async fn permit(&self, action: Action, node: Option<&str>, caller: &Caller) -> Result<(), WorkError> {
        let shown = Shown::unsigned(caller);
        self.inner.permit(action, &About { node, ..About::default() }, &shown).await
    }

    /// Writes down that somebody was turned away before they could ask for anything. `way` is where they came.
    pub async fn refused_handshake(&self, way: &str, principal: &str, reason: &str) {
        let entry = Entry {
            principals: &[principal],
            way,
            action: "handshake",
            allowed: false,
            reason,
            ..Entry::default()
        };
        self.inner.policy().journal.note(&entry).await;
    }
}

impl Inner {
    fn policy_lock(&self) -> MutexGuard<'_, Arc<Policy>> {
        lock(&self.policy)
    }

    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy_lock().clone()
    }

    /// Decides, and writes it down.
    pub(super) async fn permit(
        &self,
        action: Action,
        about: &About<'_>,
        shown: &Shown<'_>,
    ) -> Result<(), WorkError> {
        let policy = self.policy();
        let decision = policy.decide(action, about, shown);
        policy.note(action, about, shown, &decision).await;
        granted(action, about, shown, decision)
    }

    /// Whether `caller` may adopt. The one place where that is decided; it is to be signed as a release is.
    pub(super) async fn authorize_adoption<'c>(
        &self,
        what: Adoption<'_>,
        signature: &str,
        caller: &'c Caller,
    ) -> Result<Shown<'c>, WorkError> {
        let (unit, to) = match what {
            Adoption::From { sign_work, node, unit } => {
                let about = About { unit: Some(unit), node: Some(node), ..About::default() };
                let shown = self.authorize(sign_work, signature, Action::Adopt, &about, caller).await?;
                if caller.way == Way::Mesh {
                    self.admit_onward(sign_work, &self.policy(), &about, &shown).await?;
                }
                self.permit(Action::Adopt, &about, &shown).await?;
                return Ok(shown);
            }
            Adoption::Of { unit, to } => (unit, to),
        };
        // A node takes what it adopts for itself.
        if caller.principal.strip_prefix("node:").is_some_and(|node| node != to.node) {
            return Err(WorkError::AdoptFor { principal: caller.principal.clone(), node: to.node.clone() });
        }
        self.admit(unit, Action::Adopt, signature, caller).await
    }

    /// Checks the signature of a request about a unit, and whether its caller may do this with it.
    pub(super) async fn admit<'c>(
        &self,
        unit: &UnitHandle,
        action: Action,
        signature: &str,
        caller: &'c Caller,
    ) -> Result<Shown<'c>, WorkError> {
        let current = unit.current();
        let owners = owners(&current);
        let id = unit.id();
        let about = About { owners: Some(&owners), ..About::of(&current, id.as_str()) };
        let demanded = match &current.extra_data {
            Extra::Remote(remote) => remote.sign_work,
            _ => self.rules().wants_signature(&current.work_type),
        };
        let shown = self.authorize(demanded, signature, action, &about, caller).await?;
        self.permit(action, &about, &shown).await?;
        Ok(shown)
    }

    /// Checks the signature of a request that is, or is not, to be signed. A refusal is written down.
    pub(super) async fn authorize<'c>(
        &self,
        demanded: bool,
        signature: &str,
        action: Action,
        about: &About<'_>,
        caller: &'c Caller,
    ) -> Result<Shown<'c>, WorkError> {
        match self.check_signature(demanded, signature, caller) {
            Ok(Proof { subject, bound }) => {
                let speaks_for = subject.map(|subject| format!("token:{subject}"));
                Ok(Shown { speaks_for, bound, ..Shown::unsigned(caller) })
            }
            Err(refusal) => {
                self.note_refusal(action, about, &Shown::unsigned(caller), &refusal).await;
                Err(refusal)
            }
        }
    }

    /// Writes down that something was refused for a reason other than grants.
    pub(super) async fn note_refusal(
        &self,
        action: Action,
        about: &About<'_>,
        shown: &Shown<'_>,
        refusal: &WorkError,
    ) {
        let decision = Decision { allowed: false, reason: refusal.to_string() };
        self.policy().note(action, about, shown, &decision).await;
    }

    fn check_signature(&self, demanded: bool, signature: &str, caller: &Caller) -> Result<Proof, WorkError> {
        match (demanded, caller.way) {
            (false, _) if signature.is_empty() => Ok(Proof::default()),
            (false, _) => Err(WorkError::UnexpectedSignature),
            (true, Way::UnixSocket) => Ok(Proof::default()),
            (true, Way::Tcp | Way::Tls | Way::Mesh) => {
                let from = caller.principal.strip_prefix("node:").filter(|_| caller.way == Way::Mesh);
                let asked = Asked { digest: caller.request.as_deref(), from };
                Ok(self.rules().verifier.verify(signature, asked, SystemTime::now())?)
            }
        }
    }

    /// Whether a caller may see a unit, which needs no signature, as in Receptor.
    pub(super) async fn permit_sight(
        &self,
        unit: &Unit,
        id: &str,
        action: Action,
        caller: &Caller,
    ) -> Result<(), WorkError> {
        let owners = owners(unit);
        let about = About { owners: Some(&owners), ..About::of(unit, id) };
        self.permit(action, &about, &Shown::unsigned(caller)).await
    }

    /// Decides whether somebody may list units at all, and which.
    pub(super) async fn sight(
        &self,
        action: Action,
        looks_up: bool,
        caller: &Caller,
    ) -> Result<Sight, WorkError> {
        let policy = self.policy();
        let shown = Shown::unsigned(caller);
        let principals = shown.principals();
        let decision = match &policy.grants {
            None => no_grants(),
            Some(grants) => match grants.may_ever(action, &principals) {
                Decision { allowed: false, .. } if looks_up => grants.may_ever(Action::Submit, &principals),
                decision => decision,
            },
        };
        policy.note(action, &About::default(), &shown, &decision).await;
        granted(action, &About::default(), &shown, decision)?;
        let principals = principals.into_iter().map(str::to_owned).collect();
        Ok(Sight { policy, principals, looks_up })
    }
}

impl Policy {
    pub(super) fn decide(&self, action: Action, about: &About<'_>, shown: &Shown<'_>) -> Decision {
        let Some(grants) = &self.grants else { return no_grants() };
        let About { work_type, owners, .. } = *about;
        grants.decide(&Ask { action, principals: &shown.principals(), work_type, owners })
    }

    /// Writes a decision down.
    pub(super) async fn note(
        &self,
        action: Action,
        about: &About<'_>,
        shown: &Shown<'_>,
        decision: &Decision,
    ) {
        let entry = Entry {
            principals: &shown.principals(),
            way: shown.caller.way.word(),
            action: action.word(),
            work_type: about.work_type,
            unit: about.unit,
            node: about.node,
            allowed: decision.allowed,
            reason: &decision.reason,
        };
        self.journal.note(&entry).await;
    }
}

impl Sight {
    /// One that sees everything, for whoever is no caller.
    pub(super) fn everything() -> Sight {
        Sight { policy: Arc::default(), principals: Vec::new(), looks_up: false }
    }

    pub(super) fn sees(&self, unit: &Unit) -> bool {
        let Some(grants) = &self.policy.grants else { return true };
        let (owners, principals) =
            (owners(unit), self.principals.iter().map(String::as_str).collect::<Vec<_>>());
        let ask = |action| Ask {
            action,
            principals: &principals,
            work_type: Some(work_type(unit)),
            owners: Some(&owners),
        };
        let submitted = || principals.iter().any(|shown| owners.contains(shown));
        grants.decide(&ask(Action::List)).allowed
            || (self.looks_up && submitted() && grants.decide(&ask(Action::Submit)).allowed)
    }
}

/// What a refused caller is told.
pub(super) fn granted(
    action: Action,
    about: &About<'_>,
    shown: &Shown<'_>,
    decision: Decision,
) -> Result<(), WorkError> {
    if decision.allowed {
        return Ok(());
    }
    let about = match (about.unit, about.work_type, about.node) {
        (Some(unit), None, Some(node)) => format!(" work unit {unit} of node {node}"),
        (Some(unit), Some(work_type), _) => format!(" work unit {unit} of type {work_type}"),
        (None, Some(work_type), Some(node)) => format!(" work of type {work_type} for node {node}"),
        (None, Some(work_type), None) => format!(" work of type {work_type}"),
        (_, None, Some(node)) => format!(" to node {node}"),
        (_, None, None) => String::new(),
    };
    Err(WorkError::NotGranted {
        principal: shown.principals().join(", "),
        action,
        about,
        reason: decision.reason,
    })
}

fn no_grants() -> Decision {
    Decision { allowed: true, reason: "no grants are configured".to_owned() }
}

/// Whose a unit is: who submitted it, and for whom.
fn owners(unit: &Unit) -> Vec<&str> {
    [unit.owner.as_deref(), unit.on_behalf_of.as_deref()].into_iter().flatten().collect()
}

/// The work type of a unit on the node that does it.
fn work_type(unit: &Unit) -> &str {
    unit.remote().map_or(&unit.work_type, |remote| &remote.remote_work_type)
}
