//! One member and any sequence of events: wakes at any time, messages that make sense and messages that do
//! not, requests of every kind, disks that do writes one by one or several at once, late reports, snapshots,
//! crashes.

use super::holds;
use kontiki_core::action::{Action, Write};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::{EntriesLoaded, Event, Proposal, Read, ReadVia, Reconfigure, Transfer};
use kontiki_core::log::{Entry, EntryBody, LogSlice, Snapshot};
use kontiki_core::membership::{Change, Membership};
use kontiki_core::message::{Body, Message, ReadContext};
use kontiki_core::raft::Raft;
use kontiki_core::status::{PauseReason, RoleKind};
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{Incarnation, Index, LogId, NodeId, Payload, RequestId, Term};
use kontiki_sim::contract::Contract;
use kontiki_tests::lab::{id, identity, message};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A number in terms of what the member knows, or out of this world.
#[derive(Clone, Copy, Debug)]
enum Number {
    /// This far from the member's own: its term, or the end of its log.
    Near(i64),
    Small(u64),
    Absurd(u64),
}

#[derive(Clone, Debug)]
enum Input {
    Pass(u64),
    Wake,
    Receive {
        from: u64,
        term: Number,
        body: Said,
    },
    Propose(Vec<usize>),
    Read(bool),
    Reconfigure(Vec<(u8, u64)>, bool),
    CancelChange,
    Transfer(Option<u64>),
    /// The host takes a snapshot of all but this many of the entries that are applied.
    Snapshot(u64),
    /// The host has got the bytes of the snapshot that it was told to get, or cannot.
    Fetched(bool),
    Shutdown,
    /// The disk does this many writes and reports the last of them.
    Persist(usize),
    /// Of what was handed out to be applied, some is.
    Apply(u64),
    Unreachable(u64),
    Restart,
}

