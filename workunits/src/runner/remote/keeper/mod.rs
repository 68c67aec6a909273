//! The task behind one unit that runs elsewhere.
//!
//! It may be ended, or a step of it dropped, at any point: every fact is on disk before the act that it permits.

mod away;
mod over;

use std::{
    io::ErrorKind,
    ops::ControlFlow::{self, Break, Continue},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use time::OffsetDateTime;
use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use self::{
    away::{Lost, until},
    over::expiry,
};
use super::{
    Context, adopt, follow,
    ledger::Ledger,
    mirror::{Conclusion, Facts, Step, next},
    order::{Order, Waiting},
    poll,
    stop::{self, Known},
    submit::{self, set_remote},
    talk::Talk,
    went::Went,
};
use crate::{
    engine::{Accepted, Reply, UnitHandle, WorkError},
    request::Offers,
    unit::{Outcome, Phase},
};

/// How long a user waits for the other node's answer before hearing that it is pending.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait before another try at a node that is in reach and does not answer: 1 s, then half as much more each time.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

pub(super) struct Keeper {
    context: Arc<Context>,
    unit: UnitHandle,
    orders: mpsc::Receiver<Order>,
    first: Option<oneshot::Sender<Result<Accepted, WorkError>>>,
    waiting: Waiting,
    cancel_taken: bool,
    /// Whether the last decision knew that the unit's time to start is over.
    expired: bool,
    backoff: Duration,
    /// The conversation of the submission, to be used on.
    talk: Option<(Talk, Offers)>,
}

/// What a step that got through has brought.
enum Got {
    /// The facts have changed.
    On,
    /// The same, and a conversation that can be used on.
    Talk(Talk, Offers),
    /// Where the unit turned out to be.
    Known(Known),
}

impl Keeper {
    pub(super) fn new(
        context: Arc<Context>,
        unit: UnitHandle,
        orders: mpsc::Receiver<Order>,
        first: Option<oneshot::Sender<Result<Accepted, WorkError>>>,
    ) -> Keeper {
        Keeper {
            context,
            unit,
            orders,
            first,
            waiting: Waiting::default(),
            cancel_taken: false,
            expired: false,
            backoff: FIRST_BACKOFF,
            talk: None,
        }
    }

    /// Keeps the unit until nothing is left to do for it; gives back where orders come in, since one may just have come.
    pub(super) async fn run(mut self) -> mpsc::Receiver<Order> {
        self.keep().await;
        self.orders
    }

    async fn keep(&mut self) {
        let ledger = match Ledger::open(self.unit.dir().path().to_owned()) {
            Ok(ledger) => ledger,
            Err(error) if matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                // No crash of ours leaves it so. A unit whose id there is known is still followed to its end.
                let known =
                    self.unit.current().remote().is_some_and(|remote| !remote.remote_unit_id.is_empty());
                if !known {
                    let why = format!(
                        "its file `remote` is damaged ({error}): it may have been submitted, and nobody knows"
                    );
                    self.end(Outcome::Unknown, &why).await;
                }
                Ledger::damaged(self.unit.dir().path().to_owned())
            }
            Err(error) => {
                tracing::error!(unit = %self.unit.id(), %error, "cannot read how far a submission got: the unit is left alone");
                return;
            }
        };
        loop {
            let step = self.decide(&ledger);
            tracing::debug!(unit = %self.unit.id(), ?step, "next step of a remote unit");
            if matches!(step, Step::Done | Step::Follow) {
                self.unit.dir().forget_secrets();
            }
            match step {
                Step::Done => {
                    self.waiting.answer(|| Ok(Reply::Done));
                    match self.orders.try_recv() {
                        Ok(order) => self.take(order).await,
                        Err(_) => return,
                    }
                }
                Step::Remove => return self.remove().await,
                Step::Conclude(conclusion) => self.conclude(conclusion).await,
                Step::Wait => self.wait_for_its_time().await,
                step => {
                    if self.attempt(step, &ledger).await.is_break() {
                        return;
                    }
                }
            }
        }
    }

    fn decide(&mut self, ledger: &Ledger) -> Step {
        let unit = self.unit.current();
        let Some(remote) = unit.remote() else { return Step::Done };
        let now = OffsetDateTime::now_utc();
        self.expired = expiry(&unit).is_some_and(|at| now >= at);
        next(&Facts {
            remote,
            state: unit.state,
            complete: self.unit.dir().is_home(&unit),
            asked: ledger.asked(),
            adopts: self.unit.spec().adopts.is_some(),
            adopted: unit.outcome == Some(Outcome::Adopted),
            early: self.unit.spec().meta.not_before.is_some_and(|at| now < OffsetDateTime::from(at)),
            expired: self.expired,
            cancel_taken: self.cancel_taken,
        })
    }

    /// Does one step, unless an order or the unit's time comes in between.
    async fn attempt(&mut self, step: Step, ledger: &Ledger) -> ControlFlow<()> {
        let (context, unit, talk) = (Arc::clone(&self.context), self.unit.clone(), self.talk.take());
        let mut act = pin!(act(&context, &unit, ledger, step, talk));
        let mut patience = pin!(sleep(PATIENCE));
        let mut expired = pin!(until(self.deadline(step)));
        let mut lost = pin!(self.out_of_reach(step, ledger));
        loop {
            tokio::select! {
                biased;
                went = &mut act => return self.settle(step, went).await,
                Some(order) = self.orders.recv() => {
                    self.take(order).await;
                    return Continue(());
                }
                () = &mut expired => return Continue(()),
                lost = &mut lost => {
                    return match lost {
                        Lost::Route => self.settle(step, Err(Went::Away("no route to node".to_owned()))).await,
                        Lost::Restarted => Continue(()),
                    };
                }
                () = &mut patience, if !self.waiting.is_empty() => {
                    if self.waiting.force {
                        self.remove().await;
                        return Break(());
                    }
                    self.waiting.answer(|| Ok(Reply::Pending));
                }
            }
        }
    }

    async fn settle(&mut self, step: Step, went: Result<Got, Went>) -> ControlFlow<()> {
        match (step, went) {
            (_, Err(Went::Local(error))) => {
                tracing::error!(unit = %self.unit.id(), %error, "cannot write to the unit's directory: trying again");
                self.waiting.answer(|| Ok(Reply::Pending));
                self.pause("this node cannot write to the unit's directory").await;
            }
            (Step::Release, went) => match went {
                Ok(_) | Err(Went::Gone | Went::Adopted(_)) => {
                    self.remove().await;
                    return Break(());
                }
                Err(_) if self.waiting.force => {
                    self.remove().await;
                    return Break(());
                }
                Err(Went::Refused { text, .. }) => self.refused(&text).await,
                Err(Went::Away(why)) => self.pending(&why).await,
                Err(Went::Unanswerable | Went::Local(_)) => self.pending("it cannot be asked").await,
            },
            (Step::Adopt, Err(Went::Adopted(text))) => {
                return self.not_adopted(Outcome::Adopted, &text).await;
            }
            (Step::Adopt, Err(Went::Refused { text, .. })) => {
                return self.not_adopted(Outcome::Denied, &text).await;
            }
            (Step::Adopt, Err(Went::Gone)) => {
                return self.not_adopted(Outcome::Lost, "its node does not know the unit any more").await;
            }
            (_, Err(Went::Adopted(text))) => self.adopted(&text).await,
            (Step::Cancel, Ok(_)) => {
                self.cancel_taken = true;
                self.waiting.answer_cancel(|| Ok(Reply::Done));
            }
            (Step::Cancel, Err(Went::Refused { text, .. })) => self.refused(&text).await,
            (Step::LookUp, Ok(Got::Known(Known::Nowhere))) => return self.nowhere().await,
            (Step::Submit | Step::LookUp | Step::Adopt, Err(Went::Unanswerable)) => {
                self.end(
                    Outcome::Unknown,
                    "its node was replaced by one that cannot be asked whether it ran",
                )
                .await;
            }
            (Step::Submit, Err(Went::Refused { outcome, text })) => {
                self.end(outcome, &format!("Error starting worker: {text}")).await;
                self.tell_first(Err(WorkError::Remote(text)));
            }
            (_, Err(Went::Gone)) => self.gone().await,
            (_, Err(Went::Refused { text, .. })) => self.pending(&text).await,
            (_, Err(Went::Unanswerable)) => self.pending("it cannot be asked").await,
            (_, Err(Went::Away(why))) => self.pending(&why).await,
            (Step::Follow, Ok(_)) if !self.unit.dir().is_home(&self.unit.current()) => {
                self.pause("its stream ended before its output was complete").await;
            }
            (_, Ok(got)) => {
                self.backoff = FIRST_BACKOFF;
                if matches!(step, Step::Submit | Step::Adopt) {
                    self.tell_first(Ok(Accepted::Started));
                }
                if let Got::Talk(talk, offers) = got {
                    self.talk = Some((talk, offers));
                }
            }
        }
        Continue(())
    }

    /// Notes an order durably; the next decision carries it out.
    async fn take(&mut self, order: Order) {
        let released = matches!(order, Order::Release { .. });
        if !released && self.unit.current().state.is_terminal() {
            self.waiting.add(order);
            self.waiting.answer_cancel(|| Ok(Reply::Done));
            return;
        }
        let noted = self
            .unit
            .update(move |unit| {
                set_remote(unit, |remote| {
                    remote.local_cancelled = true;
                    remote.local_released |= released;
                });
            })
            .await;
        self.waiting.add(order);
        if let Err(error) = noted {
            let text = error.to_string();
            self.waiting.answer(|| Err(WorkError::Remote(format!("cannot note this on disk: {text}"))));
        }
        self.cancel_taken = false;
        self.backoff = FIRST_BACKOFF;
    }

    /// The other node said no: the order is taken back, so that the unit goes on as before.
    async fn refused(&mut self, text: &str) {
        let taken_back = self.unit.update(|unit| {
            set_remote(unit, |remote| (remote.local_cancelled, remote.local_released) = (false, false));
        });
        if let Err(error) = taken_back.await {
            tracing::error!(unit = %self.unit.id(), %error, "cannot note that a node refused an order");
        }
        // Two spaces: clients look for this text as Receptor writes it.
        self.waiting.answer(|| Err(WorkError::Remote(format!("error cancelling remote unit:  {text}"))));
    }

    fn tell_first(&mut self, answer: Result<Accepted, WorkError>) {
        if let Some(first) = self.first.take() {
            // A client that has gone needs no answer.
            let _ = first.send(answer);
        }
    }

    fn node(&self) -> String {
        self.unit.current().remote().map(|remote| remote.remote_node.clone()).unwrap_or_default()
    }
}

