//! A cluster of real kernels in lockstep, for scripts and for tests that follow the paper line by line.
//!
//! Nothing happens by itself. Messages wait until they are delivered, a slow disk until it is told to go on,
//! and a timer goes off only on command: time passes for all members alike, but a member whose timer is about
//! to go off waits just before it, like one whose clock is a little slow. So a test says what happens, and
//! nothing else does. Where that is too slow for a lease, [`Lab::run`] lets time pass for all clocks alike,
//! with every timer when it is due.
//!
//! After every step the [`Lab`] checks the paper's safety properties (figure 3) over all members, and that
//! the kernel keeps its side of the [`Contract`]; and of every read that is answered, that it missed nothing.

mod safety;

use kontiki_core::action::{Action, Outcome, Violation, Write};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::{EntriesLoaded, Event, Proposal, Read, ReadVia, Reconfigure, Transfer};
use kontiki_core::log::{Entries, Entry, EntryBody, LogSlice, Snapshot};
use kontiki_core::membership::{Change, MemberKind, Membership};
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::Raft;
use kontiki_core::status::{RoleKind, Status};
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{
    Ballot, ClusterId, Identity, Incarnation, Index, LogId, NodeId, Payload, RequestId, Term,
};
use kontiki_sim::contract::{Contract, Party};
use kontiki_sim::explain::Watcher;
use kontiki_sim::trace::{Commands, Happened, Traced};
use safety::{Before, Safety};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{Display, Write as _};

/// The id with this number; panics for zero.
pub fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("a member's number is not zero")
}

/// The cluster of all labs.
pub const CLUSTER: ClusterId = ClusterId(0x1ab);

/// Who the member with this number is, in its first incarnation.
pub fn identity(number: u64) -> Identity {
    Identity::new(CLUSTER, id(number))
}

/// How many members of each kind a cluster begins with. They are numbered from 1 in this order.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cast {
    /// Those that vote, and hold everything.
    pub voters: u64,
    /// Those that vote, and hold no payloads.
    pub witnesses: u64,
    /// Those that only learn.
    pub learners: u64,
    /// Those that are up and know of no group.
    pub spares: u64,
}

impl Cast {
    fn count(self) -> u64 {
        self.voters + self.witnesses + self.learners + self.spares
    }

    fn kind(self, number: u64) -> MemberKind {
        if number <= self.voters {
            MemberKind::Voter
        } else if number <= self.voters + self.witnesses {
            MemberKind::Witness
        } else if number <= self.voters + self.witnesses + self.learners {
            MemberKind::Learner
        } else {
            MemberKind::NonMember
        }
    }
}

/// A message as it would come from another member, made by hand.
pub fn message(from: u64, to: u64, term: u64, body: Body) -> Message {
    Message::new(identity(from), id(to).into(), Term::new(term), body)
}

/// What a leader says of entries of these terms that follow `prev`; all of them are blank.
pub fn append(prev: LogId, terms: &[u64], commit: u64) -> Body {
    let entries = blank_entries(prev.index.get().saturating_add(1), terms);
    Body::Append {
        slice: LogSlice::new(prev, entries.collect()).expect("entries without a gap"),
        commit: Index::new(commit),
    }
}

fn blank_entries(first: u64, terms: &[u64]) -> impl Iterator<Item = Entry> {
    terms
        .iter()
        .zip(first..)
        .map(|(&term, index)| Entry { id: LogId::new(term, index), body: EntryBody::Blank })
}

/// What a disk holds after a quiet life: blank entries of these terms from index 1, the term of the last, no
/// vote. The group that they are of is not yet said.
pub fn disk_of(terms: &[u64]) -> Durable {
    Durable {
        ballot: Ballot::new(Term::new(terms.last().copied().unwrap_or(0)), None),
        entries: blank_entries(1, terms).collect(),
        ..Durable::default()
    }
}

/// A cluster, the messages in flight between its members, and what happened so far.
#[derive(Debug)]
pub struct Lab {
    /// Whom the group began with.
    founders: Membership,
    members: BTreeMap<u64, Member>,
    /// What was on the disks that were wiped.
    graves: Vec<(Identity, Durable)>,
    in_flight: VecDeque<Message>,
    /// Messages that are on their way and will be for long.
    held: Vec<Message>,
    /// Links, each from one member to another, that lose what is sent over them from now on.
    cut: BTreeSet<(NodeId, NodeId)>,
    requests: Vec<Request>,
    reads: u64,
    /// Whether the test has stopped the clock of a member, so that leases mean nothing.
    clocks_differ: bool,
    safety: Safety,
    transcript: String,
    /// Whether the transcript tells of messages as they are sent, or only as they arrive.
    tells_sends: bool,
    watched: Option<Watched>,
}

/// A diagram in the making, whose time is the order of what happens.
#[derive(Debug)]
pub struct Watched {
    /// What makes it.
    pub watcher: Watcher,
    steps: u64,
    now: u64,
}

impl Watched {
    fn step(&mut self, event: &Event, actions: &[Action], after: &Status) {
        (self.steps, self.now) = (self.steps + 1, self.now + 1);
        let (step, at, show) = (self.steps, self.now, Commands::AS_BYTES);
        self.watcher.note(&Traced::Step { step, at, event, actions, left_out: &[], after, show });
    }

    fn happens(&mut self, what: &Happened) {
        self.now += 1;
        self.watcher.note(&Traced::World { at: self.now, what });
    }
}

