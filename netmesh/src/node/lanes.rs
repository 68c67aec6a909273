//! Whose frames leave next on a link?
//!
//! Bulk fills whatever queue there is, and what waits behind it waits for all of it. So frames are told apart by their
//! flow, the two services that talk: a flow that has little waiting goes by the thin lane, which is emptied first each
//! time; one that has more goes by the fat lane, in blocks, one of which leaves each time. So neither starves, the frames
//! of a flow keep their order, and no byte is copied or looked at twice. Nothing of a flow is remembered once its frames
//! have left.

use std::collections::VecDeque;

use crate::wire::frame;

/// As much of one flow may wait in the thin lane: an exchange of small packets, or two large ones.
const THIN_OF_ONE: usize = 33 * 1024;
/// And of all.
const THIN_MAX: usize = 128 * 1024;
/// What of the fat lane leaves at once: six packets of 16 KiB, or any one frame.
const BLOCK: usize = 6 * (16 * 1024 + 64);
/// Flows that are told apart. Of more at once, the others go by the fat lane.
const FLOWS_MAX: usize = 64;
/// Emptied blocks that are kept for more.
const SPARE_MAX: usize = 2;

/// The two services that talk, and their nodes: what stands in the header of a datagram.
pub(super) type Flow = [u8; 32];

/// From where a frame comes. Each has room of its own in the fat lane, lest one shut out the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From this node.
    Local,
    /// From another link.
    Relayed,
}

/// What waits of one class.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    thin: Vec<u8>,
    fat: VecDeque<Block>,
    fat_bytes: [usize; 2],
    /// The number of the block at the front of `fat`.
    front: u64,
    waiting: Vec<Waiting>,
    /// The number of the last block with frames of flows that are not in `waiting`.
    crowd: Option<u64>,
    spare: Vec<Vec<u8>>,
}

/// What leaves of the fat lane at once.
#[derive(Debug)]
struct Block {
    frames: Vec<u8>,
    /// How much of it is of each source.
    bytes: [usize; 2],
}

/// What waits of one flow.
#[derive(Debug)]
struct Waiting {
    flow: Flow,
    thin_bytes: usize,
    /// The number of the last block with a frame of it.
    block: Option<u64>,
}

/// What leaves at once, in this order.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) thin: Vec<u8>,
    pub(super) fat: Vec<u8>,
}

impl Lanes {
    /// How much of `source` waits in the fat lane.
    pub(super) fn fat_bytes(&self, source: Source) -> usize {
        self.fat_bytes[source as usize]
    }

    /// True when `bytes` more of `flow` would go by the thin lane.
    pub(super) fn is_thin(&self, flow: &Flow, bytes: usize) -> bool {
        let in_fat = |block: Option<u64>| block.is_some_and(|block| block >= self.front);
        let thin_bytes = match self.waiting.iter().find(|waiting| waiting.flow == *flow) {
            Some(waiting) if in_fat(waiting.block) => return false,
            Some(waiting) => waiting.thin_bytes,
            None if in_fat(self.crowd) || self.waiting.len() == FLOWS_MAX => return false,
            None => 0,
        };
        thin_bytes + bytes <= THIN_OF_ONE && self.thin.len() + bytes <= THIN_MAX
    }

