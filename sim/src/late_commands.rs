//! Commands that come once more when it is too late: one whose client has its answer, and one that was sent
//! on to a leader. The sender of such a one has started again since, or its addressee has.

use crate::network::Frame;
use crate::stream::Stream;
use std::collections::VecDeque;

/// What may come late.
#[derive(Debug)]
pub(crate) struct LateCommands {
    /// How likely each comes once more.
    odds: u32,
    stream: Stream,
    /// The latest that were sent on, the oldest first.
    forwards: VecDeque<Forward>,
}

/// A command that was sent on.
#[derive(Clone, Debug)]
struct Forward {
    from: usize,
    /// In which life of its sender.
    life: u32,
    to: usize,
    frame: Frame,
}

/// How many are kept that were sent on.
const KEPT: usize = 16;

impl LateCommands {
    pub(crate) fn new(seed: u64, odds: u32) -> Self {
        Self { odds, stream: stream(seed), forwards: VecDeque::new() }
    }

    /// From now on, what is drawn is drawn from the streams of another seed.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.stream = stream(seed);
    }

    /// Whether one comes late, and after how many nanoseconds: so many microseconds at most.
    pub(crate) fn comes_late(&mut self, longest_us: u64) -> Option<u64> {
        self.stream.chance(self.odds).then(|| self.after(longest_us))
    }

    /// After how many nanoseconds something comes.
    pub(crate) fn after(&mut self, longest_us: u64) -> u64 {
        self.stream.skewed(1, longest_us.max(1)) * 1_000
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.stream.below(bound as u64) as usize
    }

    /// A member sends a command on. Returns the last that an earlier life of it has sent to the same member.
    pub(crate) fn sent_on(&mut self, (from, life): (usize, u32), to: usize, frame: Frame) -> Option<Frame> {
        let earlier = |it: &&Forward| (it.from, it.to) == (from, to) && it.life < life;
        let earlier = self.forwards.iter().rev().find(earlier).map(|it| it.frame.clone());
        if self.forwards.len() == KEPT {
            self.forwards.pop_front();
        }
        self.forwards.push_back(Forward { from, life, to, frame });
        earlier
    }

    /// What was sent on to a member, the latest first.
    pub(crate) fn sent_to(&self, member: usize) -> Vec<Frame> {
        let sent = self.forwards.iter().rev().filter(|it| it.to == member);
        sent.map(|it| it.frame.clone()).collect()
    }
}

fn stream(seed: u64) -> Stream {
    Stream::named(seed, "late commands of the world", 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u64) -> Frame {
        Frame { number, bytes: vec![] }
    }

    #[test]
    fn what_an_earlier_life_of_the_sender_has_sent_there_is_known() {
        let mut late = LateCommands::new(1, 10_000);
        assert!(late.sent_on((0, 1), 2, frame(1)).is_none());
        assert!(late.sent_on((0, 1), 2, frame(2)).is_none(), "of the same life");
        assert!(late.sent_on((0, 2), 1, frame(3)).is_none(), "to another");
        assert!(late.sent_on((1, 2), 2, frame(4)).is_none(), "by another");
        assert_eq!(late.sent_on((0, 2), 2, frame(5)).map(|it| it.number), Some(2));
        let numbers: Vec<_> = late.sent_to(2).iter().map(|it| it.number).collect();
        assert_eq!(numbers, [5, 4, 2, 1]);
        (0..20).for_each(|number| drop(late.sent_on((3, 1), 3, frame(number))));
        assert!(late.sent_to(2).is_empty() && late.sent_to(3).len() == KEPT);
    }

    #[test]
    fn as_many_come_late_as_the_odds_say() {
        let late = |odds| {
            let mut late = LateCommands::new(1, odds);
            (0..100).filter_map(|_| late.comes_late(7)).collect::<Vec<_>>()
        };
        assert!(late(0).is_empty());
        assert!((30..70).contains(&late(5_000).len()));
        assert!(late(10_000).iter().all(|after| (1_000..=7_000).contains(after)));
    }

    #[test]
    fn luck_can_change() {
        let drawn = |late: &mut LateCommands| (0..10).map(|_| late.below(1_000)).collect::<Vec<_>>();
        let [mut one, mut other] = [1, 2].map(|seed| LateCommands::new(seed, 0));
        assert_ne!(drawn(&mut one), drawn(&mut other));
        one.reseed(3);
        other.reseed(3);
        assert_eq!(drawn(&mut one), drawn(&mut other));
    }
}