/// One member with all that a host keeps for it.
#[derive(Debug)]
struct Member {
    identity: Identity,
    options: Options,
    /// `None` while it is down.
    raft: Option<Raft>,
    contract: Contract,
    clock: Instant,
    disk: Durable,
    /// What the disk was told and has not yet done, in order.
    unsynced: VecDeque<Write>,
    slow_disk: bool,
    /// The state machine: every entry that it has applied, from index 1.
    applied: Vec<Entry>,
    /// What the state machine was told and has not yet done, in order.
    unapplied: VecDeque<Work>,
    slow_apply: bool,
    /// Snapshots on its disk, each with its bytes: the state of the state machine.
    snapshots: Vec<(Snapshot, Vec<Entry>)>,
    /// The snapshot that it is getting, and from whom.
    fetching: Option<(NodeId, Snapshot)>,
    /// What is to be read back from its disk.
    loading: VecDeque<Load>,
    /// Whether fetches and loads wait to be told.
    slow_transfers: bool,
    halted: Option<Violation>,
}

#[derive(Clone, Debug)]
enum Work {
    Apply(Index),
    Restore(Snapshot),
}

#[derive(Clone, Copy, Debug)]
struct Load {
    to: NodeId,
    after: LogId,
    through: Index,
    max_bytes: u64,
}

/// What was asked, and every answer that it got.
#[derive(Debug)]
struct Request {
    asked: u64,
    what: Asked,
    /// Whether the member that was asked went down before it answered.
    lost: bool,
    outcomes: Vec<Outcome>,
}

#[derive(Debug)]
enum Asked {
    Proposal(Payload),
    /// Which read it is, and the greatest index that any member had committed when it was asked.
    Read(u64, Index),
    Change,
    Cancel,
    Transfer,
}

impl Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Proposal(payload) => write!(f, "{payload:?}"),
            Self::Read(number, _) => write!(f, "read {number}"),
            Self::Change => f.write_str("the change"),
            Self::Cancel => f.write_str("the cancellation"),
            Self::Transfer => f.write_str("the transfer"),
        }
    }
}

/// All disks there are, and those there were.
struct Disks<'a> {
    members: &'a BTreeMap<u64, Member>,
    graves: &'a [(Identity, Durable)],
}

impl Disks<'_> {
    /// Whether the disk of this life of a member has the entry.
    fn hold(&self, id: NodeId, incarnation: Incarnation, entry: LogId) -> bool {
        let living = self.members.values().map(|member| (&member.identity, &member.disk));
        let dead = self.graves.iter().map(|(identity, disk)| (identity, disk));
        living
            .chain(dead)
            .filter(|(identity, _)| identity.member.id == id && identity.member.incarnation == incarnation)
            .any(|(_, disk)| {
                let position = entry.index.get().checked_sub(disk.base.index.get() + 1);
                position.is_none_or(|at| disk.entries.get(at as usize).is_some_and(|it| it.id == entry))
            })
    }
}

impl Lab {
    /// Members 1 to `voters`, all of them voters, with default options.
    pub fn of(voters: u64) -> Self {
        Self::new(voters, 0, &Options::default())
    }

    /// Members 1 to `voters`, and after them as many learners.
    pub fn new(voters: u64, learners: u64, options: &Options) -> Self {
        Self::with(Cast { voters, learners, ..Cast::default() }, options)
    }

    /// A group of these, and spares beside it.
    pub fn with(cast: Cast, options: &Options) -> Self {
        let all = 1..=cast.count();
        let founders =
            Membership::from_kinds(all.clone().map(|number| (identity(number).member, cast.kind(number))))
                .expect("distinct ids");
        let mut lab = Self {
            founders: founders.clone(),
            members: BTreeMap::new(),
            graves: Vec::new(),
            in_flight: VecDeque::new(),
            held: Vec::new(),
            cut: BTreeSet::new(),
            requests: Vec::new(),
            reads: 0,
            clocks_differ: false,
            safety: Safety::new(founders.clone()),
            transcript: String::new(),
            tells_sends: true,
            watched: None,
        };
        for number in all {
            let kind = cast.kind(number);
            let witness = kind == MemberKind::Witness;
            let disk = match kind {
                MemberKind::NonMember => Durable::default(),
                _ => Durable::bootstrap(founders.clone()),
            };
            let options = Options { witness, ..options.clone() };
            let config = Config::new(identity(number), options.clone()).expect("the options are sound");
            let member = Member {
                identity: identity(number),
                options,
                raft: None,
                contract: Contract::new(&config, &disk),
                clock: Instant::ZERO,
                disk,
                unsynced: VecDeque::new(),
                slow_disk: false,
                applied: Vec::new(),
                unapplied: VecDeque::new(),
                slow_apply: false,
                snapshots: Vec::new(),
                fetching: None,
                loading: VecDeque::new(),
                slow_transfers: false,
                halted: None,
            };
            lab.members.insert(number, member);
            lab.boot(number);
        }
        lab
    }

    /// Starts a member anew with this on its disk. Where that does not say of which group it is, and the
    /// member is one of those with whom the group began, it is of this one.
    pub fn set_disk(&mut self, member: u64, disk: Durable) {
        let founder = self.founders.contains(self.member(member).identity.member);
        let group = founder.then(|| Durable::bootstrap(self.founders.clone()).snapshot).flatten();
        let snapshot = disk.snapshot.clone().or(group);
        self.member_mut(member).disk = Durable { snapshot, ..disk };
        self.boot(member);
    }

    /// Starts a member anew with other options.
    pub fn set_options(&mut self, member: u64, change: impl FnOnce(&mut Options)) {
        change(&mut self.member_mut(member).options);
        self.boot(member);
    }

    // ---- what happens to members ----

