//! Units that another node does: their runner, and the orders that it is given.

use std::sync::{Arc, Weak};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{Accepted, Inner, Reply, UnitHandle, WorkError, lock};
use crate::{runner::remote::Order, unit::Phase};

/// How many orders may wait for a remote unit's runner. It takes them one by one; whoever brings one more waits.
const ORDERS_MOST: usize = 8;

impl Inner {
    /// Gives an order to a remote unit's runner, which is started again if it had ended.
    pub(super) async fn order(
        self: &Arc<Inner>,
        unit: &UnitHandle,
        order: impl FnOnce(oneshot::Sender<Result<Reply, WorkError>>) -> Order,
    ) -> Result<Reply, WorkError> {
        let (reply, answer) = oneshot::channel();
        let mut order = order(reply);
        while let Err(mpsc::error::SendError(back)) = self.runner_of(unit, None)?.send(order).await {
            order = back; // it ended at this moment: the next one takes it
        }
        match answer.await {
            Ok(answer) => answer,
            Err(_) if unit.life().borrow().gone => Ok(Reply::Done),
            Err(_) => Err(WorkError::Closing),
        }
    }

    /// The runner of a remote unit; started if there is none. `first` hears how its first attempt went.
    pub(super) fn runner_of(
        self: &Arc<Inner>,
        unit: &UnitHandle,
        first: Option<oneshot::Sender<Result<Accepted, WorkError>>>,
    ) -> Result<mpsc::Sender<Order>, WorkError> {
        // Held to the end, so that a unit never has two runners.
        let mut units = lock(&self.units);
        let row = units.get_mut(unit.id()).ok_or_else(|| WorkError::UnknownUnit(unit.id().to_string()))?;
        let entry = row.unit_mut().wake(unit);
        if let Some(orders) = entry.orders.as_ref().filter(|orders| !orders.is_closed()) {
            return Ok(orders.clone());
        }
        let (orders, taken) = mpsc::channel(ORDERS_MOST);
        entry.orders = Some(orders.clone());
        unit.show_settled(false);
        let (runner, unit) = (EndWithUs(self.remote.spawn(unit.clone(), taken, first)), unit.clone());
        let inner = Arc::downgrade(self);
        self.spawn(async move {
            let mut runner = runner;
            let mut ended = (&mut runner.0).await;
            if let Ok(orders) = &mut ended {
                orders.close(); // as long as orders can come in, the unit does not rest
            }
            unit.settle();
            match ended {
                Ok(orders) => hand_on(orders, &unit, &inner).await,
                Err(error) => {
                    tracing::error!(unit = %unit.id(), %error, "the runner of a remote unit broke down; the next start goes on");
                }
            }
        });
        Ok(orders)
    }
}

/// Gives the orders that came while a runner ended, and no other can, to the next one. There never are two: the first has ended.
async fn hand_on(mut orders: mpsc::Receiver<Order>, unit: &UnitHandle, inner: &Weak<Inner>) {
    while let Some(mut order) = orders.recv().await {
        // Whoever gave it hears of a unit that is gone, or of an engine that is, when the order is dropped.
        let Some(inner) = inner.upgrade() else { return };
        while let Ok(next) = inner.runner_of(unit, None)
            && let Err(mpsc::error::SendError(back)) = next.send(order).await
        {
            order = back;
        }
    }
}

/// A task that ends when whoever waits for it does.
struct EndWithUs(JoinHandle<mpsc::Receiver<Order>>);

impl Drop for EndWithUs {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether another node has the unit, or will: then its runner alone changes it.
pub(super) fn runs_elsewhere(unit: &UnitHandle) -> bool {
    let current = unit.current();
    let uploading = matches!(current.phase, Some(Phase::Created | Phase::Uploading));
    current.remote().is_some() && (current.state.is_terminal() || !uploading)
}
