//! Liveness in time: a group that is left alone serves soon, and what befalls its leader stops it for a short
//! while only.
//!
//! A [way on](super::goal) shows that a group is not stuck. How soon it goes on is a matter of timers, which
//! an exploration leaves out. A trial takes them up: from a state on the members are woken when they want to
//! be, with the settings that members have by default, but small limits. Messages, disks and state machines
//! take the time that they take in a calm data centre, and are late or lost where the trial's course says so.

mod course;
mod judge;
#[cfg(test)]
mod tests;

use super::alone::Before;
use super::bounds::id;
use super::clocks::NOW;
use super::host::Host;
use super::state::State;
use super::steps::stepped;
use super::violation::{Ended, Violation};
use crate::host::kernel_only::read_back;
use judge::Judge;
use kontiki_core::action::{Action, Outcome, Write};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::{EntriesLoaded, Event};
use kontiki_core::log::Entries;
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::Raft;
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{Identity, Index, Member, Payload, RequestId, WriteSeq};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

const fn millis(millis: u64) -> Nanos {
    Nanos::new(millis * 1_000_000)
}

/// How long a message, a write, and bytes from elsewhere take.
const MESSAGE: Nanos = millis(1);
const WRITE: Nanos = millis(2);
const FETCH: Nanos = millis(5);

/// The longest that a member waits for its leader, and how often a leader is heard.
const ELECTION: Nanos = millis(300);
const HEARTBEAT: Nanos = millis(50);

/// How long a newcomer may take to have what the others have.
const CATCH_UP: Duration = Duration::from_secs(2);

/// How many bytes a command has, and how many may wait: of few commands some must leave before others come.
const PAYLOAD: usize = 64;
const WAITING: u64 = 512;

/// The settings that members have by default, but for small limits: those of a member like `as_before`.
fn options(as_before: &Options) -> Options {
    Options {
        witness: as_before.witness,
        synchronous_writes: as_before.synchronous_writes,
        synchronous_apply: as_before.synchronous_apply,
        retained_entries: as_before.retained_entries,
        retained_bytes: as_before.retained_bytes,
        max_append_bytes: 128,
        max_in_flight_messages: 32,
        max_in_flight_bytes: WAITING,
        max_uncommitted_bytes: WAITING,
        max_cached_bytes: WAITING,
        catch_up_timeout: CATCH_UP,
        ..Options::default()
    }
}

/// A group in time.
#[derive(Debug)]
pub(super) struct Trial {
    members: Vec<Participant>,
    now: Instant,
    /// What is to come, in order.
    agenda: BTreeMap<(Instant, u64), (usize, Due)>,
    /// How many things were put on it.
    planned: u64,
    message: Nanos,
    write: Nanos,
    /// How many requests clients have made in it.
    asked: u64,
    /// What was answered to them.
    answers: BTreeMap<RequestId, Outcome>,
    /// What happened, in words.
    told: Vec<String>,
    judge: Judge,
}

/// A member in it.
#[derive(Debug)]
struct Participant {
    raft: Raft,
    disk: Durable,
    writes: VecDeque<Write>,
    /// How many writes could be done, if the disk did not stall.
    owed: usize,
    stalls: bool,
    applied: Index,
    /// The requests that have no answer yet.
    open: BTreeSet<RequestId>,
    /// Members on different sides do not hear one another.
    side: Side,
    /// Whether the next entries that are sent to it get lost.
    misses_next: bool,
    /// Whether it has tried to get a snapshot, and to read entries back. Both fail at first.
    has_fetched: bool,
    has_loaded: bool,
    /// Its group knows it in another incarnation, so that it has halted.
    is_down: bool,
    /// How many messages it has sent.
    sent: u64,
}

/// Where a member is while the network is divided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    /// With the group.
    Group,
    /// With those that are cut off from it.
    CutOff,
    /// The newcomer is alone.
    Alone,
}

/// What happens to a member when its time has come.
#[derive(Debug)]
enum Due {
    Arrives(Box<Message>),
    Written,
    Tells(Box<Event>),
}

impl State {
    /// Puts the group through a trial, from this state on: the messages that are under way are lost.
    pub(super) fn stands_trial(&self) -> Result<(), Box<Ended>> {
        let mut trial = Trial::of(&self.hosts);
        trial.takes_its_course().map_err(|violation| Box::new(Ended { violation, told: trial.told }))
    }
}