    /// Appends a frame of `flow`; its message is `parts`, one after the other. False when it was not taken in: its flow has
    /// much waiting, and the fat lane has `room` bytes of its source already, or the message is too long for a frame.
    pub(super) fn push(&mut self, flow: &Flow, parts: &[&[u8]], source: Source, room: usize) -> bool {
        let bytes = 2 + parts.iter().map(|part| part.len()).sum::<usize>();
        if self.is_thin(flow, bytes) {
            let fits = frame::append(&mut self.thin, parts).is_ok();
            if fits {
                self.waiting(flow).into_iter().for_each(|waiting| waiting.thin_bytes += bytes);
            }
            return fits;
        }
        let source = source as usize;
        if self.fat_bytes[source] >= room {
            return false;
        }
        if self.fat.back().is_none_or(|block| block.frames.len() + bytes > BLOCK) {
            let frames = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK));
            self.fat.push_back(Block { frames, bytes: [0; 2] });
        }
        let last = self.front + self.fat.len() as u64 - 1;
        let fits = self.fat.back_mut().is_some_and(|block| {
            let fits = frame::append(&mut block.frames, parts).is_ok();
            block.bytes[source] += if fits { bytes } else { 0 };
            fits
        });
        if fits {
            self.fat_bytes[source] += bytes;
            match self.waiting(flow) {
                Some(waiting) => waiting.block = Some(last),
                None => self.crowd = Some(last),
            }
        }
        fits
    }

    /// Swaps what leaves next into `out`, which has left. False when nothing waits.
    pub(super) fn take(&mut self, out: &mut Taken) -> bool {
        out.thin.clear();
        std::mem::swap(&mut self.thin, &mut out.thin);
        let mut left = std::mem::take(&mut out.fat);
        if let Some(block) = self.fat.pop_front() {
            self.front += 1;
            self.fat_bytes.iter_mut().zip(block.bytes).for_each(|(all, bytes)| *all -= bytes);
            out.fat = block.frames;
        }
        if left.capacity() > 0 && self.spare.len() < SPARE_MAX {
            left.clear();
            self.spare.push(left);
        }
        let front = self.front;
        self.waiting.retain_mut(|waiting| {
            waiting.thin_bytes = 0;
            waiting.block.is_some_and(|block| block >= front)
        });
        !out.thin.is_empty() || !out.fat.is_empty()
    }

    /// The entry of `flow`, unless there are too many.
    fn waiting(&mut self, flow: &Flow) -> Option<&mut Waiting> {
        let at = match self.waiting.iter().position(|waiting| waiting.flow == *flow) {
            Some(at) => at,
            None if self.waiting.len() == FLOWS_MAX => return None,
            None => {
                self.waiting.push(Waiting { flow: *flow, thin_bytes: 0, block: None });
                self.waiting.len() - 1
            }
        };
        self.waiting.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Deframer;

    const ROOM: usize = 256 * 1024;

    fn flow(n: u8) -> Flow {
        [n; 32]
    }

    /// A message of flow `n`, its number and as many bytes besides.
    fn push(lanes: &mut Lanes, n: u8, number: u32, bytes: usize) -> bool {
        push_from(lanes, Source::Relayed, n, number, bytes)
    }

    fn push_from(lanes: &mut Lanes, source: Source, n: u8, number: u32, bytes: usize) -> bool {
        lanes.push(&flow(n), &[&[n], &number.to_be_bytes(), &vec![0; bytes]], source, ROOM)
    }

    /// What leaves at once, as flows and numbers.
    fn take(lanes: &mut Lanes) -> Vec<(u8, u32)> {
        let mut taken = Taken::default();
        lanes.take(&mut taken);
        let mut deframer = Deframer::new();
        deframer.push(&taken.thin);
        deframer.push(&taken.fat);
        let messages = std::iter::from_fn(|| deframer.pop().unwrap());
        messages.map(|m| (m[0], u32::from_be_bytes(m[1..5].try_into().unwrap()))).collect()
    }

    #[test]
    fn what_is_little_overtakes_bulk_and_bulk_goes_on() {
        let mut lanes = Lanes::default();
        let bulk = (0..).take_while(|number| push(&mut lanes, 1, *number, 16_000)).count();
        assert!(bulk * 16_000 >= ROOM);
        assert!(push(&mut lanes, 2, 0, 100), "a full lane of others is no reason to lose it");
        let first = take(&mut lanes);
        assert!(first.contains(&(2, 0)) && first.len() > 1, "{first:?}");
        assert!(push(&mut lanes, 2, 1, 100));
        assert_eq!(take(&mut lanes).iter().filter(|(of, _)| *of == 1).count(), BLOCK / 16_384);
        while !take(&mut lanes).is_empty() {}
        assert!(lanes.waiting.is_empty() && lanes.fat_bytes == [0, 0]);
    }

    #[test]
    fn bulk_from_another_link_leaves_room_for_bulk_from_here() {
        let mut lanes = Lanes::default();
        for number in 0..100 {
            while push(&mut lanes, 1, 0, 16_000) {}
            assert!(push_from(&mut lanes, Source::Local, 2, number, 60_000), "shut out");
            while lanes.fat_bytes(Source::Local) > 0 {
                take(&mut lanes);
                push(&mut lanes, 1, 0, 16_000);
            }
        }
    }

    #[test]
    fn frames_of_a_flow_keep_their_order_and_none_is_lost_unsaid() {
        let mut lanes = Lanes::default();
        let (mut sent, mut came) = ([0_u32; 100], [0_u32; 100]);
        let mut dice = 1_u64;
        for _ in 0..50_000 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (n, bytes) = ((dice >> 33) as usize % 100, (dice >> 40) as usize % 20_000);
            // A few send most.
            let n = if dice >> 62 == 0 { n } else { n % 3 };
            if push(&mut lanes, n as u8, sent[n], bytes) {
                sent[n] += 1;
            }
            if dice >> 60 & 3 == 0 {
                for (of, number) in take(&mut lanes) {
                    assert_eq!(number, came[usize::from(of)], "of flow {of}");
                    came[usize::from(of)] += 1;
                }
            }
        }
        loop {
            let rest = take(&mut lanes);
            rest.iter().for_each(|(of, _)| came[usize::from(*of)] += 1);
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(sent, came);
    }

    #[test]
    fn however_many_flows_there_are_they_take_no_more_than_their_lanes() {
        let mut lanes = Lanes::default();
        let many = |lanes: &mut Lanes| {
            (0..100_000_u32)
                .filter(|n| {
                    let mut flow = [0; 32];
                    flow[..4].copy_from_slice(&n.to_be_bytes());
                    lanes.push(&flow, &[&[0; 1_000]], Source::Relayed, ROOM)
                })
                .count()
        };
        let taken = many(&mut lanes);
        assert!(taken * 1_002 <= ROOM + THIN_MAX + BLOCK, "{taken} were taken in");
        assert!(lanes.waiting.len() <= FLOWS_MAX);
    }
}