    /// Gives a member an event, carries out what follows, and returns the actions of that one step.
    pub fn step(&mut self, member: u64, event: Event) -> Vec<Action> {
        let before = Before::of(self.raft(member));
        let clock = self.member(member).clock;
        let owner = self.member_mut(member);
        let raft = owner.raft.as_mut().expect("the member is up");
        let actions = raft.step(clock, event.clone());
        let after = raft.status();
        let kept = owner.contract.watch(&event, &actions, &after);
        if let Some(watched) = &mut self.watched {
            watched.step(&event, &actions, &after);
        }
        self.tell_changes(member, &before);
        for action in &actions {
            self.carry_out(member, action);
        }
        // A test may play a host that breaks the contract, to see what the kernel makes of it.
        let breach = kept.err().filter(|breach| breach.party == Party::Kernel);
        assert_eq!(breach, None, "member {member}, after:\n{}", self.transcript);
        let Self { safety, members, graves, .. } = self;
        safety.check(members, &Disks { members, graves }, member, &before);
        self.follow_up(member);
        actions
    }

    /// Time passes until this member's timer goes off: an election of one that does not lead, the heartbeat
    /// of one that does.
    pub fn fire(&mut self, member: u64) -> Vec<Action> {
        let deadline = self.raft(member).deadline();
        assert_ne!(deadline, Instant::NEVER, "member {member} has no timer");
        self.advance(deadline - self.member(member).clock, Some(member));
        self.note(format_args!("{member}: its timer goes off"));
        self.step(member, Event::Wake)
    }

    /// Lets a member's election timer go off.
    pub fn campaign(&mut self, member: u64) {
        assert_ne!(self.status(member).role, RoleKind::Leader, "member {member} leads already");
        self.fire(member);
    }

    /// Lets a leader's heartbeat timer go off.
    pub fn heartbeat(&mut self, member: u64) {
        assert_eq!(self.status(member).role, RoleKind::Leader, "member {member} does not lead");
        self.fire(member);
    }

    /// A heartbeat, and all that follows from it.
    pub fn beat(&mut self, member: u64) {
        self.heartbeat(member);
        self.deliver();
    }

    /// Time passes, and no timer goes off.
    pub fn pass(&mut self, span: Nanos) {
        self.advance(span, None);
    }

    /// Time passes for all members alike, and every timer goes off when it is due. Messages wait.
    pub fn run(&mut self, span: Nanos) {
        let mut left = span;
        loop {
            let remaining = |member: &u64| self.time_to_deadline(*member);
            let first = self.up().filter(|member| self.halted(*member).is_none()).min_by_key(remaining);
            match first {
                Some(first) if self.time_to_deadline(first) <= left => {
                    left = left - self.time_to_deadline(first);
                    self.fire(first);
                }
                _ => return self.pass(left),
            }
        }
    }

    /// Time passes until the first timer goes off, whosever it is.
    pub fn wait(&mut self) {
        let remaining = |member: &u64| self.time_to_deadline(*member);
        let first = self.up().min_by_key(remaining).expect("a member is up");
        self.fire(first);
    }

    /// Elects `member`: its campaign, and all messages that follow from it.
    pub fn elect(&mut self, member: u64) {
        self.campaign(member);
        self.deliver();
        assert_eq!(
            self.status(member).role,
            RoleKind::Leader,
            "member {member} was not elected:\n{}",
            self.transcript
        );
    }

    /// A client proposes something to this member.
    pub fn propose(&mut self, member: u64, payload: &str) -> RequestId {
        let proposal = self.proposal(member, payload);
        let request = proposal.request;
        self.note(format_args!("{member}: a client proposes {payload:?}"));
        self.step(member, Event::Propose(proposal));
        request
    }

    /// Several proposals in one event.
    pub fn propose_batch(&mut self, member: u64, payloads: &[&str]) -> Vec<RequestId> {
        let proposals: Vec<_> = payloads.iter().map(|payload| self.proposal(member, payload)).collect();
        let requests = proposals.iter().map(|proposal| proposal.request).collect();
        self.note(format_args!("{member}: clients propose {payloads:?}"));
        self.step(member, Event::ProposeBatch(proposals));
        requests
    }

    /// The host of `member` has lost its connection to `peer`.
    pub fn unreachable(&mut self, member: u64, peer: u64) {
        self.note(format_args!("{member}: the connection to {peer} breaks"));
        self.step(member, Event::PeerUnreachable(id(peer)));
    }

    /// A client wants to read from this member.
    pub fn read(&mut self, member: u64, via: ReadVia) -> RequestId {
        self.reads += 1;
        let number = self.reads;
        let request = self.ask(member, Asked::Read(number, self.safety.committed()));
        let how = if via == ReadVia::Lease { " by lease" } else { "" };
        self.note(format_args!("{member}: a client reads{how} (read {number})"));
        self.step(member, Event::Read(Read { request, via }));
        request
    }

    /// An operator wants other members.
    pub fn reconfigure(&mut self, member: u64, changes: &[Change], expected: Option<LogId>) -> RequestId {
        self.reconfigure_with(member, changes, expected, false)
    }

    /// An operator wants other members, whether a majority of them can be reached or not.
    pub fn force_reconfigure(&mut self, member: u64, changes: &[Change]) -> RequestId {
        self.reconfigure_with(member, changes, None, true)
    }

    fn reconfigure_with(
        &mut self,
        member: u64,
        changes: &[Change],
        expected: Option<LogId>,
        force: bool,
    ) -> RequestId {
        let request = self.ask(member, Asked::Change);
        let told: Vec<_> = changes.iter().map(told_change).collect();
        let only = expected.map_or(String::new(), |id| format!(", if the membership is still that of {id}"));
        let by_force = if force { ", by force" } else { "" };
        self.note(format_args!("{member}: an operator wants to {}{only}{by_force}", told.join(", ")));
        let changes = changes.to_vec();
        self.step(member, Event::Reconfigure(Reconfigure { request, expected, changes, force }));
        request
    }

