//! A simulated host: one member, its clock, and what befalls it. What the member is, a kernel alone or a full
//! replica, is its [`MemberBody`].

pub(crate) mod full_replica;
pub(crate) mod kernel_only;
mod running;
pub(crate) mod written;

pub(crate) use running::{Crashed, Up};

use crate::clock::Clock;
use crate::disk::{DiskModel, SyncTimes};
use crate::ledger::{Chain, Link};
use crate::part::Stamp;
use crate::scenario::{MemberSpec, Scenario, ScenarioError};
use crate::stream::Stream;
use full_replica::{Damage, FullReplica};
use kernel_only::{Kernel, KernelOnly};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::Event;
use kontiki_core::log::EntryBody;
use kontiki_core::machine::StateMachine;
use kontiki_core::membership::{MemberKind, Membership};
use kontiki_core::raft::Raft;
use kontiki_core::replica::Input;
use kontiki_core::time::Instant;
use kontiki_core::types::{ClusterId, Identity, Incarnation, Member, NodeId};
use std::collections::VecDeque;

/// One member and its surroundings.
#[derive(Debug)]
pub(crate) struct Host<M: StateMachine> {
    pub(crate) id: NodeId,
    /// Which life of its directory this is.
    pub(crate) incarnation: Incarnation,
    /// The log that was on its disk whenever that was wiped, by incarnation.
    pub(crate) lost: Vec<(Incarnation, Chain)>,
    pub(crate) cluster: ClusterId,
    pub(crate) options: Options,
    pub(crate) spec: MemberSpec,
    /// How much of it is our own code, and what that runs on.
    pub(crate) body: MemberBody<M>,
    /// What is known of the member while it is up.
    pub(crate) up: Option<Up>,
    pub(crate) clock: Clock,
    pub(crate) stream: Stream,
    /// How often it has started; what was scheduled in an earlier life is void.
    pub(crate) life: u32,
    /// Set while the member stands still: what arrives waits.
    pub(crate) paused: bool,
    /// What the clock of a suspended host showed, where it does not count the suspension.
    pub(crate) clock_stopped: Option<Instant>,
    pub(crate) backlog: VecDeque<Told>,
    /// Crash after carrying out so many more actions.
    pub(crate) crash_after: Option<u32>,
    /// How many faults keep it down.
    pub(crate) down: u32,
    /// Set once its incarnation is stale: it stays down until the operator has replaced it.
    pub(crate) is_stale: bool,
    /// When it crashed last, and how many writes that lost.
    pub(crate) crashed: Option<(Stamp, u64)>,
}

/// How much of a member is our own code, and how much this crate plays. Each variant owns what it runs on,
/// what of that survives a crash, and what runs.
#[derive(Debug)]
pub(crate) enum MemberBody<M: StateMachine> {
    /// The kernel alone: disk, snapshots and state machine are played.
    KernelOnly(Box<KernelOnly>),
    /// All of it but the disk.
    FullReplica(Box<FullReplica<M>>),
}

/// What a member is told.
#[derive(Debug)]
pub(crate) enum MemberEvent {
    /// Of a kernel, and of a full replica where it has a meaning.
    Event(Event),
    /// Of a full replica.
    Input(Input),
}

/// What a member is told, and the message by which it comes.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) event: MemberEvent,
    pub(crate) arrived: Option<Arrived>,
}

/// A message that has arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    /// Its number.
    pub(crate) number: u64,
    /// Whether the network had kept it back.
    pub(crate) kept_back: bool,
}

impl<M: StateMachine> MemberBody<M> {
    fn new(scenario: &Scenario, id: NodeId, spec: &MemberSpec, begin: Durable) -> Self {
        let times = SyncTimes::new(scenario.seed, id.get(), scenario.disk.clone(), spec.sync_us);
        match &scenario.replica {
            None => Self::KernelOnly(Box::new(KernelOnly::new(begin, times))),
            Some(replica) => {
                let outage = Stream::named(scenario.seed, "outage", id.get());
                Self::FullReplica(Box::new(FullReplica::new(replica.clone(), begin, times, outage)))
            }
        }
    }

    /// What its disk holds, as its writes tell it.
    pub(crate) fn model(&self) -> &DiskModel {
        match self {
            Self::KernelOnly(kernel_only) => &kernel_only.disk.model,
            Self::FullReplica(full) => &full.model,
        }
    }

    /// How long the syncs of its disk take.
    pub(crate) fn sync_times(&mut self) -> &mut SyncTimes {
        match self {
            Self::KernelOnly(kernel_only) => &mut kernel_only.disk.times,
            Self::FullReplica(full) => &mut full.times,
        }
    }

    /// What its disk has damaged, and the member may not know of yet.
    pub(crate) fn damage(&self) -> Option<Damage> {
        match self {
            Self::KernelOnly(_) => None,
            Self::FullReplica(full) => full.damaged,
        }
    }

