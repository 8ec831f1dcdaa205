//! The transport's counters.

use crate::transport::wire::HandshakeRefusal;
use kontiki_core::types::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The counters of all connections since the transport started.
#[derive(Clone, Default, Debug)]
pub struct TransportCounters {
    /// Connections refused or closed, by reason.
    pub refused: BTreeMap<HandshakeRefusal, u64>,
    /// The counters of each peer.
    pub peers: BTreeMap<NodeId, PeerCounters>,
    /// The number of connected clients.
    pub clients: usize,
}

/// The counters of one peer.
#[derive(Clone, Default, Debug)]
pub struct PeerCounters {
    /// Frames handed to the system to send.
    pub sent_frames: u64,
    /// Their bytes on the wire.
    pub sent_bytes: u64,
    /// Frames received.
    pub received_frames: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames dropped before sending or on arrival, by reason.
    pub dropped: BTreeMap<Dropped, u64>,
    /// Failed dials.
    pub failed_dials: u64,
    /// Open connections to the peer.
    pub outbound: usize,
    /// Open connections from the peer.
    pub inbound: usize,
    /// When the peer was last heard from, on any connection.
    pub last_heard: Option<Instant>,
}

/// The reason a frame was dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dropped {
    /// The queue is full.
    QueueFull,
    /// There is no connection, or it broke.
    Unreachable,
    /// It is longer than the limit.
    TooLong,
    /// It arrived, but the host had no room for it or no such group.
    NotTaken,
    /// A test blocks it.
    Blocked,
}

impl Dropped {
    /// All reasons, in order.
    pub const ALL: [Self; 5] =
        [Self::QueueFull, Self::Unreachable, Self::TooLong, Self::NotTaken, Self::Blocked];

    /// Returns the code used in logs and metrics.
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

/// The live counters of one peer.
#[derive(Default, Debug)]
pub(super) struct Tally {
    sent: [AtomicU64; 2],
    received: [AtomicU64; 2],
    dropped: [AtomicU64; Dropped::ALL.len()],
    failed_dials: AtomicU64,
    /// Milliseconds since the transport started, plus one; 0 for never.
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

    /// Records that the peer was heard from, this long after the start.
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

/// Refusals, counted, and logged at a bounded rate.
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

    /// Counts a refusal, and logs it with those since the last logged one, unless that was recent.
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
