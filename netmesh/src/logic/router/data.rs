//! Datagrams that need more than passing on: ours, refused ones, probes and notices.

use std::time::Instant;

use bytes::Bytes;
use tracing::Level;

use super::Router;
use crate::{
    id::{Address, NodeHash, ServiceName},
    logic::{
        Action, Class, HOPS_MAX, LinkId, LocalService, Problem, Verdict, forward,
        probe::{Question, Step},
    },
    wire::{Datagram, Header, Unreachable},
};

impl Router {
    /// A datagram that came by a link, or loops back to us.
    pub(super) fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        let header = datagram.header;
        match forward(&self.tables, &header) {
            Verdict::Local(LocalService::Ping) => self.answer_ping(&header, now),
            Verdict::Local(LocalService::Unreach) => self.handle_notice(&header, &datagram.payload, now),
            Verdict::Deliver => self.deliver(datagram, now),
            Verdict::Forward(link) => self.pass_on(link, datagram),
            Verdict::Expired => self.refuse(&header, Problem::Expired, now),
            // Receptor tells nobody either: the next update may bring the route.
            Verdict::NoRoute | Verdict::UnknownNode => {}
            Verdict::Rejected => {
                self.blocked.rejected += 1;
                self.log_blocked("rejected", &header);
                self.refuse(&header, Problem::Blocked, now);
            }
            Verdict::Dropped => {
                self.blocked.dropped += 1;
                self.log_blocked("dropped", &header);
            }
        }
    }

    pub(super) fn send_from(
        &mut self,
        from: ServiceName,
        to: &Address,
        hops: u8,
        payload: Bytes,
        now: Instant,
    ) {
        let header = Header {
            hops,
            from: self.us.hash(),
            to: to.node.hash(),
            from_service: from,
            to_service: to.service,
        };
        self.send_own(Datagram { header, payload }, now);
    }

    /// Tells the sender of a datagram that it did not arrive.
    pub(super) fn refuse(&mut self, header: &Header, problem: Problem, now: Instant) {
        if header.from_service == ServiceName::UNREACH {
            return;
        }
        let name = |hash: NodeHash| self.tables.name(hash).map(ToString::to_string);
        let Some(from_node) = name(header.from) else {
            return;
        };
        let notice = Unreachable {
            from_node,
            to_node: name(header.to).unwrap_or_default(),
            from_service: header.from_service.to_string(),
            to_service: header.to_service.to_string(),
            problem: problem.text().to_owned(),
        };
        let back = Header {
            hops: HOPS_MAX,
            from: self.us.hash(),
            to: header.from,
            from_service: ServiceName::UNREACH,
            to_service: ServiceName::UNREACH,
        };
        self.send_own(Datagram { header: back, payload: notice.encode() }, now);
    }

    /// Asks a question, and takes what comes of it at once.
    pub(super) fn ask(&mut self, question: Question, now: Instant) {
        let mut next = Step::Ask(question);
        while let Step::Ask(question) = next {
            let service = self.dice.service();
            let (to, hops) = (question.to.hash(), question.hops);
            next = match self.probes.ask(service, question, now) {
                Ok(()) => Step::Nothing,
                Err(step) => step,
            };
            if next == Step::Nothing {
                let from = self.us.hash();
                let header = Header { hops, from, to, from_service: service, to_service: ServiceName::PING };
                self.send_own(Datagram { header, payload: Bytes::new() }, now);
            }
        }
        self.follow(next, now);
    }

    /// Does what follows from an answer.
    pub(super) fn follow(&mut self, step: Step, now: Instant) {
        match step {
            Step::Done(id, results) => self.actions.push_back(Action::ProbeDone { id, results }),
            Step::Ask(question) => self.ask(question, now),
            Step::Alive(link) => self.handle_heard(link, now),
            Step::Nothing => {}
        }
    }

    fn log_blocked(&mut self, what: &str, header: &Header) {
        let text = format!("firewall {what} a datagram: {}", self.tables.tell(header));
        self.log(Level::DEBUG, text);
    }

    /// Sends a datagram of our own; what cannot leave comes back as a notice.
    fn send_own(&mut self, datagram: Datagram, now: Instant) {
        let header = datagram.header;
        match forward(&self.tables, &header) {
            Verdict::NoRoute | Verdict::UnknownNode => {
                let name =
                    |hash: NodeHash| self.tables.name(hash).map(ToString::to_string).unwrap_or_default();
                let notice = Unreachable {
                    from_node: name(header.from),
                    to_node: name(header.to),
                    from_service: header.from_service.to_string(),
                    to_service: header.to_service.to_string(),
                    problem: Problem::NoRoute.text().to_owned(),
                };
                self.take_notice(header.from_service, header.from, notice, now);
            }
            _ => self.handle_datagram(datagram, now),
        }
    }

    /// `forward` has seen that there is a hop left.
    fn pass_on(&mut self, link: LinkId, mut datagram: Datagram) {
        datagram.header.hops -= 1;
        match datagram.encode() {
            Ok(message) => self.send(link, Class::Data, message),
            Err(problem) => self.log(Level::DEBUG, format!("dropped a datagram: {problem}")),
        }
    }

    fn deliver(&mut self, datagram: Datagram, now: Instant) {
        let Datagram { header, payload } = datagram;
        let Some(node) = self.tables.name(header.from).cloned() else {
            return;
        };
        if let Some(asked) = self.probes.asks(header.to_service) {
            if *asked == node && header.from_service == ServiceName::PING {
                let step = self.probes.answer(header.to_service, &node, None, now);
                self.follow(step, now);
            }
            return;
        }
        let from = Address { node, service: header.from_service };
        self.actions.push_back(Action::Deliver { header, from, payload });
    }

    /// Answers a probe; not one that claims to come from `ping`, or two nodes would answer each other for ever.
    fn answer_ping(&mut self, header: &Header, now: Instant) {
        if header.from_service.is_reserved() {
            return;
        }
        let answer = Header {
            hops: HOPS_MAX,
            from: self.us.hash(),
            to: header.from,
            from_service: ServiceName::PING,
            to_service: header.from_service,
        };
        self.send_own(Datagram { header: answer, payload: Bytes::new() }, now);
    }

    fn handle_notice(&mut self, header: &Header, payload: &[u8], now: Instant) {
        match Unreachable::decode(payload) {
            Ok(notice) if notice.from_node == self.us.as_str() => {
                if let Ok(service) = ServiceName::new(&notice.from_service) {
                    self.take_notice(service, header.from, notice, now);
                }
            }
            Ok(_) => {}
            Err(problem) => self.log(Level::DEBUG, format!("dropped a notice: {problem}")),
        }
    }

    fn take_notice(&mut self, service: ServiceName, reporter: NodeHash, notice: Unreachable, now: Instant) {
        let Some(reporter) = self.tables.name(reporter).cloned() else {
            return;
        };
        if self.probes.asks(service).is_some() {
            let step = self.probes.answer(service, &reporter, Some(&notice.problem), now);
            self.follow(step, now);
        } else if !service.is_reserved() {
            self.actions.push_back(Action::Notice { service, notice, reporter });
        }
    }
}
