//! Who of the neighbours lives: the member `Liveness` of a status.

use netmesh::{
    id::NodeId,
    logic::{Connection, Liveness, Lost, MeshStatus},
};
use serde::Serialize;

/// A neighbour, as far as can be told.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Life<'s> {
    /// How long ago something came from it.
    heard_ms: u64,
    /// From one heartbeat to the next; not with a node that has none, and not with one that is lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ms: Option<u64>,
    #[serde(rename = "NodeID")]
    node_id: &'s NodeId,
    /// After how much silence it counts as dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    silence_ms: Option<u64>,
    /// `alive`, `late`, `returning` or `lost`.
    state: &'static str,
}

/// Every neighbour with a link, and those that were lost in silence a short while ago.
pub(super) fn lives(mesh: &MeshStatus) -> Vec<Life<'_>> {
    let of_link = mesh.connections.iter().map(|connection: &Connection| Life {
        heard_ms: ms(connection.idle),
        interval_ms: connection.interval.map(ms),
        node_id: &connection.peer,
        silence_ms: Some(ms(connection.silence)),
        state: match connection.state {
            Liveness::Alive => "alive",
            Liveness::Late => "late",
            Liveness::Returning => "returning",
        },
    });
    let of_lost = mesh.lost.iter().map(|Lost { peer, idle }| Life {
        heard_ms: ms(*idle),
        interval_ms: None,
        node_id: peer,
        silence_ms: None,
        state: "lost",
    });
    of_link.chain(of_lost).collect()
}

fn ms(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
