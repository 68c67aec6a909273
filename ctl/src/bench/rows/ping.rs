//! A sign of life: how long a mesh ping takes over 1, 2 and 3 hops, as the node that sends it measures it.

use super::{distance, far};
use crate::bench::{
    mesh::{Link, Mesh},
    plan::{Plan, half_and_most},
    report::{Better, Of, Spec},
    suite::{Group, Turn, spec},
    trouble::{Tried, Trouble},
};

pub(super) const GROUP: Group = Group { specs, run };

const FARTHEST: usize = 3;

fn keys(hops: usize) -> [String; 2] {
    ["p50", "p99"].map(|quantile| format!("ping-{}-{quantile}", distance(hops)))
}

fn specs(_: &Plan) -> Vec<Spec> {
    let rows = (1..=FARTHEST)
        .flat_map(|hops| keys(hops).into_iter().zip(["p50", "p99"]).map(move |row| (hops, row)));
    rows.map(|(hops, (key, quantile))| {
        spec("Ping", key, format!("ping, {}, {quantile}", far(hops)), "ms", Better::Lower, Of::Both)
    })
    .collect()
}

fn run(turn: &mut Turn<'_>) -> Tried<()> {
    let plan = turn.plan;
    let mesh = Mesh::line(&turn.place, Link::Tcp, &vec![String::new(); FARTHEST + 1])?;
    for hops in 1..=FARTHEST {
        turn.case(&keys(hops), || {
            let mut talk = mesh.nodes[0].talk()?;
            let times = plan.repeat(|| {
                let answer = talk.ask(&format!("ping n{hops}"))?;
                let time = answer["Time"].as_f64().filter(|_| answer["Success"] == true);
                time.map(|ns| ns / 1e6).ok_or_else(|| Trouble(format!("the ping said {answer}")))
            })?;
            Ok(half_and_most(&times))
        });
    }
    Ok(())
}