/// A body whose numbers are not filled in yet.
#[derive(Clone, Debug)]
enum Said {
    PreVote(Number, Number),
    PreVoted(bool),
    RequestVote(Number, Number, bool),
    Voted(bool),
    /// Entries after an index whose term is the member's own there, or this one.
    Append {
        prev: Number,
        term: Option<Number>,
        rises: Vec<bool>,
        commit: Number,
    },
    Appended(Number),
    Rejected(Number, Number, Number),
    Heartbeat(u64, Number),
    HeartbeatAck(u64, Number, Number),
    /// A pause, of a log with this last entry.
    Pause(u64, Number, Number, Number),
    Commit(Number),
    Outdated,
    TimeoutNow(Number, Number),
    /// A snapshot with this last entry and one of a few groups.
    OfferSnapshot(Number, Number, u8),
    SnapshotUnavailable(Number, Number),
    ReadIndex(u64),
    ReadIndexIs(u64, u64, Number),
    WrongIncarnation,
    StaleIncarnation(u64),
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        20 => (-3..=3_i64).prop_map(Number::Near),
        5 => (0..6_u64).prop_map(Number::Small),
        1 => prop_oneof![Just(u64::MAX), Just(1 << 62), Just((1 << 62) + 1), any::<u64>()].prop_map(Number::Absurd),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let append =
        (number(), prop::option::weighted(0.2, number()), vec(prop::bool::weighted(0.2), 0..4), number());
    prop_oneof![
        2 => (number(), number()).prop_map(|(term, index)| Said::PreVote(term, index)),
        3 => any::<bool>().prop_map(Said::PreVoted),
        2 => (number(), number(), any::<bool>()).prop_map(|(term, index, transfer)| Said::RequestVote(term, index, transfer)),
        3 => any::<bool>().prop_map(Said::Voted),
        6 => append.prop_map(|(prev, term, rises, commit)| Said::Append { prev, term, rises, commit }),
        4 => number().prop_map(Said::Appended),
        2 => (number(), number(), number()).prop_map(|(prev, term, index)| Said::Rejected(prev, term, index)),
        3 => (0..4_u64, number()).prop_map(|(round, commit)| Said::Heartbeat(round, commit)),
        3 => (0..4_u64, number(), number()).prop_map(|(round, received, matched)| Said::HeartbeatAck(round, received, matched)),
        2 => (0..4_u64, number(), number(), number())
            .prop_map(|(round, received, term, last)| Said::Pause(round, received, term, last)),
        1 => number().prop_map(Said::Commit),
        1 => Just(Said::Outdated),
        1 => (number(), number()).prop_map(|(term, index)| Said::TimeoutNow(term, index)),
        2 => (number(), number(), 0..4_u8)
            .prop_map(|(term, index, group)| Said::OfferSnapshot(term, index, group)),
        1 => (number(), number()).prop_map(|(term, index)| Said::SnapshotUnavailable(term, index)),
        1 => (0..4_u64).prop_map(Said::ReadIndex),
        2 => (0..3_u64, 0..4_u64, number())
            .prop_map(|(start, number, index)| Said::ReadIndexIs(start, number, index)),
        1 => Just(Said::WrongIncarnation),
        1 => (0..2_u64).prop_map(Said::StaleIncarnation),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    // Mostly the member's own term, or little would come of most messages.
    let term = prop_oneof![12 => Just(Number::Near(0)), 3 => Just(Number::Near(1)), 1 => number()];
    prop_oneof![
        2 => prop_oneof![0..100_u64, 0..400_u64, Just(1 << 30)].prop_map(Input::Pass),
        3 => Just(Input::Wake),
        30 => (1..=5_u64, term, said()).prop_map(|(from, term, body)| Input::Receive { from, term, body }),
        4 => vec(0..20_usize, 0..4).prop_map(Input::Propose),
        3 => any::<bool>().prop_map(Input::Read),
        3 => (vec((0..6_u8, 1..=6_u64), 0..3), any::<bool>()).prop_map(|(wishes, force)| Input::Reconfigure(wishes, force)),
        1 => Just(Input::CancelChange),
        1 => prop::option::of(1..=5_u64).prop_map(Input::Transfer),
        2 => (0..3_u64).prop_map(Input::Snapshot),
        2 => prop::bool::weighted(0.8).prop_map(Input::Fetched),
        12 => (1..4_usize).prop_map(Input::Persist),
        4 => (1..4_u64).prop_map(Input::Apply),
        1 => (1..=5_u64).prop_map(Input::Unreachable),
        1 => Just(Input::Restart),
        1 => prop::bool::weighted(0.2).prop_map(|stops| if stops { Input::Shutdown } else { Input::Wake }),
    ]
}

/// Options with limits small enough to be reached, and what happens.
fn life() -> impl Strategy<Value = (Options, Vec<Input>)> {
    let bytes = prop_oneof![Just(1), Just(100), Just(1 << 20)];
    let synchronous = (prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    let options = (any::<bool>(), any::<bool>(), 0..8_u8, 1..4_usize, bytes, synchronous);
    let options =
        options.prop_map(|(pre_vote, check_quorum, priority, window, bytes, synchronous)| Options {
            synchronous_writes: synchronous.0,
            synchronous_apply: synchronous.1,
            pre_vote,
            check_quorum,
            priority,
            max_in_flight_messages: window,
            max_in_flight_bytes: bytes,
            max_append_bytes: bytes,
            max_uncommitted_bytes: 4 * bytes,
            max_payload_bytes: 12,
            max_waiting_answers: window,
            max_waiting_reads: window,
            retained_entries: window as u64,
            max_cached_bytes: 4 * bytes,
            lease_reads: check_quorum,
            ..Options::default()
        });
    (options, vec(input(), 0..150))
}

/// A host that does what its contract says, and watches that the kernel does.
struct Host {
    config: Config,
    raft: Raft,
    now: Instant,
    disk: Durable,
    unsynced: VecDeque<Write>,
    applying: Index,
    contract: Contract,
    requests: u64,
    answered: BTreeMap<RequestId, u32>,
    votes: BTreeMap<Term, NodeId>,
    /// Everything that was ever committed and seen, by its index.
    committed: BTreeMap<Index, LogId>,
    snapshots: Vec<Snapshot>,
    fetching: Option<Snapshot>,
    /// Since a snapshot may have come from a leader that lies, it may not agree with what was committed
    /// before.
    restored: bool,
    halted: bool,
    /// Everything that was done, to compare with another run.
    actions: Vec<Action>,
}

impl Host {
    fn new(options: Options) -> Self {
        let membership = Membership::new([1, 2, 3].map(id), [id(4)]).expect("distinct ids");
        let config = Config::new(identity(1), options).expect("sound options");
        let disk = Durable::bootstrap(membership);
        let raft = Raft::restore(config.clone(), disk.clone(), Instant::ZERO).expect("an empty disk");
        Self {
            config,
            now: Instant::ZERO,
            contract: Contract::new(raft.config(), &disk),
            disk,
            unsynced: VecDeque::new(),
            applying: Index::ZERO,
            raft,
            requests: 0,
            answered: BTreeMap::new(),
            votes: BTreeMap::new(),
            committed: BTreeMap::new(),
            snapshots: Vec::new(),
            fetching: None,
            restored: false,
            halted: false,
            actions: Vec::new(),
        }
    }

    fn take(&mut self, input: &Input) {
        match input {
            Input::Pass(milliseconds) => self.now = self.now + Nanos::new(milliseconds * 1_000_000),
            Input::Wake => {
                if self.raft.deadline() != Instant::NEVER {
                    self.now = self.now.max(self.raft.deadline());
                }
                self.step(Event::Wake);
            }
            Input::Receive { from, term, body } => {
                let message = self.message(*from, *term, body);
                self.step(Event::Receive(message));
            }
            Input::Propose(sizes) => self.propose(sizes),
            Input::Persist(count) => self.persist(*count),
            Input::Apply(count) => {
                let applied = self.raft.status().applied + *count;
                self.step(Event::Applied(applied.min(self.applying)));
            }
            Input::Unreachable(peer) => self.step(Event::PeerUnreachable(id(*peer))),
            Input::Restart => self.restart(),
            Input::Shutdown => {
                self.halted = true;
                self.step(Event::Shutdown);
            }
            Input::Read(lease) => {
                let request = self.request();
                let via = if *lease { ReadVia::Lease } else { ReadVia::Quorum };
                self.step(Event::Read(Read { request, via }));
            }
            Input::Reconfigure(wishes, force) => {
                let (request, expected, force) = (self.request(), None, *force);
                let changes = wishes.iter().map(|&(kind, who)| change(kind, who)).collect();
                self.step(Event::Reconfigure(Reconfigure { request, expected, changes, force }));
            }
            Input::CancelChange => {
                let request = self.request();
                self.step(Event::CancelChange(request));
            }
            Input::Transfer(to) => {
                let request = self.request();
                self.step(Event::Transfer(Transfer { request, to: to.map(id) }));
            }
            Input::Snapshot(back) => {
                let applied = self.raft.status().applied.get();
                let index = Index::new(applied.saturating_sub(*back));
                self.snapshots.extend(self.raft.snapshot_at(index));
                self.step(Event::SnapshotTaken(index));
            }
            Input::Fetched(can) => self.end_fetch(*can),
        }
    }

    fn end_fetch(&mut self, can: bool) {
        match self.fetching.take() {
            Some(snapshot) if can => {
                self.snapshots.push(snapshot.clone());
                self.step(Event::SnapshotFetched(snapshot));
            }
            Some(snapshot) => self.step(Event::SnapshotFailed(snapshot.last)),
            None => {}
        }
    }

    fn request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests - 1)
    }

