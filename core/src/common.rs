//! What every member has, whatever its role: the "all servers" part of the paper's figure 2.

use crate::action::{Action, Outcome, Refusal};
use crate::config::{Config, MAX_PRIORITY, Options};
use crate::durability::Durability;
use crate::log::{Entry, Log, Snapshot};
use crate::membership::{MemberKind, Membership};
use crate::message::{Body, Message};
use crate::rng::Rng;
use crate::status::{DropReason, Drops, PauseReason};
use crate::time::{Instant, Nanos};
use crate::types::{Ballot, Index, LogId, Member, NodeId, RequestId, Term, WriteSeq};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Common {
    pub(crate) config: Config,
    pub(crate) ballot: Ballot,
    pub(crate) log: Log,
    pub(crate) durability: Durability,
    pub(crate) drops: Drops,
    pub(crate) now: Instant,
    /// When a member that does not lead considers an election.
    pub(crate) election_deadline: Instant,
    /// The span that the deadline is set to whenever the leader is heard, priority aside.
    election_timeout: Nanos,
    /// How many elections this member has begun since it last led or heard a leader.
    campaigns: u32,
    /// Until then this member refuses its vote to others: it has heard from a leader, or it has just started
    /// and may have heard from one before, or it has led and given a lease.
    vote_lock_until: Instant,
    /// How often this member has started, this time included.
    pub(crate) starts: u64,
    /// The number of the last question to a leader in this life: see
    /// [`ReadContext`](crate::message::ReadContext).
    pub(crate) asked: u64,
    /// Whether a write must go out in this step even where it has nothing else to say.
    pub(crate) must_write: bool,
    /// The snapshot that the host is getting.
    pub(crate) fetching: Option<Snapshot>,
    /// Whether the disk has no space for more.
    pub(crate) disk_full: bool,
    /// What is under way to fill again what disks have damaged; nothing, nearly always.
    pub(crate) repairs: Option<Box<Repairs>>,
    /// Reads that may be served once the log is applied so far.
    reads: VecDeque<ConfirmedRead>,
    /// Requests of a leader that has left its office in this step.
    undecided: Vec<(LogId, RequestId)>,
    rng: Rng,
}

/// How many times as long as the first an election may be made to last by those before it that brought no
/// leader.
const MAX_BACKOFF: u64 = 16;

/// How many times as long as the last write another one takes before the disk is said to stall.
const STALL_FACTOR: u64 = 4;

/// How many entries more than it must a witness keeps at least before it compacts its log.
const WITNESSED: u64 = 64;

/// The repairs under way, of this member's log and of other members' logs.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Repairs {
    /// When this member last asked.
    pub(crate) asked: Option<Instant>,
    /// The members for which the host reads entries back, and the entry before the first. At most one for
    /// each member.
    pub(crate) loading: Vec<(Member, LogId)>,
    /// How often each member was answered in the last heartbeat interval.
    pub(crate) answered: Vec<Answered>,
}

/// How often a request for repair was answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Answered {
    /// `None` for all non-members together.
    pub(crate) member: Option<Member>,
    /// Since then.
    pub(crate) since: Instant,
    pub(crate) times: u64,
}

/// A read of which it is certain what it must see.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct ConfirmedRead {
    pub(crate) request: RequestId,
    pub(crate) index: Index,
    pub(crate) until: Option<Instant>,
}

impl Common {
    pub(crate) fn new(config: Config, ballot: Ballot, starts: u64, log: Log, now: Instant) -> Self {
        let mut common = Self {
            rng: Rng::new(config.options.seed, config.id()),
            starts,
            asked: 0,
            must_write: false,
            fetching: None,
            disk_full: false,
            repairs: None,
            reads: VecDeque::new(),
            undecided: Vec::new(),
            durability: Durability::new(ballot),
            drops: Drops::default(),
            now,
            election_deadline: now,
            election_timeout: Nanos::ZERO,
            campaigns: 0,
            vote_lock_until: now + config.timing.election_min,
            config,
            ballot,
            log,
        };
        common.restart_election_timer();
        common
    }

    #[cfg(feature = "explore")]
    pub(crate) fn forget_time(&mut self, now: Instant) {
        self.forget_chance();
        self.now = now;
        self.election_timeout = self.config.timing.election_min;
        self.election_deadline = now + self.election_timeout;
        self.vote_lock_until = Instant::ZERO;
        self.durability.forget_time(now);
        if let Some(repairs) = &mut self.repairs {
            repairs.asked = None;
            repairs.answered.clear();
        }
        self.repairs.take_if(|repairs| repairs.loading.is_empty());
    }

