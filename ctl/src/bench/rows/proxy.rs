//! TCP through the mesh, by `tcp-server` and `tcp-client`: a stream's throughput and cost, and how long a word takes there
//! and back, alone and beside that stream, over 1, 2 and 3 hops, on TCP links and on QUIC links.
//!
//! The limit is a chain of plain relays with as many processes as the path has nodes: over one hop two. The processor time
//! is that of all nodes, or of all relays; that of the two ends, which are the same for both, does not count.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use super::{distance, far};
use crate::bench::{
    mesh::{Link, Mesh},
    node::free_port,
    plan::{Plan, half_and_most, median},
    relay::Chain,
    report::{Better, Of, Spec, Who},
    stats::Figure,
    suite::{Group, Turn, spec},
    traffic::{Endpoints, PingPong},
    trouble::Tried,
};

pub(super) const TCP: Group = Group { specs: |_| rows(Link::Tcp), run: |turn| run(turn, Link::Tcp) };
pub(super) const QUIC: Group = Group { specs: |_| rows(Link::Quic), run: |turn| run(turn, Link::Quic) };

const FARTHEST: usize = 3;
const GIB: f64 = (1u64 << 30) as f64;
const MIB: f64 = (1u64 << 20) as f64;
/// How long a word waits for the next one beside a stream: as a person or a program does that has other things to do.
const PAUSE: Duration = Duration::from_millis(1);

/// What is measured of each path: of a row's name the end, of its description, its unit, and what is better.
const PARTS: [(&str, &str, &str, Better); 6] = [
    ("rate", "stream", "MiB/s", Better::Higher),
    ("cpu", "stream, processor time", "s/GiB", Better::Lower),
    ("trip-p50", "there and back, p50", "ms", Better::Lower),
    ("trip-p99", "there and back, p99", "ms", Better::Lower),
    ("beside-p50", "the same beside a stream, p50", "ms", Better::Lower),
    ("beside-p99", "the same beside a stream, p99", "ms", Better::Lower),
];

fn key(link: Link, hops: usize, part: &str) -> String {
    format!("proxy-{}-{}-{part}", link.name(), distance(hops))
}

fn rows(link: Link) -> Vec<Spec> {
    let (group, of) = match link {
        Link::Tcp => ("TCP through the mesh, TCP links", Of::BothAndLimit),
        Link::Quic => ("TCP through the mesh, QUIC links", Of::NetmeshAndLimit),
    };
    (1..=FARTHEST)
        .flat_map(|hops| PARTS.map(|part| (hops, part)))
        .map(|(hops, (part, what, unit, better))| {
            spec(group, key(link, hops, part), format!("{what}, {}", far(hops)), unit, better, of)
        })
        .collect()
}

/// Two doors that lead to the endpoints over one path, and what the path has cost so far.
struct Path<'a> {
    sink: SocketAddr,
    echo: SocketAddr,
    cpu: &'a dyn Fn() -> Tried<Duration>,
}

fn run(turn: &mut Turn<'_>, link: Link) -> Tried<()> {
    let ends = Endpoints::open()?;
    if turn.who == Who::Limit {
        for hops in 1..=FARTHEST {
            let chain = |target| Chain::to(&turn.place.yard, &turn.place.program, hops + 1, target);
            let (sink, echo) = (chain(ends.sink)?, chain(ends.echo)?);
            let path = Path { sink: sink.door, echo: echo.door, cpu: &|| sink.cpu() };
            measure(turn, link, hops, &ends, &path);
        }
        return Ok(());
    }
    // Each way has a service of its own at its far end: `sink2` is two hops away.
    let mut doors = Vec::new();
    let mut sections = vec![String::new()];
    for hops in 1..=FARTHEST {
        let (sink, echo) = (free_port()?, free_port()?);
        for (service, port) in [("sink", sink), ("echo", echo)] {
            sections[0] += &format!(
                "- tcp-server: {{port: {port}, bindaddr: 127.0.0.1, remotenode: n{hops}, remoteservice: {service}{hops}}}\n"
            );
        }
        sections.push(format!(
            "- tcp-client: {{service: sink{hops}, address: \"{}\"}}\n- tcp-client: {{service: echo{hops}, address: \"{}\"}}\n",
            ends.sink, ends.echo
        ));
        doors.push([sink, echo].map(|port| SocketAddr::from(([127, 0, 0, 1], port))));
    }
    let mesh = Mesh::line(&turn.place, link, &sections)?;
    for (hops, [sink, echo]) in (1..).zip(doors) {
        measure(turn, link, hops, &ends, &Path { sink, echo, cpu: &|| mesh.cpu() });
    }
    Ok(())
}

fn measure(turn: &mut Turn<'_>, link: Link, hops: usize, ends: &Endpoints, path: &Path<'_>) {
    let plan = turn.plan;
    let keys = |parts: [&str; 2]| parts.map(|part| key(link, hops, part));
    turn.case(&keys(["rate", "cpu"]), || stream(plan, ends, path));
    turn.case(&keys(["trip-p50", "trip-p99"]), || {
        let mut words = PingPong::through(path.echo)?;
        plan.latency(|| words.once())
    });
    turn.case(&keys(["beside-p50", "beside-p99"]), || {
        let mut words = PingPong::through(path.echo)?;
        words.once()?;
        let trips = ends.flowing(path.sink, || {
            plan.repeat(|| {
                thread::sleep(PAUSE);
                Ok(words.once()?.as_secs_f64() * 1e3)
            })
        })?;
        Ok(half_and_most(&trips))
    });
}

/// Throughput and cost in windows of one stream that flows all the time.
fn stream(plan: &Plan, ends: &Endpoints, path: &Path<'_>) -> Tried<Vec<Figure>> {
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    ends.flowing(path.sink, || {
        for _ in 0..plan.rounds.0.max(3) {
            let (began, bytes, cpu) = (Instant::now(), ends.bytes(), (path.cpu)()?);
            thread::sleep(plan.window);
            let came = (ends.bytes() - bytes) as f64;
            rates.push(came / MIB / began.elapsed().as_secs_f64());
            if came > 0.0 {
                costs.push(((path.cpu)()?.saturating_sub(cpu)).as_secs_f64() / (came / GIB));
            }
        }
        Ok(())
    })?;
    Ok([median(&rates)?, median(&costs)?].concat())
}