    /// Whether there is any.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damage().is_some()
    }

    /// The kernel between two steps; none while the member is down.
    fn raft(&self) -> Option<&Raft> {
        match self {
            Self::KernelOnly(kernel_only) => kernel_only.running.as_ref().map(|kernel| &kernel.raft),
            Self::FullReplica(full) => full.running.as_ref().map(|running| running.replica.raft()),
        }
    }

    /// When it wants to be woken.
    fn deadline(&self) -> Instant {
        let deadline = match self {
            Self::KernelOnly(kernel_only) => {
                kernel_only.running.as_ref().map(|kernel| kernel.raft.deadline())
            }
            Self::FullReplica(full) => full.running.as_ref().map(|running| running.replica.deadline()),
        };
        deadline.unwrap_or(Instant::NEVER)
    }
}

impl<M: StateMachine> Host<M> {
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
            body: MemberBody::new(scenario, id, &spec, begin),
            up: None,
            is_stale: false,
            crashed: None,
            clock: Clock::new(origin, spec.clock_ppm),
            spec,
            stream,
            life: 0,
            paused: false,
            clock_stopped: None,
            backlog: Default::default(),
            crash_after: None,
            down: 0,
        })
    }

    /// From now on, what is drawn is drawn from the streams of another seed.
    pub(crate) fn reseed(&mut self, seed: u64) {
        let id = self.id.get();
        self.stream = Stream::named(seed, "member", id);
        self.body.sync_times().reseed(seed, id);
        if let MemberBody::FullReplica(full) = &mut self.body {
            full.reseed(seed, id);
        }
    }

    /// Who it is now.
    pub(crate) fn member(&self) -> Member {
        Member::new(self.id, self.incarnation)
    }

    /// The settings of its kernel.
    pub(crate) fn config(&self) -> Result<Config, String> {
        let identity = Identity::new(self.cluster, self.member());
        Config::new(identity, self.options.clone()).map_err(|error| error.to_string())
    }

    /// Starts a kernel alone with what its disk holds. Says why where the kernel refuses that.
    pub(crate) fn start_kernel(&mut self, now: u64) -> Result<(), String> {
        let config = self.config()?;
        let local = self.clock.local(now);
        let MemberBody::KernelOnly(kernel_only) = &mut self.body else { return Ok(()) };
        self.up = Some(kernel_only.start(config, local, self.spec.keeps_state)?);
        self.life += 1;
        Ok(())
    }

    /// Stops the member: everything in memory is gone. Returns what became of what was not synced.
    pub(crate) fn crash(&mut self) -> Crashed {
        self.up = None;
        self.backlog.clear();
        self.crash_after = None;
        match &mut self.body {
            MemberBody::KernelOnly(kernel_only) => kernel_only.crash(),
            MemberBody::FullReplica(full) => full.crash(&mut self.stream),
        }
    }

    /// Loses the disk; the member comes back under the next incarnation.
    pub(crate) fn wipe(&mut self) {
        self.lost.push((self.incarnation, self.body.model().chain.clone()));
        match &mut self.body {
            MemberBody::KernelOnly(kernel_only) => kernel_only.wipe(),
            MemberBody::FullReplica(full) => full.wipe(),
        }
        self.crashed = None;
        self.incarnation = Incarnation(self.incarnation.0 + 1);
    }

    /// The kernel that runs alone, where it is up.
    pub(crate) fn kernel(&mut self) -> Option<&mut Kernel> {
        match &mut self.body {
            MemberBody::KernelOnly(kernel_only) => kernel_only.running.as_deref_mut(),
            MemberBody::FullReplica(_) => None,
        }
    }

    /// Its local time at which it wants to be woken next, as the world's time; none where it never does.
    pub(crate) fn wakes_at(&self) -> Option<u64> {
        self.clock.when(self.body.deadline())
    }

    /// Whether its deadline has passed.
    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.clock.local(now) >= self.body.deadline()
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

    /// The log on the disk of this incarnation, or that it lost.
    pub(crate) fn durable_chain_of(&self, member: Member) -> Option<&[Link]> {
        if member == self.member() {
            return Some(&self.body.model().chain);
        }
        let lost = self.lost.iter().find(|(incarnation, _)| *incarnation == member.incarnation);
        lost.map(|(_, chain)| &chain[..])
    }

    /// The membership in force by what it holds: in memory while it is up, on the disk while it is down.
    pub(crate) fn membership(&self) -> Option<Membership> {
        if let Some(raft) = self.body.raft() {
            let known = raft.membership();
            return (!known.members().is_empty()).then(|| known.clone());
        }
        let Durable { snapshot, entries, .. } = &self.body.model().durable;
        let latest = entries.iter().rev().find_map(|entry| match &entry.body {
            EntryBody::Config(membership) => Some(membership),
            _ => None,
        });
        latest
            .or(snapshot.as_ref().map(|snapshot| &snapshot.membership))
            .map(|membership| (**membership).clone())
    }

    /// Every membership that may be in force by what it holds. Of what was handed to a disk, and not synced
    /// before its member stopped, the member may find some when it starts again.
    pub(crate) fn possible_memberships(&self) -> impl Iterator<Item = Membership> {
        let in_doubt = self.body.raft().is_none().then(|| self.body.model().unsynced_memberships());
        self.membership().into_iter().chain(in_doubt.into_iter().flatten().cloned())
    }
}