    #[cfg(feature = "explore")]
    pub(crate) fn forget_chance(&mut self) {
        self.campaigns = 0;
        self.drops = Drops::default();
        self.rng = Rng::new(self.config.options.seed, self.config.id());
        self.durability.forget_numbers();
        self.log.forget_batch();
    }

    pub(crate) fn id(&self) -> NodeId {
        self.config.id()
    }

    pub(crate) fn member(&self) -> Member {
        self.config.member()
    }

    /// The membership in force.
    pub(crate) fn membership(&self) -> &Membership {
        self.log.membership()
    }

    /// What the group takes this member for.
    pub(crate) fn kind(&self) -> MemberKind {
        self.membership().kind(self.member())
    }

    /// Whether this member may stand for election. A voter may, and so may one whose removal is not known to
    /// be committed: it may be the only member with the entry that removes it, and then no other could be
    /// elected (thesis 4.2.2).
    ///
    /// A member with damaged entries may not: a leader cannot replicate entries that it does not have.
    pub(crate) fn may_lead(&self) -> bool {
        if !self.log.is_whole() {
            return false;
        }
        let votes = |membership: &Membership| membership.kind(self.member()) == MemberKind::Voter;
        votes(self.membership()) || self.log.fallback().is_some_and(votes)
    }

    /// Whether this member has never heard of its group: it knows nothing that a vote could rest on.
    pub(crate) fn is_blank(&self) -> bool {
        self.log.snapshot().is_none()
    }

    pub(crate) fn term(&self) -> Term {
        self.ballot.term()
    }

    /// Draws a new election timeout and starts it.
    pub(crate) fn restart_election_timer(&mut self) {
        self.draw_election_timeout(1);
    }

    /// An election begins. Each one in a row that brings no leader makes the next one twice as long, up to
    /// [`MAX_BACKOFF`] times: votes may take longer than a timeout to reach the disks, and rivals need time
    /// to step aside.
    pub(crate) fn begin_campaign(&mut self) {
        self.draw_election_timeout(1 << self.campaigns.min(MAX_BACKOFF.ilog2()));
        self.campaigns += 1;
    }

    /// There is a leader, this member or another; or a candidate stands that this member cannot elect.
    /// Elections take their normal time again.
    pub(crate) fn end_campaigns(&mut self) {
        if self.campaigns > 0 {
            self.campaigns = 0;
            self.restart_election_timer();
        }
    }

    fn draw_election_timeout(&mut self, times: u64) {
        let timing = self.config.timing;
        self.election_timeout = (timing.election_min + self.rng.below(timing.spread)).times(times);
        self.rearm_election_timer();
    }

    /// Starts the election timeout again.
    pub(crate) fn rearm_election_timer(&mut self) {
        self.election_deadline = self.now + self.election_timeout + self.priority_delay();
    }

    /// The ballot is on the disk, and what waited for it has left: the election of this term is given its
    /// time from here on, and as much more as this disk took, since the others' disks may be as slow.
    pub(crate) fn ballot_written(&mut self) {
        self.rearm_election_timer();
        let disk = self.durability.last_took().min(self.config.timing.election_max.times(MAX_BACKOFF));
        self.election_deadline = self.election_deadline + disk;
    }

    /// Whether the term that this member is in, or its vote, is on its way to the disk, since an earlier
    /// step. Until it is there, the member neither stands nor promises its next vote: the election of this
    /// term has not had its time.
    pub(crate) fn is_writing_ballot(&self) -> bool {
        self.durability.durable_ballot() != self.durability.written_ballot()
    }

    /// The leader of this term was heard: this member neither campaigns nor votes for a while.
    pub(crate) fn heard_from_leader(&mut self) {
        self.end_campaigns();
        self.rearm_election_timer();
        self.vote_lock_until = self.now + self.config.timing.election_min;
    }

    /// The host has lost the connection to the leader: consider an election soon, after a short random delay,
    /// because other members notice at the same moment.
    ///
    /// Where reads by lease are on, the promise behind the lease is kept first: the host may be wrong.
    pub(crate) fn leader_unreachable(&mut self) {
        if !self.config.options.lease_reads {
            self.vote_lock_until = self.now;
        }
        let delay = self.rng.below(Nanos::new(self.config.timing.spread.get() / 2)) + self.priority_delay();
        self.election_deadline = self.election_deadline.min(self.now.max(self.vote_lock_until) + delay);
    }

