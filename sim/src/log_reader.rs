//! A client that reads in the logs of full replicas now and then, while the chaos lasts.

use crate::check::log_reads::Asked;
use crate::stream::Stream;
use kontiki_core::replica::LogRange;
use kontiki_core::types::{Index, RequestId};
use std::collections::BTreeMap;

/// What it has asked, and whom.
#[derive(Debug)]
pub(crate) struct LogReader {
    pub(crate) stream: Stream,
    pub(crate) requests: u64,
    pub(crate) open: BTreeMap<RequestId, Open>,
    /// The first entry that each member has repaired last.
    pub(crate) repaired: BTreeMap<usize, Index>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) member: usize,
    pub(crate) life: u32,
    pub(crate) asked: Asked,
}

/// Its requests are numbered from here on, the clients' from 1.
pub(crate) const FIRST: u64 = 1 << 61;
/// How long it pauses at most, in nanoseconds.
const PAUSE: u64 = 40_000_000;
/// How many bytes it asks for at most.
pub(crate) const MAX_BYTES: u64 = 4_096;

/// How many entries it asks for at most, but for all of them.
const MAX_ENTRIES: u64 = 64;

fn as_much(count: u64) -> u64 {
    if count > MAX_ENTRIES / 2 { u64::MAX } else { count }
}

impl LogReader {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            stream: Stream::named(seed, "log reader", 0),
            requests: 0,
            open: BTreeMap::new(),
            repaired: BTreeMap::new(),
        }
    }

    pub(crate) fn pause(&mut self) -> u64 {
        self.stream.between(1, PAUSE)
    }

    /// Whom it asks next: often one whose disk has something else to do first, so that the log goes on while
    /// it waits, or one that has repaired something, or has something to repair.
    pub(crate) fn member(&mut self, members: usize, busy: &[usize], damaged: &[usize]) -> usize {
        let repaired: Vec<_> = self.repaired.keys().copied().collect();
        match self.stream.below(5) {
            4 if !damaged.is_empty() => *self.stream.pick(damaged),
            0 if !repaired.is_empty() => *self.stream.pick(&repaired),
            1 | 2 if !busy.is_empty() => *self.stream.pick(busy),
            _ => self.stream.below(members as u64) as usize,
        }
    }

    /// What it asks next of a member's log with these ends. Half the time it is what was repaired, or stands
    /// behind it. Where it is behind the log, or much, it is as far behind and as much as can be said.
    pub(crate) fn range(&mut self, member: usize, base: Index, last: Index) -> LogRange {
        let count = self.stream.skewed(1, MAX_ENTRIES);
        if let Some(&first) = self.repaired.get(&member)
            && self.stream.coin()
        {
            let after = (first.get() + self.stream.skewed(1, 8)).saturating_sub(2);
            return LogRange::Between(Index::new(after), Index::new(after + count));
        }
        match self.stream.below(4) {
            0 => LogRange::First(as_much(count)),
            1 => LogRange::Last(as_much(count)),
            _ => {
                // From a little before the log to a little beyond it.
                let from = base.get().saturating_sub(1);
                let after = from + self.stream.below(last.get() + 2 - from);
                if after > last.get() {
                    return LogRange::Between(Index::new(u64::MAX), Index::new(u64::MAX));
                }
                LogRange::Between(Index::new(after), Index::new(after + count))
            }
        }
    }
}
