//! A submission: checked, given an id, and on disk before the id is told.

use std::{sync::Arc, time::SystemTime};

use netmesh::{id::NodeId, json::parse_go_duration};

use super::{
    Caller, Engine, Inner, Policy, Upload, Way, WorkError,
    access::{About, Shown, granted},
    handle::blocking,
    lock,
    prepare::arguments,
    table::Entry,
    upload::is_arriving,
};
use crate::{
    logic::{
        grants::{Action, Decision},
        units::Request,
    },
    request::{Extension, PayloadEnd, Stderr, Submit},
    sign::VerifyError,
    store::{Spec, secrets::take, status::Known},
    unit::{FORMAT, Outcome, Unit, UnitId, rfc3339},
};

impl Engine {
    /// Makes a unit; its payload goes into the [`Upload`]. The unit is on disk when this returns.
    ///
    /// The same owner with the same request id gets the same unit again, and goes on with a payload that was cut if both
    /// submissions say `resume`. A unit whose payload never came whole, and which therefore never ran, is replaced.
    ///
    /// # Errors
    /// A refusal leaves nothing behind.
    pub async fn submit(&self, submit: Submit, caller: &Caller) -> Result<Upload, WorkError> {
        let now = SystemTime::now();
        let inner = &self.inner;
        let here = inner.is_here(&submit.node);
        let (node, work_type) = (submit.node.clone(), submit.work_type.clone());
        let about =
            About { work_type: Some(&work_type), node: (!here).then_some(node.as_str()), ..About::default() };
        let admitted = inner.admit_submission(&submit, here, &about, caller).await?;
        let made = match inner.check(submit, caller, now) {
            Ok(spec) => {
                let spec = Spec { on_behalf_of: admitted.shown.speaks_for.clone(), ..spec };
                let (engine, path) = (self.clone(), inner.config.datadir.clone());
                let made = blocking(move || Ok(engine.make(spec, now))).await;
                made.unwrap_or_else(|error| Err(WorkError::io("cannot make a unit in", path)(error)))
            }
            Err(refusal) => Err(refusal),
        };
        // With the unit's id, and before anybody hears of it.
        let id = made.as_ref().ok().map(Upload::id);
        let unit = id.as_ref().map(|id| id.as_str());
        admitted
            .policy
            .note(Action::Submit, &About { unit, ..about }, &admitted.shown, &admitted.decision)
            .await;
        made
    }

    fn make(&self, spec: Spec, now: SystemTime) -> Result<Upload, WorkError> {
        let inner = &self.inner;
        let Some(id) = spec.request_id.clone() else {
            let entry = inner.create(spec, None)?;
            return Upload::new(self.clone(), entry.handle, entry.upload, false);
        };
        let resume = spec.resume;
        let request = Request { owner: spec.owner.clone(), id };
        let _turn = inner.requests.turn(&request);
        if lock(&inner.released).contains(&request, now) {
            return Err(WorkError::Released(request.id));
        }
        if let Some(entry) = inner.made_by(&request)? {
            let unit = entry.handle.current();
            if is_arriving(&unit) {
                // What was begun with another payload in mind is begun anew.
                let of = entry.handle.spec();
                let go_on = resume && of.resume && of.payload == spec.payload;
                return Upload::new(self.clone(), entry.handle, entry.upload, go_on);
            }
            if !never_ran(&unit) {
                return Ok(Upload::again(self.clone(), entry.handle));
            }
            let dir = entry.handle.dir().clone();
            dir.remove().map_err(WorkError::io("cannot replace", dir.path()))?;
            entry.handle.forget();
        }
        let entry = inner.create(spec, Some(request))?;
        Upload::new(self.clone(), entry.handle, entry.upload, resume)
    }
}

/// Whether a unit's payload never came whole, so that the same request may try again. `no_space` is also the end of a
/// command whose limited output the disk would not take: that one has run.
fn never_ran(unit: &Unit) -> bool {
    matches!(unit.outcome, Some(Outcome::IncompletePayload | Outcome::NoSpace)) && unit.started_at.is_none()
}

/// Whether a submission says the digest of its payload, so that a token for it covers that too.
fn says_digest(submit: &Submit) -> bool {
    matches!(&submit.extension.payload, Some(PayloadEnd::Length { sha256: Some(_), .. }))
}

/// A submission that may be.
struct Admitted<'c> {
    shown: Shown<'c>,
    policy: Arc<Policy>,
    decision: Decision,
}

impl Inner {
    fn is_here(&self, node: &str) -> bool {
        node == self.config.node || node.eq_ignore_ascii_case("localhost")
    }

