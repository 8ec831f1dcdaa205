//! The network: what becomes of a frame on its way.
//!
//! ```
//! use kontiki_sim::network::Network;
//! use kontiki_sim::scenario::{Profile, Scenario};
//!
//! // Three hosts, with links that lose every fifth frame.
//! let mut spec = Scenario::draw(1, 3, Profile::Calm).network;
//! spec.drop = 2_000;
//! let mut network = Network::new(1, spec, vec![0; 3]);
//! let arrived = (0..1_000).flat_map(|now| network.carry(now, 0, 1, b"hello")).count();
//! assert!((700..900).contains(&arrived));
//! network.cut(0, 1);
//! assert_eq!(network.carry(1_000, 0, 1, b"hello"), []);
//! ```

use crate::report::FaultKind;
use crate::scenario::{Bandwidth, NetworkSpec};
use crate::stream::Stream;
use kontiki_core::replica::Lane;

/// The links between members, each way for itself. Members are given by position, from 0, and times in
/// nanoseconds of true time.
#[derive(Debug)]
pub struct Network {
    spec: NetworkSpec,
    stream: Stream,
    size: usize,
    /// How much longer messages to and from each take, for good.
    slow_us: Vec<u64>,
    /// How many faults cut the link from one to the other, at `from * size + to`.
    cuts: Vec<u32>,
    /// Until when each link is stalled: nothing arrives before.
    stalls: Vec<u64>,
    /// When the last frame of each lane of each link arrives: frames keep their order unless a fault reorders
    /// them.
    arrivals: Vec<[u64; 2]>,
    /// Until when each lane of each link is busy with what was sent, where a link carries only so much.
    busy: Vec<[u64; 2]>,
    /// How often the connections of each link broke: what was on its way then is lost, where a link carries
    /// only so much.
    breaks: Vec<u32>,
}

/// A frame that is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) lane: Lane,
    pub(crate) bytes: usize,
}

/// A frame on its way, and the number of the message that it is.
#[derive(Clone, Default, Debug)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

/// A packet of a large frame, which a short one waits for.
const PACKET: u64 = 1_500;

/// One arrival of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: u64,
    /// Whether a fault delays it.
    pub(crate) delayed: bool,
    /// The bit that was flipped on the way, as a number to be taken modulo the length.
    pub(crate) flipped: Option<u64>,
    /// The connection by which it comes.
    pub(crate) connection: Connection,
}

/// What a frame was sent by: the connections from a member, after so many breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Connection {
    from: usize,
    breaks: u32,
}

impl Arrival {
    /// What arrives of a frame, of which a bit may have been flipped.
    pub(crate) fn shape(&self, mut frame: Vec<u8>) -> Vec<u8> {
        if let Some(bit) = self.flipped.filter(|_| !frame.is_empty()) {
            let bit = bit % (frame.len() as u64 * 8);
            frame[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
        frame
    }
}

impl Network {
    /// A network whose links are as `spec` says, among as many members as there are in `slow_us`: how much
    /// longer messages to and from each take, in microseconds.
    pub fn new(seed: u64, spec: NetworkSpec, slow_us: Vec<u64>) -> Self {
        let size = slow_us.len();
        let stream = Stream::named(seed, "network", 0);
        Self {
            spec,
            stream,
            size,
            slow_us,
            cuts: vec![0; size * size],
            stalls: vec![0; size * size],
            arrivals: vec![[0; 2]; size * size],
            busy: vec![[0; 2]; size * size],
            breaks: vec![0; size * size],
        }
    }

    /// From now on, what is drawn is drawn from the streams of another seed.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.stream = Stream::named(seed, "network", 0);
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
            bandwidth: self.spec.bandwidth,
        };
        self.arrivals.fill([0; 2]);
        self.stalls.fill(0);
    }

    /// The connections between two members break, and what waits for them is lost.
    pub(crate) fn break_off(&mut self, from: usize, to: usize) {
        let link = from * self.size + to;
        self.breaks[link] += 1;
        self.busy[link] = [0; 2];
        if self.spec.bandwidth.is_some() {
            self.arrivals[link] = [0; 2];
        }
    }

    /// How often the connections from one to the other broke.
    pub(crate) fn breaks(&self, from: usize, to: usize) -> u32 {
        if self.spec.bandwidth.is_some() { self.breaks[from * self.size + to] } else { 0 }
    }

