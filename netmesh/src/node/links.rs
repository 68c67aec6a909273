//! The tasks that make links: one per backend, calling a neighbour again or accepting callers.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    driver::Event,
    plane::{Link, Plane},
    pump,
};
use crate::{
    backend::{Dialer, Ended, Listener, Redial, Transport, counted_as},
    logic::LinkConfig,
    tls::{self, Refused},
};

/// Links of one listener that may be up.
const LINKS_MAX: usize = 4096;
/// Of these, callers that have not said who they are. The one that has waited longest makes room for the next.
const HALF_OPEN_MAX: usize = 256;
/// How much of that one address may take: of the links, and of the half-open ones, where its own oldest makes room. So an
/// address, or the 64 bits of an IPv6 one that somebody owns together, keeps nobody else out.
const HOST_LINKS_MAX: usize = 1024;
const HOST_HALF_OPEN_MAX: usize = 64;
/// The wait after an accept that failed for want of resources, doubled each time up to a second.
const ACCEPT_WAIT: Duration = Duration::from_millis(10);
const ACCEPT_WAIT_MAX: Duration = Duration::from_secs(1);

/// Calls one neighbour, and again when the link is lost if `redial` says so, until `cancel`.
pub(crate) async fn keep_dialing(
    plane: Arc<Plane>,
    dialer: Box<dyn Dialer>,
    config: LinkConfig,
    redial: bool,
    cancel: CancellationToken,
) {
    let mut ladder = Redial::seeded(u64::from_le_bytes(tls::random()));
    loop {
        let dialed = tokio::select! {
            () = cancel.cancelled() => return,
            dialed = dialer.dial() => dialed,
        };
        let ended = match dialed {
            Ok(transport) => {
                let Some(link) = attach(&plane, transport, config.clone()).await else { return };
                tokio::select! {
                    () = cancel.cancelled() => return link.outbox.close(),
                    () = link.down.cancelled() => {}
                }
                link.established.get().map_or(Ended::Failed, |since| Ended::Lived(since.elapsed()))
            }
            Err(error) => {
                tracing::warn!(peer = dialer.describe(), %error, "cannot reach a peer");
                Ended::Failed
            }
        };
        if !redial {
            return;
        }
        let wait = ladder.wait_after(ended);
        tracing::debug!(peer = dialer.describe(), ?wait, "will call again");
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Accepts callers until `cancel`, then closes their links.
pub(crate) async fn keep_accepting(
    plane: Arc<Plane>,
    mut listener: Box<dyn Listener>,
    config: LinkConfig,
    cancel: CancellationToken,
) {
    let mut callers = Callers::default();
    let mut wait = ACCEPT_WAIT;
    let mut refusing = false;
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(transport) => {
                wait = ACCEPT_WAIT;
                let host = counted_as(&transport.info.remote);
                if let Some(full) = callers.make_room(&host) {
                    // Told once, until there is room again: whoever is refused calls again and again.
                    if !std::mem::replace(&mut refusing, true) {
                        tracing::warn!(listener = listener.describe(), host, "refuses callers: {full}");
                    }
                    continue;
                }
                refusing = false;
                let Some(link) = attach(&plane, transport, config.clone()).await else { break };
                callers.half_open.push_back(link);
            }
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            Err(error) if Refused::within(&error).is_some() => {
                Refused::within(&error).into_iter().for_each(|refused| plane.refused(refused));
            }
            Err(error) if concerns_one_caller(&error) => {
                tracing::debug!(listener = listener.describe(), %error, "a caller went away");
            }
            Err(error) => {
                tracing::warn!(listener = listener.describe(), %error, ?wait, "cannot accept; waiting");
                tokio::select! {
                    () = cancel.cancelled() => break,
                    () = tokio::time::sleep(wait) => {}
                }
                wait = (wait * 2).min(ACCEPT_WAIT_MAX);
            }
        }
    }
    callers.half_open.iter().chain(&callers.settled).for_each(|link| link.outbox.close());
}

/// The links of one listener.
#[derive(Default)]
struct Callers {
    half_open: VecDeque<Arc<Link>>,
    settled: Vec<Arc<Link>>,
}

impl Callers {
    /// Sees to it that one more can come from `host`; a text when too many are up.
    fn make_room(&mut self, host: &str) -> Option<String> {
        for link in std::mem::take(&mut self.half_open) {
            if link.down.is_cancelled() {
                continue;
            }
            match link.established.get() {
                Some(_) => self.settled.push(link),
                None => self.half_open.push_back(link),
            }
        }
        self.settled.retain(|link| !link.down.is_cancelled());
        let of_host = |link: &&Arc<Link>| counted_as(&link.info.remote) == host;
        let half_open = self.half_open.iter().filter(of_host).count();
        if half_open >= HOST_HALF_OPEN_MAX {
            let oldest = self.half_open.iter().position(|link| of_host(&link));
            oldest.and_then(|at| self.half_open.remove(at)).inspect(|link| link.cut.cancel());
        }
        while self.half_open.len() >= HALF_OPEN_MAX {
            if let Some(oldest) = self.half_open.pop_front() {
                oldest.cut.cancel();
            }
        }
        if self.settled.len() + self.half_open.len() >= LINKS_MAX {
            return Some(format!("{LINKS_MAX} links are up"));
        }
        let settled = self.settled.iter().filter(of_host).count();
        (settled + half_open >= HOST_LINKS_MAX)
            .then(|| format!("{HOST_LINKS_MAX} links of one address are up"))
    }
}

/// Makes a link of a transport. `None` when the driver is gone.
async fn attach(plane: &Arc<Plane>, transport: Transport, config: LinkConfig) -> Option<Arc<Link>> {
    let link = Link::new(transport.info.clone(), plane);
    let config = LinkConfig { identity: transport.info.identity.clone(), ..config };
    plane.events.send(Event::LinkUp { link: link.clone(), config }).await.ok()?;
    tokio::spawn(pump::run(plane.clone(), link.clone(), transport));
    Some(link)
}

fn concerns_one_caller(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted | Kind::NotConnected
    )
}