    /// Checks a submission's signature and whether its caller may submit. A refusal is written down here, the rest by
    /// whoever knows which unit it became.
    async fn admit_submission<'c>(
        &self,
        submit: &Submit,
        here: bool,
        about: &About<'_>,
        caller: &'c Caller,
    ) -> Result<Admitted<'c>, WorkError> {
        let rules = self.rules();
        let of = rules.types.get(&submit.work_type);
        let demanded = if here { of.is_some_and(|of| of.verify_signature) } else { submit.sign_work };
        let shown = self.authorize(demanded, &submit.signature, Action::Submit, about, caller).await?;
        if shown.bound && !says_digest(submit) {
            let refusal = WorkError::Denied(VerifyError::PayloadNotBound);
            self.note_refusal(Action::Submit, about, &shown, &refusal).await;
            return Err(refusal);
        }
        let policy = self.policy();
        if !here && caller.way == Way::Mesh {
            self.admit_onward(submit.sign_work, &policy, about, &shown).await?;
        }
        let decision = policy.decide(Action::Submit, about, &shown);
        if !decision.allowed {
            policy.note(Action::Submit, about, &shown, &decision).await;
            granted(Action::Submit, about, &shown, decision.clone())?;
        }
        Ok(Admitted { shown, policy, decision })
    }

    /// Whether this node submits to a third one, in its own name, for a node that asked over the mesh. Unsigned it does
    /// without any grants, as Receptor does: such a submission is worth no more than one of the asker's own. Its signature
    /// it lends to nobody without being told to.
    pub(super) async fn admit_onward(
        &self,
        signed: bool,
        policy: &Policy,
        about: &About<'_>,
        shown: &Shown<'_>,
    ) -> Result<(), WorkError> {
        if policy.grants.is_some() {
            return self.permit(Action::Sign, about, shown).await;
        }
        if !signed {
            return Ok(());
        }
        let refusal = WorkError::SignsForNobody(shown.principals().join(", "));
        self.note_refusal(Action::Sign, about, shown, &refusal).await;
        Err(refusal)
    }

    /// What a submission asks for, if it may and can be done.
    fn check(&self, submit: Submit, caller: &Caller, now: SystemTime) -> Result<Spec, WorkError> {
        let here = self.is_here(&submit.node);
        let rules = self.rules();
        let of = rules.types.get(&submit.work_type);
        // Who does not know that error output can be kept apart would never see it.
        let knows_stderr = submit.extension != Extension::default();
        let stderr = if knows_stderr { submit.extension.stderr } else { Some(Stderr::Merge) };
        let mut params = submit.params;
        let secrets = take(&mut params);
        let mut spec = Spec {
            version: FORMAT,
            work_type: submit.work_type,
            params,
            payload: submit.extension.payload,
            resume: submit.extension.resume,
            stderr,
            request_id: submit.extension.request_id.map(|id| id.to_ascii_lowercase()),
            parent: submit.extension.parent,
            meta: submit.extension.meta,
            sandbox: submit.extension.sandbox,
            owner: caller.principal.clone(),
            created_at: rfc3339(now),
            ..Spec::default()
        };
        if here {
            if !submit.ttl.is_empty() {
                return Err(WorkError::LocalTtl);
            }
            let of = of.ok_or_else(|| WorkError::UnknownWorkType(spec.work_type.clone()))?;
            let asked = spec.params.get("params").map_or("", String::as_str);
            of.rules.permit(&spec.sandbox, of.allow_runtime_params)?;
            // Who may run any program may give it any arguments; that this one may was just seen.
            if !asked.is_empty() && !of.allow_runtime_params && spec.sandbox.command.is_none() {
                return Err(WorkError::ExtraParams);
            }
            spec.stderr = Some(spec.stderr.unwrap_or(of.stderr));
            spec.arguments = Some(arguments(of, &spec.sandbox, asked));
            return Ok(spec);
        }
        if submit.tls_client.is_empty() && !secrets.is_empty() {
            return Err(WorkError::SecretsInClear);
        }
        spec.secrets = secrets;
        let mut ttl = spec.meta.ttl.map(|ttl| ttl.0);
        if !submit.ttl.is_empty() {
            let asked =
                parse_go_duration(&submit.ttl).map_err(|error| WorkError::BadTtl(error.to_string()))?;
            ttl = Some(ttl.map_or(asked, |ttl| ttl.min(asked)));
        }
        spec.expiration = ttl.and_then(|ttl| now.checked_add(ttl)).map(rfc3339);
        submit.node.parse::<NodeId>().map_err(|_| WorkError::BadNode(submit.node.clone()))?;
        spec.node = Some(submit.node);
        spec.tls_client = submit.tls_client;
        spec.sign_work = submit.sign_work;
        Ok(spec)
    }

    /// Makes the directory under a fresh id, and takes the unit in. Blocks on the disk.
    pub(super) fn create(
        self: &std::sync::Arc<Inner>,
        spec: Spec,
        request: Option<Request>,
    ) -> Result<Entry, WorkError> {
        let _right = self.may_make_one(&spec.owner)?;
        self.space.admit(match spec.payload {
            Some(PayloadEnd::Length { length, .. }) => length,
            _ => 0,
        })?;
        let dir = loop {
            match self.store.create(fresh_id(), &spec) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => break made.map_err(WorkError::io("cannot make a unit in", &self.config.datadir))?,
            }
        };
        let known = Known::newborn(&dir, &spec).map_err(|error| {
            dir.remove().ok(); // whatever stays has a spec without a payload, and is ended at the next start
            WorkError::io("cannot write the status in", dir.path())(error)
        })?;
        let unit = spec.newborn();
        let made = self.take_in(dir, spec, unit, request);
        made.handle.remember(known);
        Ok(made)
    }
}

fn fresh_id() -> UnitId {
    let mut bits = [0; 8];
    loop {
        // It fails only before the kernel has gathered its first entropy.
        if aws_lc_rs::rand::fill(&mut bits).is_ok() {
            return UnitId::from_random(u64::from_ne_bytes(bits));
        }
    }
}
