//! What goes to each follower, and what comes back.

use crate::action::Action;
use crate::common::Common;
use crate::event::EntriesLoaded;
use crate::log::{Entries, Entry, LogSlice};
use crate::message::Body;
use crate::progress::{Flow, Load, Progress, Window};
use crate::role::leader::state::Leader;
use crate::status::{DropReason, PauseReason};
use crate::types::{Index, LogId};
use alloc::vec::Vec;

/// What a follower says that takes no entries: see [`Body::Pause`].
pub(super) struct Pause {
    pub(super) round: u64,
    pub(super) received: Index,
    pub(super) matched: Index,
    pub(super) last: LogId,
    pub(super) reason: PauseReason,
}

impl Leader {
    pub(super) fn on_appended(
        &mut self,
        common: &mut Common,
        position: usize,
        matched: Index,
        out: &mut Vec<Action>,
    ) {
        if matched > common.log.last().index {
            return common.drops.add(DropReason::NeverSent);
        }
        if !self.acknowledge(common, position, matched, out) {
            self.replicate(common, position, out);
        }
    }

    pub(super) fn on_rejected(
        &mut self,
        common: &mut Common,
        position: usize,
        prev: Index,
        hint: LogId,
        out: &mut Vec<Action>,
    ) {
        let peer = &mut self.peers[position];
        if prev == Index::ZERO && peer.matched == Index::ZERO {
            if matches!(peer.flow, Flow::Snapshot { .. }) {
                // It is offered one already, and may have some of it.
                return common.drops.add(DropReason::Late);
            }
            // It knows nothing at all, not even how the group began.
            return offer_snapshot(peer, common, out);
        }
        let shared = common.log.last_shared(hint);
        let base = common.log.base();
        if !peer.is_current_rejection(prev) || (shared.index >= prev && prev > base) {
            return common.drops.add(DropReason::Late);
        }
        if peer.matched < base && (hint.index < base || prev <= base) {
            return offer_snapshot(peer, common, out);
        }
        peer.refused(shared.index);
        self.replicate(common, position, out);
    }

    pub(super) fn on_heartbeat_ack(
        &mut self,
        common: &mut Common,
        position: usize,
        round: u64,
        received: Index,
        matched: Index,
        out: &mut Vec<Action>,
    ) {
        if received > common.log.last().index || round > self.round {
            return common.drops.add(DropReason::NeverSent);
        }
        let peer = &mut self.peers[position];
        if round >= peer.answered_round {
            peer.unpause(received);
        }
        let lacks = peer.heartbeat_answered(round, received);
        self.note_answer(position, round);
        let peer = &self.peers[position];
        if matched > peer.matched {
            self.acknowledge(common, position, matched, out);
        }
        self.answer_reads(common, out);
        if lacks {
            self.ask_behind(common, position, out);
        }
        self.replicate(common, position, out);
    }

    /// A follower takes no entries at present. Heartbeats go on; how far the logs agree can be asked without
    /// entries.
    pub(super) fn on_pause(
        &mut self,
        common: &mut Common,
        position: usize,
        pause: Pause,
        out: &mut Vec<Action>,
    ) {
        let Pause { round, received, matched, last, reason } = pause;
        if received > common.log.last().index || round > self.round {
            return common.drops.add(DropReason::NeverSent);
        }
        if round < self.peers[position].answered_round {
            return common.drops.add(DropReason::Late);
        }
        self.note_answer(position, round);
        let shared = common.log.last_shared(last).index;
        self.peers[position].pause(reason, received, shared);
        // No entries leave with what follows from it.
        if matched > self.peers[position].matched {
            self.acknowledge(common, position, matched, out);
        }
        self.answer_reads(common, out);
        self.replicate(common, position, out);
    }

