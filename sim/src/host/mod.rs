//! A simulated host: one kernel, its disk, its clock, its state machine, and what befalls them.

pub(crate) mod full_replica;
pub(crate) mod written;

use crate::clock::Clock;
use crate::contract::Contract;
use crate::disk::Disk;
use crate::ledger::{Chain, Link};
use crate::scenario::{MemberSpec, Scenario, ScenarioError};
use crate::storage::SimDisk;
use crate::store::{Put, Store};
use crate::stream::Stream;
use full_replica::FullReplica;
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::Event;
use kontiki_core::log::{Entries, EntryBody, Snapshot};
use kontiki_core::membership::{MemberKind, Membership};
use kontiki_core::raft::Raft;
use kontiki_core::replica::Input;
use kontiki_core::status::Status;
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Identity, Incarnation, Index, LogId, Member, NodeId};
use std::collections::VecDeque;
use written::Written;

/// One member and its surroundings.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    /// Which life of its directory this is.
    pub(crate) incarnation: Incarnation,
    /// The log that was on its disk whenever that was wiped, by incarnation.
    pub(crate) lost: Vec<(Incarnation, Chain)>,
    pub(crate) cluster: ClusterId,
    pub(crate) options: Options,
    pub(crate) spec: MemberSpec,
    /// The kernel and what watches it; none while the member is down.
    pub(crate) up: Option<Up>,
    /// What its disk holds, as its writes tell it: of a kernel alone the disk itself, of a full replica what
    /// the disk must hold.
    pub(crate) disk: Disk,
    /// The disk of a full replica, and what an empty one begins with.
    pub(crate) storage: SimDisk,
    pub(crate) begin: Durable,
    pub(crate) written: Written,
    /// Says whether its disk survives when it crashes.
    pub(crate) outage: Stream,
    /// What its disk has damaged, and the member may not know of yet.
    pub(crate) damaged: Option<Damage>,
    /// Whether its disk ever did something that it should not have.
    pub(crate) spoiled: bool,
    /// Whether the disk of a kernel alone is full.
    pub(crate) full: bool,
    /// The snapshots on its disk, the oldest first.
    pub(crate) snapshots: VecDeque<Stored>,
    pub(crate) clock: Clock,
    pub(crate) stream: Stream,
    /// How often it has started; what was scheduled in an earlier life is void.
    pub(crate) life: u32,
    /// Set while the member stands still: what arrives waits.
    pub(crate) paused: bool,
    /// What the clock of a suspended host showed, where it does not count the suspension.
    pub(crate) clock_stopped: Option<Instant>,
    pub(crate) backlog: VecDeque<MemberEvent>,
    /// Crash after carrying out so many more actions.
    pub(crate) crash_after: Option<u32>,
    /// How many faults keep it down.
    pub(crate) down: u32,
    /// Set once its incarnation is stale: it stays down until the operator has replaced it.
    pub(crate) is_stale: bool,
    /// The state machine, whether it survives a crash or not, and how far it has got.
    pub(crate) store: Store,
    pub(crate) applied: Index,
}

/// A snapshot with what it holds.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) snapshot: Snapshot,
    pub(crate) store: Store,
}

/// How many snapshots a host keeps.
const KEPT: usize = 4;

/// A running member.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) room: Room,
    pub(crate) contract: Contract,
    pub(crate) status: Status,
    /// The membership in force, by its log.
    pub(crate) membership: Membership,
    /// The log as the writes tell it.
    pub(crate) chain: Chain,
    /// When the host will next wake the kernel.
    pub(crate) wake_at: u64,
    /// Until when it may serve reads without asking.
    pub(crate) leased_until: Option<Instant>,
    /// How many answers were dropped because too many waited for the disk.
    pub(crate) dropped: u64,
}

/// What a member is told.
#[derive(Debug)]
pub(crate) enum MemberEvent {
    /// Of a kernel, and of a full replica where it has a meaning.
    Event(Event),
    /// Of a full replica.
    Input(Input),
}

