//! What a leader knows of one other member's log, and how much it may have in flight to it.

use crate::log::Snapshot;
use crate::status::PauseReason;
use crate::time::Instant;
use crate::types::{Index, Member};
use alloc::collections::VecDeque;

/// A leader's view of one other member.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Progress {
    pub(crate) member: Member,
    /// The follower's log is known to match the leader's through here, on the follower's disk. It only grows:
    /// a leader never changes its own log, so what matched once matches for the whole term.
    pub(crate) matched: Index,
    /// The commit index that the follower was last told.
    pub(crate) told_commit: Index,
    /// When the follower was last heard from.
    pub(crate) contact: Instant,
    /// The last entry sent when the watched heartbeat left: an answer to that or a later one that knows less
    /// tells of a message that was lost.
    sent_at_heartbeat: Index,
    watched_round: u64,
    /// The last heartbeat that it answered: it still followed when that had been sent.
    pub(crate) answered_round: u64,
    /// When that heartbeat was sent. Since then at the earliest, the follower is loyal (thesis 6.4.1).
    pub(crate) lease_promised_at: Instant,
    /// Set on one that is no member any more, and shall only learn of it.
    pub(crate) leaving: Option<Leaving>,
    /// Why it takes no entries at present, as it has said: none are sent until it says otherwise.
    pub(crate) paused: Option<PauseReason>,
    pace: Pace,
    pub(crate) flow: Flow,
}

/// What a former member shall still be told: the log through here, and until when to try.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Leaving {
    pub(crate) through: Index,
    pub(crate) until: Instant,
}

/// How entries are sent to a follower. Each mode has only the fields it needs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Flow {
    /// Looking for the last entry that both logs share: one message at a time, the next entry to send being
    /// `next`.
    Probe { next: Index, awaiting: bool },
    /// The logs are known to match: entries are sent as they come, up to the window. While the host reads
    /// some back, none.
    Stream { next: Index, in_flight: InFlight, load: Load },
    /// What it lacks is no longer in the log: it was offered this snapshot, and is offered it again until it
    /// has it.
    Snapshot { offered: Snapshot },
}

/// Whether the host reads entries back for a follower.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Load {
    /// It does not.
    Idle,
    /// It does, those after this one.
    Asked(Index),
    /// It could not, and will be asked again with the next heartbeat.
    Failed,
}

/// The limits of what may be in flight to one follower.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Window {
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
}

/// How many appends may be in flight to a follower that has refused one of several: one, and one more for
/// each that it acknowledges since, as TCP starts slowly (RFC 5681, 3.1). Where messages overtake each other,
/// a whole window after each refusal would carry the same entries again and again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
struct Pace(u8);

impl Pace {
    /// As many as the window allows.
    const FREE: Self = Self(u8::MAX);
    const SLOW: Self = Self(1);

    fn quicken(&mut self, acknowledged: usize) {
        let more = u8::try_from(acknowledged).unwrap_or(u8::MAX);
        self.0 = self.0.saturating_add(more);
    }

    fn allows(self, in_flight: usize) -> bool {
        self == Self::FREE || in_flight < usize::from(self.0)
    }
}

/// Appends that were sent and not yet acknowledged: the last index and the size of each.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct InFlight {
    messages: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl InFlight {
    fn add(&mut self, last: Index, size: u64) {
        self.messages.push_back((last, size));
        self.bytes += size;
    }

    /// Returns how many of them this acknowledges.
    fn acknowledge(&mut self, through: Index) -> usize {
        let before = self.messages.len();
        while let Some(&(last, size)) = self.messages.front()
            && last <= through
        {
            self.messages.pop_front();
            self.bytes -= size;
        }
        before - self.messages.len()
    }

    fn has_room(&self, window: Window, pace: Pace) -> bool {
        let messages = self.messages.len();
        messages < window.messages && self.bytes < window.bytes && pace.allows(messages)
    }
}

impl Progress {
    #[cfg(feature = "explore")]
    pub(crate) fn forget_time(&mut self, now: Instant) {
        self.contact = now;
        self.lease_promised_at = Instant::ZERO;
        if let Some(leaving) = &mut self.leaving {
            leaving.until = Instant::NEVER;
        }
    }

    /// The progress of every peer when a leader whose log ends at `last` takes over: nothing is known to
    /// match, and the first probe assumes that the logs are equal.
    pub(crate) fn new(member: Member, last: Index, now: Instant) -> Self {
        Self {
            member,
            matched: Index::ZERO,
            told_commit: Index::ZERO,
            contact: now,
            sent_at_heartbeat: Index::ZERO,
            watched_round: 0,
            answered_round: 0,
            lease_promised_at: Instant::ZERO,
            leaving: None,
            paused: None,
            pace: Pace::FREE,
            flow: Flow::Probe { next: last.next(), awaiting: false },
        }
    }

