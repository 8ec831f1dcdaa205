//! Linearizable reads: a read sees everything that any leader had committed when it arrived.
//!
//! A current leader knows everything that is committed. It confirms that it is current by a round of
//! heartbeats sent after the read has arrived: the answers of a quorum show that at that time no later leader
//! had been elected (thesis 6.4). One round confirms all waiting reads. A lease saves the round: a voter that
//! has answered a heartbeat votes for no other member for a while. The lease is counted from the heartbeat's
//! *sending*, and is shorter than the voter's promise by as much as two clocks may differ (thesis 6.4.1).

use crate::action::{Action, Outcome, Refusal};
use crate::common::{Common, ConfirmedRead};
use crate::event::{Read, ReadVia};
use crate::message::{Body, ReadContext};
use crate::role::leader::state::Leader;
use crate::role::leader::state::reads::{Reader, Waiting};
use crate::status::DropReason;
use crate::time::Instant;
use crate::types::Member;
use alloc::vec::Vec;

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