/// How much of a member is our own code, and how much this crate plays.
#[derive(Debug)]
pub(crate) enum Room {
    /// The kernel alone: disk, snapshots and state machine are played.
    KernelOnly(Box<KernelOnly>),
    /// All of it but the disk.
    FullReplica(Box<FullReplica>),
    /// It is at work this very moment.
    Down,
}

/// A kernel, and what its host does besides.
#[derive(Debug)]
pub(crate) struct KernelOnly {
    pub(crate) raft: Raft,
    /// What the state machine is at work on.
    work: Option<Work>,
    /// How far it is told to apply after that, from which snapshot if from one.
    apply_through: Index,
    restore: Option<Snapshot>,
    /// The snapshot that is being fetched.
    pub(crate) fetching: Option<Snapshot>,
    /// Whether a snapshot is being taken.
    pub(crate) snapshotting: bool,
}

impl Up {
    /// When it wants to be woken.
    pub(crate) fn deadline(&self) -> Instant {
        match &self.room {
            Room::KernelOnly(bare) => bare.raft.deadline(),
            Room::FullReplica(whole) => whole.replica.deadline(),
            Room::Down => Instant::NEVER,
        }
    }

    /// The kernel, between two steps.
    pub(crate) fn raft(&self) -> &Raft {
        match &self.room {
            Room::KernelOnly(bare) => &bare.raft,
            Room::FullReplica(whole) => whole.replica.raft(),
            Room::Down => unreachable!("a member is looked at between its steps"),
        }
    }
}

/// How a member crashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crashed {
    /// Its power failed: so many writes were lost, and so many torn.
    Power { lost: u64, torn: u64 },
    /// It was killed. What it had written is still there to be read, and may be lost yet.
    Killed,
}

#[derive(Debug)]
enum Work {
    Apply { through: Index, puts: Vec<Put> },
    Restore(Stored),
}

/// What a disk has damaged since its member was last known to be whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Damage {
    /// The member's life in which it did so last.
    pub(crate) life: u32,
    /// How often it did; a write that got to the place of another may have taken the last batch, of which
    /// nothing else tells, and counts for many.
    pub(crate) times: u32,
}

impl Host {
    /// The host of a member that is down and has run nothing yet.
    pub(crate) fn new(
        scenario: &Scenario,
        (id, spec): (NodeId, MemberSpec),
        membership: &Membership,
    ) -> Result<Self, ScenarioError> {
        let seed = scenario.seed;
        let begin = match spec.initially {
            MemberKind::NonMember => Durable::default(),
            _ => Durable::bootstrap(membership.clone()),
        };
        let mut stream = Stream::named(seed, "member", id.get());
        let origin = stream.below(1 << 40);
        Ok(Self {
            id,
            incarnation: Incarnation::default(),
            lost: Vec::new(),
            cluster: ClusterId(seed),
            options: scenario.config(id)?.options().clone(),
            up: None,
            disk: Disk::new(seed, id.get(), scenario.disk.clone(), spec.sync_us, begin.clone()),
            storage: SimDisk::default(),
            begin,
            written: Default::default(),
            outage: Stream::named(seed, "outage", id.get()),
            damaged: None,
            spoiled: false,
            full: false,
            snapshots: VecDeque::new(),
            is_stale: false,
            store: Default::default(),
            clock: Clock::new(origin, spec.clock_ppm),
            spec,
            stream,
            life: 0,
            paused: false,
            clock_stopped: None,
            backlog: Default::default(),
            crash_after: None,
            down: 0,
            applied: Index::ZERO,
        })
    }

    /// Who it is now.
    pub(crate) fn member(&self) -> Member {
        Member::new(self.id, self.incarnation)
    }

