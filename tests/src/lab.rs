//! A cluster of real kernels in lockstep, for scripts and for tests that follow the paper line by line.
//!
//! Nothing happens by itself. Messages wait until they are delivered, a slow disk until it is told to go on, and a
//! timer goes off only on command: time passes for everybody alike, but a member whose timer is about to go off
//! waits just before it, like one whose clock is a little slow. So a test says what happens, and nothing else does.
//!
//! After every step the [`Lab`] checks the paper's safety properties (figure 3) over all members, and that the kernel
//! keeps its side of the [`Contract`].

use kontiki_core::action::{Action, Outcome, Violation, Write};
use kontiki_core::config::{Config, Options};
use kontiki_core::event::{Event, Proposal};
use kontiki_core::log::{Entries, Entry, EntryBody, LogSlice};
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::{Durable, Raft};
use kontiki_core::status::{Drops, RoleKind, Status};
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{Ballot, ClusterId, Identity, Index, LogId, NodeId, Payload, RequestId, Term};
use kontiki_sim::contract::{Contract, Party};
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

/// What a disk holds after a quiet life: blank entries of these terms from index 1, the term of the last, no vote. The group
/// that they are of is not yet said.
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
    membership: Membership,
    members: BTreeMap<u64, Member>,
    in_flight: VecDeque<Message>,
    /// Links, each from one member to another, that lose what is sent over them from now on.
    cut: BTreeSet<(NodeId, NodeId)>,
    requests: Vec<Request>,
    safety: Safety,
    transcript: String,
    /// Whether the transcript tells of messages as they are sent, or only as they arrive.
    tells_sends: bool,
}

/// One member with all that a host keeps for it.
#[derive(Debug)]
struct Member {
    options: Options,
    /// `None` while it is down.
    raft: Option<Raft>,
    contract: Contract,
    clock: Instant,
    disk: Durable,
    /// What the disk was told and has not yet done, in order.
    unsynced: VecDeque<Write>,
    slow_disk: bool,
    applied: Vec<Entry>,
    halted: Option<Violation>,
}

/// What was proposed, and every answer that it got.
#[derive(Debug)]
struct Request {
    payload: Payload,
    outcomes: Vec<Outcome>,
}

impl Lab {
    /// Members 1 to `voters`, all of them voters, with default options.
    pub fn of(voters: u64) -> Self {
        Self::new(voters, 0, &Options::default())
    }

    /// Members 1 to `voters`, and after them as many learners.
    pub fn new(voters: u64, learners: u64, options: &Options) -> Self {
        let membership = Membership::new((1..=voters).map(id), (voters + 1..=voters + learners).map(id))
            .expect("distinct ids");
        let mut lab = Self {
            membership,
            members: BTreeMap::new(),
            in_flight: VecDeque::new(),
            cut: BTreeSet::new(),
            requests: Vec::new(),
            safety: Safety::default(),
            transcript: String::new(),
            tells_sends: true,
        };
        for number in 1..=voters + learners {
            let member = Member {
                options: options.clone(),
                raft: None,
                contract: Contract::new(id(number), &Durable::default()),
                clock: Instant::ZERO,
                disk: Durable::bootstrap(lab.membership.clone()),
                unsynced: VecDeque::new(),
                slow_disk: false,
                applied: Vec::new(),
                halted: None,
            };
            lab.members.insert(number, member);
            lab.boot(number);
        }
        lab
    }

    /// Starts a member anew with this on its disk. Where that does not say of which group it is, it is of this one.
    pub fn set_disk(&mut self, member: u64, disk: Durable) {
        let snapshot = disk.snapshot.clone().or(Durable::bootstrap(self.membership.clone()).snapshot);
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
        let before = Snapshot::of(self.raft(member));
        let clock = self.member(member).clock;
        let owner = self.member_mut(member);
        let raft = owner.raft.as_mut().expect("the member is up");
        let actions = raft.step(clock, event.clone());
        let kept = owner.contract.watch(&event, &actions, &raft.status());
        self.tell_changes(member, &before);
        for action in &actions {
            self.carry_out(member, action);
        }
        // A test may play a host that breaks the contract, to see what the kernel makes of it.
        let breach = kept.err().filter(|breach| breach.party == Party::Kernel);
        assert_eq!(breach, None, "member {member}, after:\n{}", self.transcript);
        self.safety.check(&self.members, member, &before);
        self.follow_up(member);
        actions
    }