    /// An operator wants the change given up that waits for newcomers.
    pub fn cancel_change(&mut self, member: u64) -> RequestId {
        let request = self.ask(member, Asked::Cancel);
        self.note(format_args!("{member}: an operator cancels the change that waits for newcomers"));
        self.step(member, Event::CancelChange(request));
        request
    }

    /// An operator wants another leader: this one, or the best successor.
    pub fn transfer(&mut self, member: u64, to: Option<u64>) -> RequestId {
        let request = self.ask(member, Asked::Transfer);
        let whom = to.map_or("another member".into(), |to| format!("member {to}"));
        self.note(format_args!("{member}: an operator wants {whom} to lead"));
        self.step(member, Event::Transfer(Transfer { request, to: to.map(id) }));
        request
    }

    /// The host of `member` takes a snapshot of its state machine as it was after this entry.
    pub fn snapshot(&mut self, member: u64, index: u64) {
        let index = Index::new(index);
        self.note(format_args!("{member}: a snapshot of everything through {index} is taken"));
        if let Some(snapshot) = self.raft(member).snapshot_at(index) {
            let owner = self.member_mut(member);
            let state = owner.applied[..index.get() as usize].to_vec();
            owner.snapshots.push((snapshot, state));
        }
        self.step(member, Event::SnapshotTaken(index));
    }

    /// The host of `member` is about to stop it. Its disk still does what it was told.
    pub fn shutdown(&mut self, member: u64) {
        self.note(format_args!("{member}: is shut down"));
        self.step(member, Event::Shutdown);
    }

    /// A member stops at once, and what its disk had not yet done is lost.
    pub fn crash(&mut self, number: u64) {
        for request in self.requests.iter_mut().filter(|request| request.asked == number) {
            request.lost |= request.outcomes.is_empty();
        }
        let member = self.member_mut(number);
        let lost = member.unsynced.len() as u64;
        member.raft = None;
        member.unsynced.clear();
        member.unapplied.clear();
        member.loading.clear();
        member.fetching = None;
        self.happens(|| Happened::Crash { member: id(number), lost });
    }

    /// From now on, a diagram is made of what happens: of this cluster alone, or after what was seen of
    /// another.
    pub fn watch(&mut self, earlier: Option<Watched>) {
        let goes_on = earlier.is_some();
        let members: Vec<_> = self.members.keys().map(|number| id(*number)).collect();
        let begun = || Watched { watcher: Watcher::new(members.iter().copied()), steps: 0, now: 0 };
        self.watched = Some(earlier.unwrap_or_else(begun));
        members.into_iter().filter(|_| goes_on).for_each(|member| {
            self.happens(|| Happened::Restart { member, incarnation: Incarnation::default() });
        });
    }

    /// What was watched.
    pub fn take_watched(&mut self) -> Option<Watched> {
        self.watched.take()
    }

    /// Says something in the diagram.
    pub fn narrate(&mut self, what: &str) {
        self.happens(|| Happened::Other { member: None, what: what.to_owned() });
    }

    fn happens(&mut self, what: impl FnOnce() -> Happened) {
        if let Some(watched) = &mut self.watched {
            watched.happens(&what());
        }
    }

    /// A member starts again from its disk.
    pub fn restart(&mut self, member: u64) {
        assert!(!self.is_up(member), "member {member} is up");
        self.boot(member);
    }

    /// A member stops, and its disk damages these entries before it starts again.
    pub fn damage(&mut self, number: u64, indexes: &[u64]) {
        self.crash(number);
        let disk = &mut self.member_mut(number).disk;
        for entry in disk.entries.iter_mut().filter(|entry| indexes.contains(&entry.id.index.get())) {
            entry.body = EntryBody::Lost;
        }
        self.note(format_args!("{number}: its disk damages entries {indexes:?}; it comes up again"));
        self.boot(number);
    }

    /// A member stops, and its disk damages the snapshot on which its log rests before it starts again.
    pub fn damage_snapshot(&mut self, number: u64) {
        self.crash(number);
        let member = self.member_mut(number);
        member.disk.snapshot_lost = true;
        member.snapshots.clear();
        self.note(format_args!("{number}: its disk damages its snapshot; it comes up again"));
        self.boot(number);
    }

    /// A member's disk is lost. It comes up again under its old id with an empty one: in another incarnation.
    pub fn wipe(&mut self, number: u64) {
        self.crash(number);
        let member = self.member_mut(number);
        let former = (member.identity, std::mem::take(&mut member.disk));
        member.identity.member.incarnation.0 += 1;
        member.snapshots.clear();
        let now = member.identity.member;
        self.graves.push(former);
        self.note(format_args!("{number}: its disk is lost; it comes up empty, as {now}"));
        self.boot(number);
    }

    /// From now on this member's disk does nothing before it is told to [`persist`](Self::persist).
    pub fn slow_disk(&mut self, member: u64) {
        self.member_mut(member).slow_disk = true;
    }

    /// This member's disk does what it owes, and from now on everything at once.
    pub fn fast_disk(&mut self, member: u64) {
        self.member_mut(member).slow_disk = false;
        self.follow_up(member);
    }

    /// This member's disk does the next `count` writes, or as many as there are, and reports the last.
    pub fn persist(&mut self, member: u64, count: usize) {
        let last = self.member(member).unsynced.iter().take(count).next_back();
        if let Some(seq) = last.map(|write| write.seq.get()) {
            self.note(format_args!("{member}: w{seq} is durable"));
        }
        self.sync(member, count);
    }

    /// Some of the oldest writes of `member` reach its disk, and it does not hear of it.
    pub fn flush(&mut self, number: u64, count: usize) {
        let member = self.member_mut(number);
        let count = count.min(member.unsynced.len());
        let done: Vec<_> = member.unsynced.drain(..count).collect();
        done.iter().for_each(|write| member.disk.write(write));
        self.note(format_args!("{number}: its disk holds {count} of its writes, and has not said so"));
    }