    /// Starts the member with what its disk holds. Says why where the kernel refuses that.
    pub(crate) fn start(&mut self, now: u64) -> Result<(), String> {
        let durable = self.recovered();
        let contract = Contract::new(self.id, &durable);
        self.applied = durable.applied;
        if durable.applied == Index::ZERO {
            self.store = Store::default();
        }
        let local = self.clock.local(now);
        let identity = Identity::new(self.cluster, self.member());
        let config = Config::new(identity, self.options.clone()).map_err(|error| error.to_string())?;
        let raft = Raft::restore(config, durable, local).map_err(|error| error.to_string())?;
        let status = raft.status();
        let membership = raft.membership().clone();
        let chain = self.disk.chain.clone();
        self.life += 1;
        let bare = KernelOnly {
            raft,
            work: None,
            apply_through: self.applied,
            restore: None,
            fetching: None,
            snapshotting: false,
        };
        self.up = Some(Up {
            room: Room::KernelOnly(Box::new(bare)),
            contract,
            status,
            membership,
            chain,
            wake_at: u64::MAX,
            leased_until: None,
            dropped: 0,
        });
        Ok(())
    }

    /// Stops the member: everything in memory is gone. Returns what became of what was not synced.
    pub(crate) fn crash(&mut self) -> Crashed {
        self.up = None;
        self.backlog.clear();
        self.crash_after = None;
        if self.storage == SimDisk::default() {
            return Crashed::Power { lost: self.disk.crash(), torn: 0 };
        }
        if self.outage.below(4) == 0 {
            self.storage.disarm();
            return Crashed::Killed;
        }
        let lost = self.storage.crash(&mut self.stream);
        Crashed::Power { lost: lost.writes, torn: lost.torn }
    }

    /// Loses the disk; the member comes back under the next incarnation.
    pub(crate) fn wipe(&mut self) {
        self.lost.push((self.incarnation, self.disk.chain.clone()));
        self.disk.wipe();
        self.storage = SimDisk::default();
        self.begin = Durable::default();
        self.damaged = None;
        self.snapshots.clear();
        self.store = Store::default();
        self.applied = Index::ZERO;
        self.incarnation = Incarnation(self.incarnation.0 + 1);
    }

    /// The kernel that runs alone, where it is up.
    pub(crate) fn bare(&mut self) -> Option<&mut KernelOnly> {
        match &mut self.up.as_mut()?.room {
            Room::KernelOnly(bare) => Some(bare),
            Room::FullReplica(_) | Room::Down => None,
        }
    }

    /// The state machine shall apply more.
    pub(crate) fn apply(&mut self, through: Index) {
        if let Some(bare) = self.bare() {
            bare.apply_through = through;
        }
    }

