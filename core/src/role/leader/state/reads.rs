//! The reads that wait for a leader, and what it knows of its lease.

use crate::message::ReadContext;
use crate::time::Instant;
use crate::types::{Index, Member, RequestId};
use alloc::collections::VecDeque;

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::role::leader) struct Reads {
    /// In order of arrival; rounds and indexes ascend.
    pub(in crate::role::leader) waiting: VecDeque<Waiting>,
    /// The last round that was sent for reads.
    pub(in crate::role::leader) asked: u64,
    /// When the last rounds were sent.
    pub(in crate::role::leader) sent: VecDeque<(u64, Instant)>,
    /// The latest instant until which a lease was given to the host, which may serve reads by it without
    /// asking.
    pub(in crate::role::leader) leased_until: Instant,
    /// Set once no lease is safe in this term any more: `TimeoutNow` was sent, whose receiver may campaign at
    /// any later time despite all promises; or the clock has gone back.
    pub(in crate::role::leader) ended: bool,
}

/// A read that waits to be confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::role::leader) struct Waiting {
    pub(in crate::role::leader) reader: Reader,
    /// The first round that was not yet sent when the read arrived.
    pub(in crate::role::leader) round: u64,
    /// The index that must be applied before it is served.
    pub(in crate::role::leader) index: Index,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(in crate::role::leader) enum Reader {
    Client(RequestId),
    Follower(Member, ReadContext),
}

/// How many rounds are remembered: an answer that is later than this many rounds extends no lease.
const ROUNDS: usize = 64;

impl Reads {
    /// A round of heartbeats is sent.
    pub(in crate::role::leader) fn round_sent(&mut self, round: u64, now: Instant) {
        if self.sent.len() == ROUNDS {
            self.sent.pop_front();
        }
        self.sent.push_back((round, now));
    }

    /// When a round was sent, if that is still known.
    pub(in crate::role::leader) fn sent_at(&self, round: u64) -> Option<Instant> {
        self.sent.iter().rev().find(|(sent, _)| *sent == round).map(|&(_, at)| at)
    }

    #[cfg(feature = "explore")]
    pub(in crate::role::leader) fn forget_time(&mut self) {
        self.sent.clear();
        self.leased_until = Instant::ZERO;
    }

    /// How many reads wait to be confirmed.
    pub(in crate::role::leader) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(in crate::role::leader) fn leased_until(&self) -> Instant {
        self.leased_until
    }

    /// From here on no lease is given.
    pub(in crate::role::leader) fn end_leases(&mut self) {
        self.ended = true;
    }

    /// Gives up all reads of this member's own clients; followers ask again, elsewhere.
    pub(in crate::role::leader) fn drain(&mut self) -> impl Iterator<Item = RequestId> {
        self.waiting.drain(..).filter_map(|waiting| match waiting.reader {
            Reader::Client(request) => Some(request),
            Reader::Follower(..) => None,
        })
    }
}