    /// Time passes until this member's timer goes off: an election of one that does not lead, the heartbeat of one
    /// that does.
    pub fn fire(&mut self, member: u64) -> Vec<Action> {
        let deadline = self.raft(member).deadline();
        assert_ne!(deadline, Instant::NEVER, "member {member} has no timer");
        self.pass(deadline - self.member(member).clock);
        self.member_mut(member).clock = deadline;
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

    /// Time passes, and nobody's timer goes off.
    pub fn pass(&mut self, span: Nanos) {
        for member in self.members.values_mut() {
            let Some(raft) = &member.raft else {
                member.clock = member.clock + span;
                continue;
            };
            let just_before = Instant::from_nanos(raft.deadline().as_nanos() - 1);
            member.clock = member.clock.max((member.clock + span).min(just_before));
        }
    }

    /// Time passes until the first timer goes off, whosever it is.
    pub fn wait(&mut self) {
        let remaining = |member: &u64| self.time_to_deadline(*member);
        let first = self.up().min_by_key(remaining).expect("somebody is up");
        self.fire(first);
    }

    /// A majority for `member`, with everybody helping: its campaign, and all that follows from it.
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
        let proposal = self.proposal(payload);
        let request = proposal.request;
        self.note(format_args!("{member}: a client proposes {payload:?}"));
        self.step(member, Event::Propose(proposal));
        request
    }