    /// From now on this member's state machine does nothing before it is told to [`apply`](Self::apply).
    pub fn slow_apply(&mut self, member: u64) {
        self.member_mut(member).slow_apply = true;
    }

    /// This member's state machine does what it owes, and reports it.
    pub fn apply(&mut self, number: u64) {
        while let Some(work) = self.member_mut(number).unapplied.pop_front() {
            self.do_work(number, &work);
        }
        let applied = Index::new(self.member(number).applied.len() as u64);
        if applied > self.status(number).applied {
            self.step(number, Event::Applied(applied));
        }
    }

    /// From now on this member gets no snapshot and reads nothing back before it is told to.
    pub fn slow_transfers(&mut self, member: u64) {
        self.member_mut(member).slow_transfers = true;
    }

    /// Everything that this member's host owes is done, and from now on everything at once.
    pub fn fast_host(&mut self, number: u64) {
        let member = self.member_mut(number);
        (member.slow_disk, member.slow_apply, member.slow_transfers) = (false, false, false);
        self.apply(number);
        self.follow_up(number);
    }

    /// This member gets the snapshot that it was told to get, if its owner is there and still has it.
    pub fn fetch(&mut self, number: u64) {
        let Some((from, snapshot)) = self.member_mut(number).fetching.take() else { return };
        let there = !self.cut.contains(&(from, id(number))) && self.is_up(from.get());
        let source = &self.member(from.get()).snapshots;
        let bytes = source.iter().find(|(known, _)| *known == snapshot).filter(|_| there).cloned();
        let last = snapshot.last;
        let Some(bytes) = bytes else {
            self.note(format_args!("{number}: cannot get snapshot {last} from {from}"));
            self.step(number, Event::SnapshotFailed(last));
            return;
        };
        self.note(format_args!("{number}: gets snapshot {last} from {from}"));
        self.member_mut(number).snapshots.push(bytes);
        self.step(number, Event::SnapshotFetched(snapshot));
    }

    /// What this member is getting cannot be had.
    pub fn fail_fetch(&mut self, number: u64) {
        if let Some((_, snapshot)) = self.member_mut(number).fetching.take() {
            self.note(format_args!("{number}: cannot get snapshot {}", snapshot.last));
            self.step(number, Event::SnapshotFailed(snapshot.last));
        }
    }

    /// This member reads back from its disk what it was told to; or finds that it cannot.
    pub fn load(&mut self, number: u64, can: bool) {
        let Some(Load { to, after, through, max_bytes }) = self.member_mut(number).loading.pop_front() else {
            return;
        };
        let disk = &self.member(number).disk;
        let (mut size, mut entries) = (0, Vec::new());
        let known = disk.entries.iter().filter(|entry| entry.id.index > after.index);
        for entry in
            known.take_while(|entry| can && entry.id.index <= through && after.index >= disk.base.index)
        {
            size += entry.size();
            if size > max_bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        let entries: Entries = entries.into_iter().collect();
        match entries.last() {
            Some(last) => self.note(format_args!(
                "{number}: reads the entries after {after} through {} back for {to}",
                last.id.index
            )),
            None => self.note(format_args!("{number}: cannot read the entries after {after}")),
        }
        self.step(number, Event::EntriesLoaded(EntriesLoaded { to, after, entries }));
    }

    // ---- what happens to messages ----

    /// Delivers everything that is in flight and everything that this causes, until all is quiet.
    pub fn deliver(&mut self) {
        self.tells_sends = false;
        let mut delivered = 0;
        while let Some(message) = self.in_flight.pop_front() {
            self.arrive(message);
            delivered += 1;
            assert!(delivered < 10_000, "the cluster never falls quiet:\n{}", self.transcript);
        }
        self.tells_sends = true;
    }

    /// Delivers the messages that are in flight now and match, but nothing that this causes. A message
    /// matches where the line that it prints as has every word of the filter: `1→2 Append`. Returns how many
    /// there were.
    pub fn deliver_only(&mut self, filter: &str) -> usize {
        let chosen = self.take(filter);
        let count = chosen.len();
        for message in chosen {
            self.arrive(message);
        }
        count
    }

    /// Loses the messages that match.
    pub fn lose(&mut self, filter: &str) -> usize {
        let lost = self.take(filter);
        lost.iter().for_each(|message| self.note(format_args!("{message} is lost")));
        lost.len()
    }

    /// Sends the messages that match once more.
    pub fn duplicate(&mut self, filter: &str) -> usize {
        let copies: Vec<_> = self.matching(filter).cloned().collect();
        self.in_flight.extend(copies.iter().cloned());
        copies.len()
    }

    /// Keeps the messages that match on their way, until the test [releases](Self::release) them.
    /// Returns how many.
    pub fn hold(&mut self, filter: &str) -> usize {
        let held = self.take(filter);
        held.iter().for_each(|message| self.note(format_args!("{message} is held up")));
        let count = held.len();
        self.held.extend(held);
        count
    }

    /// What was held up and matches arrives. Returns how many messages did.
    pub fn release(&mut self, filter: &str) -> usize {
        let (chosen, rest) = self.held.drain(..).partition(|message| matches(message, filter));
        self.held = rest;
        let chosen: Vec<_> = chosen;
        let count = chosen.len();
        for message in chosen {
            self.arrive(message);
        }
        count
    }

    /// Delivers what matches as if it were of another cluster, whose members have the same numbers.
    pub fn stray(&mut self, filter: &str) -> usize {
        let chosen = self.take(filter);
        let count = chosen.len();
        for message in chosen {
            self.note("from another cluster:");
            self.arrive(Message { cluster: ClusterId(CLUSTER.0 + 1), ..message });
        }
        count
    }

    /// Delivers the message at this position among those in flight.
    pub fn deliver_at(&mut self, position: usize) {
        if let Some(message) = self.in_flight.remove(position) {
            self.arrive(message);
        }
    }

    /// Loses the message at this position among those in flight.
    pub fn lose_at(&mut self, position: usize) {
        if let Some(message) = self.in_flight.remove(position) {
            self.note(format_args!("{message} is lost"));
        }
    }

    /// Sends the message at this position once more.
    pub fn repeat_at(&mut self, position: usize) {
        self.in_flight.extend(self.in_flight.get(position).cloned());
    }

    /// Delivers a message to the member that it names, whether a member sent it or the test made it.
    pub fn arrive(&mut self, message: Message) -> Vec<Action> {
        let to = message.to.id.get();
        if self.is_up(to) {
            self.note(format_args!("{message}"));
            self.step(to, Event::Receive(message))
        } else {
            self.note(format_args!("{message} is lost: {to} is down"));
            Vec::new()
        }
    }

    /// Messages from `from` to `to` are lost from now on.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((id(from), id(to)));
    }

