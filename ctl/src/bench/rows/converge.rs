//! How soon everybody knows everybody: a ring and a star from nothing, after a node has died, after a hub came back.
//!
//! From nothing: the nodes of a ring are started one after the other, each when the one before it serves; of a star the
//! hub, and then its leaves at once. The clock runs from the first start until every node has a route to every other. Reroute: a node of the ring is killed; the clock runs until
//! its neighbours reach each other the long way round and a ping has come back. Hub: it is killed and started again;
//! the clock runs from that start until every node has every route once more.

use std::time::Instant;

use crate::bench::{
    mesh::{Mesh, Place, routes},
    plan::{Plan, median},
    report::{Better, Of, Spec},
    suite::{Group, Turn, spec},
    trouble::{Tried, Trouble},
};

pub(super) const GROUP: Group = Group { specs, run };

fn specs(plan: &Plan) -> Vec<Spec> {
    let row = |key: &str, what: String| spec("Routes", key, what, "ms", Better::Lower, Of::Both);
    let nodes = plan.ring;
    vec![
        row("ring-cold", format!("ring of {nodes}, from nothing")),
        row("ring-reroute", format!("ring of {nodes}, a node dies: the other way round")),
        row("star-cold", format!("star of {nodes}, from nothing")),
        row("star-return", format!("star of {nodes}, the hub is started again")),
    ]
}

fn run(turn: &mut Turn<'_>) -> Tried<()> {
    let (plan, place) = (turn.plan, turn.place.clone());
    turn.case(&["ring-cold", "ring-reroute"].map(str::to_owned), || {
        let (mut cold, mut reroute) = (Vec::new(), Vec::new());
        for round in 0..plan.rounds.0 {
            let place = place.within(&format!("ring{round}"))?;
            let began = Instant::now();
            let mesh = Mesh::ring(&place, plan.ring)?;
            mesh.all_known()?;
            cold.push(began.elapsed().as_secs_f64() * 1e3);
            reroute.push(around(&mesh)?);
        }
        Ok([median(&cold)?, median(&reroute)?].concat())
    });
    turn.case(&["star-cold", "star-return"].map(str::to_owned), || {
        let (mut cold, mut back) = (Vec::new(), Vec::new());
        for round in 0..plan.rounds.0 {
            let place = place.within(&format!("star{round}"))?;
            let began = Instant::now();
            let (mut mesh, hub) = Mesh::star(&place, plan.ring - 1)?;
            mesh.all_known()?;
            cold.push(began.elapsed().as_secs_f64() * 1e3);
            back.push(again(&place, &mut mesh, &hub)?);
        }
        Ok([median(&cold)?, median(&back)?].concat())
    });
    Ok(())
}

/// Kills the node between `n0` and `n2`; how long it takes until they reach each other the other way round.
fn around(mesh: &Mesh) -> Tried<f64> {
    let last = format!("n{}", mesh.nodes.len() - 1);
    let [near, between, far] = [0, 1, 2].map(|number| &mesh.nodes[number]);
    let began = Instant::now();
    between.kill();
    routes(near, "the other way round", |routes| routes["n2"] == last.as_str())?;
    routes(far, "the other way round", |routes| routes["n0"].as_str().is_some_and(|next| next != "n1"))?;
    let mut talk = near.talk()?;
    // Nodes on the way may not have heard of it yet, and say so.
    for _ in 0..1000 {
        if talk.ask("ping n2")?["Success"] == true {
            return Ok(began.elapsed().as_secs_f64() * 1e3);
        }
    }
    Err(Trouble::new("the other way round is in the tables, and no ping comes back"))
}

/// Kills the hub and starts it again; how long it takes until all know all once more.
fn again(place: &Place, mesh: &mut Mesh, hub: &str) -> Tried<f64> {
    mesh.nodes[0].kill();
    for leaf in &mesh.nodes[1..] {
        routes(leaf, "noticed that the hub has died", |routes| routes.get("n0").is_none())?;
    }
    let began = Instant::now();
    mesh.nodes[0] = place.node("n0", hub)?;
    mesh.all_known()?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
