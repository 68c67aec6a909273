//! Ping and traceroute: ask, hear, give up.
//!
//! Each question goes out from a service name of its own, so that its answer, or the notice that it did not arrive,
//! finds the probe again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{HOPS_MAX, LinkId, Problem};
use crate::id::{NodeId, ServiceName};

/// How long a question waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many questions may be open at once.
const OPEN_MAX: usize = 4_096;

/// A probe, numbered by the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// How one question was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeResult {
    /// Who answered or refused; `None` if nobody did.
    pub from: Option<NodeId>,
    /// How long that took.
    pub time: Duration,
    /// `None` for an answer, else the problem, for instance `timeout`. In a traceroute `message expired` is an answer.
    pub error: Option<String>,
}

/// What a question is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One question, whose result somebody wants.
    Ping(ProbeId),
    /// One question for each hop; so far these results.
    Trace(ProbeId, Vec<ProbeResult>),
    /// To make this link prove that it is alive; nobody wants the result.
    Challenge(LinkId),
}

/// A question about to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) purpose: Purpose,
    pub(super) to: NodeId,
    pub(super) hops: u8,
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The probe has ended.
    Done(ProbeId, Vec<ProbeResult>),
    /// The next question of a traceroute.
    Ask(Question),
    /// The link that was challenged is alive.
    Alive(LinkId),
    /// Nothing.
    Nothing,
}

/// The open questions, by the service that asks.
#[derive(Debug, Default)]
pub(super) struct Probes {
    open: BTreeMap<ServiceName, (Question, Instant)>,
}

impl Probes {
    /// Opens a question from `service`; `Err` with what follows if too many are open.
    pub(super) fn ask(&mut self, service: ServiceName, question: Question, now: Instant) -> Result<(), Step> {
        if self.open.len() >= OPEN_MAX {
            let error = Some(format!("{OPEN_MAX} probes are waiting already: try again in a few seconds"));
            return Err(question.step(ProbeResult { from: None, time: Duration::ZERO, error }));
        }
        self.open.insert(service, (question, now));
        Ok(())
    }

    /// The node that `service` waits for, if it is one of ours.
    pub(super) fn asks(&self, service: ServiceName) -> Option<&NodeId> {
        self.open.get(&service).map(|(question, _)| &question.to)
    }

    /// `from` has answered the question of `service`, or says what became of it.
    pub(super) fn answer(
        &mut self,
        service: ServiceName,
        from: &NodeId,
        problem: Option<&str>,
        now: Instant,
    ) -> Step {
        let Some((question, since)) = self.open.remove(&service) else {
            return Step::Nothing;
        };
        let time = now.saturating_duration_since(since);
        question.step(ProbeResult { from: Some(from.clone()), time, error: problem.map(str::to_owned) })
    }

    /// When the next question has waited long enough.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.open.values().map(|(_, since)| *since + PATIENCE).min()
    }

    /// Gives up a question that has waited long enough, if there is one.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Step> {
        let service = *self.open.iter().find(|(_, (_, since))| *since + PATIENCE <= now)?.0;
        let (question, since) = self.open.remove(&service)?;
        let time = now.saturating_duration_since(since);
        Some(question.step(ProbeResult { from: None, time, error: Some(String::from("timeout")) }))
    }
}

impl Question {
    fn step(self, mut result: ProbeResult) -> Step {
        match self.purpose {
            Purpose::Challenge(link) if result.error.is_none() => Step::Alive(link),
            Purpose::Challenge(_) => Step::Nothing,
            Purpose::Ping(id) => Step::Done(id, vec![result]),
            Purpose::Trace(id, mut results) => {
                let on_the_way = result.error.as_deref() == Some(Problem::Expired.text());
                result.error = result.error.filter(|_| !on_the_way);
                results.push(result);
                if on_the_way && self.hops < HOPS_MAX {
                    return Step::Ask(Question {
                        purpose: Purpose::Trace(id, results),
                        to: self.to,
                        hops: self.hops + 1,
                    });
                }
                Step::Done(id, results)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    const SERVICE: ServiceName = ServiceName::from_wire(*b"12345678");

    #[test]
    fn a_question_that_nobody_answers_ends_after_ten_seconds() {
        let (mut probes, now) = (Probes::default(), Instant::now());
        probes
            .ask(SERVICE, Question { purpose: Purpose::Ping(ProbeId(1)), to: id("b"), hops: 30 }, now)
            .unwrap();
        assert_eq!(probes.poll_timeout(), Some(now + PATIENCE));
        let error = Some("timeout".to_owned());
        let result = ProbeResult { from: None, time: PATIENCE, error };
        assert_eq!(probes.handle_timeout(now + PATIENCE), Some(Step::Done(ProbeId(1), vec![result])));
        assert_eq!(probes.handle_timeout(now + PATIENCE), None);
        assert_eq!(probes.poll_timeout(), None);
    }

    #[test]
    fn a_traceroute_asks_one_hop_further_until_something_else_than_expiry_answers() {
        let (mut probes, now) = (Probes::default(), Instant::now());
        let question = Question { purpose: Purpose::Trace(ProbeId(1), Vec::new()), to: id("b"), hops: 0 };
        probes.ask(SERVICE, question, now).unwrap();
        let Step::Ask(next) = probes.answer(SERVICE, &id("a"), Some("message expired"), now) else {
            panic!()
        };
        assert_eq!(next.hops, 1);
        probes.ask(SERVICE, next, now).unwrap();
        let Step::Done(_, results) = probes.answer(SERVICE, &id("b"), None, now) else { panic!() };
        assert_eq!(
            results.iter().map(|r| (r.from.clone(), r.error.clone())).collect::<Vec<_>>(),
            [(Some(id("a")), None), (Some(id("b")), None)]
        );
    }
}