impl Trial {
    fn of(hosts: &[Arc<Host>]) -> Self {
        let mut members: Vec<_> = hosts.iter().map(|host| Participant::of(host)).collect();
        members.push(Participant::newcomer(&hosts[0], hosts.len()));
        let mut trial = Self {
            judge: Judge::of(members.len(), &options(&Options::default())),
            members,
            now: NOW,
            agenda: BTreeMap::new(),
            planned: 0,
            message: MESSAGE,
            write: WRITE,
            asked: 0,
            answers: BTreeMap::new(),
            told: Vec::new(),
        };
        for member in 0..trial.members.len() {
            for _ in 0..trial.members[member].writes.len() {
                trial.plan(trial.write, member, Due::Written);
            }
        }
        for (member, host) in hosts.iter().enumerate() {
            for through in &host.applying {
                trial.plan(Nanos::ZERO, member, Due::Tells(Event::Applied(*through).into()));
            }
        }
        trial
    }

    fn plan(&mut self, after: Nanos, member: usize, due: Due) {
        self.planned += 1;
        self.agenda.insert((self.now + after, self.planned), (member, due));
    }

    fn status(&self, member: usize) -> Status {
        self.members[member].raft.status()
    }

    /// The leader of the latest term that has one. A former member may be in a later one.
    fn leader(&self) -> Option<usize> {
        let leaders = (0..self.members.len()).filter(|member| self.leads(*member));
        leaders.max_by_key(|member| self.status(*member).term)
    }

    fn leads(&self, member: usize) -> bool {
        self.status(member).role == RoleKind::Leader
    }

    /// Lets time pass until something is so, or this has passed; returns whether it is so.
    fn until(&mut self, within: Nanos, is_so: impl Fn(&Self) -> bool) -> Result<bool, Violation> {
        let end = self.now + within;
        loop {
            if is_so(self) {
                return Ok(true);
            }
            let wakes = (0..self.members.len()).map(|member| (self.members[member].raft.deadline(), member));
            let (wakes, sleeper) = wakes.min().expect("a group has members");
            let next = self.agenda.first_key_value().map_or(Instant::NEVER, |((at, _), _)| *at);
            if wakes.min(next) > end {
                self.now = end;
                return Ok(false);
            }
            self.now = self.now.max(wakes.min(next));
            self.judge.happens(self.now)?;
            if wakes < next {
                self.step(sleeper, Event::Wake)?;
            } else if let Some((_, (member, due))) = self.agenda.pop_first() {
                self.falls_due(member, due)?;
            }
        }
    }

    fn falls_due(&mut self, member: usize, due: Due) -> Result<(), Violation> {
        let it = &mut self.members[member];
        match due {
            Due::Written if it.stalls => it.owed += 1,
            Due::Written => {
                if let Some(write) = it.writes.pop_front() {
                    it.disk.write(&write);
                    return self.step(member, Event::Persisted(write.seq));
                }
            }
            Due::Arrives(message) => {
                let from = message.from.id.get() as usize - 1;
                if self.members[member].side == self.members[from].side {
                    return self.step(member, Event::Receive(*message));
                }
            }
            Due::Tells(event) => return self.step(member, *event),
        }
        Ok(())
    }

    /// A member is told something, and does what follows.
    fn step(&mut self, member: usize, event: Event) -> Result<(), Violation> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Event::Applied(through) = event {
                self.members[member].applied = through;
            }
            let raft = &mut self.members[member].raft;
            let before = Before::of(raft);
            let actions = stepped(raft, self.now, event.clone())?;
            self.judge.judge(self.now, &before, raft, &event, &actions)?;
            self.tell_news(member, before.status());
            for action in actions {
                self.carry_out(member, action, &mut events);
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, member: usize, action: Action, events: &mut VecDeque<Event>) {
        let it = &mut self.members[member];
        match action {
            Action::Send(message) => self.send(member, message),
            Action::Persist(write) if it.raft.config().options().synchronous_writes => it.disk.write(&write),
            Action::Persist(write) => {
                it.writes.push_back(write);
                self.plan(self.write, member, Due::Written);
            }
            Action::Apply { through } => it.applies(through, events),
            Action::Restore(snapshot) => it.applies(snapshot.last.index, events),
            Action::FetchSnapshot { snapshot, .. } => {
                let event = match std::mem::replace(&mut it.has_fetched, true) {
                    true => Event::SnapshotFetched(snapshot),
                    false => Event::SnapshotFailed(snapshot.last),
                };
                self.plan(FETCH, member, Due::Tells(event.into()));
            }
            Action::LoadEntries { to, after, through, max_bytes } => {
                let entries = match std::mem::replace(&mut it.has_loaded, true) {
                    true => read_back(&it.disk, after, through, max_bytes),
                    false => Entries::EMPTY,
                };
                let event = Event::EntriesLoaded(EntriesLoaded { to, after, entries });
                self.plan(FETCH, member, Due::Tells(event.into()));
            }
            Action::TakeSnapshot => events.push_back(Event::SnapshotTaken(it.applied)),
            Action::Respond { request, outcome } => {
                it.open.remove(&request);
                self.answers.insert(request, outcome);
                if !matches!(outcome, Outcome::Committed(_) | Outcome::Ready { .. }) {
                    self.say(&format!("member {} answers: {outcome}", id(member)));
                }
            }
            // The judge has seen that it may.
            Action::Halt(_) => it.is_down = true,
        }
    }

