//! One state of a group, and what can happen next.

use super::bounds::{Bounds, Transition};
use super::ghost::Ghost;
use super::host::{Host, NOW, id};
use super::violation::Violation;
use crate::hash::StableHasher;
use crate::quiet::{quietly, text_of};
use kontiki_core::action::{Action, Write};
use kontiki_core::event::{Event, Proposal, Read, ReadVia, Reconfigure, Transfer};
use kontiki_core::membership::Change;
use kontiki_core::message::Message;
use kontiki_core::raft::Raft;
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::{Payload, RequestId, WriteSeq};
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// How much of what is bounded has happened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub(super) struct Spent {
    proposals: u8,
    crashes: u8,
    elections: u8,
    heartbeats: u8,
    reads: u8,
    transfers: u8,
    changes: u8,
}

/// A state: what all members are, every message that was ever sent, and what must be remembered to judge what
/// comes.
///
/// Messages stay. So each may be delivered at any later time, any number of times, and never: loss,
/// duplication, delay and reordering without a bound.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) hosts: Vec<Arc<Host>>,
    /// In the order of their hashes.
    network: Arc<Vec<(u64, Arc<Message>)>>,
    ghost: Arc<Ghost>,
    spent: Spent,
}

impl State {
    /// All members have started, and nothing has happened.
    pub(super) fn first(bounds: &Bounds) -> Self {
        let host = |member| Arc::new(Host::of(bounds, member));
        let hosts = (0..usize::from(bounds.members)).map(host).collect();
        Self { hosts, network: Arc::default(), ghost: Arc::default(), spent: Spent::default() }
    }