    fn step(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.raft.step_into(self.now, event.clone(), &mut actions);
        let status = self.raft.status();
        if let Err(breach) = self.contract.watch(&event, &actions, &status) {
            panic!("{breach}, after {event:?} led to {actions:?}");
        }
        let mut loads = Vec::new();
        for action in &actions {
            match action {
                Action::Persist(write) if self.config.options().synchronous_writes => self.disk.write(write),
                Action::Persist(write) => self.unsynced.push_back(write.clone()),
                Action::Apply { through } => self.applying = *through,
                Action::Respond { request, .. } => *self.answered.entry(*request).or_default() += 1,
                Action::Halt(_) => self.halted = true,
                Action::Send(message) => assert!(message.from.id == id(1) && message.to.id != id(1)),
                Action::Restore(snapshot) => {
                    let known = snapshot.last == LogId::ZERO || self.snapshots.contains(snapshot);
                    assert!(known, "it has the bytes of {snapshot}");
                    self.applying = snapshot.last.index;
                    self.restored = true;
                }
                Action::FetchSnapshot { snapshot, .. } => self.fetching = Some(snapshot.clone()),
                Action::TakeSnapshot => {}
                Action::LoadEntries { to, after, through, .. } => loads.push((*to, *after, *through)),
            }
        }
        self.actions.extend(actions);
        self.check();
        for (to, after, through) in loads {
            let wanted = |entry: &&Entry| entry.id.index > after.index && entry.id.index <= through;
            let entries = self.disk.entries.iter().filter(wanted).cloned().collect();
            self.step(Event::EntriesLoaded(EntriesLoaded { to, after, entries }));
        }
    }