    fn send(&mut self, from: usize, message: Message) {
        self.members[from].sent += 1;
        let to = message.to.id.get() as usize - 1;
        let has_entries = matches!(&message.body, Body::Append { slice, .. } if !slice.entries().is_empty());
        let is_lost = has_entries && std::mem::take(&mut self.members[to].misses_next);
        if !is_lost {
            self.plan(self.message, to, Due::Arrives(message.into()));
        }
    }

    fn say(&mut self, what: &str) {
        let (passed, by) = ((self.now - NOW).get() / 1_000, 1_000);
        self.told.push(format!("{}.{:03} ms: {what}", passed / by, passed % by));
    }

    /// Tells what a member has become.
    fn tell_news(&mut self, member: usize, before: &Status) {
        let after = self.status(member);
        if (before.role, before.term) != (after.role, after.term) {
            let Status { id, role, term, .. } = after;
            let role = match role {
                RoleKind::Follower => "follows",
                RoleKind::PreCandidate => "asks for votes",
                RoleKind::Candidate => "stands for election",
                RoleKind::Leader => "leads",
                RoleKind::Halted => "has halted",
            };
            self.say(&format!("member {id} {role} in term {term}"));
        }
    }
}

impl Participant {
    fn of(host: &Host) -> Self {
        let mut raft = host.raft.clone();
        raft.take_up_time(options(raft.config().options()), NOW).expect("sound settings");
        let numbered = host.writes.iter().zip(1..);
        let writes = numbered.map(|(write, seq)| Write { seq: WriteSeq::new(seq), ..(**write).clone() });
        Self {
            writes: writes.collect(),
            disk: host.disk.clone(),
            applied: host.applied,
            open: host.open.iter().copied().collect(),
            is_down: raft.status().role == RoleKind::Halted,
            ..Self::with(raft)
        }
    }

    /// A blank member, which no membership has, cut off.
    fn newcomer(of: &Host, place: usize) -> Self {
        let cluster = of.raft.config().identity().cluster;
        let config = Config::new(Identity::new(cluster, id(place)), options(&Options::default()));
        let raft = Raft::restore(config.expect("sound settings"), Durable::default(), NOW);
        Self { side: Side::Alone, ..Self::with(raft.expect("an empty disk is one")) }
    }

    fn with(raft: Raft) -> Self {
        Self {
            raft,
            disk: Durable::default(),
            writes: VecDeque::new(),
            owed: 0,
            stalls: false,
            applied: Index::ZERO,
            open: BTreeSet::new(),
            side: Side::Group,
            misses_next: false,
            has_fetched: false,
            has_loaded: false,
            is_down: false,
            sent: 0,
        }
    }

    /// It crashes with nothing under way, and starts again with what its disk holds.
    fn restart(&mut self, now: Instant) -> Result<(), Violation> {
        let restored = Raft::restore(self.raft.config().clone(), self.disk.clone(), now);
        self.raft = restored.map_err(|error| Violation::new("Restart", error.to_string()))?;
        self.applied = self.raft.log().applied();
        self.writes.clear();
        self.open.clear();
        Ok(())
    }

    /// Its state machine is where it is to be, at once.
    fn applies(&mut self, through: Index, events: &mut VecDeque<Event>) {
        match self.raft.config().options().synchronous_apply {
            true => self.applied = through,
            false => events.push_back(Event::Applied(through)),
        }
    }

    fn member(&self) -> Member {
        self.raft.config().identity().member
    }
}

fn payload() -> Payload {
    Payload::from(&[0; PAYLOAD][..])
}

/// That of the first request in a trial: greater than any in an exploration.
const FIRST_REQUEST: u64 = 1 << 32;

impl Trial {
    /// A client of a member asks for something.
    fn asks(
        &mut self,
        member: usize,
        event: impl FnOnce(RequestId) -> Event,
    ) -> Result<RequestId, Violation> {
        let request = RequestId(FIRST_REQUEST + self.asked);
        self.asked += 1;
        self.members[member].open.insert(request);
        self.step(member, event(request))?;
        Ok(request)
    }

    /// Its disk goes on.
    fn disk_goes_on(&mut self, member: usize) {
        self.members[member].stalls = false;
        for _ in 0..std::mem::take(&mut self.members[member].owed) {
            self.plan(self.write, member, Due::Written);
        }
    }
}