    /// The state machine shall begin anew from a snapshot.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        if let Some(bare) = self.bare() {
            bare.apply_through = snapshot.last.index;
            bare.restore = Some(snapshot);
        }
    }

    /// Gives the state machine all that is to be done, if it has nothing to do. Returns when it will be done.
    pub(crate) fn start_apply(&mut self, now: u64) -> Option<u64> {
        let up = self.up.as_mut()?;
        let Room::KernelOnly(bare) = &mut up.room else { return None };
        if bare.work.is_some() {
            return None;
        }
        let work = if let Some(snapshot) = bare.restore.take() {
            let stored = self.snapshots.iter().find(|stored| stored.snapshot == snapshot);
            Work::Restore(stored.expect("an installed snapshot is on the disk").clone())
        } else if bare.apply_through > self.applied {
            let through = bare.apply_through;
            let entries = bare.raft.log().entries(self.applied, through);
            if (entries.len() as u64) < through - self.applied {
                // A snapshot has taken their place, and will be restored once it is durable.
                assert!(up.status.snapshot.index >= through, "what is to be applied is in memory");
                bare.apply_through = self.applied;
                return None;
            }
            let puts = entries.filter_map(|entry| match &entry.body {
                EntryBody::Data(payload) => Put::decode(payload),
                _ => None,
            });
            Work::Apply { through, puts: puts.collect() }
        } else {
            return None;
        };
        bare.work = Some(work);
        Some(now + self.spec.apply_us * 1_000 + self.stream.below(50_000))
    }

    /// The state machine is done with what it was given; how far that was.
    pub(crate) fn finish_apply(&mut self) -> Option<Index> {
        let through = match self.bare()?.work.take()? {
            Work::Apply { through, puts } => {
                puts.into_iter().for_each(|put| self.store.put(put));
                through
            }
            Work::Restore(Stored { snapshot, store }) => {
                self.store = store;
                snapshot.last.index
            }
        };
        self.applied = through;
        Some(through)
    }

    /// Whether it is time for another snapshot.
    pub(crate) fn is_due(&mut self, every: u64) -> bool {
        let latest = self.snapshots.back().map_or(Index::ZERO, |stored| stored.snapshot.last.index);
        let busy = self.bare().is_none_or(|bare| bare.snapshotting || bare.restore.is_some());
        every > 0 && !busy && self.applied.get() >= latest.get() + every
    }

    /// What a snapshot would hold now.
    pub(crate) fn snapshot(&self) -> Option<Stored> {
        let snapshot = self.up.as_ref()?.raft().snapshot_at(self.applied)?;
        Some(Stored { snapshot, store: self.store.clone() })
    }

    /// A snapshot is on the disk. Old ones go, but not the one on which the log rests.
    pub(crate) fn keep(&mut self, stored: Stored) {
        self.snapshots.push_back(stored);
        self.snapshots.make_contiguous().sort_by_key(|stored| stored.snapshot.last.index);
        // A crash may take the log back to any snapshot that a write which is not yet durable rests on.
        let rests_on = self.disk.durable.snapshot.as_ref().map(|snapshot| snapshot.last);
        let is_old = |stored: &Stored| Some(stored.snapshot.last) < rests_on;
        while self.snapshots.len() > KEPT && self.snapshots.front().is_some_and(is_old) {
            self.snapshots.pop_front();
        }
    }

    /// Reads entries back from the disk.
    pub(crate) fn load(&self, after: LogId, through: Index, max_bytes: u64) -> Entries {
        let Durable { base, entries, .. } = &self.disk.durable;
        let Some(skip) = after.index.get().checked_sub(base.index.get()) else {
            return Entries::EMPTY;
        };
        let mut size = 0;
        let wanted = entries.iter().skip(skip as usize).take_while(|entry| {
            let fits = size == 0 || size + entry.size() <= max_bytes;
            size += entry.size();
            fits && entry.id.index <= through
        });
        wanted.cloned().collect()
    }

    /// A clock that stood still goes on from there.
    pub(crate) fn restart_clock(&mut self, now: u64) {
        if let Some(stopped) = self.clock_stopped.take() {
            self.clock.set(now, stopped);
        }
    }

    /// Whether events reach the kernel now.
    pub(crate) fn is_awake(&self) -> bool {
        self.up.is_some() && !self.paused
    }

    pub(crate) fn durable_chain(&self) -> &[Link] {
        &self.disk.chain
    }

    /// The log on the disk of this incarnation, or that it lost.
    pub(crate) fn durable_chain_of(&self, member: Member) -> Option<&[Link]> {
        if member == self.member() {
            return Some(self.durable_chain());
        }
        let lost = self.lost.iter().find(|(incarnation, _)| *incarnation == member.incarnation);
        lost.map(|(_, chain)| &chain[..])
    }

    /// The membership in force by what it holds: in memory while it is up, on the disk while it is down.
    pub(crate) fn membership(&self) -> Option<Membership> {
        if let Some(up) = &self.up {
            let known = up.raft().membership();
            return (!known.members().is_empty()).then(|| known.clone());
        }
        let Durable { snapshot, entries, .. } = &self.disk.durable;
        let latest = entries.iter().rev().find_map(|entry| match &entry.body {
            EntryBody::Config(membership) => Some(membership),
            _ => None,
        });
        latest
            .or(snapshot.as_ref().map(|snapshot| &snapshot.membership))
            .map(|membership| (**membership).clone())
    }

    fn recovered(&self) -> Durable {
        let durable = self.disk.durable.clone();
        // A state machine that was told to go on from a snapshot and did not get to it starts from the
        // snapshot.
        let applied = if self.spec.keeps_state { self.applied } else { Index::ZERO };
        Durable { applied, ..durable }
    }
}
