//! The network: what becomes of a frame on its way.

use crate::report::FaultKind;
use crate::scenario::NetworkSpec;
use crate::stream::Stream;

/// The links between members, by position, each way for itself.
#[derive(Debug)]
pub(crate) struct Network {
    spec: NetworkSpec,
    stream: Stream,
    size: usize,
    /// How much longer messages to and from each take, for good.
    slow_us: Vec<u64>,
    /// How many faults cut the link from one to the other, at `from * size + to`.
    cuts: Vec<u32>,
    /// Until when each link is stalled: nothing arrives before.
    stalls: Vec<u64>,
    /// When the last frame on each link arrives: frames keep their order unless a fault reorders them.
    arrivals: Vec<u64>,
}

/// One arrival of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: u64,
    /// The bit that was flipped on the way, as a number to be taken modulo the length.
    pub(crate) flipped: Option<u64>,
}

impl Network {
    pub(crate) fn new(seed: u64, spec: NetworkSpec, slow_us: Vec<u64>) -> Self {
        let size = slow_us.len();
        let stream = Stream::named(seed, "network", 0);
        Self {
            spec,
            stream,
            size,
            slow_us,
            cuts: vec![0; size * size],
            stalls: vec![0; size * size],
            arrivals: vec![0; size * size],
        }
    }

    /// The network after the chaos: quick, and nothing is lost.
    pub(crate) fn heal(&mut self) {
        self.spec = NetworkSpec {
            latency_min_us: 200,
            latency_max_us: 1_000,
            drop: 0,
            duplicate: 0,
            reorder: 0,
            tail: 0,
            tail_max_us: 1_000,
            corrupt: 0,
            notice: self.spec.notice,
        };
        self.arrivals.fill(0);
        self.stalls.fill(0);
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.cuts[from * self.size + to] += 1;
    }

    /// Nothing that is sent from one member to the other arrives before.
    pub(crate) fn stall(&mut self, from: usize, to: usize, until: u64) {
        let stalled = &mut self.stalls[from * self.size + to];
        *stalled = until.max(*stalled);
    }

    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        let cuts = &mut self.cuts[from * self.size + to];
        *cuts = cuts.saturating_sub(1);
    }

    pub(crate) fn mend_all(&mut self, from: usize, to: usize) {
        self.cuts[from * self.size + to] = 0;
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts[from * self.size + to] > 0
    }

    /// Whether a host would notice that a connection broke.
    pub(crate) fn is_noticed(&mut self) -> bool {
        self.stream.chance(self.spec.notice)
    }

    /// When, and in what shape, a frame arrives that is sent now: not at all, once, or twice.
    pub(crate) fn send(
        &mut self,
        now: u64,
        from: usize,
        to: usize,
        mut count: impl FnMut(FaultKind),
    ) -> [Option<Arrival>; 2] {
        if self.is_cut(from, to) {
            count(FaultKind::Cut);
            return [None, None];
        }
        if self.stream.chance(self.spec.drop) {
            count(FaultKind::Drop);
            return [None, None];
        }
        let first = self.arrival(now, from, to, &mut count);
        let second = self.stream.chance(self.spec.duplicate).then(|| {
            count(FaultKind::Duplicate);
            self.arrival(now, from, to, &mut count)
        });
        [Some(first), second]
    }

    fn arrival(&mut self, now: u64, from: usize, to: usize, count: &mut impl FnMut(FaultKind)) -> Arrival {
        let spec = &self.spec;
        let mut delay_us = self.stream.between(spec.latency_min_us, spec.latency_max_us);
        if self.stream.chance(spec.tail) {
            count(FaultKind::Delay);
            delay_us = self.stream.skewed(spec.latency_max_us, spec.tail_max_us);
        }
        delay_us += self.slow_us[from] + self.slow_us[to];
        let mut at = now + delay_us * 1_000 + self.stream.below(1_000);
        at = at.max(self.stalls[from * self.size + to]);
        let last = &mut self.arrivals[from * self.size + to];
        if self.stream.chance(spec.reorder) {
            count(FaultKind::Reorder);
            at += self.stream.below(4 * spec.latency_max_us * 1_000 + 1);
        } else {
            at = at.max(*last + 1);
            *last = at;
        }
        let flipped = self.stream.chance(spec.corrupt).then(|| {
            count(FaultKind::Corrupt);
            self.stream.number()
        });
        Arrival { at, flipped }
    }
}