    /// Equal for equal states, and different for others, but for a chance of one in 2^64 for each pair.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = StableHasher::of(&(self.spent, &*self.ghost));
        for host in &self.hosts {
            hash = StableHasher::combine(hash, host.hash);
        }
        self.network.iter().fold(hash, |hash, (message, _)| StableHasher::combine(hash, *message))
    }

    /// Everything that can happen within the bounds.
    pub(super) fn transitions(&self, bounds: &Bounds) -> Vec<Transition> {
        let mut all: Vec<_> =
            (0..self.network.len()).map(|message| Transition::Deliver(message as u32)).collect();
        let Spent { proposals, crashes, elections, heartbeats, reads, transfers, changes } = self.spent;
        for (host, member) in self.hosts.iter().zip(0u8..) {
            let status = host.raft.status();
            let is_leader = status.role == RoleKind::Leader;
            if !host.writes.is_empty() {
                all.push(Transition::Persisted(member));
            }
            let may_wake = match is_leader {
                true => heartbeats < bounds.heartbeats,
                false => status.term.get() < bounds.terms && elections < bounds.elections,
            };
            if may_wake && host.raft.deadline() < Instant::NEVER {
                all.push(Transition::Timeout(member));
            }
            if crashes < bounds.crashes {
                all.extend((0..=host.writes.len() as u8).map(|written| Transition::Crash(member, written)));
            }
            if !is_leader {
                continue;
            }
            if proposals < bounds.proposals {
                all.push(Transition::Propose(member));
            }
            if reads < bounds.reads {
                all.push(Transition::Read(member));
            }
            if changes < bounds.changes {
                all.push(Transition::Change(member));
            }
            if transfers < bounds.transfers {
                all.push(Transition::Transfer(member));
            }
        }
        all
    }

    /// Whose step a transition is, and what it is, in words.
    pub(super) fn describe(&self, transition: Transition) -> String {
        match transition {
            Transition::Deliver(at) => {
                let message = self.message(at);
                format!(
                    "member {} receives from {}, sent in term {}: {:?}",
                    message.to.id, message.from.id, message.term, message.body
                )
            }
            Transition::Timeout(member) => format!("member {} times out", id(member.into())),
            Transition::Persisted(member) => {
                let oldest = self.hosts[usize::from(member)].writes.front();
                let append = oldest.map_or(0, |write| write.append.len());
                let ballot = oldest.map(|write| write.ballot);
                format!(
                    "member {}'s oldest write is durable: {ballot:?}, {append} entries",
                    id(member.into())
                )
            }
            Transition::Crash(member, written) => {
                let writes = self.hosts[usize::from(member)].writes.len();
                format!(
                    "member {} crashes with {written} of {writes} writes on its disk, and starts again",
                    id(member.into())
                )
            }
            Transition::Propose(member) => {
                format!("a client proposes a command to member {}", id(member.into()))
            }
            Transition::Read(member) => format!("a client reads at member {}", id(member.into())),
            Transition::Change(member) => {
                format!("the operator changes the membership at {}", id(member.into()))
            }
            Transition::Transfer(member) => format!("the operator has {} hand over", id(member.into())),
        }
    }

    fn message(&self, at: u32) -> &Message {
        &self.network[at as usize].1
    }

    /// The state after one of its [`transitions`](Self::transitions).
    pub(super) fn after(&self, transition: Transition, bounds: &Bounds) -> Result<Self, Violation> {
        let mut next = self.clone();
        let (member, event) = match transition {
            Transition::Deliver(at) => {
                let message = self.message(at);
                (message.to.id.get() as usize - 1, Event::Receive(message.clone()))
            }
            Transition::Timeout(member) => {
                let is_leader = self.hosts[usize::from(member)].raft.status().role == RoleKind::Leader;
                next.spent.heartbeats += u8::from(is_leader);
                next.spent.elections += u8::from(!is_leader);
                (usize::from(member), Event::Wake)
            }
            Transition::Persisted(member) => (usize::from(member), Event::Persisted(WriteSeq::new(1))),
            Transition::Crash(member, written) => {
                next.spent.crashes += 1;
                return next.crash(usize::from(member), usize::from(written), bounds);
            }
            Transition::Propose(member) => {
                next.spent.proposals += 1;
                let request = RequestId(u64::from(next.spent.proposals));
                let payload = Payload::from(&[next.spent.proposals][..]);
                (usize::from(member), Event::Propose(Proposal { request, payload }))
            }
            Transition::Read(member) => {
                next.spent.reads += 1;
                let request = RequestId(100 + u64::from(next.spent.reads));
                Arc::make_mut(&mut next.ghost).read_begins(request);
                (usize::from(member), Event::Read(Read { request, via: ReadVia::Quorum }))
            }
            Transition::Change(member) => (usize::from(member), next.change(bounds)),
            Transition::Transfer(member) => {
                next.spent.transfers += 1;
                let request = RequestId(300 + u64::from(next.spent.transfers));
                (usize::from(member), Event::Transfer(Transfer { request, to: None }))
            }
        };
        next.step(member, event, bounds)?;
        Ok(next)
    }

    /// The next change of the membership: the last member is added as a voter, then removed, and so on.
    fn change(&mut self, bounds: &Bounds) -> Event {
        let last = id(usize::from(bounds.members) - 1);
        let change = match self.spent.changes % 2 {
            0 => Change::AddVoter(last.into()),
            _ => Change::Remove(last),
        };
        self.spent.changes += 1;
        let request = RequestId(200 + u64::from(self.spent.changes));
        Event::Reconfigure(Reconfigure { request, expected: None, changes: vec![change], force: true })
    }

    fn crash(mut self, member: usize, written: usize, bounds: &Bounds) -> Result<Self, Violation> {
        let host = Arc::make_mut(&mut self.hosts[member]);
        (0..written).for_each(|_| host.disk_writes());
        host.restart(bounds, member)?;
        Ok(self)
    }

    /// Steps a member, carries out what follows, and judges it.
    fn step(&mut self, member: usize, event: Event, bounds: &Bounds) -> Result<(), Violation> {
        let before = Arc::clone(&self.hosts[member]);
        let mut host = (*before).clone();
        if matches!(event, Event::Persisted(_)) {
            host.disk_writes();
        }
        let mut sent = Vec::new();
        let mut events = VecDeque::from([event]);
        let mut answers = Vec::new();
        while let Some(event) = events.pop_front() {
            let now = if event == Event::Wake { host.raft.deadline() } else { NOW };
            for action in stepped(&mut host.raft, now, event)? {
                match action {
                    Action::Send(message) => sent.push(message),
                    Action::Persist(write) if bounds.instant_disks => {
                        host.disk.write(&write);
                        events.push_back(Event::Persisted(write.seq));
                    }
                    Action::Persist(write) => {
                        host.writes.push_back(Arc::new(Write { seq: WriteSeq::ZERO, ..write }));
                    }
                    Action::Apply { through } => events.push_back(Event::Applied(through)),
                    Action::Restore(snapshot) => events.push_back(Event::Applied(snapshot.last.index)),
                    Action::FetchSnapshot { snapshot, .. } => {
                        events.push_back(Event::SnapshotFetched(snapshot));
                    }
                    Action::Respond { request, outcome } => answers.push((request, outcome)),
                    Action::Halt(violation) => return Err(Violation::new("Halt", violation.to_string())),
                    Action::LoadEntries { .. } | Action::TakeSnapshot => {
                        return Err(Violation::new("Contract", format!("{action:?} for no reason")));
                    }
                }
            }
        }
        host.raft.forget_time(NOW);
        host.hash = host.hash_of();
        self.hosts[member] = Arc::new(host);
        let hosts: Vec<&Host> = self.hosts.iter().map(|host| &**host).collect();
        Arc::make_mut(&mut self.ghost).judge(&before, &hosts, member, &sent, &answers)?;
        for message in sent {
            self.send(message);
        }
        Ok(())
    }

    fn send(&mut self, message: Message) {
        let hash = StableHasher::of(&message);
        if let Err(at) = self.network.binary_search_by_key(&hash, |(hash, _)| *hash) {
            Arc::make_mut(&mut self.network).insert(at, (hash, Arc::new(message)));
        }
    }
}

/// What follows from an event; a kernel that panics violates its own invariants.
fn stepped(raft: &mut Raft, now: Instant, event: Event) -> Result<Vec<Action>, Violation> {
    let mut actions = Vec::new();
    let stepped = quietly(AssertUnwindSafe(|| raft.step_into(now, event, &mut actions)));
    match stepped {
        Ok(()) => Ok(actions),
        Err(panic) => Err(Violation::new("Kernel Invariants", text_of(&*panic))),
    }
}
