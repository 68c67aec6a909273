//! A story of a unit that runs here, out of bytes.

use crate::{
    logic::{
        process::{Exit, ProcessId, Usage},
        state::Event,
        stopping::Why,
    },
    unit::Controller,
};

/// What the input still has to say; of nothing more comes nothing but zeros.
pub(super) struct Script<'a>(pub(super) &'a [u8]);

impl Script<'_> {
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    pub(super) fn event(&mut self) -> Event {
        let why = |script: &mut Self| format!("because {}", script.byte());
        match self.byte() % 12 {
            0 => Event::Payload { length: u64::from(self.byte()), sha256: "00".repeat(32) },
            1 => Event::PayloadCut { why: why(self) },
            2 => Event::NoSpace { why: why(self) },
            3 => Event::Expired { why: why(self) },
            4 => Event::Claimed(self.process()),
            5 | 6 => Event::Started {
                command: self.process(),
                cgroup: (self.byte() % 2 == 1).then(|| "/a group".to_owned()),
            },
            7 => Event::StartFailed { why: why(self) },
            8 => self.exited(),
            9 => Event::Lost { why: why(self), stdout: self.size(), stderr: Some(self.size()) },
            10 => Event::Cancel,
            _ => {
                let by = Controller { node: format!("n{}", self.byte()), unit_id: "aB3dEf9Z".to_owned() };
                Event::Adopted { owner: format!("node:{}", by.node), by }
            }
        }
    }

    fn exited(&mut self) -> Event {
        let exit = match self.byte() {
            signal @ 128.. => {
                Exit::Signal { number: i32::from(signal - 127), core: signal.is_multiple_of(2) }
            }
            code => Exit::Code(i32::from(code)),
        };
        let stopped = match self.byte() % 8 {
            0 => Some(Why::Asked),
            1 => Some(Why::TimedOut),
            2 => Some(Why::OutputLimit),
            3 => Some(Why::NoSpace),
            _ => None,
        };
        let truncated = self.byte().is_multiple_of(4).then(|| self.size());
        let (stdout, stderr) = (self.size(), (self.byte() % 2 == 1).then(|| self.size()));
        Event::Exited { exit, usage: Usage::default(), stdout, stderr, stopped, truncated }
    }

    fn process(&mut self) -> ProcessId {
        ProcessId { pid: 1 + i32::from(self.byte()), start_time: self.size(), boot_id: "boot".to_owned() }
    }

    fn size(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => 1 << 53,
            small => u64::from(small),
        }
    }
}
