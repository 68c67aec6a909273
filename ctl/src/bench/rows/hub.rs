//! A hub by its number of leaves: how soon all know all, and what it takes when nobody asks anything.
//!
//! The clock runs from the start of the hub; the leaves are started all at once when it serves, and all of them run on
//! this machine.

use std::time::Instant;

use super::start::idle_cpu;
use crate::bench::{
    mesh::Mesh,
    plan::{Plan, median},
    report::{Better, Of, Spec},
    suite::{Group, Turn, spec},
    trouble::Tried,
};

pub(super) const GROUP: Group = Group { specs, run };

fn keys(leaves: usize) -> [String; 4] {
    ["known", "settle", "memory", "cpu"].map(|part| format!("hub-{leaves}-{part}"))
}

fn specs(plan: &Plan) -> Vec<Spec> {
    let parts = [
        ("until all are known everywhere, from the first start", "s"),
        ("the same, from when the last one serves", "s"),
        ("the hub's private memory", "MiB"),
        ("the hub's processor time, idle", "ms/s"),
    ];
    let rows = plan
        .leaves
        .iter()
        .flat_map(|&leaves| keys(leaves).into_iter().zip(parts).map(move |row| (leaves, row)));
    rows.map(|(leaves, (key, (what, unit)))| {
        spec("A hub", key, format!("{leaves} leaves: {what}"), unit, Better::Lower, Of::Both)
    })
    .collect()
}

fn run(turn: &mut Turn<'_>) -> Tried<()> {
    let (plan, place) = (turn.plan, turn.place.clone());
    for &leaves in plan.leaves {
        turn.case(&keys(leaves), || {
            let place = place.within(&leaves.to_string())?;
            let began = Instant::now();
            let (mesh, _) = Mesh::star(&place, leaves)?;
            let served = began.elapsed();
            mesh.all_known()?;
            let known = began.elapsed();
            let cpu = idle_cpu(plan, &mesh.nodes[0])?;
            let memory = mesh.nodes[0].memory()?.all;
            let all = [known.as_secs_f64(), (known - served).as_secs_f64(), memory, cpu];
            Ok(all.into_iter().map(|value| median(&[value])).collect::<Tried<Vec<_>>>()?.concat())
        });
    }
    Ok(())
}
