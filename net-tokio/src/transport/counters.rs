//! What happened on the connections, in numbers.

use crate::transport::wire::HandshakeRefusal;
use kontiki_core::types::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What happened on all connections since the transport started.
#[derive(Clone, Default, Debug)]
pub struct TransportCounters {
    /// How many connections were refused or given up, and why.
    pub refused: BTreeMap<HandshakeRefusal, u64>,
    /// What happened with each member that was ever spoken to or heard of.
    pub peers: BTreeMap<NodeId, PeerCounters>,
    /// How many clients are connected now.
    pub clients: usize,
}

/// What happened with one other member.
#[derive(Clone, Default, Debug)]
pub struct PeerCounters {
    /// Frames that were handed to the system to send.
    pub sent_frames: u64,
    /// Their bytes, as sent.
    pub sent_bytes: u64,
    /// Frames that arrived.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames that were not sent or not taken, and why.
    pub dropped: BTreeMap<Dropped, u64>,
    /// How often dialling it failed.
    pub failed_dials: u64,
    /// How many connections to it there are now.
    pub outbound: usize,
    /// How many connections of it there are now.
    pub inbound: usize,
    /// When something was last heard of it, on any connection.
    pub last_heard: Option<Instant>,
}

/// Why a frame went no further.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dropped {
    /// Too much is waiting already.
    QueueFull,
    /// There is no connection, or it broke.
    Unreachable,
    /// It is longer than members may send.
    TooLong,
    /// It arrived, and the host had no room or no such group.
    NotTaken,
    /// A test wants it so.
    Blocked,
}

impl Dropped {
    /// All of them, in order.
    pub const ALL: [Self; 5] =
        [Self::QueueFull, Self::Unreachable, Self::TooLong, Self::NotTaken, Self::Blocked];

    /// The same in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Unreachable => "unreachable",
            Self::TooLong => "too_long",
            Self::NotTaken => "not_taken",
            Self::Blocked => "blocked",
        }
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is counted of one member.
#[derive(Default, Debug)]
pub(super) struct Tally {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
    dropped: [AtomicU64; Dropped::ALL.len()],
    failed_dials: AtomicU64,
    /// Milliseconds since the transport started, and one; 0 for never.
    heard: AtomicU64,
}

impl Tally {
    pub(super) fn sent(&self, frames: u64, bytes: usize) {
        add(&self.sent, frames, bytes);
    }

    pub(super) fn received(&self, frames: u64, bytes: usize) {
        add(&self.received, frames, bytes);
    }

    pub(super) fn dropped(&self, why: Dropped, frames: u64) {
        self.dropped[why as usize].fetch_add(frames, Relaxed);
    }

    pub(super) fn failed_dial(&self) {
        self.failed_dials.fetch_add(1, Relaxed);
    }

    /// Something was heard, so long after the start.
    pub(super) fn heard(&self, after: Duration) {
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.heard.store(millis.saturating_add(1), Relaxed);
    }

    pub(super) fn counters(&self, started: Instant) -> PeerCounters {
        let dropped = Dropped::ALL.iter().map(|&why| (why, self.dropped[why as usize].load(Relaxed)));
        let heard = self.heard.load(Relaxed).checked_sub(1);
        PeerCounters {
            sent_frames: self.sent[0].load(Relaxed),
            sent_bytes: self.sent[1].load(Relaxed),
            received_frames: self.received[0].load(Relaxed),
            received_bytes: self.received[1].load(Relaxed),
            dropped: dropped.filter(|(_, count)| *count > 0).collect(),
            failed_dials: self.failed_dials.load(Relaxed),
            outbound: 0,
            inbound: 0,
            last_heard: heard.and_then(|millis| started.checked_add(Duration::from_millis(millis))),
        }
    }
}

fn add([frames, bytes]: &[AtomicU64; 2], more: u64, length: usize) {
    frames.fetch_add(more, Relaxed);
    bytes.fetch_add(length as u64, Relaxed);
}

/// Refusals, counted, and logged now and then.
#[derive(Debug)]
pub(super) struct Refusals {
    interval: Duration,
    of: Mutex<[OfOneKind; HandshakeRefusal::ALL.len()]>,
}

#[derive(Clone, Copy, Default, Debug)]
struct OfOneKind {
    count: u64,
    logged: Option<(Instant, u64)>,
}

impl Refusals {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, of: Mutex::default() }
    }

    /// Counts one, and logs it with those since the last that was logged, unless that was lately.
    pub(super) fn add(&self, refusal: HandshakeRefusal, who: &dyn fmt::Display) {
        let since = {
            let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
            let kind = &mut all[refusal as usize];
            kind.count += 1;
            let before = match kind.logged {
                Some((when, _)) if when.elapsed() < self.interval => return,
                Some((_, count)) => count,
                None => 0,
            };
            kind.logged = Some((Instant::now(), kind.count));
            kind.count - before
        };
        tracing::warn!(reason = refusal.as_str(), from = %who, since_last_logged = since, "connection refused");
    }

    pub(super) fn counted(&self) -> BTreeMap<HandshakeRefusal, u64> {
        let all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = HandshakeRefusal::ALL.iter().map(|&refusal| (refusal, all[refusal as usize].count));
        counts.filter(|(_, count)| *count > 0).collect()
    }
}
