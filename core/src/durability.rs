//! What waits for the disk: the writes that were handed out, and the promises that depend on them.
//!
//! A promise (a vote, an acknowledgement) leaves this member only once everything that it promises is
//! durable. It is held as the whole message, stamped with the term in which it was made: a vote given in term
//! 5 must never leave as a vote in term 6.

use crate::action::Action;
use crate::message::{Body, Message};
use crate::time::{Instant, Nanos};
use crate::types::{Ballot, Index, WriteSeq};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// The one ordered stream of writes of a member.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Durability {
    /// The last write that was handed out.
    issued: WriteSeq,
    /// The ballot in it.
    written: Ballot,
    /// The last ballot that is known to be on the disk.
    durable: Ballot,
    /// The writes that were handed out and are not yet durable, in order.
    pending: VecDeque<Pending>,
    /// How long the last completed writes took: the longest of those that completed together.
    last_took: Nanos,
    /// The promises, each with the write it waits for, in the order of the writes. One that was made in this
    /// step waits for the next write, until it turns out that this step wrote nothing.
    waiting: VecDeque<(WriteSeq, Message)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
struct Pending {
    seq: WriteSeq,
    ballot: Ballot,
    /// The log is durable through here once this write is, as far as it was not truncated since: a completed
    /// write says nothing about an entry that a later write has put in the place of one of its own.
    through: Index,
    issued_at: Instant,
}

impl Durability {
    pub(crate) fn new(durable: Ballot) -> Self {
        Self {
            issued: WriteSeq::ZERO,
            written: durable,
            durable,
            pending: VecDeque::new(),
            last_took: Nanos::ZERO,
            waiting: VecDeque::new(),
        }
    }

    #[cfg(feature = "explore")]
    pub(crate) fn forget_time(&mut self, now: Instant) {
        self.pending.iter_mut().for_each(|pending| pending.issued_at = now);
        self.last_took = Nanos::ZERO;
    }

    /// The oldest write that is under way becomes the first, and a promise that waits twice waits once: the
    /// second time it would say nothing new.
    #[cfg(feature = "explore")]
    pub(crate) fn forget_numbers(&mut self) {
        let done = self.issued.get() - self.pending.len() as u64;
        let renumber = |seq: &mut WriteSeq| *seq = WriteSeq::new(seq.get() - done);
        renumber(&mut self.issued);
        self.pending.iter_mut().for_each(|pending| renumber(&mut pending.seq));
        self.waiting.iter_mut().for_each(|(seq, _)| renumber(seq));
        let mut known = Vec::new();
        self.waiting.retain(|(_, message)| {
            let is_new = !known.contains(message);
            if is_new {
                known.push(message.clone());
            }
            is_new
        });
    }

    /// The number of the next write.
    pub(crate) fn next_seq(&self) -> WriteSeq {
        self.issued.next()
    }

    /// The last write that was handed out.
    pub(crate) fn issued(&self) -> WriteSeq {
        self.issued
    }

    /// The ballot that was last handed out to be written.
    pub(crate) fn written_ballot(&self) -> Ballot {
        self.written
    }

    /// The ballot that is on the disk.
    pub(crate) fn durable_ballot(&self) -> Ballot {
        self.durable
    }

    /// When the oldest write that the disk still owes was handed out.
    pub(crate) fn oldest_pending(&self) -> Option<Instant> {
        self.pending.front().map(|pending| pending.issued_at)
    }

    /// How long the last completed writes took, the time included that they waited behind others.
    pub(crate) fn last_took(&self) -> Nanos {
        self.last_took
    }

    /// How many promises wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether this very promise waits already.
    pub(crate) fn holds(&self, message: &Message) -> bool {
        self.waiting.iter().any(|(_, waiting)| waiting == message)
    }

    /// Whether a question to the leader waits: the next one would say the same.
    pub(crate) fn withholds_question(&self) -> bool {
        self.waiting.iter().any(|(_, waiting)| matches!(waiting.body, Body::ReadIndex { .. }))
    }

    /// Keeps a promise until all that this step writes is durable.
    pub(crate) fn hold(&mut self, message: Message) {
        self.waiting.push_back((self.next_seq(), message));
    }

    /// The next write is born, and leaves the log ending at `through`. What earlier writes brought after
    /// `replaced_after` is no longer of this log. Returns its number.
    pub(crate) fn issue(
        &mut self,
        ballot: Ballot,
        replaced_after: Option<Index>,
        through: Index,
        now: Instant,
    ) -> WriteSeq {
        if let Some(kept) = replaced_after {
            for pending in &mut self.pending {
                pending.through = pending.through.min(kept);
            }
        }
        let seq = self.next_seq();
        self.issued = seq;
        self.written = ballot;
        self.pending.push_back(Pending { seq, ballot, through, issued_at: now });
        seq
    }