    /// Messages between this member and all others are lost from now on.
    pub fn isolate(&mut self, member: u64) {
        for other in self.members.keys().copied().filter(|&other| other != member) {
            self.cut.extend([(id(member), id(other)), (id(other), id(member))]);
        }
    }

    /// Messages between members of different groups are lost from now on.
    pub fn partition(&mut self, groups: &[&[u64]]) {
        for (position, group) in groups.iter().enumerate() {
            for other in groups.iter().enumerate().filter(|&(at, _)| at != position) {
                let pairs = group.iter().flat_map(|&a| other.1.iter().map(move |&b| (id(a), id(b))));
                self.cut.extend(pairs);
            }
        }
    }

    /// All links work again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    // ---- questions ----

    /// The kernel of a member that is up.
    pub fn raft(&self, member: u64) -> &Raft {
        let raft = self.member(member).raft.as_ref();
        raft.unwrap_or_else(|| panic!("member {member} is down"))
    }

    /// How many members there are, learners included.
    pub fn members(&self) -> u64 {
        self.members.len() as u64
    }

    /// Whether a member is up.
    pub fn is_up(&self, member: u64) -> bool {
        self.member(member).raft.is_some()
    }

    /// Every member that is up.
    pub fn up(&self) -> impl Iterator<Item = u64> + '_ {
        let up = |(&number, member): (&u64, &Member)| member.raft.is_some().then_some(number);
        self.members.iter().filter_map(up)
    }

    /// A member that is up, at this moment.
    pub fn status(&self, member: u64) -> Status {
        self.raft(member).status()
    }

    /// The leaders among those that are up.
    pub fn leaders(&self) -> Vec<u64> {
        self.up().filter(|&member| self.status(member).role == RoleKind::Leader).collect()
    }

    /// The terms of the entries of a member's log, from its base.
    pub fn terms(&self, member: u64) -> Vec<u64> {
        let log = self.raft(member).log();
        let term = |index| log.term(Index::new(index)).unwrap_or_default().get();
        (log.base().get() + 1..=log.last().index.get()).map(term).collect()
    }

    /// The options with which a member is started.
    pub fn options(&self, member: u64) -> &Options {
        &self.member(member).options
    }

    /// Who a member is.
    pub fn identity(&self, member: u64) -> Identity {
        self.member(member).identity
    }

    /// What a member's disk holds.
    pub fn disk(&self, member: u64) -> &Durable {
        &self.member(member).disk
    }

    /// What a member's state machine holds, as text; only what was proposed.
    pub fn applied(&self, member: u64) -> Vec<String> {
        let text = |entry: &Entry| match &entry.body {
            EntryBody::Data(payload) => Some(String::from_utf8_lossy(payload).into_owned()),
            EntryBody::Blank | EntryBody::Config(_) | EntryBody::Withheld | EntryBody::Lost => None,
        };
        self.member(member).applied.iter().filter_map(text).collect()
    }

    /// How many writes a member's disk owes.
    pub fn owed(&self, member: u64) -> usize {
        self.member(member).unsynced.len()
    }

    /// Why a member has halted.
    pub fn halted(&self, member: u64) -> Option<Violation> {
        self.member(member).halted
    }

    /// How long until this member's timer goes off.
    pub fn time_to_deadline(&self, member: u64) -> Nanos {
        self.raft(member).deadline() - self.member(member).clock
    }

    /// Every answer that a request got so far.
    pub fn outcomes(&self, request: RequestId) -> &[Outcome] {
        &self.requests[request.0 as usize].outcomes
    }

    /// Whether a request was never answered since the member that was asked went down first.
    pub fn is_lost(&self, request: RequestId) -> bool {
        self.requests[request.0 as usize].lost
    }

    /// The greatest index that any member has committed.
    pub fn committed(&self) -> Index {
        self.safety.committed()
    }

    /// How many requests were made.
    pub fn requests(&self) -> impl Iterator<Item = RequestId> {
        (0..self.requests.len() as u64).map(RequestId)
    }

    /// The messages in flight, in the order in which they were sent.
    pub fn in_flight(&self) -> &VecDeque<Message> {
        &self.in_flight
    }

    /// How many messages in flight match.
    pub fn count(&self, filter: &str) -> usize {
        self.matching(filter).count()
    }

    /// Does something that the transcript does not tell of.
    pub fn quietly(&mut self, act: impl FnOnce(&mut Self)) {
        let told = self.transcript.len();
        act(self);
        self.transcript.truncate(told);
    }

    /// What happened since this was last asked.
    pub fn take_transcript(&mut self) -> String {
        std::mem::take(&mut self.transcript)
    }

    // ---- details ----

    fn member(&self, member: u64) -> &Member {
        self.members.get(&member).unwrap_or_else(|| panic!("there is no member {member}"))
    }

    fn member_mut(&mut self, member: u64) -> &mut Member {
        self.members.get_mut(&member).unwrap_or_else(|| panic!("there is no member {member}"))
    }

    /// Time passes, and no timer goes off, though some may be due; that of `firing` is about to.
    fn advance(&mut self, span: Nanos, firing: Option<u64>) {
        const MOMENT: Nanos = Nanos::new(1);
        for (&number, member) in &mut self.members {
            let then = member.clock + span;
            member.clock = match &member.raft {
                Some(raft) if firing != Some(number) => {
                    let just_before = Instant::from_nanos(raft.deadline().as_nanos() - MOMENT.get());
                    member.clock.max(then.min(just_before))
                }
                _ => then,
            };
            self.clocks_differ |= then - member.clock > MOMENT;
        }
    }

    fn boot(&mut self, number: u64) {
        let member = self.member_mut(number);
        member.unsynced.clear();
        member.unapplied.clear();
        member.loading.clear();
        member.fetching = None;
        member.applied.clear();
        member.halted = None;
        let config = Config::new(member.identity, member.options.clone()).expect("the options are sound");
        let raft = Raft::restore(config, member.disk.clone(), member.clock).expect("the disk is sound");
        member.contract = Contract::new(raft.config(), &member.disk);
        member.raft = Some(raft);
        let incarnation = self.member_mut(number).identity.member.incarnation;
        self.happens(|| Happened::Restart { member: id(number), incarnation });
    }

    fn ask(&mut self, member: u64, what: Asked) -> RequestId {
        let request = RequestId(self.requests.len() as u64);
        self.requests.push(Request { asked: member, what, lost: false, outcomes: Vec::new() });
        request
    }

    fn proposal(&mut self, member: u64, payload: &str) -> Proposal {
        let payload = Payload::from(payload);
        let request = self.ask(member, Asked::Proposal(payload.clone()));
        Proposal { request, payload }
    }

    fn carry_out(&mut self, number: u64, action: &Action) {
        match action {
            Action::Send(message) => self.send(message),
            Action::Persist(write) => self.write(number, write),
            Action::Apply { through } => self.work(number, Work::Apply(*through)),
            Action::Restore(snapshot) => self.work(number, Work::Restore(snapshot.clone())),
            Action::FetchSnapshot { from, snapshot } => {
                self.tell(format_args!("wants {snapshot} from {from}"));
                self.member_mut(number).fetching = Some((*from, snapshot.clone()));
            }
            Action::LoadEntries { to, after, through, max_bytes } => {
                self.tell(format_args!("wants the entries after {after} read back for {to}"));
                let load = Load { to: *to, after: *after, through: *through, max_bytes: *max_bytes };
                self.member_mut(number).loading.push_back(load);
            }
            Action::TakeSnapshot => self.tell(format_args!("shall take a snapshot")),
            Action::Respond { request, outcome } => self.respond(number, *request, *outcome),
            Action::Halt(violation) => {
                self.member_mut(number).halted = Some(*violation);
                self.tell(format_args!("halts: {violation}"));
            }
        }
    }

    fn respond(&mut self, number: u64, request: RequestId, outcome: Outcome) {
        let request = &mut self.requests[request.0 as usize];
        request.outcomes.push(outcome);
        let line = format!("answers {}: {outcome}", request.what);
        if let (Asked::Read(_, committed), Outcome::Ready { index, until }) = (&request.what, outcome) {
            let honest = until.is_none() || !self.clocks_differ;
            assert!(
                index >= *committed || !honest,
                "Linearizable Reads: {line}, though {committed} was committed when it came"
            );
            assert_eq!(request.asked, number, "a read is answered where it was asked");
            let applied = Index::new(self.member(number).applied.len() as u64);
            assert!(applied >= index, "Linearizable Reads: {line}, applied {applied}");
        }
        self.tell(line);
    }

    fn send(&mut self, message: &Message) {
        if self.cut.contains(&(message.from.id, message.to.id)) {
            self.tell(format_args!("{message} is lost"));
            return;
        }
        if self.tells_sends {
            self.tell(message);
        }
        self.in_flight.push_back(message.clone());
    }

    fn write(&mut self, number: u64, write: &Write) {
        let member = self.member_mut(number);
        let known = member.unsynced.back().map_or(member.disk.ballot, |last| last.ballot);
        let mut line = format!("writes w{}", write.seq.get());
        if write.ballot != known {
            let _ = write!(line, " term={}", write.ballot.term());
            if let Some(vote) = write.ballot.vote() {
                let _ = write!(line, " vote={vote}");
            }
        }
        if let Some(after) = write.truncate_after {
            let _ = write!(line, " forgets-after={after}");
        }
        if let Some(rebase) = &write.rebase {
            let _ = write!(line, " snapshot={} begins-after={}", rebase.snapshot.last, rebase.base.index);
        }
        if !write.append.is_empty() {
            let _ = write!(line, " {}", write.append);
        }
        if member.slow_disk {
            line.push_str(", not yet durable");
        }
        member.unsynced.push_back(write.clone());
        self.tell(line);
    }

    fn work(&mut self, number: u64, work: Work) {
        let member = self.member_mut(number);
        if let Work::Restore(_) = work {
            member.unapplied.clear();
        }
        if member.slow_apply {
            member.unapplied.push_back(work);
        } else {
            self.do_work(number, &work);
        }
    }

    fn do_work(&mut self, number: u64, work: &Work) {
        let member = self.member_mut(number);
        match work {
            Work::Apply(through) => {
                let raft = member.raft.as_ref().expect("a member that acts is up");
                let from = Index::new(member.applied.len() as u64);
                if raft.log().evicted() > from {
                    // A snapshot has taken their place, and is about to be restored.
                    return;
                }
                let new: Vec<_> = raft.log().entries(from, *through).cloned().collect();
                member.applied.extend(new.iter().cloned());
                assert_eq!(member.applied.len() as u64, through.get(), "what is to be applied is in memory");
                self.tell(format_args!("applies {}", Entries::from_iter(new)));
            }
            Work::Restore(snapshot) => {
                let state = member.snapshots.iter().find(|(known, _)| known == snapshot);
                member.applied = state.expect("it has the bytes that it is to restore").1.clone();
                self.tell(format_args!("restores {snapshot}"));
            }
        }
    }

    fn sync(&mut self, member: u64, count: usize) {
        let owner = self.member_mut(member);
        let count = count.min(owner.unsynced.len());
        let done: Vec<_> = owner.unsynced.drain(..count).collect();
        done.iter().for_each(|write| owner.disk.write(write));
        if let Some(last) = done.last() {
            self.step(member, Event::Persisted(last.seq));
        }
    }

    /// What a host does at once after a step: it lets the disk work, reports what was applied, and brings
    /// what was asked for.
    fn follow_up(&mut self, number: u64) {
        let Some(raft) = &self.member(number).raft else {
            return;
        };
        let status = raft.status();
        if status.role == RoleKind::Halted {
            let member = self.member_mut(number);
            let owed: Vec<_> =
                if member.slow_disk { Vec::new() } else { member.unsynced.drain(..).collect() };
            owed.iter().for_each(|write| member.disk.write(write));
            return;
        }
        let member = self.member(number);
        let (slow_disk, slow_transfers) = (member.slow_disk, member.slow_transfers);
        if !member.slow_apply && member.applied.len() as u64 > status.applied.get() {
            let applied = Index::new(member.applied.len() as u64);
            self.step(number, Event::Applied(applied));
        }
        if !slow_disk && self.owed(number) > 0 {
            self.sync(number, usize::MAX);
        }
        if !slow_transfers && self.member(number).fetching.is_some() {
            self.fetch(number);
        }
        if !slow_transfers && !self.member(number).loading.is_empty() {
            self.load(number, true);
        }
    }

    fn matching<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = &'a Message> {
        self.in_flight.iter().filter(move |message| matches(message, filter))
    }

    fn take(&mut self, filter: &str) -> Vec<Message> {
        if whole(filter).is_some() {
            let first = self.in_flight.iter().position(|message| matches(message, filter));
            return first.and_then(|first| self.in_flight.remove(first)).into_iter().collect();
        }
        let (chosen, rest) = self.in_flight.drain(..).partition(|message| matches(message, filter));
        self.in_flight = rest;
        Vec::from_iter::<VecDeque<_>>(chosen)
    }

    /// A line of the transcript: something that happened.
    pub fn note(&mut self, line: impl Display) {
        let _ = writeln!(self.transcript, "{line}");
    }

    /// An indented line of the transcript: what a member did about it.
    fn tell(&mut self, line: impl Display) {
        let _ = writeln!(self.transcript, "  {line}");
    }

    fn tell_changes(&mut self, number: u64, before: &Before) {
        let after = Before::of(self.raft(number));
        for (reason, count) in after.drops.iter() {
            if count > before.drops.count(reason) {
                self.tell(format_args!("drops it: {reason}"));
            }
        }
        let (was, is) = (before.status, after.status);
        let leader = is.leader.filter(|&leader| leader != is.id);
        let whose = leader.map_or(String::new(), |leader| format!(" of {leader}"));
        if is.role == RoleKind::Halted {
        } else if is.role != was.role {
            self.tell(format_args!("becomes {}{whose} in term {}", is.role, is.term));
        } else if is.term != was.term {
            self.tell(format_args!("is {}{whose} in term {}", is.role, is.term));
        } else if is.leader != was.leader {
            self.tell(leader.map_or("follows no leader".into(), |leader| format!("follows {leader}")));
        }
        if is.configured != was.configured {
            let membership = self.raft(number).membership().clone();
            self.tell(format_args!("is in the group {membership}, by {}", is.configured));
        }
        if is.committed > was.committed {
            self.tell(format_args!("commits through {}", is.committed));
        }
    }
}