    /// What holds between any two steps, besides the contract.
    fn check(&mut self) {
        let status = self.raft.status();
        assert_eq!(status.role == RoleKind::Halted, self.halted);
        if let Some(vote) = status.vote {
            let given = *self.votes.entry(status.term).or_insert(vote);
            assert_eq!(given, vote, "one vote in {:?}", status.term);
        }
        let deadline = self.raft.deadline();
        assert!(
            deadline > self.now || deadline == Instant::NEVER,
            "woken at once again: {deadline:?}, {:?}",
            self.now
        );
        let log = self.raft.log();
        for index in (log.base().get()..=status.committed.get()).map(Index::new) {
            let id = LogId { term: log.term(index).expect("a committed entry"), index };
            let known = *self.committed.entry(index).or_insert(id);
            assert!(known == id || self.restored, "what is committed stays: {known}, then {id}");
        }
        assert!(status.applied <= status.committed && status.durable.index <= status.last.index);
    }

    fn persist(&mut self, count: usize) {
        let count = count.min(self.unsynced.len());
        let done: Vec<_> = self.unsynced.drain(..count).collect();
        done.iter().for_each(|write| self.disk.write(write));
        if let Some(last) = done.last() {
            self.step(Event::Persisted(last.seq));
        }
    }

    /// Writes and applies everything that is handed out, and reports it.
    fn report(&mut self) {
        while !self.unsynced.is_empty() || self.raft.status().applied < self.applying {
            self.persist(usize::MAX);
            if !self.halted && self.raft.status().applied < self.applying {
                self.step(Event::Applied(self.applying));
            } else if self.halted {
                return;
            }
        }
    }

    fn propose(&mut self, sizes: &[usize]) {
        let proposal = |(&size, request)| Proposal {
            request: RequestId(request),
            payload: Payload::from(&vec![b'x'; size][..]),
        };
        let proposals: Vec<_> = sizes.iter().zip(self.requests..).map(proposal).collect();
        self.requests += proposals.len() as u64;
        match <[Proposal; 1]>::try_from(proposals) {
            Ok([proposal]) => self.step(Event::Propose(proposal)),
            Err(proposals) => self.step(Event::ProposeBatch(proposals)),
        }
    }

    /// A crash: what is not on disk is gone, and so are the requests.
    fn restart(&mut self) {
        self.unsynced.clear();
        self.raft =
            Raft::restore(self.config.clone(), self.disk.clone(), self.now).expect("the disk is its own");
        self.contract = Contract::new(&self.config, &self.disk);
        self.applying = Index::ZERO;
        let committed = self.raft.status().committed;
        self.committed.retain(|index, _| *index <= committed);
        self.fetching = None;
        self.restored = false;
        self.votes.retain(|term, _| *term < self.raft.status().term);
        if let Some(vote) = self.raft.status().vote {
            self.votes.insert(self.raft.status().term, vote);
        }
        self.halted = false;
        (0..self.requests).for_each(|request| *self.answered.entry(RequestId(request)).or_default() |= 1);
    }

    fn message(&self, from: u64, term: Number, said: &Said) -> Message {
        let term = self.number(term, self.raft.status().term.get());
        message(from, 1, term, self.body(term, said))
    }

    fn number(&self, number: Number, own: u64) -> u64 {
        match number {
            Number::Near(distance) => own.saturating_add_signed(distance),
            Number::Small(number) | Number::Absurd(number) => number,
        }
    }

    fn index(&self, number: Number) -> Index {
        Index::new(self.number(number, self.raft.status().last.index.get()))
    }

    fn log_id(&self, term: Number, index: Number) -> LogId {
        LogId::new(self.number(term, self.raft.status().last.term.get()), self.index(index).get())
    }

