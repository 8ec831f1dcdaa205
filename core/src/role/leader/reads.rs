//! Linearizable reads: a read sees everything that any leader had committed when it arrived.
//!
//! A current leader knows everything that is committed. It confirms that it is current by a round of
//! heartbeats sent after the read has arrived: the answers of a quorum show that at that time no later leader
//! had been elected (thesis 6.4). One round confirms all waiting reads. A lease saves the round: a voter that
//! has answered a heartbeat votes for no other member for a while. The lease is counted from the heartbeat's
//! *sending*, and is shorter than the voter's promise by as much as two clocks may differ (thesis 6.4.1).

use super::Leader;
use crate::action::{Action, Outcome, Refusal};
use crate::common::{Common, ConfirmedRead};
use crate::event::{Read, ReadVia};
use crate::message::{Body, ReadContext};
use crate::status::DropReason;
use crate::time::Instant;
use crate::types::{Index, Member, RequestId};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Reads {
    /// In order of arrival; rounds and indexes ascend.
    waiting: VecDeque<Waiting>,
    /// The last round that was sent for reads.
    asked: u64,
    /// When the last rounds were sent.
    sent: VecDeque<(u64, Instant)>,
    /// The latest instant until which a lease was given to the host, which may serve reads by it without
    /// asking.
    leased_until: Instant,
    /// Set once no lease is safe in this term any more: `TimeoutNow` was sent, whose receiver may campaign at
    /// any later time despite all promises; or the clock has gone back.
    ended: bool,
}

/// A read that waits to be confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
struct Waiting {
    reader: Reader,
    /// The first round that was not yet sent when the read arrived.
    round: u64,
    /// The index that must be applied before it is served.
    index: Index,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
enum Reader {
    Client(RequestId),
    Follower(Member, ReadContext),
}

/// How many rounds are remembered: an answer that is later than this many rounds extends no lease.
const ROUNDS: usize = 64;

impl Reads {
    /// A round of heartbeats is sent.
    pub(super) fn round_sent(&mut self, round: u64, now: Instant) {
        if self.sent.len() == ROUNDS {
            self.sent.pop_front();
        }
        self.sent.push_back((round, now));
    }

    /// When a round was sent, if that is still known.
    pub(super) fn sent_at(&self, round: u64) -> Option<Instant> {
        self.sent.iter().rev().find(|(sent, _)| *sent == round).map(|&(_, at)| at)
    }

    #[cfg(feature = "explore")]
    pub(super) fn forget_time(&mut self) {
        self.sent.clear();
        self.leased_until = Instant::ZERO;
    }

    /// How many reads wait to be confirmed.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn leased_until(&self) -> Instant {
        self.leased_until
    }

    /// From here on no lease is given.
    pub(super) fn end_leases(&mut self) {
        self.ended = true;
    }

    /// Gives up all reads of this member's own clients; followers ask again, elsewhere.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = RequestId> {
        self.waiting.drain(..).filter_map(|waiting| match waiting.reader {
            Reader::Client(request) => Some(request),
            Reader::Follower(..) => None,
        })
    }
}

impl Leader {
    /// The host's clock has gone back.
    pub(crate) fn distrust_clock(&mut self) {
        self.reads.end_leases();
    }

    /// The host has woken this leader a whole heartbeat interval late, or later: it was suspended, or its
    /// clock was set. Such a clock may have missed more than it shows, so no lease rests on a round that was
    /// sent before.
    pub(crate) fn distrust_rounds_before_a_jump(&mut self, common: &Common, now: Instant) {
        if now - self.heartbeat_deadline >= common.config.timing.heartbeat {
            self.reads.sent.clear();
            for peer in &mut self.peers {
                peer.lease_promised_at = Instant::ZERO;
            }
        }
    }

    pub(crate) fn on_read(&mut self, common: &mut Common, read: Read, out: &mut Vec<Action>) {
        let Read { request, via } = read;
        if self.reads.waiting.len() + common.waiting_reads() >= common.config.options.max_waiting_reads {
            let outcome = Outcome::Refused(Refusal::Busy);
            return out.push(Action::Respond { request, outcome });
        }
        match self.lease(common).filter(|_| via == ReadVia::Lease) {
            Some(until) => {
                self.reads.leased_until = self.reads.leased_until.max(until);
                let index = common.log.committed();
                common.confirm_read(ConfirmedRead { request, index, until: Some(until) });
            }
            None => self.wait(common, Reader::Client(request), out),
        }
    }

    pub(super) fn on_read_index(
        &mut self,
        common: &mut Common,
        from: Member,
        context: ReadContext,
        out: &mut Vec<Action>,
    ) {
        if self.reads.waiting.len() >= common.config.options.max_waiting_reads {
            return common.drops.add(DropReason::TooManyWaiting);
        }
        self.wait(common, Reader::Follower(from, context), out);
    }

    /// Everything that an earlier leader committed is committed here once this leader's first entry is.
    fn wait(&mut self, common: &mut Common, reader: Reader, out: &mut Vec<Action>) {
        let index = common.log.committed().max(self.first);
        self.reads.waiting.push_back(Waiting { reader, round: self.round + 1, index });
        self.answer_reads(common, out);
    }

    /// Answers every read that a round has confirmed, and sends another round if there are reads that came
    /// after the last.
    #[inline]
    pub(super) fn answer_reads(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        if !self.reads.waiting.is_empty() {
            self.answer_waiting_reads(common, out);
        }
    }

    fn answer_waiting_reads(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        while let Some(newest) = self.reads.waiting.back() {
            let confirmed = self.confirmed_round(common);
            let unasked = newest.round > self.round.max(confirmed);
            if unasked && self.reads.asked <= confirmed {
                self.beat(common, out);
                self.reads.asked = self.round;
                continue;
            }
            let committed = common.log.committed();
            let Some(&first) = self.reads.waiting.front() else { return };
            if first.round > confirmed || first.index > committed {
                return;
            }
            self.reads.waiting.pop_front();
            let index = first.index;
            match first.reader {
                Reader::Client(request) => {
                    common.confirm_read(ConfirmedRead { request, index, until: None });
                }
                Reader::Follower(member, context) => {
                    common.send(member, Body::ReadIndexIs { context, index }, out);
                }
            }
        }
    }

    /// The last round to which a quorum has answered; the leader needs not be asked.
    fn confirmed_round(&self, common: &Common) -> u64 {
        let answered = self.of_each(common.id(), u64::MAX, |peer| peer.answered_round);
        common.membership().reached_beyond(0, answered)
    }

    /// The instant until which no other member can be elected, if that is certain.
    fn lease(&self, common: &Common) -> Option<Instant> {
        let options = &common.config.options;
        if !options.lease_reads || self.reads.ended || self.transfer.is_some() || !self.has_committed(common)
        {
            return None;
        }
        let lease_promised_at = self.of_each(common.id(), common.now, |peer| peer.lease_promised_at);
        let since = common.membership().reached_beyond(Instant::ZERO, lease_promised_at);
        let until = since + common.config.timing.lease;
        (since > Instant::ZERO && common.now < until).then_some(until)
    }
}