    /// Cuts the link from one to the other once more: it stays cut until it is mended as often.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.break_off(from, to);
        self.cuts[from * self.size + to] += 1;
    }

    /// Nothing that is sent from one member to the other arrives before.
    pub(crate) fn stall(&mut self, from: usize, to: usize, until: u64) {
        let stalled = &mut self.stalls[from * self.size + to];
        *stalled = until.max(*stalled);
    }

    /// Takes back one cut.
    pub fn mend(&mut self, from: usize, to: usize) {
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

    /// Sends a frame on its way. Returns when it arrives, and as what: not at all, once, or twice.
    pub fn carry(&mut self, now: u64, from: usize, to: usize, frame: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let sent = Sent { from, to, lane: Lane::Log, bytes: frame.len() };
        let arrivals = self.send(now, sent, |_| ());
        arrivals.into_iter().flatten().map(|arrival| (arrival.at, arrival.shape(frame.to_vec()))).collect()
    }

    /// When, and in what shape, a frame arrives that is sent now: not at all, once, or twice.
    pub(crate) fn send(
        &mut self,
        now: u64,
        sent: Sent,
        mut count: impl FnMut(FaultKind),
    ) -> [Option<Arrival>; 2] {
        if self.is_cut(sent.from, sent.to) {
            count(FaultKind::Cut);
            return [None, None];
        }
        if self.stream.chance(self.spec.drop) {
            count(FaultKind::Drop);
            return [None, None];
        }
        let Some(left) = self.leaves(now, sent, &mut count) else {
            count(FaultKind::QueueFull);
            return [None, None];
        };
        let first = self.arrival(left, sent, &mut count);
        let second = self.stream.chance(self.spec.duplicate).then(|| {
            count(FaultKind::Duplicate);
            self.arrival(left, sent, &mut count)
        });
        [Some(first), second]
    }

    /// When the last byte of a frame leaves; none where too much waits. Both lanes get a fair share of the
    /// link: a short frame passes what is large, packet by packet, and holds it up by as much as it takes
    /// itself.
    fn leaves(&mut self, now: u64, sent: Sent, count: &mut impl FnMut(FaultKind)) -> Option<u64> {
        let Some(Bandwidth { bytes_per_ms, queue_bytes }) = self.spec.bandwidth else { return Some(now) };
        let takes = |bytes: u64| bytes * 1_000_000 / bytes_per_ms;
        let bytes = sent.bytes as u64;
        let [log, bulk] = &mut self.busy[sent.from * self.size + sent.to];
        let (own, other) = match sent.lane {
            Lane::Log => (log, bulk),
            Lane::Bulk => (bulk, log),
        };
        let start = now.max(*own);
        if start - now > takes(queue_bytes) {
            return None;
        }
        if start > now {
            count(FaultKind::Queued);
        }
        let held_up = match sent.lane {
            Lane::Log if *other > start => {
                count(FaultKind::Overtaken);
                *other += takes(bytes);
                takes(bytes + PACKET)
            }
            Lane::Log | Lane::Bulk => 0,
        };
        *own = start + takes(bytes) + held_up;
        Some(*own)
    }

    fn arrival(&mut self, left: u64, sent: Sent, count: &mut impl FnMut(FaultKind)) -> Arrival {
        let Sent { from, to, lane, .. } = sent;
        let spec = &self.spec;
        let mut delay_us = self.stream.between(spec.latency_min_us, spec.latency_max_us);
        let mut delayed = self.stream.chance(spec.tail);
        if delayed {
            count(FaultKind::Delay);
            delay_us = self.stream.skewed(spec.latency_max_us, spec.tail_max_us);
        }
        delay_us += self.slow_us[from] + self.slow_us[to];
        let mut at = left + delay_us * 1_000 + self.stream.below(1_000);
        let stalled_until = self.stalls[from * self.size + to];
        delayed |= at < stalled_until;
        at = at.max(stalled_until);
        let last = &mut self.arrivals[from * self.size + to][lane as usize];
        if self.stream.chance(spec.reorder) {
            count(FaultKind::Reorder);
            delayed = true;
            at += self.stream.below(4 * spec.latency_max_us * 1_000 + 1);
        } else {
            at = at.max(*last + 1);
            *last = at;
        }
        let flipped = self.stream.chance(spec.corrupt).then(|| {
            count(FaultKind::Corrupt);
            self.stream.number()
        });
        Arrival { at, delayed, flipped, connection: Connection { from, breaks: self.breaks(from, to) } }
    }

    /// Whether a connection by which a frame was sent has not broken since.
    pub(crate) fn is_open(&self, connection: Connection, to: usize) -> bool {
        connection.breaks == self.breaks(connection.from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let bandwidth = Some(Bandwidth { bytes_per_ms: 100, queue_bytes: 50_000 });
        let spec = NetworkSpec {
            latency_min_us: 0,
            latency_max_us: 0,
            drop: 0,
            duplicate: 0,
            reorder: 0,
            tail: 0,
            tail_max_us: 0,
            corrupt: 0,
            notice: 0,
            bandwidth,
        };
        Network::new(1, spec, vec![0; 2])
    }

    fn arrives_ms(network: &mut Network, lane: Lane, bytes: usize) -> Option<u64> {
        let [first, _] = network.send(0, Sent { from: 0, to: 1, lane, bytes }, |_| ());
        first.map(|arrival| arrival.at / 1_000_000)
    }

    #[test]
    fn what_is_large_waits_for_what_is_before_it_and_what_is_short_overtakes() {
        let mut network = network();
        assert_eq!(arrives_ms(&mut network, Lane::Bulk, 20_000), Some(200));
        assert_eq!(arrives_ms(&mut network, Lane::Bulk, 20_000), Some(400));
        assert_eq!(arrives_ms(&mut network, Lane::Log, 100), Some(17), "a packet, and itself twice");
        assert_eq!(arrives_ms(&mut network, Lane::Bulk, 20_000), Some(601), "held up by it");
        assert_eq!(arrives_ms(&mut network, Lane::Bulk, 100), None, "the queue is full");
    }

    #[test]
    fn what_waits_for_a_connection_is_lost_when_that_breaks() {
        let mut network = network();
        let sent = Sent { from: 0, to: 1, lane: Lane::Bulk, bytes: 20_000 };
        let [first, _] = network.send(0, sent, |_| ());
        let connection = first.expect("it leaves").connection;
        assert!(network.is_open(connection, 1));
        network.break_off(0, 1);
        assert!(!network.is_open(connection, 1));
        assert_eq!(arrives_ms(&mut network, Lane::Bulk, 100), Some(1), "another begins empty");
    }
}