    /// Whether the peer has acknowledged anything in this term. `contact` does not tell: a new leader sets it
    /// for every peer.
    pub(crate) fn has_answered(&self) -> bool {
        self.answered_round > 0 || self.matched > Index::ZERO
    }

    /// Whether there is no space on its disk, as it has said.
    pub(crate) fn is_full(&self) -> bool {
        self.paused == Some(PauseReason::DiskFull)
    }

    /// The first entry that was not yet sent.
    pub(crate) fn next(&self) -> Index {
        match &self.flow {
            Flow::Probe { next, .. } | Flow::Stream { next, .. } => *next,
            Flow::Snapshot { offered } => offered.last.index.next(),
        }
    }

    /// How many appends are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        match &self.flow {
            Flow::Probe { awaiting, .. } => usize::from(*awaiting),
            Flow::Stream { in_flight, .. } => in_flight.messages.len(),
            Flow::Snapshot { .. } => 1,
        }
    }

    /// How many bytes of entries are in flight.
    pub(crate) fn in_flight_bytes(&self) -> u64 {
        match &self.flow {
            Flow::Stream { in_flight, .. } => in_flight.bytes,
            Flow::Probe { .. } | Flow::Snapshot { .. } => 0,
        }
    }

    /// Whether another append may leave now, of a log that ends at `last`. A probe leaves even where there is
    /// nothing left to send, or nothing may be sent: it asks whether the logs agree.
    pub(crate) fn may_send(&self, last: Index, window: Window) -> bool {
        match &self.flow {
            Flow::Probe { awaiting, .. } => !awaiting,
            Flow::Stream { next, in_flight, load } => {
                self.paused.is_none()
                    && *load == Load::Idle
                    && *next <= last
                    && in_flight.has_room(window, self.pace)
            }
            Flow::Snapshot { .. } => false,
        }
    }

    /// An append with entries through `last` and of `size` bytes has left.
    pub(crate) fn sent_through(&mut self, last: Index, size: u64) {
        match &mut self.flow {
            Flow::Probe { awaiting, .. } => *awaiting = true,
            Flow::Stream { next, in_flight, .. } => {
                if last >= *next {
                    *next = last.next();
                    in_flight.add(last, size);
                }
            }
            Flow::Snapshot { .. } => {}
        }
    }

    /// A heartbeat leaves by which losses will be noticed. While an earlier one is not answered, that is
    /// waited for: where the way there and back takes longer than a heartbeat's interval, the latest is never
    /// the one that is answered.
    pub(crate) fn watch(&mut self, round: u64) {
        if self.answered_round >= self.watched_round {
            self.sent_at_heartbeat = self.next().prev().unwrap_or_default();
            self.watched_round = round;
        }
        if let Flow::Stream { load: load @ Load::Failed, .. } = &mut self.flow {
            *load = Load::Idle;
        }
    }

    /// The follower has everything through `matched` on its disk. Repeated and late acknowledgements are as
    /// true as the first, and move nothing back. Returns whether this one was news.
    pub(crate) fn acknowledge(&mut self, matched: Index) -> bool {
        match &mut self.flow {
            Flow::Probe { .. } if matched < self.matched => return false,
            Flow::Snapshot { offered } if matched < offered.last.index => {}
            Flow::Probe { .. } | Flow::Snapshot { .. } => {
                self.pace.quicken(1);
                self.stream_after(matched);
            }
            Flow::Stream { next, in_flight, .. } => {
                self.pace.quicken(in_flight.acknowledge(matched));
                *next = (*next).max(matched.next());
            }
        }
        let news = matched > self.matched;
        self.matched = self.matched.max(matched);
        news
    }

    /// Whether a refusal of entries after `prev` answers something that still matters. A refusal may arrive
    /// long after the follower has caught up by other means.
    pub(crate) fn is_current_rejection(&self, prev: Index) -> bool {
        match self.flow {
            Flow::Probe { next, awaiting } => awaiting && prev.next() == next && prev > self.matched,
            Flow::Stream { next, .. } => prev > self.matched && prev < next,
            Flow::Snapshot { .. } => false,
        }
    }

    /// The follower has refused an append, and its log agrees with the leader's through `shared` at most.
    pub(crate) fn refused(&mut self, shared: Index) {
        if matches!(self.flow, Flow::Stream { .. }) {
            self.pace = Pace::SLOW;
        }
        self.probe_after(shared);
    }

    /// Goes back to looking for agreement after the entry at `shared`, but never below what is known to
    /// match.
    pub(crate) fn probe_after(&mut self, shared: Index) {
        self.flow = Flow::Probe { next: shared.max(self.matched).next(), awaiting: false };
        self.sent_at_heartbeat = Index::ZERO;
    }

    fn stream_after(&mut self, shared: Index) {
        self.flow = Flow::Stream { next: shared.next(), in_flight: InFlight::default(), load: Load::Idle };
    }

    /// Goes on after the entry at `shared`, where the follower knows that both logs agree. A follower that
    /// knows of less than this leader does, since it has restarted or stood for election in between, is
    /// reminded by a probe, empty if need be: it commits nothing beyond what it knows to agree.
    fn resume_after(&mut self, shared: Index) {
        if shared < self.matched {
            return self.probe_after(shared);
        }
        self.stream_after(shared);
        self.sent_at_heartbeat = Index::ZERO;
    }

    /// The follower takes no entries at present. Its log agrees with the leader's through `received`, and may
    /// agree through `shared`: an empty probe asks. What else was sent counts as lost.
    pub(crate) fn pause(&mut self, reason: PauseReason, received: Index, shared: Index) {
        self.paused = Some(reason);
        if matches!(&self.flow, Flow::Snapshot { offered } if received < offered.last.index) {
            return;
        }
        if shared > received.max(self.matched) {
            self.probe_after(shared);
        } else {
            self.resume_after(received);
        }
    }

    /// The follower, whose log agrees with the leader's through `received`, takes entries again, if it did
    /// not: those after that.
    pub(crate) fn unpause(&mut self, received: Index) {
        if self.paused.take().is_some() && !matches!(self.flow, Flow::Snapshot { .. }) {
            self.resume_after(received);
        }
    }

    /// The answer to a heartbeat came, from a follower whose log agrees with the leader's through `received`,
    /// on disk or not. A probe that was received has found the agreement it looked for. Returns whether
    /// something that was sent before the watched heartbeat has still not been received: it is lost, or the
    /// heartbeat has overtaken it.
    pub(crate) fn heartbeat_answered(&mut self, round: u64, received: Index) -> bool {
        if round < self.watched_round {
            return false;
        }
        match &mut self.flow {
            Flow::Probe { next, .. } if received.next() >= *next => self.resume_after(received),
            Flow::Probe { awaiting, .. } => *awaiting = false,
            Flow::Snapshot { offered } if received >= offered.last.index => self.resume_after(received),
            Flow::Snapshot { .. } => {}
            Flow::Stream { next, .. } => {
                // It may have got by other ways what this leader is about to repeat, one load from the disk
                // after the other.
                *next = (*next).max(received.next());
                return received < self.sent_at_heartbeat;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::NodeId;

    const WINDOW: Window = Window { messages: 2, bytes: 100 };

    fn member() -> Member {
        NodeId::new(2).unwrap().into()
    }

    fn index(number: u64) -> Index {
        Index::new(number)
    }

    fn streaming(matched: u64) -> Progress {
        let mut progress = Progress::new(member(), index(matched), Instant::ZERO);
        progress.sent_through(index(matched), 0);
        progress.acknowledge(index(matched));
        progress
    }

    #[test]
    fn what_a_follower_has_received_is_not_sent_again() {
        let mut progress = streaming(5);
        progress.sent_through(index(7), 10);
        assert_eq!(progress.next(), index(8));
        progress.heartbeat_answered(1, index(6));
        assert_eq!(progress.next(), index(8), "the rest is on its way");
        progress.heartbeat_answered(1, index(40));
        assert_eq!((progress.next(), progress.matched), (index(41), index(5)), "it is not on the disk there");
    }

    #[test]
    fn a_probe_waits_for_its_answer() {
        let mut progress = Progress::new(member(), index(5), Instant::ZERO);
        assert!(progress.may_send(index(99), WINDOW));
        progress.sent_through(index(9), 10);
        assert!(!progress.may_send(index(99), WINDOW));
        assert_eq!(progress.next(), index(6));
        progress.heartbeat_answered(1, index(0));
        assert!(progress.may_send(index(99), WINDOW), "the probe or its answer may be lost");
    }

    #[test]
    fn a_window_closes_in_messages_and_in_bytes_and_opens_again() {
        let mut progress = streaming(5);
        progress.sent_through(index(6), 99);
        assert!(progress.may_send(index(99), WINDOW));
        progress.sent_through(index(7), 1);
        assert!(!progress.may_send(index(99), WINDOW));
        progress.acknowledge(index(6));
        assert!(progress.may_send(index(99), WINDOW));
        progress.sent_through(index(8), 99);
        assert!(!progress.may_send(index(99), WINDOW), "100 bytes are in flight");
        progress.acknowledge(index(8));
        assert_eq!((progress.in_flight(), progress.may_send(index(99), WINDOW)), (0, true));
    }

    #[test]
    fn an_acknowledgement_counts_what_it_names_and_no_more() {
        let mut progress = streaming(5);
        progress.sent_through(index(7), 1);
        progress.sent_through(index(9), 1);
        assert!(progress.acknowledge(index(7)));
        assert_eq!((progress.matched, progress.next()), (index(7), index(10)));
        assert!(!progress.acknowledge(index(6)), "late");
        assert_eq!(progress.matched, index(7));
    }

    #[test]
    fn a_stale_rejection_changes_nothing() {
        let mut progress = streaming(7);
        progress.sent_through(index(9), 1);
        assert!(!progress.is_current_rejection(index(5)));
        assert!(progress.is_current_rejection(index(8)));
        progress.probe_after(index(3));
        assert_eq!(progress.next(), index(8), "never below what is known to match");
    }

    #[test]
    fn after_a_refusal_what_is_in_flight_grows_with_what_is_acknowledged() {
        let sent = |progress: &mut Progress| {
            let (window, before) = (Window { messages: 6, bytes: 100 }, progress.in_flight());
            while progress.may_send(index(99), window) {
                progress.sent_through(progress.next(), 1);
            }
            progress.in_flight() - before
        };
        let mut progress = streaming(5);
        assert_eq!(sent(&mut progress), 6, "the whole window");
        progress.refused(index(5));
        assert_eq!(sent(&mut progress), 1, "a probe");
        progress.acknowledge(index(6));
        assert_eq!(sent(&mut progress), 2);
        progress.acknowledge(index(7));
        assert_eq!(sent(&mut progress), 2, "in place of one that was acknowledged, and one more");
        progress.acknowledge(index(10));
        assert_eq!(sent(&mut progress), 6, "the window again");
        progress.refused(index(10));
        progress.refused(index(10));
        progress.acknowledge(index(11));
        assert_eq!(sent(&mut progress), 2, "slowly again");
        let mut unknown = Progress::new(member(), index(5), Instant::ZERO);
        assert_eq!(sent(&mut unknown), 1);
        unknown.refused(index(3));
        assert_eq!(sent(&mut unknown), 1);
        unknown.acknowledge(index(3));
        assert_eq!(sent(&mut unknown), 6, "a probe that is refused was alone on its way");
    }

    #[test]
    fn a_pace_that_has_grown_long_is_free() {
        let mut pace = Pace::SLOW;
        (0..253).for_each(|_| pace.quicken(1));
        assert!(pace.allows(253) && !pace.allows(254));
        pace.quicken(1);
        assert!(pace.allows(usize::MAX));
        pace = Pace::SLOW;
        pace.quicken(usize::MAX);
        assert_eq!(pace, Pace::FREE);
    }

    #[test]
    fn a_follower_that_knows_less_than_its_leader_is_reminded() {
        let mut progress = streaming(5);
        progress.watch(1);
        assert!(progress.heartbeat_answered(1, index(3)), "by an empty append");
        assert!(!progress.heartbeat_answered(1, index(5)));
    }

    #[test]
    fn what_a_later_heartbeat_did_not_find_is_asked_for_and_not_sent_again() {
        let mut progress = streaming(5);
        progress.sent_through(index(9), 1);
        progress.watch(1);
        assert!(!progress.heartbeat_answered(1, index(9)), "received, only not yet on disk");
        assert!(progress.heartbeat_answered(1, index(5)));
        assert_eq!(progress.next(), index(10), "it may be on its way");
    }

    #[test]
    fn a_loss_is_noticed_also_where_answers_take_longer_than_heartbeats_are_apart() {
        let mut progress = streaming(5);
        progress.sent_through(index(9), 1);
        progress.watch(1);
        progress.sent_through(index(12), 1);
        progress.watch(2);
        assert!(progress.heartbeat_answered(1, index(5)));
        progress.answered_round = 1;
        progress.watch(3);
        assert!(!progress.heartbeat_answered(2, index(9)), "nothing is known of what was sent since");
        assert!(progress.heartbeat_answered(3, index(9)));
    }
}