    fn body(&self, message_term: u64, said: &Said) -> Body {
        match *said {
            Said::PreVote(term, index) => Body::PreVote { last: self.log_id(term, index) },
            Said::PreVoted(granted) => Body::PreVoted { granted },
            Said::RequestVote(term, index, transfer) => {
                Body::RequestVote { last: self.log_id(term, index), transfer }
            }
            Said::Voted(granted) => Body::Voted { granted },
            Said::Append { prev, term, ref rises, commit } => Body::Append {
                slice: self.slice(message_term, prev, term, rises),
                commit: self.index(commit),
            },
            Said::Appended(matched) => Body::Appended { matched: self.index(matched) },
            Said::Rejected(prev, term, index) => {
                Body::Rejected { prev: self.index(prev), hint: self.log_id(term, index) }
            }
            Said::Heartbeat(round, commit) => Body::Heartbeat { round, commit: self.index(commit) },
            Said::HeartbeatAck(round, received, matched) => {
                Body::HeartbeatAck { round, received: self.index(received), matched: self.index(matched) }
            }
            Said::Pause(round, received, term, last) => {
                let received = self.index(received);
                let (matched, last) = (received, self.log_id(term, last));
                Body::Pause { round, received, matched, last, reason: PauseReason::DiskFull }
            }
            Said::Commit(commit) => Body::Commit { commit: self.index(commit) },
            Said::Outdated => Body::Outdated,
            Said::TimeoutNow(term, index) => Body::TimeoutNow { last: self.log_id(term, index) },
            Said::OfferSnapshot(term, index, group) => {
                Body::OfferSnapshot { snapshot: self.snapshot(self.log_id(term, index), group) }
            }
            Said::SnapshotUnavailable(term, index) => {
                Body::SnapshotUnavailable { last: self.log_id(term, index) }
            }
            Said::ReadIndex(number) => Body::ReadIndex { context: ReadContext { start: 1, number } },
            Said::ReadIndexIs(start, number, index) => {
                Body::ReadIndexIs { context: ReadContext { start, number }, index: self.index(index) }
            }
            Said::WrongIncarnation => Body::WrongIncarnation,
            Said::StaleIncarnation(number) => Body::StaleIncarnation { incarnation: Incarnation(number) },
        }
    }

    fn snapshot(&self, last: LogId, group: u8) -> Snapshot {
        let voters = [1, 2, 3].map(id);
        let membership = match group {
            0 => Membership::of(voters),
            1 => Membership::joint(voters, [id(1), id(4), id(5)], []),
            2 => Membership::of([2, 3, 4].map(id)),
            _ => Ok(self.raft.membership().clone()),
        };
        let membership = Arc::new(membership.expect("distinct ids"));
        Snapshot { last, configured: LogId::ZERO, membership }
    }

    /// A slice that fits the member's log at least at its beginning, as far as that is possible: its own
    /// entries again where the term does not rise, and another in their place where it does.
    fn slice(&self, message_term: u64, prev: Number, term: Option<Number>, rises: &[bool]) -> LogSlice {
        let index = self.index(prev);
        let own = self.raft.log().term(index).unwrap_or_default();
        let mut after = LogId { term: own, index };
        if let Some(term) = term {
            after.term = Term::new(self.number(term, own.get()));
        }
        let before = after;
        let entries = rises.iter().map_while(|&rise| {
            let index = Index::new(after.index.get().checked_add(1)?);
            let own = self.raft.log().term(index).filter(|own| *own >= after.term);
            let next = if rise { Term::new(message_term).max(after.term) } else { own.unwrap_or(after.term) };
            after = LogId { term: next, index };
            Some(Entry {
                id: after,
                body: self.raft.log().get(index).map_or(EntryBody::Blank, |own| own.body.clone()),
            })
        });
        let entries = entries.collect();
        LogSlice::new(before, entries)
            .unwrap_or_else(|_| LogSlice::new(LogId::ZERO, Default::default()).expect("empty"))
    }

