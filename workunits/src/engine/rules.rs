//! What may change while an engine runs: the work that it knows, the keys that sign and check requests, and the limits.
//!
//! It is replaced as a whole. Units that run are not touched, and end as they were started; what waits for its payload or
//! its turn is started by the rules of that moment. Units that ended long ago are kept by the new rules too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError},
};

use super::{Engine, EngineConfig, Inner, Limits, OpenError, WorkType};
use crate::{
    logic::retention::Keep,
    sign::{Signer, SigningConfig, Verification, Verifier},
};

/// What an engine that runs can be told anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkRules {
    /// What may be run here.
    pub work_types: Vec<WorkType>,
    /// What signs requests to other nodes.
    pub signing: Option<SigningConfig>,
    /// What checks requests of others.
    pub verification: Option<Verification>,
    /// How many units may run at a time, how many ended ones are kept, and how full the disk may get.
    pub limits: Limits,
}

impl WorkRules {
    pub(super) fn of(config: &EngineConfig) -> WorkRules {
        WorkRules {
            work_types: config.work_types.clone(),
            signing: config.signing.clone(),
            verification: config.verification.clone(),
            limits: config.limits.clone(),
        }
    }

    /// How many units may run at a time of those types that say so.
    pub(super) fn most_of(&self) -> BTreeMap<String, usize> {
        self.work_types.iter().filter_map(|of| Some((of.name.clone(), of.max_running?))).collect()
    }

    /// What the types say of the units that are kept.
    pub(super) fn keep_of(&self) -> BTreeMap<String, Keep> {
        self.work_types.iter().map(|of| (of.name.clone(), of.keep)).collect()
    }
}

/// The rules of a moment.
pub(super) struct Snapshot {
    /// By name.
    pub(super) types: BTreeMap<String, WorkType>,
    /// Their names, in the order of the configuration.
    pub(super) order: Vec<String>,
    /// Checks requests of others.
    pub(super) verifier: Verifier,
    /// Types that are gone and wanted signed requests: without this, whoever takes such a type away would let everybody
    /// at the units that it leaves.
    gone: BTreeSet<String>,
}

impl Snapshot {
    pub(super) fn new(
        rules: &WorkRules,
        node: &str,
        before: Option<&Snapshot>,
    ) -> Result<Snapshot, OpenError> {
        let mut types = BTreeMap::new();
        for of in &rules.work_types {
            if of.verify_signature && rules.verification.is_none() {
                return Err(OpenError::NoVerification(of.name.clone()));
            }
            if of.name == "remote" || types.insert(of.name.clone(), of.clone()).is_some() {
                return Err(OpenError::DuplicateType(of.name.clone()));
            }
        }
        let signed = |before: &Snapshot| -> BTreeSet<String> {
            let wanted = before.types.values().filter(|of| of.verify_signature).map(|of| of.name.clone());
            wanted.chain(before.gone.iter().cloned()).filter(|name| !types.contains_key(name)).collect()
        };
        let gone = before.map(signed).unwrap_or_default();
        Ok(Snapshot {
            gone,
            types,
            order: rules.work_types.iter().map(|of| of.name.clone()).collect(),
            // Tokens that were used stay used, whatever the keys are.
            verifier: before.map_or_else(
                || Verifier::new(rules.verification.clone(), node.to_owned()),
                |before| before.verifier.renewed(rules.verification.clone()),
            ),
        })
    }

    /// Whether a request about a unit of this type is to be signed.
    pub(super) fn wants_signature(&self, work_type: &str) -> bool {
        self.types.get(work_type).map_or_else(|| self.gone.contains(work_type), |of| of.verify_signature)
    }
}

impl Engine {
    /// Goes by other rules from now on. Units that run are left alone, whatever becomes of their type.
    ///
    /// # Errors
    /// Nothing is changed when two types have one name, or one wants signed requests and there is no key to check them.
    pub fn set_rules(&self, rules: &WorkRules) -> Result<(), OpenError> {
        let inner = &self.inner;
        let mut current = inner.rules.write().unwrap_or_else(PoisonError::into_inner);
        let new = Snapshot::new(rules, &inner.config.node, Some(&current))?;
        inner
            .remote
            .set_signer(rules.signing.clone().map(|signing| Signer::new(signing, inner.config.node.clone())));
        *current = Arc::new(new);
        drop(current);
        inner.space.set_min_free(rules.limits.min_free);
        inner.quota.set_most(rules.limits.max_units);
        inner.limit_running(rules.limits.max_running, rules.most_of());
        inner.keep_from_now_on(rules.limits.keep, rules.keep_of());
        Ok(())
    }
}

impl Inner {
    /// The rules of this moment.
    pub(super) fn rules(&self) -> Arc<Snapshot> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}
