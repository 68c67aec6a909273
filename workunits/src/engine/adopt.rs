//! A second controller takes over: a unit of another node gets a unit here that stands for it, and one of this node's is
//! handed over to another node's.
//!
//! ```text
//!   here (baz)                                            the unit's node (bar)
//!   look at it: fit, known, offered? else nothing is made
//!   make a unit that adopts it, on disk
//!   its keeper asks ────────────────────────────────────► hand over: event `adopted`, on disk
//!   noted as ours, then told to the user ◄─────────────── done
//!                                                         whoever had it is told when it next asks, or follows
//! ```

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use netmesh::id::NodeId;
use tokio::{sync::oneshot, time::timeout};

use super::{
    Accepted, Caller, Engine, Inner, Reply, UnitHandle, WorkError,
    access::Adoption,
    handle::{blocking, settle_if_ended},
    lock,
    table::Entry,
};
use crate::{
    crash,
    logic::{
        adoption::{Act, Asker, Verdict, decide, is_fit, may_act},
        state::{ADOPTED, Event},
        units::Request,
    },
    request::{Adopt, WorkRequest},
    store::{
        Spec,
        events::Log,
        status::{self, StepError},
    },
    unit::{Controller, FORMAT, Outcome, Phase, Unit, UnitId, rfc3339},
};

/// Hears how the first attempt to have the unit handed over went.
type Attempt = oneshot::Receiver<Result<Accepted, WorkError>>;

/// How long a node may take to say what a unit is.
const PATIENCE: Duration = Duration::from_secs(30);

/// What there is of an earlier adoption of the same unit.
enum Known {
    /// It is done, and nobody has followed.
    Done(UnitHandle),
    /// It is under way.
    UnderWay(UnitHandle),
}

impl Engine {
    /// Makes a unit here that stands for a unit of another node, which another one stood for so far. The same again, by the
    /// same owner, answers the same unit as long as that one has it.
    ///
    /// [`Reply::Pending`] says that the other node was asked and then went out of reach.
    ///
    /// # Errors
    /// A refusal leaves nothing behind.
    pub async fn adopt(&self, wanted: Adopt, caller: &Caller) -> Result<(UnitId, Reply), WorkError> {
        let inner = &self.inner;
        let from = Adoption::From { sign_work: wanted.sign_work, node: &wanted.node, unit: &wanted.unit };
        inner.authorize_adoption(from, &wanted.signature, caller).await?;
        if wanted.node == inner.config.node || wanted.node.eq_ignore_ascii_case("localhost") {
            return Err(WorkError::AdoptHere(wanted.unit));
        }
        wanted.node.parse::<NodeId>().map_err(|_| WorkError::BadNode(wanted.node.clone()))?;
        wanted.unit.parse::<UnitId>().map_err(|_| WorkError::UnknownUnit(wanted.unit.clone()))?;
        let id = wanted.request_id.clone().unwrap_or_else(|| request_id(&wanted));
        let request = Request { owner: caller.principal.clone(), id };
        let before = inner.adoptions(&request, &wanted).await?;
        if wanted.request_id.is_some()
            && let Some(unit) = before.first()
        {
            // Whoever chose an id for the request gets its unit, whatever has become of that.
            return known(Known::UnderWay(unit.clone())).await;
        }
        let look = inner.remote.look(&wanted.node, &wanted.tls_client, &wanted.unit);
        let there = timeout(PATIENCE, look).await.unwrap_or_else(|_| {
            let why = format!("it did not answer within {} s", PATIENCE.as_secs());
            Err(WorkError::OutOfReach { node: wanted.node.clone(), why })
        })?;
        is_fit(&there).map_err(|why| WorkError::Unfit { unit: wanted.unit.clone(), why })?;
        if let Some(found) = inner.stands_for(&before, &there) {
            return known(found).await;
        }
        let (engine, path) = (self.clone(), inner.config.datadir.clone());
        let made = blocking(move || Ok(engine.begin(wanted, request, there, &before))).await;
        match made.map_err(WorkError::io("cannot make a unit in", path))?? {
            (unit, Some(first)) => match first.await {
                Ok(Ok(Accepted::Started)) => Ok((unit.id(), Reply::Done)),
                Ok(Ok(Accepted::Submitted)) => Ok((unit.id(), Reply::Pending)),
                Ok(Err(refused)) => Err(refused),
                Err(_) => Err(WorkError::Closing),
            },
            // Another request of the same kind was faster.
            (unit, None) => known(Known::UnderWay(unit)).await,
        }
    }