    /// This member has promised a lease until then, and votes for no other member before.
    pub(crate) fn extend_vote_lock(&mut self, until: Instant) {
        self.vote_lock_until = self.vote_lock_until.max(until);
    }

    /// Whether a leader was heard so recently that no other member should get this member's vote (thesis
    /// 6.2).
    pub(crate) fn has_live_leader(&self) -> bool {
        self.now < self.vote_lock_until
    }

    /// Whether the disk has owed a write for longer than an election takes, and for far longer than its last
    /// writes took: a member that cannot write can neither lead nor win. One that is merely slow can, so what
    /// its disk is known to need counts; but only up to [`MAX_BACKOFF`] election timeouts, so that a disk
    /// that hung once is not trusted for ever.
    pub(crate) fn disk_stalls(&self) -> bool {
        let timeout = self.config.timing.election_max;
        let usual =
            self.durability.last_took().times(STALL_FACTOR).min(timeout.times(MAX_BACKOFF)).max(timeout);
        let owed = self.durability.oldest_pending().map(|since| self.now - since);
        owed.is_some_and(|owed| owed >= usual && owed >= usual + self.writing_time())
    }

    /// How long a slow disk takes for the entries that it owes: they may be large, and a disk that writes
    /// them does not stall. Bounded, so that one that hangs is noticed.
    fn writing_time(&self) -> Nanos {
        let owed = self.log.entries(self.log.durable(), self.log.last().index).map(Entry::size).sum::<u64>();
        Nanos::new(owed.saturating_sub(SMALL).saturating_mul(NANOS_PER_BYTE))
            .min(self.config.timing.election_max.times(MAX_WRITING))
    }

    pub(crate) fn message(&self, to: Member, body: Body) -> Message {
        Message::new(self.config.identity, to, self.term(), body)
    }

    /// Sends now: for everything that promises nothing.
    pub(crate) fn send(&self, to: Member, body: Body, out: &mut Vec<Action>) {
        out.push(Action::Send(self.message(to, body)));
    }

    /// Says to the leader that the log agrees with its own through `matched`, once that is durable: as far as
    /// nothing before is damaged.
    pub(crate) fn acknowledge(&mut self, to: Member, matched: Index) {
        let matched = matched.min(self.log.held());
        self.send_once_durable(to, Body::Appended { matched });
    }

    /// Sends once everything that this member knows in this step is on its disk: for everything that would be
    /// a lie if a crash made this member forget.
    ///
    /// Acknowledgements that wait are limited; the next one says the same and more. Votes and requests for
    /// them are few, and an election needs every one, so they are not; one that waits already is not kept
    /// twice.
    pub(crate) fn send_once_durable(&mut self, to: Member, body: Body) {
        let acknowledges = matches!(body, Body::Appended { .. });
        let message = self.message(to, body);
        if acknowledges && self.durability.waiting() >= self.config.options.max_waiting_answers {
            self.drops.add(DropReason::TooManyWaiting);
        } else if acknowledges || !self.durability.holds(&message) {
            self.durability.hold(message);
        }
    }

    /// How often this member has started will be on its disk after this step, so that what it asks in this
    /// life is not taken for what it asked in another.
    pub(crate) fn record_start(&mut self) {
        self.must_write |= self.durability.issued() == WriteSeq::ZERO;
    }

    /// Whether so much waits to be applied, or to be written, that no more should be taken in.
    pub(crate) fn is_backlogged(&self) -> bool {
        self.holds_too_much(self.config.options.max_uncommitted_bytes)
    }

    /// Whether there are entries to apply or to write, and no fewer bytes in memory than the cache and this
    /// much more.
    fn holds_too_much(&self, more: u64) -> bool {
        let limit = self.config.options.max_cached_bytes.saturating_add(more);
        let works = self.log.applied() < self.log.committed() || self.log.durable() < self.log.last().index;
        self.log.cached_size() >= limit && works
    }

    /// Why no further entries are taken in, if they are not.
    pub(crate) fn takes_no_more(&self) -> Option<PauseReason> {
        match (self.disk_full, self.is_backlogged()) {
            (true, _) => Some(PauseReason::DiskFull),
            (false, true) => Some(PauseReason::Unapplied),
            (false, false) => None,
        }
    }

