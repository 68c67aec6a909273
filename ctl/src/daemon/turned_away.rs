//! Whoever is turned away at a handshake stands in the audit too.
//!
//! The handshake must not wait for a disk, so a refusal goes through a queue; what does not fit is counted, and the log says
//! how many lines the audit lacks.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use netmesh::{
    node::Node,
    tls::{Refused, Witness},
};
use tokio::{sync::mpsc, task::JoinHandle};
use tracing::warn;
use workunits::engine::Engine;

/// Refusals that may wait for the audit.
const QUEUE: usize = 256;

/// Has the audit told of everyone whom `node` turns away, until the task is aborted.
pub(super) fn audit(node: &Node, engine: &Engine) -> JoinHandle<()> {
    let (tell, mut told) = mpsc::channel::<Refused>(QUEUE);
    let missed = Arc::new(AtomicU64::new(0));
    let lost = missed.clone();
    node.set_witness(Witness::new(move |refused| {
        if tell.try_send(refused.clone()).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let engine = engine.clone();
    tokio::spawn(async move {
        while let Some(refused) = told.recv().await {
            let reason = format!("from {}: {}", refused.from, refused.reason);
            engine.refused_handshake(&refused.at, &refused.principal(), &reason).await;
            match missed.swap(0, Ordering::Relaxed) {
                0 => {}
                missed => warn!(
                    missed,
                    "more were turned away at once than the audit could take: it lacks their lines"
                ),
            }
        }
    })
}
