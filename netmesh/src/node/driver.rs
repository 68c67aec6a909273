//! The one loop that owns the router.
//!
//! Events come in by one bounded queue, the router decides, and what it wants is done at once: nothing here waits for
//! a link, a service or a caller.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    inbox::Notice,
    plane::{Link, Plane},
};
use crate::{
    id::NodeId,
    logic::{
        Action, Call, Class, Firewall, LinkConfig, LinkId, MeshStatus, ProbeId, ProbeResult, Problem, Route,
        Router,
    },
    tls::Refused,
};

/// Events that may wait. Readers of links wait when there are more, other senders drop theirs.
pub(crate) const EVENTS_MAX: usize = 1024;

/// Something that the router must hear.
pub(crate) enum Event {
    /// A link has come up.
    LinkUp {
        /// The link.
        link: Arc<Link>,
        /// What the configuration says of it.
        config: LinkConfig,
    },
    /// A link has ended.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// A link has brought a message that is not simply passed on.
    Message {
        /// Which link.
        link: LinkId,
        /// The whole message.
        message: Bytes,
    },
    /// This node asks for something.
    Call(Call),
    /// This node asks another something.
    Probe {
        /// What.
        question: Question,
        /// For the answers.
        done: oneshot::Sender<Vec<ProbeResult>>,
    },
    /// Other rules decide what passes; answered when they do.
    Firewall {
        /// The rules.
        rules: Arc<Firewall>,
        /// For the answer.
        done: oneshot::Sender<()>,
    },
    /// Somebody wants to see the state.
    Status(oneshot::Sender<MeshStatus>),
    /// The node stops; answered when every link has been told to close.
    Shutdown(oneshot::Sender<()>),
}

/// What a probe asks.
#[derive(Debug)]
pub(crate) enum Question {
    /// Does it answer?
    Ping {
        /// Who.
        to: NodeId,
        /// Within how many links.
        hops: u8,
    },
    /// Which way leads there?
    Traceroute {
        /// Where.
        to: NodeId,
    },
}

/// Next hop toward every node in reach.
pub(crate) type Routes = Arc<BTreeMap<NodeId, Route>>;

/// The owner of the router.
pub(crate) struct Driver {
    router: Router,
    plane: Arc<Plane>,
    events: mpsc::Receiver<Event>,
    probes: BTreeMap<ProbeId, oneshot::Sender<Vec<ProbeResult>>>,
    probes_started: u64,
    routes: watch::Sender<Routes>,
    duplicate: CancellationToken,
}

impl Driver {
    /// A driver that has heard nothing yet.
    pub(crate) fn new(
        router: Router,
        plane: Arc<Plane>,
        events: mpsc::Receiver<Event>,
        routes: watch::Sender<Routes>,
        duplicate: CancellationToken,
    ) -> Driver {
        Driver { router, plane, events, probes: BTreeMap::new(), probes_started: 0, routes, duplicate }
    }