    /// Makes the unit, and starts its keeper; or finds that somebody has, since `before`. Blocks on the disk.
    fn begin(
        &self,
        wanted: Adopt,
        request: Request,
        there: Unit,
        before: &[UnitHandle],
    ) -> Result<(UnitHandle, Option<Attempt>), WorkError> {
        let (inner, now) = (&self.inner, SystemTime::now());
        let _turn = inner.requests.turn(&request);
        if wanted.request_id.is_some() && lock(&inner.released).contains(&request, now) {
            return Err(WorkError::Released(request.id));
        }
        let is_new = |unit: &UnitHandle| before.iter().all(|known| known.id() != unit.id());
        let since = inner.adoptions_of(&request, &wanted)?;
        if let Some(unit) = since.into_iter().find(|unit| is_new(unit) && !is_lost(&unit.current())) {
            return Ok((unit, None));
        }
        let spec = Spec {
            version: FORMAT,
            node: Some(wanted.node),
            work_type: there.work_type,
            tls_client: wanted.tls_client,
            sign_work: wanted.sign_work,
            adopts: Some(wanted.unit),
            request_id: Some(request.id.clone()),
            owner: request.owner.clone(),
            created_at: rfc3339(now),
            ..Spec::default()
        };
        let Entry { handle, .. } = inner.create(spec, Some(request))?;
        let (first, went) = oneshot::channel();
        inner.runner_of(&handle, Some(first))?;
        Ok((handle, Some(went)))
    }

    /// Hands a unit of this node over to a unit of the node that asks: on disk when this returns. Again, it is done already.
    pub async fn hand_over(
        &self,
        id: &str,
        to: Controller,
        signature: &str,
        caller: &Caller,
    ) -> Result<(), WorkError> {
        let inner = &self.inner;
        let unit = inner.entry(id)?.handle;
        inner.authorize_adoption(Adoption::Of { unit: &unit, to: &to }, signature, caller).await?;
        if unit.dir().is_released() {
            return Err(WorkError::UnitReleased(id.to_owned()));
        }
        is_fit(&unit.current()).map_err(|why| WorkError::Unfit { unit: id.to_owned(), why })?;
        let path = unit.dir().path().to_owned();
        let (inner, owner) = (inner.clone(), caller.principal.clone());
        let taken = blocking(move || Ok(inner.hand_over(&unit, &to, &owner))).await;
        match taken.map_err(WorkError::io("cannot hand over the unit in", &path))? {
            Ok(None) => Ok(()),
            Ok(Some(by)) => Err(WorkError::Adopted { unit: id.to_owned(), by }),
            Err(StepError::Io(_)) if !path.exists() => Err(WorkError::UnknownUnit(id.to_owned())),
            Err(error) => Err(WorkError::step(path)(error)),
        }
    }

    /// Refuses a request about a unit that somebody else has adopted from whoever asks: in the name of a unit of theirs,
    /// or, of a node that knows no adoptions, as the one that submitted it.
    pub fn check_controller(
        &self,
        request: &WorkRequest,
        speaks_for: Option<&Controller>,
        caller: &Caller,
    ) -> Result<(), WorkError> {
        let (id, act) = match request {
            WorkRequest::Watch { unit, .. } | WorkRequest::Results { unit, .. } => (unit, Act::Read),
            WorkRequest::Cancel { unit, .. } | WorkRequest::Release { unit, .. } => (unit, Act::End),
            _ => return Ok(()),
        };
        let unit = self.inner.entry(id)?.handle;
        let submitted = caller.principal.starts_with("node:") && caller.principal == unit.spec().owner;
        let current = unit.current();
        // A node that has it again may end it in nobody's name.
        let back = current.owner.as_deref() == Some(&caller.principal);
        let asker = Asker { speaks_for, submitted: submitted && !back };
        may_act(&current, asker, act).map_err(|by| WorkError::Adopted { unit: id.clone(), by: by.clone() })
    }
}

impl Inner {
    /// The units that earlier requests of this kind made here, newest first.
    async fn adoptions(
        self: &Arc<Inner>,
        request: &Request,
        wanted: &Adopt,
    ) -> Result<Vec<UnitHandle>, WorkError> {
        let (inner, request, wanted) = (self.clone(), request.clone(), wanted.clone());
        let path = self.config.datadir.clone();
        let found = blocking(move || Ok(inner.adoptions_of(&request, &wanted))).await;
        found.map_err(WorkError::io("cannot read the units in", path))?
    }