    /// A follower has answered a heartbeat: it still followed when that was sent.
    fn note_answer(&mut self, position: usize, round: u64) {
        let peer = &mut self.peers[position];
        if round > peer.answered_round {
            peer.answered_round = round;
            peer.lease_promised_at = self.reads.sent_at(round).unwrap_or(peer.lease_promised_at);
        }
    }

    /// Asks behind everything that was sent whether the logs agree there. A heartbeat may overtake entries
    /// that are on their way, by another connection or since they are many; an empty append does not: its
    /// refusal says that they are lost. A follower that knows of less agreement than this leader, since it
    /// has restarted or stood for election, is reminded by it.
    fn ask_behind(&mut self, common: &Common, position: usize, out: &mut Vec<Action>) {
        let peer = &mut self.peers[position];
        let after = peer.next().prev().unwrap_or_default();
        if let Some(term) = common.log.term(after) {
            let slice = LogSlice::new_unchecked(term.at(after), Entries::EMPTY);
            send_slice(peer, common, slice, 0, out);
        } else {
            offer_snapshot(peer, common, out);
        }
    }

    /// The follower has the log through `matched` on its disk. Returns whether it was sent already what that
    /// makes possible, along with all others.
    fn acknowledge(
        &mut self,
        common: &mut Common,
        position: usize,
        matched: Index,
        out: &mut Vec<Action>,
    ) -> bool {
        let news = self.peers[position].acknowledge(matched);
        if !news {
            return false;
        }
        if !common.membership().witnesses().is_empty() {
            self.replicate_to_all(common, out);
        }
        let committed = matched > common.log.committed() && self.advance_commit(common, out);
        if self.is_successor(self.peers[position].member) {
            self.pursue_transfer(common, out);
        }
        committed
    }

    pub(super) fn on_snapshot_unavailable(
        &mut self,
        common: &mut Common,
        position: usize,
        last: LogId,
        out: &mut Vec<Action>,
    ) {
        let peer = &mut self.peers[position];
        match &peer.flow {
            // The latest, then; at once if it is another, and otherwise with the next heartbeat.
            Flow::Snapshot { offered } if offered.last == last => {
                if common.log.snapshot().is_some_and(|snapshot| snapshot.last != last) {
                    offer_snapshot(peer, common, out);
                }
            }
            _ => common.drops.add(DropReason::Late),
        }
    }

    /// Entries that the host has read back. Whatever does not fit any more is dropped, and asked for again if
    /// need be.
    pub(crate) fn on_entries_loaded(
        &mut self,
        common: &mut Common,
        loaded: EntriesLoaded,
        out: &mut Vec<Action>,
    ) {
        let EntriesLoaded { to, after, entries } = loaded;
        let Some(position) = self.peers.iter().position(|peer| peer.member.id == to) else {
            return;
        };
        let peer = &mut self.peers[position];
        let Flow::Stream { next, load, .. } = &mut peer.flow else { return };
        if *load != Load::Asked(after.index) {
            return;
        }
        *load = if entries.is_empty() { Load::Failed } else { Load::Idle };
        let wanted = *next == after.index.next() && common.log.contains(after);
        let ours = LogSlice::new(after, entries)
            .ok()
            .filter(|slice| slice.entries().iter().all(|entry| common.log.contains(entry.id)));
        if let Some(slice) = ours.filter(|slice| wanted && !slice.entries().is_empty()) {
            let size = slice.entries().iter().map(Entry::size).sum();
            send_slice(peer, common, slice, size, out);
        }
        self.replicate(common, position, out);
    }

    pub(super) fn replicate_to_all(&mut self, common: &mut Common, out: &mut Vec<Action>) {
        for position in 0..self.peers.len() {
            self.replicate(common, position, out);
        }
    }