async fn act(
    context: &Context,
    unit: &UnitHandle,
    ledger: &Ledger,
    step: Step,
    talk: Option<(Talk, Offers)>,
) -> Result<Got, Went> {
    match step {
        Step::Submit => Ok(match submit::submit(context, unit, ledger).await? {
            Some((talk, offers)) => Got::Talk(talk, offers),
            None => Got::On,
        }),
        Step::Adopt => {
            adopt::adopt(context, unit, ledger).await.map(|(talk, offers)| Got::Talk(talk, offers))
        }
        Step::LookUp => Ok(Got::Known(stop::look_up_only(context, unit, ledger).await?)),
        Step::Follow => {
            let node = unit.current().remote().map(|remote| remote.remote_node.clone()).unwrap_or_default();
            // A conversation that waited for a place would take up one.
            let (_place, talk) = match (context.calls.free_place(&node), talk) {
                (Some(place), talk) => (place, talk),
                (None, open) => {
                    drop(open);
                    (context.calls.place(&node).await, None)
                }
            };
            let (mut talk, offers) = match talk {
                Some(open) => open,
                None => {
                    let _call = context.calls.call(&node).await;
                    context.open(unit).await?
                }
            };
            back_in_reach(unit).await?;
            if offers.watch {
                follow::follow(context, unit, &mut talk, offers).await?;
            } else {
                poll::follow(context, unit, talk).await?;
            }
            Ok(Got::On)
        }
        Step::Cancel => stop::cancel(context, unit).await.map(|()| Got::On),
        Step::Release => stop::release(context, unit).await.map(|()| Got::On),
        Step::Wait | Step::Remove | Step::Conclude(_) | Step::Done => Ok(Got::On),
    }
}

/// A unit that is reached again says so before its next news.
async fn back_in_reach(unit: &UnitHandle) -> std::io::Result<()> {
    if unit.current().phase == Some(Phase::Unreachable) {
        unit.update_lazily(|unit| unit.phase = Some(Phase::Running)).await?;
    }
    // A submission whose payload went out but whose answer was lost is asked about by its id: it counts as started.
    if unit.current().remote().is_some_and(|remote| !remote.remote_started) {
        unit.update(|unit| set_remote(unit, |remote| remote.remote_started = true)).await?;
    }
    Ok(())
}
