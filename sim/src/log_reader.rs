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

impl LogReader {
    pub(crate) fn new(seed: u64) -> Self {
        Self { stream: Stream::named(seed, "log reader", 0), requests: 0, open: BTreeMap::new() }
    }

    pub(crate) fn pause(&mut self) -> u64 {
        self.stream.between(1, PAUSE)
    }

    /// What it asks next of a log with these ends.
    pub(crate) fn range(&mut self, base: Index, last: Index) -> LogRange {
        let count = self.stream.skewed(1, 64);
        match self.stream.below(4) {
            0 => LogRange::First(count),
            1 => LogRange::Last(count),
            _ => {
                // From a little before the log to a little beyond it.
                let from = base.get().saturating_sub(1);
                let after = from + self.stream.below(last.get() + 2 - from);
                LogRange::Between(Index::new(after), Index::new(after + count))
            }
        }
    }
}
