//! What the service manager is told: that the node serves, that it stops, and what of it.
//!
//! The word goes to the socket that `NOTIFY_SOCKET` names; without that variable nobody listens and nothing happens.

use sd_notify::NotifyState;
use tracing::warn;

/// All listeners are open.
pub(super) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// The node is about to end.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell the service manager");
    }
}
