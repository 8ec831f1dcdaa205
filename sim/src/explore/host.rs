//! A member, its disk, and what its disk still owes.

use super::bounds::{Bounds, id};
use super::clocks::{Clock, DRIFT_PPM, HEARTBEAT, NOW, PROMISE, started};
use super::network::{Key, Post};
use super::violation::Violation;
use crate::hash::StableHasher;
use kontiki_core::action::{Outcome, Write};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::Event;
use kontiki_core::log::{EntryBody, Snapshot};
use kontiki_core::membership::{MemberKind, Membership};
use kontiki_core::raft::Raft;
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Identity, Incarnation, Index, Member, RequestId, Term, WriteSeq};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

/// A member, up at all times: a crash and the start after it are one transition.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) raft: Raft,
    /// What is on its disk for good.
    pub(super) disk: Durable,
    /// What was on the disks that it has lost, one for each incarnation: what it had promised was true then.
    pub(super) former: Vec<Durable>,
    /// What its kernel has handed out to be written since, in order.
    pub(super) writes: VecDeque<Arc<Write>>,
    /// Through where its state machine has applied, and is still to apply.
    pub(super) applied: Index,
    pub(super) applying: VecDeque<Index>,
    /// The requests of clients that it has not answered, in order.
    pub(super) open: Vec<RequestId>,
    /// When its timer is due, at the earliest.
    pub(super) due: Instant,
    pub(super) facts: Facts,
    pub(super) hash: u64,
    /// The hashes of what it is under each renaming; first its own. Empty until it is known.
    pub(super) images: Box<[u64]>,
    /// What is known to follow for it from what may happen to it.
    pub(super) done: Done,
}

/// What its transitions depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) is_leader: bool,
    /// Whether it knows the leader that it follows.
    pub(super) follows: bool,
    pub(super) term: Term,
    /// Whether it has applied what is in no snapshot.
    pub(super) has_news: bool,
}

/// What happens to a member. The number in it tells a request from others, and changes the membership in
/// turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Cause {
    Timeout,
    Persisted,
    Applied,
    Crash(u8),
    Lose(u8),
    Wipe,
    Propose(u8),
    Read(u8),
    /// The second number says in which incarnation the last member is.
    Change(u8, u8),
    Transfer(u8),
    Snapshot,
    Alarm,
    Receive(Key),
}

/// What follows from it, for the member and for all.
#[derive(Debug)]
pub(super) struct Step {
    /// What the member is then.
    pub(super) host: Result<Arc<Host>, Violation>,
    /// What its hash becomes more by, under each renaming.
    pub(super) change: Box<[u64]>,
    /// The message that it received.
    pub(super) received: Option<Arc<Post>>,
    /// The messages that it sends, each once, in the order of their keys.
    pub(super) sent: Box<[Arc<Post>]>,
    /// What its clients are told.
    pub(super) answers: Box<[(RequestId, Outcome)]>,
    /// Whether the judge may have anything to say or to remember.
    pub(super) is_judged: bool,
}

/// What happens to a member, and when by its clock.
pub(super) type At = (Clock, Cause);

/// A cause, and what follows from it. `None` where the member stays as it is and says nothing.
pub(super) type Known = (At, Option<Arc<Step>>);

/// What is known to follow for a member, in the order of the times and causes.
#[derive(Default, Debug)]
pub(super) struct Done(RwLock<Vec<Known>>);

/// A copy of a member is about to become another one, of which nothing is known yet.
impl Clone for Done {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Done {
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Vec<Known>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of these causes, which are in order, it does not know.
    pub(super) fn unknown(&self, causes: impl Iterator<Item = At>) -> Vec<At> {
        let known = self.read();
        let mut rest = known.iter().map(|(cause, _)| *cause).peekable();
        let mut is_known = |cause: &At| {
            while rest.next_if(|known| known < cause).is_some() {}
            rest.peek() == Some(cause)
        };
        causes.filter(|cause| !is_known(cause)).collect()
    }

    pub(super) fn learn(&self, cause: At, step: Option<Arc<Step>>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster.
        if let Err(at) = known.binary_search_by_key(&cause, |(cause, _)| *cause) {
            known.insert(at, (cause, step));
        }
    }