/// What is between quotes: the whole of one message, of whose copies the first is meant.
fn whole(filter: &str) -> Option<&str> {
    filter.strip_prefix('"')?.strip_suffix('"')
}

/// Whether every word of the filter is in the line that a message prints as; `->` may stand for the arrow.
fn matches(message: &Message, filter: &str) -> bool {
    let line = message.to_string();
    if let Some(whole) = whole(filter) {
        return line == whole;
    }
    let words = line.split([' ', '[', ']', ',']).collect::<Vec<_>>();
    // A member is named by its id alone, or with its incarnation.
    let is = |member: kontiki_core::types::Member, name: &str| {
        name.is_empty() || name == member.id.to_string() || name == member.to_string()
    };
    filter.replace("->", "→").split_whitespace().all(|word| match word.split_once('→') {
        Some((from, to)) => is(message.from, from) && is(message.to, to),
        None => words.contains(&word),
    })
}

fn told_change(change: &Change) -> String {
    match change {
        Change::AddVoter(member) => format!("add voter {member}"),
        Change::AddWitness(member) => format!("add witness {member}"),
        Change::AddLearner(member) => format!("add learner {member}"),
        Change::Promote(id) => format!("promote {id}"),
        Change::Demote(id) => format!("demote {id}"),
        Change::Remove(id) => format!("remove {id}"),
    }
}
