//! Units that run elsewhere: the outbox of a node.
//!
//! Each such unit has one keeper, a task that asks `mirror` what to do next and does it. Whatever breaks off, be it a
//! conversation, a route or this very process, the next look at the facts on disk says how to go on.
//!
//! ```text
//!            ┌────────────── facts (status, `remote`, sizes) ◄─────────────┐
//!            ▼                                                             │
//!    mirror::next ─► step ─► talk to the other node's control service ─► noted on disk
//!                              │ out of reach: wait for a route, or a while
//! ```

mod adopt;
mod calls;
mod follow;
mod home;
mod keeper;
mod ledger;
mod meta;
mod mirror;
mod news;
mod order;
mod poll;
mod progress;
mod signed;
mod stop;
mod submit;
mod talk;
mod went;

pub use order::Order;
#[cfg(any(test, fuzzing))]
pub(crate) use progress::reread;

use std::sync::{Arc, PoisonError, RwLock};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use self::{
    calls::{Calls, Permit},
    keeper::Keeper,
    talk::Talk,
    went::Went,
};
use crate::{
    engine::{Accepted, DialFailed, Mesh, UnitHandle, WorkError},
    request::Offers,
    sign::Signer,
};

/// Keeps units that run elsewhere.
#[derive(Clone)]
pub struct Remote {
    context: Arc<Context>,
}

/// What every keeper needs.
struct Context {
    mesh: Arc<dyn Mesh>,
    /// Another one may come while units are kept.
    signer: RwLock<Option<Signer>>,
    calls: Calls,
}

impl Remote {
    /// Reaches other nodes over `mesh`, and signs with `signer` what is to be signed.
    pub fn new(mesh: Arc<dyn Mesh>, signer: Option<Signer>) -> Remote {
        Remote { context: Arc::new(Context { mesh, signer: RwLock::new(signer), calls: Calls::default() }) }
    }

    /// Signs with another key from now on, or with none.
    pub fn set_signer(&self, signer: Option<Signer>) {
        *self.context.signer.write().unwrap_or_else(PoisonError::into_inner) = signer;
    }

    /// Keeps a unit from wherever its files say it got to, until it has ended and its output is home, or it is released.
    ///
    /// `first` hears how the first attempt to submit it went. The task ends when nothing is left to do, and gives back
    /// where orders come in.
    pub fn spawn(
        &self,
        unit: UnitHandle,
        orders: mpsc::Receiver<Order>,
        first: Option<oneshot::Sender<Result<Accepted, WorkError>>>,
    ) -> JoinHandle<mpsc::Receiver<Order>> {
        tokio::spawn(Keeper::new(Arc::clone(&self.context), unit, orders, first).run())
    }
}

impl Context {
    fn signer(&self) -> Option<Signer> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a turn to call the unit's node.
    async fn call(&self, unit: &UnitHandle) -> Permit {
        let current = unit.current();
        self.calls.call(current.remote().map_or("", |remote| &remote.remote_node)).await
    }

    /// Opens a conversation with the unit's node and asks what it offers.
    async fn open(&self, unit: &UnitHandle) -> Result<(Talk, Offers), Went> {
        let current = unit.current();
        let remote = current.remote().ok_or(Went::Unanswerable)?;
        let conversation =
            self.mesh.dial_control(&remote.remote_node, &remote.tls_client).await.map_err(|failed| {
                match failed {
                    DialFailed::Tls(_) if !remote.remote_started => {
                        Went::failed(format!("TLS error connecting to remote service: {failed}"))
                    }
                    other => Went::Away(other.to_string()),
                }
            })?;
        let mut talk = Talk::new(conversation);
        let offers = talk.offers().await?;
        Ok((talk, offers))
    }
}