    /// Several proposals in one event.
    pub fn propose_batch(&mut self, member: u64, payloads: &[&str]) -> Vec<RequestId> {
        let proposals: Vec<_> = payloads.iter().map(|payload| self.proposal(payload)).collect();
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

    /// A member stops at once, and what its disk had not yet done is lost.
    pub fn crash(&mut self, member: u64) {
        let member = self.member_mut(member);
        member.raft = None;
        member.unsynced.clear();
    }

    /// A member starts again from its disk.
    pub fn restart(&mut self, member: u64) {
        assert!(!self.is_up(member), "member {member} is up");
        self.boot(member);
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

    /// Delivers the messages that are in flight now and match, but nothing that this causes. A message matches where
    /// the line that it prints as has every word of the filter: `1→2 Append`. Returns how many there were.
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

    /// Gives a message to the member that it names, whoever made it.
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

    /// The terms of the entries of a member's log, from index 1.
    pub fn terms(&self, member: u64) -> Vec<u64> {
        let log = self.raft(member).log();
        log.entries(log.base(), log.last().index).map(|entry| entry.id.term.get()).collect()
    }

    /// What a member's disk holds.
    pub fn disk(&self, member: u64) -> &Durable {
        &self.member(member).disk
    }

    /// What a member has applied in this life, as text; blank entries are left out.
    pub fn applied(&self, member: u64) -> Vec<String> {
        let text = |entry: &Entry| match &entry.body {
            EntryBody::Blank => None,
            EntryBody::Data(payload) => Some(String::from_utf8_lossy(payload).into_owned()),
            EntryBody::Config(_) | EntryBody::Withheld => None,
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

    fn boot(&mut self, number: u64) {
        let member = self.member_mut(number);
        member.unsynced.clear();
        member.applied.clear();
        let config = Config::new(identity(number), member.options.clone()).expect("the options are sound");
        let raft = Raft::restore(config, member.disk.clone(), member.clock).expect("the disk is sound");
        member.contract = Contract::new(id(number), &member.disk);
        member.raft = Some(raft);
    }

    fn proposal(&mut self, payload: &str) -> Proposal {
        let request = RequestId(self.requests.len() as u64);
        let payload = Payload::from(payload);
        self.requests.push(Request { payload: payload.clone(), outcomes: Vec::new() });
        Proposal { request, payload }
    }

    fn carry_out(&mut self, number: u64, action: &Action) {
        match action {
            Action::Send(message) => self.send(message),
            Action::Persist(write) => self.write(number, write),
            Action::Apply { through } => self.apply(number, *through),
            Action::Respond { request, outcome } => {
                let request = &mut self.requests[request.0 as usize];
                request.outcomes.push(*outcome);
                let payload = request.payload.clone();
                self.tell(format_args!("answers {payload:?}: {outcome}"));
            }
            Action::Halt(violation) => {
                self.member_mut(number).halted = Some(*violation);
                self.tell(format_args!("halts: {violation}"));
            }
            Action::Restore(_) | Action::FetchSnapshot { .. } | Action::LoadEntries { .. } => {
                panic!("{action:?} in a lab that takes no snapshots")
            }
        }
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
        if !write.append.is_empty() {
            let _ = write!(line, " {}", write.append);
        }
        if member.slow_disk {
            line.push_str(", not yet durable");
        }
        member.unsynced.push_back(write.clone());
        self.tell(line);
    }

    fn apply(&mut self, number: u64, through: Index) {
        let member = self.member_mut(number);
        let raft = member.raft.as_ref().expect("a member that acts is up");
        let from = Index::new(member.applied.len() as u64);
        let new: Vec<_> = raft.log().entries(from, through).cloned().collect();
        member.applied.extend(new.iter().cloned());
        self.tell(format_args!("applies {}", Entries::from_iter(new)));
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

    /// What a host does at once after a step: it lets the disk work, and reports what was applied.
    fn follow_up(&mut self, number: u64) {
        let Some(raft) = &self.member(number).raft else {
            return;
        };
        if raft.status().role == RoleKind::Halted {
            return;
        }
        let applied = Index::new(self.member(number).applied.len() as u64);
        if applied > raft.status().applied {
            self.step(number, Event::Applied(applied));
        }
        if !self.member(number).slow_disk && self.owed(number) > 0 {
            self.sync(number, usize::MAX);
        }
    }

    fn matching<'a>(&'a self, filter: &'a str) -> impl Iterator<Item = &'a Message> {
        self.in_flight.iter().filter(move |message| matches(message, filter))
    }

    fn take(&mut self, filter: &str) -> Vec<Message> {
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

    fn tell_changes(&mut self, number: u64, before: &Snapshot) {
        let after = Snapshot::of(self.raft(number));
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
            self.tell(leader.map_or("follows nobody".into(), |leader| format!("follows {leader}")));
        }
        if is.committed > was.committed {
            self.tell(format_args!("commits through {}", is.committed));
        }
    }
}

/// Whether every word of the filter is in the line that a message prints as; `->` may stand for the arrow.
fn matches(message: &Message, filter: &str) -> bool {
    let line = message.to_string();
    let words = line.split([' ', '[', ']', ',']).collect::<Vec<_>>();
    filter.replace("->", "→").split_whitespace().all(|word| match word.split_once('→') {
        Some(("", to)) => message.to.to_string() == to,
        Some((from, "")) => message.from.to_string() == from,
        _ => words.contains(&word),
    })
}

/// A member as it was before a step.
#[derive(Debug)]
struct Snapshot {
    status: Status,
    drops: Drops,
    /// The log of a leader, which may only grow.
    leads_with: Option<Vec<Entry>>,
}

impl Snapshot {
    fn of(raft: &Raft) -> Self {
        let status = raft.status();
        Self {
            status,
            drops: *raft.drops(),
            leads_with: (status.role == RoleKind::Leader).then(|| entries(raft)),
        }
    }
}

fn entries(raft: &Raft) -> Vec<Entry> {
    let log = raft.log();
    log.entries(log.base(), log.last().index).cloned().collect()
}

/// The properties of the paper's figure 3, over the whole cluster and its whole history.
#[derive(Default, Debug)]
struct Safety {
    leaders: BTreeMap<Term, NodeId>,
    committed: Vec<Entry>,
}

impl Safety {
    /// Looks at the member that has just taken a step.
    fn check(&mut self, members: &BTreeMap<u64, Member>, stepped: u64, before: &Snapshot) {
        let raft = members[&stepped].raft.as_ref().expect("it has just taken a step");
        let (status, log) = (raft.status(), entries(raft));
        if status.role == RoleKind::Halted {
            return;
        }
        if status.role == RoleKind::Leader {
            self.election_safety(status);
            if let Some(earlier) = &before.leads_with
                && before.status.term == status.term
            {
                assert!(log.starts_with(earlier), "Leader Append-Only: member {stepped} changed its log");
            }
        }
        self.state_machine_safety(status, &log);
        self.leader_completeness(members);
        for other in members.values().filter_map(|member| member.raft.as_ref()) {
            log_matching(&log, &entries(other));
        }
    }

    fn election_safety(&mut self, status: Status) {
        let leader = *self.leaders.entry(status.term).or_insert(status.id);
        assert_eq!(leader, status.id, "Election Safety: two leaders in term {}", status.term);
    }

    /// What one member commits, all commit. Only what is committed is applied, so this covers that too.
    fn state_machine_safety(&mut self, status: Status, log: &[Entry]) {
        let committed = &log[..status.committed.get() as usize];
        let known = committed.len().min(self.committed.len());
        assert_eq!(
            committed[..known],
            self.committed[..known],
            "State Machine Safety: member {} commits another entry",
            status.id
        );
        self.committed.extend_from_slice(&committed[known..]);
    }

    /// A leader has every entry that was committed in its own term or an earlier one. One of an earlier term may
    /// not know yet that it is deposed, and is not asked.
    fn leader_completeness(&self, members: &BTreeMap<u64, Member>) {
        let raft = members.values().filter_map(|member| member.raft.as_ref());
        let newest =
            raft.filter(|raft| raft.status().role == RoleKind::Leader).max_by_key(|raft| raft.status().term);
        if let Some(raft) = newest
            && self.committed.last().is_some_and(|last| last.id.term <= raft.status().term)
        {
            assert!(
                entries(raft).starts_with(&self.committed),
                "Leader Completeness: leader {} lacks a committed entry",
                raft.status().id
            );
        }
    }
}

/// Two logs that have the same entry somewhere are the same through there.
fn log_matching(one: &[Entry], other: &[Entry]) {
    let shared = one.iter().zip(other).rposition(|(a, b)| a.id == b.id);
    let through = shared.map_or(0, |position| position + 1);
    assert_eq!(one[..through], other[..through], "Log Matching");
}