    /// Runs until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.perform();
            let timeout = self.router.poll_timeout();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(event) = self.events.recv() => self.handle(event),
                () = until(timeout) => {
                    self.tell_heard();
                    self.router.handle_timeout(now());
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::LinkUp { link, config } => {
                let id = link.id;
                self.change_links(|links| drop(links.insert(id, link)));
                self.router.handle_link_up(id, config, now());
            }
            Event::LinkDown { link } => {
                self.change_links(|links| drop(links.remove(&link)));
                self.router.handle_link_down(link, now());
            }
            Event::Message { link, message } => self.router.handle_message(link, &message, now()),
            Event::Call(call) => self.router.handle_call(call, now()),
            Event::Probe { question, done } => {
                // Probes end by themselves within seconds; these are the ones that nobody waits for any more.
                self.probes.retain(|_, done| !done.is_closed());
                self.probes_started += 1;
                let id = ProbeId(self.probes_started);
                self.probes.insert(id, done);
                let call = match question {
                    Question::Ping { to, hops } => Call::Ping { id, to, hops },
                    Question::Traceroute { to } => Call::Traceroute { id, to },
                };
                self.router.handle_call(call, now());
            }
            Event::Status(reply) => {
                self.tell_heard();
                let mut status = self.router.status(now());
                let blocked = self.plane.blocked();
                status.blocked.rejected += blocked.rejected;
                status.blocked.dropped += blocked.dropped;
                // Who asked may have gone away.
                let _ = reply.send(status);
            }
            Event::Firewall { rules, done } => {
                self.router.handle_call(Call::Firewall(rules), now());
                self.perform();
                // Who asked may have gone away.
                let _ = done.send(());
            }
            Event::Shutdown(reply) => {
                self.router.handle_call(Call::Shutdown, now());
                self.perform();
                self.plane.links.load().values().for_each(|link| link.outbox.close());
                let _ = reply.send(());
            }
        }
    }

    fn perform(&mut self) {
        while let Some(action) = self.router.poll_action() {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send { link, class, message } => {
                let links = self.plane.links.load();
                let Some(link) = links.get(&link) else { return };
                // A class that finds no room loses the message: gossip is repeated, and datagrams may be lost.
                let sent = match class {
                    Class::Control => link.outbox.push_control(&message),
                    Class::Data => link.outbox.push_relayed(&message, &[]),
                };
                link.outbox.wake();
                if !sent {
                    tracing::debug!(link = link.id.0, ?class, "no room for a message");
                }
            }
            Action::Close { link, reason } => {
                if let Some(link) = self.plane.links.load().get(&link) {
                    // A stranger who comes and goes is no event.
                    if link.established.get().is_some() || link.info.dialed {
                        tracing::info!(link = link.id.0, remote = link.info.remote, reason, "closing a link");
                    } else {
                        tracing::debug!(
                            link = link.id.0,
                            remote = link.info.remote,
                            reason,
                            "sent a caller away"
                        );
                    }
                    link.outbox.close();
                }
                self.change_links(|links| drop(links.remove(&link)));
            }
            Action::Deliver { header, from, payload } => {
                if !self.plane.deliver(&header, &from.node, &payload) {
                    let problem = Problem::ServiceUnknown;
                    self.router.handle_call(Call::Refuse { header, problem }, now());
                }
            }
            Action::Notice { service, notice, reporter } => {
                if let Some(inbox) = self.plane.inbox(service) {
                    inbox.push_notice(Notice { unreachable: notice, reporter });
                }
            }
            Action::ProbeDone { id, results } => {
                if let Some(done) = self.probes.remove(&id) {
                    // Who asked may have gone away.
                    let _ = done.send(results);
                }
            }
            Action::TablesChanged => self.publish(),
            Action::Established { link, peer } => {
                if let Some(link) = self.plane.links.load().get(&link) {
                    let _ = link.established.set(tokio::time::Instant::now());
                    tracing::info!(link = link.id.0, remote = link.info.remote, %peer, "link established");
                }
            }
            Action::Rejected { link, node, reason } => self.tell_rejected(link, node, reason),
            Action::Log { level, text } => log(level, &text),
            Action::Duplicate => self.duplicate.cancel(),
        }
    }

    fn tell_rejected(&self, link: LinkId, node: NodeId, reason: String) {
        if let Some(link) = self.plane.links.load().get(&link) {
            let info = &link.info;
            self.plane.refused(&Refused {
                at: info.kind.to_owned(),
                from: info.remote.clone(),
                node: Some(node),
                certificate: info.certificate.clone(),
                reason: match &info.certificate {
                    Some(certificate) => format!("{reason} ({certificate})"),
                    None => reason,
                },
            });
        }
    }

    fn publish(&self) {
        self.plane.tables.store(self.router.tables());
        let reach = self.router.reach();
        self.routes.send_if_modified(|old| {
            let changed = *old != reach;
            if changed {
                *old = reach;
            }
            changed
        });
    }

    fn tell_heard(&mut self) {
        for link in self.plane.links.load().values() {
            self.router.handle_heard(link.id, self.plane.last_heard(link).into_std());
        }
    }

    fn change_links(&self, change: impl FnOnce(&mut BTreeMap<LinkId, Arc<Link>>)) {
        // The driver alone writes the map, so nothing can come between the two lines.
        let mut links = BTreeMap::clone(&self.plane.links.load());
        change(&mut links);
        self.plane.links.store(Arc::new(links));
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn until(timeout: Option<Instant>) {
    match timeout {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn log(level: tracing::Level, text: &str) {
    match level {
        tracing::Level::ERROR => tracing::error!("{text}"),
        tracing::Level::WARN => tracing::warn!("{text}"),
        tracing::Level::INFO => tracing::info!("{text}"),
        tracing::Level::DEBUG => tracing::debug!("{text}"),
        tracing::Level::TRACE => tracing::trace!("{text}"),
    }
}