    /// Ends a step. What it promised without writing anything waits only for the last write before it.
    pub(crate) fn seal(&mut self, out: &mut Vec<Action>) {
        let issued = self.issued;
        if self.waiting.back().is_none_or(|(seq, _)| *seq <= issued) {
            return;
        }
        for (seq, _) in self.waiting.iter_mut().rev().take_while(|(seq, _)| *seq > issued) {
            *seq = issued;
        }
        self.release(out);
    }

    /// The disk has everything through write `seq`. Returns how far the log is durable by that, where it says
    /// anything new.
    pub(crate) fn persisted(&mut self, seq: WriteSeq, now: Instant, out: &mut Vec<Action>) -> Option<Index> {
        let mut through = None;
        if let Some(oldest) = self.pending.front().filter(|oldest| oldest.seq <= seq) {
            self.last_took = now - oldest.issued_at;
        }
        while let Some(&pending) = self.pending.front()
            && pending.seq <= seq
        {
            self.pending.pop_front();
            self.durable = pending.ballot;
            through = Some(pending.through);
        }
        self.release(out);
        through
    }

    /// The disk has everything: the host has waited for it.
    pub(crate) fn written(&mut self, out: &mut Vec<Action>) {
        self.pending.clear();
        self.durable = self.written;
        self.release(out);
    }

    #[inline]
    fn release(&mut self, out: &mut Vec<Action>) {
        // A leader promises nothing.
        if !self.waiting.is_empty() {
            self.release_durable(out);
        }
    }

    fn release_durable(&mut self, out: &mut Vec<Action>) {
        let durable = self.pending.front().map_or(self.issued.next(), |pending| pending.seq);
        while let Some((seq, _)) = self.waiting.front()
            && *seq < durable
        {
            let (_, message) = self.waiting.pop_front().expect("the front was just seen");
            out.push(Action::Send(message));
        }
    }

    /// What must hold between steps.
    #[cfg(debug_assertions)]
    pub(crate) fn check(&self) {
        assert!(
            self.waiting.back().is_none_or(|(seq, _)| *seq <= self.issued),
            "a promise was made and not sealed"
        );
        assert!(self.waiting.iter().zip(self.waiting.iter().skip(1)).all(|(a, b)| a.0 <= b.0));
        assert!(self.waiting.front().is_none() || !self.pending.is_empty(), "a promise waits for nothing");
        assert!(self.pending.back().is_none_or(|pending| pending.seq == self.issued));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ClusterId, Identity, NodeId, Term};
    use alloc::vec;

    fn message(term: u64) -> Message {
        let me = Identity::new(ClusterId(1), NodeId::new(1).unwrap());
        Message::new(me, me.member, Term::new(term), Body::Voted { granted: true })
    }

    fn write(durability: &mut Durability, replaced_after: Option<u64>, through: u64) {
        durability.issue(
            Ballot::default(),
            replaced_after.map(Index::new),
            Index::new(through),
            Instant::ZERO,
        );
    }

    #[test]
    fn a_promise_leaves_with_its_write_and_in_its_own_term() {
        let (mut durability, mut out) = (Durability::new(Ballot::default()), vec![]);
        durability.hold(message(5));
        write(&mut durability, None, 1);
        durability.seal(&mut out);
        durability.hold(message(6));
        write(&mut durability, None, 2);
        durability.seal(&mut out);
        assert_eq!(out, []);
        assert_eq!(durability.persisted(WriteSeq::new(1), Instant::ZERO, &mut out), Some(Index::new(1)));
        assert_eq!(out, [Action::Send(message(5))]);
    }

    #[test]
    fn a_promise_that_wrote_nothing_waits_only_for_what_is_pending() {
        let (mut durability, mut out) = (Durability::new(Ballot::default()), vec![]);
        durability.hold(message(5));
        durability.seal(&mut out);
        assert_eq!(out.len(), 1);
        write(&mut durability, None, 1);
        durability.hold(message(5));
        durability.seal(&mut out);
        assert_eq!(out.len(), 1);
        durability.persisted(WriteSeq::new(1), Instant::ZERO, &mut out);
        assert_eq!(out.len(), 2);
    }

    /// PITFALLS R13: the first write completes after its entries were truncated and written anew.
    #[test]
    fn a_completed_write_says_nothing_of_entries_written_since() {
        let (mut durability, mut out) = (Durability::new(Ballot::default()), vec![]);
        write(&mut durability, None, 9);
        write(&mut durability, Some(4), 9);
        assert_eq!(durability.persisted(WriteSeq::new(1), Instant::ZERO, &mut out), Some(Index::new(4)));
        assert_eq!(durability.persisted(WriteSeq::new(2), Instant::ZERO, &mut out), Some(Index::new(9)));
        assert_eq!(durability.persisted(WriteSeq::new(2), Instant::ZERO, &mut out), None);
    }
}