    /// Why the leader should send no further entries, if it should not. One that was told so is told
    /// otherwise once there is room for more than the next entry: for half of what may wait.
    pub(crate) fn pause(&self, told: Option<PauseReason>) -> Option<PauseReason> {
        let half = self.config.options.max_uncommitted_bytes / 2;
        let still = told.is_some() && self.holds_too_much(half);
        self.takes_no_more().or(still.then_some(PauseReason::Unapplied))
    }

    /// How many reads wait to be applied.
    pub(crate) fn waiting_reads(&self) -> usize {
        self.reads.len()
    }

    /// It is certain what a read must see.
    pub(crate) fn confirm_read(&mut self, read: ConfirmedRead) {
        self.reads.push_back(read);
    }

    /// Answers the reads that may be served now.
    #[inline]
    pub(crate) fn serve_reads(&mut self, out: &mut Vec<Action>) {
        // Nearly every step has none.
        if !self.reads.is_empty() {
            self.serve_waiting_reads(out);
        }
    }

    fn serve_waiting_reads(&mut self, out: &mut Vec<Action>) {
        while let Some(&ConfirmedRead { request, index, until }) = self.reads.front()
            && index <= self.log.applied()
        {
            self.reads.pop_front();
            out.push(Action::Respond { request, outcome: Outcome::Ready { index, until } });
        }
    }

    /// Refuses every read that still waits: this member will apply nothing more.
    pub(crate) fn refuse_reads(&mut self, refusal: Refusal, out: &mut Vec<Action>) {
        for ConfirmedRead { request, .. } in self.reads.drain(..) {
            out.push(Action::Respond { request, outcome: Outcome::Refused(refusal) });
        }
    }

    /// A witness has no state machine: what is committed and on its disk counts as applied, and what is
    /// applied leaves its log from time to time.
    pub(crate) fn apply_as_witness(&mut self) {
        while let Some(applicable) = self.log.take_applicable() {
            self.log.applied_to(applicable.through());
        }
        let (base, applied) = (self.log.base(), self.log.applied());
        let Options { retained_entries: retained, retained_bytes, .. } = self.config.options;
        let kept = applied.get().saturating_sub(base.get());
        if kept > retained.saturating_mul(2).saturating_add(WITNESSED)
            && let Some(snapshot) = self.log.snapshot_at(applied)
        {
            let tail = self.log.tail(applied, retained, retained_bytes);
            self.log.compact(snapshot, tail);
        }
    }

    /// A leader leaves its office with a request whose entry is not committed yet.
    pub(crate) fn step_down_with(&mut self, entry: LogId, request: RequestId) {
        self.undecided.push((entry, request));
    }

    /// Answers the requests of a leader that has left its office in this step: an entry may commit or not,
    /// unless the log knows better by now.
    #[inline]
    pub(crate) fn answer_unknown(&mut self, out: &mut Vec<Action>) {
        if !self.undecided.is_empty() {
            self.answer_each_unknown(out);
        }
    }

    #[cold]
    fn answer_each_unknown(&mut self, out: &mut Vec<Action>) {
        for (entry, request) in self.undecided.drain(..) {
            let outcome = match self.log.term(entry.index) {
                Some(term) if entry.index <= self.log.committed() && term == entry.term => {
                    Outcome::Committed(entry)
                }
                Some(_) if entry.index <= self.log.committed() => Outcome::Refused(Refusal::Overwritten),
                _ => Outcome::Unknown,
            };
            out.push(Action::Respond { request, outcome });
        }
    }

    /// A member whose disk is full stands after those of the lowest priority: it could lead, and take
    /// nothing.
    fn priority_delay(&self) -> Nanos {
        let below = u64::from(MAX_PRIORITY - self.config.options.priority);
        let full = if self.disk_full { u64::from(MAX_PRIORITY) + 1 } else { 0 };
        self.config.timing.spread.times(below + full)
    }

    /// Whether there is space on the disk has changed: the election timeout goes by it from the same moment
    /// as before.
    pub(crate) fn set_disk_full(&mut self, full: bool) {
        let before = self.priority_delay();
        self.disk_full = full;
        self.election_deadline = self.election_deadline + self.priority_delay();
        let since_start = self.election_deadline - Instant::ZERO;
        self.election_deadline = Instant::ZERO + (since_start - before);
    }
}

/// What every disk that works writes in an election timeout.
const SMALL: u64 = 1 << 20;
/// A disk that writes eight megabytes a second is slow, and works.
const NANOS_PER_BYTE: u64 = 125;
/// How many election timeouts a disk may be granted for what is large.
const MAX_WRITING: u64 = 16;