    /// The same. Blocks on the disk.
    fn adoptions_of(
        self: &Arc<Inner>,
        request: &Request,
        wanted: &Adopt,
    ) -> Result<Vec<UnitHandle>, WorkError> {
        let mut units: Vec<_> = self.all_made_by(request)?.into_iter().map(|entry| entry.handle).collect();
        let is_it = |spec: &Spec| {
            spec.node.as_deref() == Some(&wanted.node) && spec.adopts.as_deref() == Some(&wanted.unit)
        };
        if let Some(other) = units.iter().find(|unit| !is_it(unit.spec())) {
            return Err(WorkError::RequestTaken(other.id().to_string()));
        }
        units.sort_unstable_by(|one, other| other.spec().created_at.cmp(&one.spec().created_at));
        Ok(units)
    }

    /// Hands a unit over; gives back who has it if it was taken from `to` again. Blocks on the disk.
    fn hand_over(
        &self,
        unit: &UnitHandle,
        to: &Controller,
        owner: &str,
    ) -> Result<Option<Controller>, StepError> {
        // It must be in memory once while it changes, and what was read of it before must not be shown afterwards.
        if let Some(row) = lock(&self.units).get_mut(unit.id()) {
            row.unit_mut().wake(unit);
        }
        let taken = unit.hand_over(to, owner);
        if matches!(taken, Ok(None)) {
            lock(&self.units).owned_by(unit.id(), owner);
        }
        settle_if_ended(unit);
        crash::point("unit is handed over");
        taken
    }

    /// Which of `units` stands for the unit that is `there`, or is about to.
    fn stands_for(&self, units: &[UnitHandle], there: &Unit) -> Option<Known> {
        let has = |unit: &&UnitHandle| {
            let id = unit.id();
            there
                .controller
                .as_ref()
                .is_some_and(|by| by.node == self.config.node && by.unit_id == id.as_str())
        };
        let under_way = |unit: &&UnitHandle| {
            let current = unit.current();
            !current.state.is_terminal() && !is_confirmed(&current)
        };
        let done =
            units.iter().find(has).filter(|unit| is_confirmed(&unit.current()) && !is_lost(&unit.current()));
        let done = done.cloned().map(Known::Done);
        done.or_else(|| units.iter().find(under_way).cloned().map(Known::UnderWay))
    }
}

impl UnitHandle {
    /// The same, on disk.
    fn hand_over(&self, to: &Controller, owner: &str) -> Result<Option<Controller>, StepError> {
        let mut locked = status::lock(self.dir())?;
        let before = handed_to(locked.log());
        match decide(&before, to) {
            Verdict::Superseded(by) => return Ok(Some(by.clone())),
            Verdict::Again => {}
            Verdict::Take => {
                let event = Event::Adopted { by: to.clone(), owner: owner.to_owned() };
                locked.take_step(&event, SystemTime::now())?;
            }
        }
        self.refresh()?; // shown before the lock goes, or an older change could be shown over a newer one
        Ok(None)
    }
}

/// To whom a unit was handed over, in order.
fn handed_to(log: &Log) -> Vec<Controller> {
    let handed = log.entries.iter().filter(|entry| entry.event == ADOPTED);
    let named = handed.filter_map(|entry| entry.set.get("Controller"));
    named.filter_map(|who| serde_json::from_value(who.clone()).ok()).collect()
}

/// Waits until an adoption is done, or waits for its node.
async fn known(found: Known) -> Result<(UnitId, Reply), WorkError> {
    let unit = match found {
        Known::Done(unit) => return Ok((unit.id(), Reply::Done)),
        Known::UnderWay(unit) => unit,
    };
    let (mut news, mut life) = (unit.subscribe(), unit.life());
    loop {
        if life.borrow_and_update().gone {
            return Err(WorkError::Remote("the unit's node did not hand it over".to_owned()));
        }
        let current = news.borrow_and_update().clone();
        if is_confirmed(&current) {
            return Ok((unit.id(), Reply::Done));
        }
        if current.state.is_terminal() {
            return Err(WorkError::Remote(current.detail.clone()));
        }
        if current.phase == Some(Phase::WaitingForRoute) {
            return Ok((unit.id(), Reply::Pending));
        }
        // Neither sender goes while we hold the unit.
        tokio::select! {
            changed = news.changed() => drop(changed),
            changed = life.changed() => drop(changed),
        }
    }
}

/// Whether the other node has said that its unit is ours.
fn is_confirmed(unit: &Unit) -> bool {
    unit.remote().is_some_and(|remote| remote.remote_started)
}

/// Whether a unit does not stand for the other one any more, or never did.
fn is_lost(unit: &Unit) -> bool {
    unit.outcome == Some(Outcome::Adopted) || unit.state.is_terminal() && !is_confirmed(unit)
}

/// The id of an adoption for which nobody chose one: so that it finds its unit again.
fn request_id(wanted: &Adopt) -> String {
    let seed = format!("adopt/{}/{}", wanted.node, wanted.unit);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, seed.as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