    /// Sends a follower what it lacks, as far as its window allows, and tells it of commits that it could
    /// make.
    pub(super) fn replicate(&mut self, common: &mut Common, position: usize, out: &mut Vec<Action>) {
        let last = self.through_for(common, position);
        let options = &common.config.options;
        let window = Window { messages: options.max_in_flight_messages, bytes: options.max_in_flight_bytes };
        let max_append_bytes = options.max_append_bytes;
        let peer = &mut self.peers[position];
        while peer.may_send(last, window) {
            let after = peer.next().prev().unwrap_or_default();
            let Some(term) = common.log.term(after) else {
                return offer_snapshot(peer, common, out);
            };
            let after = term.at(after);
            let probes = matches!(peer.flow, Flow::Probe { .. });
            let max_bytes = if probes { max_append_bytes.min(MAX_PROBE_BYTES) } else { max_append_bytes };
            if after.index >= common.log.evicted() {
                let (mut slice, mut size) = common.log.slice(after, last.max(after.index), max_bytes);
                if probes && (size > MAX_PROBE_BYTES || peer.paused.is_some()) {
                    (slice, size) = (LogSlice::new_unchecked(after, Entries::EMPTY), 0);
                }
                send_slice(peer, common, slice, size, out);
            } else if let Flow::Stream { load, .. } = &mut peer.flow {
                *load = Load::Asked(after.index);
                let (to, through) = (peer.member.id, common.log.evicted());
                out.push(Action::LoadEntries { to, after, through, max_bytes });
            } else {
                // What follows is not in memory; whether the logs agree can be asked without it.
                let slice = LogSlice::new_unchecked(after, Entries::EMPTY);
                send_slice(peer, common, slice, 0, out);
            }
        }
        let commit = common.log.committed().min(peer.matched);
        if commit > peer.told_commit {
            peer.told_commit = commit;
            common.send(peer.member, Body::Commit { commit }, out);
        }
    }

    /// Offers the snapshot again to peers that have not confirmed it: the offer or the answer may be lost.
    pub(super) fn offer_again(&mut self, common: &Common, out: &mut Vec<Action>) {
        for peer in &self.peers {
            if let Flow::Snapshot { offered } = &peer.flow {
                common.send(peer.member, Body::OfferSnapshot { snapshot: offered.clone() }, out);
            }
        }
    }

    /// How far the log may be compacted while followers still get the entries that they need after their
    /// snapshots. Followers without recent contact are not waited for.
    pub(crate) fn compactable(&self, common: &Common) -> Index {
        let patience = common.config.timing.election_max.times(PATIENCE);
        let needed = self.peers.iter().filter_map(|peer| match &peer.flow {
            Flow::Snapshot { offered } if common.now - peer.contact < patience => Some(offered.last.index),
            _ => None,
        });
        needed.min().unwrap_or(Index::MAX)
    }
}

fn send_slice(peer: &mut Progress, common: &Common, slice: LogSlice, size: u64, out: &mut Vec<Action>) {
    let through = slice.last().index;
    let commit = common.log.committed();
    let witness = common.membership().is_witness(peer.member.id);
    let slice = if witness { slice.withheld() } else { slice };
    common.send(peer.member, Body::Append { slice, commit }, out);
    peer.sent_through(through, size);
    if matches!(peer.flow, Flow::Stream { .. }) {
        peer.told_commit = peer.told_commit.max(commit.min(through));
    }
}

/// What the follower lacks is no longer in the log.
fn offer_snapshot(peer: &mut Progress, common: &Common, out: &mut Vec<Action>) {
    let Some(snapshot) = common.log.snapshot() else { return };
    peer.flow = Flow::Snapshot { offered: snapshot.clone() };
    common.send(peer.member, Body::OfferSnapshot { snapshot: snapshot.clone() }, out);
}

/// The most bytes of entries that a probe carries: it may be sent with every heartbeat, and what it carries
/// in vain.
const MAX_PROBE_BYTES: u64 = 16 << 10;
/// How many election timeouts a member that gets a snapshot may be silent before the log stops waiting for
/// it.
const PATIENCE: u64 = 10;