    /// The end: a later term comes, so that a leader gives up what it has open, and the disk does all it
    /// owes.
    fn end(&mut self) {
        let later = self.raft.status().term.get() + 1;
        self.step(Event::Receive(message(2, 1, later, Body::Outdated)));
        while !self.unsynced.is_empty() {
            self.persist(usize::MAX);
        }
        if !self.halted {
            let log = self.raft.log();
            let term = |index| log.term(Index::new(index)).map(Term::get);
            let terms: Vec<_> = (log.base().get() + 1..=log.last().index.get()).filter_map(term).collect();
            let on_disk: Vec<_> = self.disk.entries.iter().map(|entry| entry.id.term.get()).collect();
            assert_eq!((on_disk, self.disk.last()), (terms, log.last()), "the disk has the log");
            let mut both =
                self.disk.entries.iter().filter_map(|entry| Some((entry, log.get(entry.id.index)?)));
            assert!(both.all(|(stored, kept)| stored == kept));
            assert_eq!(self.disk.ballot.term(), self.raft.status().term, "and the term");
        }
        // A read may wait for what is still to be applied, until the member is stopped.
        self.take(&Input::Shutdown);
        let once = |request| self.answered.get(&RequestId(request)) == Some(&1);
        assert!((0..self.requests).all(once), "one outcome for each request: {:?}", self.answered);
        self.restart();
    }
}

fn change(kind: u8, who: u64) -> Change {
    match kind {
        0 => Change::AddVoter(id(who).into()),
        1 => Change::AddLearner(id(who).into()),
        2 => Change::AddWitness(id(who).into()),
        3 => Change::Promote(id(who)),
        4 => Change::Demote(id(who)),
        _ => Change::Remove(id(who)),
    }
}

fn live(options: &Options, inputs: &[Input]) -> Host {
    let mut host = Host::new(options.clone());
    inputs.iter().for_each(|input| host.take(input));
    host.end();
    host
}

#[test]
fn a_member_keeps_its_contract_whatever_happens() {
    let name = "properties::member::a_member_keeps_its_contract_whatever_happens";
    holds(name, 800, life(), |(options, inputs)| drop(live(&options, &inputs)), |_| String::new());
}

/// All of a member but its options.
fn but_options(raft: &Raft) -> String {
    let waits = "synchronous_writes: true, synchronous_apply: true";
    format!("{raft:?}").replace(waits, "synchronous_writes: false, synchronous_apply: false")
}

/// What was to be done, apart from the state machine: a host that waits may be told to apply at once what
/// another applies in parts and somewhat earlier.
fn but_applied(host: Host) -> Vec<Action> {
    let applies = |action: &Action| matches!(action, Action::Apply { .. } | Action::Restore(_));
    host.actions.into_iter().filter(|action| !applies(action)).collect()
}

/// What a host that waits for its disk and its state machine is spared is what it would have to report, and
/// nothing else: a host that reports at once brings its member to the same state, by the same actions.
#[test]
fn a_host_that_waits_gets_what_one_that_reports_at_once_gets() {
    let property = |(options, inputs): (Options, Vec<Input>)| {
        // What a step has handed out to be applied stays in memory for the host that waits, and so the other
        // has evicted it a step earlier.
        let options = Options { max_cached_bytes: u64::MAX, ..options };
        let host = |waits| {
            Host::new(Options { synchronous_writes: waits, synchronous_apply: waits, ..options.clone() })
        };
        let (mut waits, mut reports) = (host(true), host(false));
        for input in &inputs {
            if matches!(input, Input::Persist(_) | Input::Apply(_)) {
                continue;
            }
            waits.take(input);
            reports.take(input);
            reports.report();
            assert_eq!(but_options(&waits.raft), but_options(&reports.raft), "after {input:?}");
        }
        assert_eq!((waits.applying, waits.restored), (reports.applying, reports.restored));
        assert_eq!(but_applied(waits), but_applied(reports));
    };
    let name = "properties::member::a_host_that_waits_gets_what_one_that_reports_at_once_gets";
    holds(name, 400, life(), property, |_| String::new());
}

#[test]
fn the_same_events_give_the_same_actions() {
    let property = |(options, inputs): (Options, Vec<Input>)| {
        let (one, other) = (live(&options, &inputs), live(&options, &inputs));
        assert_eq!(one.actions, other.actions);
        assert_eq!(one.raft, other.raft);
    };
    let name = "properties::member::the_same_events_give_the_same_actions";
    holds(name, 150, life(), property, |_| String::new());
}