    pub(super) fn forget(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Host {
    /// A member that starts for the first time.
    pub(super) fn of(bounds: &Bounds, member: usize) -> Self {
        let founders = (0..bounds.founders()).map(|place| (id(place).into(), bounds.kind(place)));
        let group = Membership::from_kinds(founders).expect("few members, each once");
        let is_founder = member < bounds.founders();
        let disk = if is_founder { Durable::bootstrap(group) } else { Durable::default() };
        let raft = restored(bounds, id(member).into(), &disk, started(bounds)).expect("a new member starts");
        let facts = Facts::of(&raft);
        let (former, writes, open, images, done) = Default::default();
        let (applied, applying, due) = (raft.log().applied(), VecDeque::new(), Instant::NEVER);
        let mut host =
            Self { raft, disk, former, writes, applied, applying, open, due, facts, hash: 0, images, done };
        host.seal(bounds);
        host
    }

    /// It starts again as this member, with what is on its disk.
    pub(super) fn restart(&mut self, bounds: &Bounds, member: Member, now: Instant) -> Result<(), Violation> {
        self.raft = restored(bounds, member, &self.disk, now)?;
        self.writes.clear();
        self.applying.clear();
        self.open.clear();
        self.applied = self.raft.log().applied();
        self.seal(bounds);
        Ok(())
    }

    /// The indexes of the entries that its disk may damage, once all that it has written is there.
    pub(super) fn may_lose(&self) -> impl Iterator<Item = u8> {
        let log = self.raft.log();
        let entries = log.entries(log.base(), log.last().index).filter(|entry| entry.body != EntryBody::Lost);
        entries.filter_map(|entry| u8::try_from(entry.id.index.get()).ok())
    }

    /// Its state machine is told to apply what stands in the log through here.
    pub(super) fn may_apply(&self, through: Index) -> Result<(), Violation> {
        let log = self.raft.log();
        let lost = log.entries(log.applied(), through).find(|entry| entry.body == EntryBody::Lost);
        match lost {
            None => Ok(()),
            Some(entry) => {
                let (id, index) = (self.member().id, entry.id.index);
                let detail =
                    format!("member {id} is told to apply entry {index}, which its disk has damaged");
                Err(Violation::new("Halt", detail))
            }
        }
    }

    /// Its id, and in which incarnation it is.
    pub(super) fn member(&self) -> Member {
        self.raft.config().identity().member
    }

    /// As whom it starts again where its disk is lost.
    pub(super) fn reborn(&self) -> Member {
        let Member { id, incarnation: Incarnation(lives) } = self.member();
        Member { id, incarnation: Incarnation(lives + 1) }
    }

    /// Its disk is lost.
    pub(super) fn wipe(&mut self) {
        self.former.push(std::mem::take(&mut self.disk));
    }

    /// The disk that it has in this incarnation, or had when that ended.
    pub(super) fn disk_in(&self, Incarnation(lives): Incarnation) -> &Durable {
        usize::try_from(lives).ok().and_then(|lives| self.former.get(lives)).unwrap_or(&self.disk)
    }

    /// A write is handed out. Returns that it is durable, where that is reported at once.
    pub(super) fn persists(&mut self, write: Write, bounds: &Bounds) -> Option<Event> {
        if bounds.synchronous || bounds.instant_disks {
            self.disk.write(&write);
            return (!bounds.synchronous).then_some(Event::Persisted(write.seq));
        }
        self.writes.push_back(Arc::new(Write { seq: WriteSeq::ZERO, ..write }));
        None
    }

    /// Entries are to be applied. Returns that they are, where that is reported at once.
    pub(super) fn applies(&mut self, through: Index, bounds: &Bounds) -> Option<Event> {
        if bounds.slow_machines && !bounds.synchronous {
            self.applying.push_back(through);
            return None;
        }
        self.applies_at_once(through, bounds)
    }

    /// Its state machine takes over a snapshot, which takes no time.
    pub(super) fn restores(&mut self, snapshot: &Snapshot, bounds: &Bounds) -> Option<Event> {
        self.applies_at_once(snapshot.last.index, bounds)
    }

    fn applies_at_once(&mut self, through: Index, bounds: &Bounds) -> Option<Event> {
        if bounds.synchronous {
            self.applied = through;
        }
        (!bounds.synchronous).then_some(Event::Applied(through))
    }

    /// Where its host waits for its disk: there is nothing that it must still write.
    pub(super) fn has_written_all(&self) -> Result<(), Violation> {
        let (disk, raft) = (&self.disk, self.raft.status());
        if raft.role == RoleKind::Halted || (disk.last(), disk.ballot.term()) == (raft.last, raft.term) {
            return Ok(());
        }
        let (id, last, term) = (raft.id, raft.last, raft.term);
        let detail = format!(
            "member {id} is in term {term} with a log to {last} after a step, and its disk in term {} with one to {}",
            disk.ballot.term(),
            disk.last()
        );
        Err(Violation::new("Contract", detail))
    }

    /// What was in the entry at this index is lost.
    pub(super) fn lose(&mut self, index: u8) {
        let index = Index::new(index.into());
        let entries = self.disk.entries.iter_mut().filter(|entry| entry.id.index == index);
        entries.for_each(|entry| entry.body = EntryBody::Lost);
    }

    /// The oldest write reaches the disk.
    pub(super) fn disk_writes(&mut self) {
        if let Some(write) = self.writes.pop_front() {
            self.disk.write(&write);
        }
    }

    /// What the bounds leave out is forgotten, and it will not change any more.
    pub(super) fn seal(&mut self, bounds: &Bounds) {
        if bounds.ticks == 0 {
            self.raft.forget_time(NOW);
            self.due = self.raft.deadline();
        } else {
            let started = self.raft.forget_chance();
            if started < Instant::NEVER {
                self.due = started;
            }
        }
        self.facts = Facts::of(&self.raft);
        if self.facts.is_leader {
            self.due = self.raft.deadline();
        }
        let Self { raft, disk, former, writes, applied, applying, open, due, .. } = &*self;
        self.hash = StableHasher::of(&(raft, disk, former, writes, applied, applying, open, due));
    }

    /// Whether the two are in the same state.
    pub(super) fn equals(&self, other: &Self) -> bool {
        (&self.raft, &self.disk, &self.writes) == (&other.raft, &other.disk, &other.writes)
            && (&self.former, &self.open) == (&other.former, &other.open)
            && (self.applied, &self.applying, self.due) == (other.applied, &other.applying, other.due)
    }
}

impl Facts {
    fn of(raft: &Raft) -> Self {
        let status = raft.status();
        Self {
            is_leader: status.role == RoleKind::Leader,
            follows: status.role == RoleKind::Follower && status.leader.is_some(),
            term: status.term,
            has_news: raft.snapshot_at(status.applied).is_some() && status.applied > status.snapshot.index,
        }
    }
}

fn config(bounds: &Bounds, member: Member) -> Config {
    let has_time = bounds.ticks > 0;
    let options = Options {
        pre_vote: bounds.pre_vote,
        witness: bounds.kind(member.id.get() as usize - 1) == MemberKind::Witness,
        synchronous_writes: bounds.synchronous,
        synchronous_apply: bounds.synchronous,
        // Both go by how long something has lasted.
        check_quorum: has_time,
        lease_reads: has_time,
        max_clock_drift_ppm: DRIFT_PPM,
        election_timeout_min: Duration::from_millis(PROMISE),
        // Nothing is left to chance.
        election_timeout_max: Duration::from_millis(PROMISE) + Duration::from_nanos(1),
        heartbeat_interval: Duration::from_millis(HEARTBEAT),
        // What is in a snapshot is gone, so that those who need it must get the snapshot.
        retained_entries: 0,
        retained_bytes: 0,
        max_cached_bytes: u64::MAX,
        ..Options::default()
    };
    Config::new(Identity::new(ClusterId(1), member), options).expect("sound options")
}

fn restored(bounds: &Bounds, member: Member, disk: &Durable, now: Instant) -> Result<Raft, Violation> {
    let restored = Raft::restore(config(bounds, member), disk.clone(), now);
    restored.map_err(|error| Violation::new("Restart", format!("{}: {error}", member.id)))
}
