//! Schedules that an adversarial review found this kernel to get wrong. Each test says what should hold.

use kontiki_core::action::{Action, Outcome, Violation, Write};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::{Durable, RestoreError};
use kontiki_core::event::{Event, Proposal, Read, ReadVia, Reconfigure};
use kontiki_core::log::{Entry, EntryBody, LogSlice, Snapshot};
use kontiki_core::membership::{Change, MAX_MEMBERS, MemberKind, Membership};
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::Raft;
use kontiki_core::status::RoleKind;
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

fn id(n: u64) -> NodeId {
    NodeId::new(n).unwrap()
}
fn m(n: u64) -> Member {
    id(n).into()
}
fn me(member: Member) -> Identity {
    Identity::new(ClusterId(7), member)
}
fn ms(n: u64) -> Nanos {
    Nanos::new(n * 1_000_000)
}

struct Node {
    raft: Raft,
    durable: Durable,
    /// Set: writes are kept and never reported.
    stalled: bool,
    pending: Vec<Write>,
    /// Set: `Apply` is noted and not carried out.
    lazy: bool,
    halted: Option<Violation>,
    up: bool,
}

struct Net {
    nodes: BTreeMap<u64, Node>,
    now: Instant,
    queue: VecDeque<Message>,
    drop: Box<dyn Fn(&Message) -> bool>,
    answers: Vec<(u64, RequestId, Outcome)>,
}

impl Net {
    fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            now: Instant::from_millis(1),
            queue: VecDeque::new(),
            drop: Box::new(|_| false),
            answers: vec![],
        }
    }
    fn add(&mut self, n: u64, options: Options, durable: Durable) {
        let config = Config::new(me(m(n)), options).unwrap();
        let raft = Raft::restore(config, durable.clone(), self.now).unwrap();
        let node =
            Node { raft, durable, stalled: false, pending: vec![], lazy: false, halted: None, up: true };
        self.nodes.insert(n, node);
    }
    fn group(voters: &[u64], options: &Options) -> Self {
        let mut net = Self::new();
        let group = Durable::bootstrap(Membership::of(voters.iter().map(|&n| id(n))).unwrap());
        for &n in voters {
            net.add(n, options.clone(), group.clone());
        }
        net
    }
    fn step(&mut self, n: u64, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let node = self.nodes.get_mut(&n).unwrap();
            for action in node.raft.step(self.now, event) {
                match action {
                    Action::Send(message) => {
                        let lost = (self.drop)(&message);
                        self.queue.extend((!lost).then_some(message));
                    }
                    Action::Persist(write) if node.stalled => node.pending.push(write),
                    Action::Persist(write) => {
                        node.durable.write(&write);
                        events.push_back(Event::Persisted(write.seq));
                    }
                    Action::Apply { through } if !node.lazy => events.push_back(Event::Applied(through)),
                    Action::Restore(s) if !node.lazy => events.push_back(Event::Applied(s.last.index)),
                    Action::Respond { request, outcome } => self.answers.push((n, request, outcome)),
                    Action::Halt(violation) => node.halted = Some(violation),
                    _ => {}
                }
            }
        }
    }
    fn run(&mut self) {
        while let Some(message) = self.queue.pop_front() {
            let n = message.to.id.get();
            if self.nodes.get(&n).is_some_and(|node| node.up) {
                self.step(n, Event::Receive(message));
            }
        }
    }
    /// Lets time pass, in steps of `by`; messages take no time.
    fn pass_by(&mut self, total: u64, by: u64) {
        for _ in 0..total / by {
            self.now = self.now + ms(by);
            for n in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.nodes[&n].up && self.nodes[&n].raft.deadline() <= self.now {
                    self.step(n, Event::Wake);
                }
            }
            self.run();
        }
    }
    fn pass(&mut self, total: u64) {
        self.pass_by(total, 5);
    }
    fn leader(&self) -> Option<u64> {
        let leads =
            |node: &&u64| self.nodes[node].up && self.nodes[node].raft.status().role == RoleKind::Leader;
        self.nodes.keys().filter(leads).max_by_key(|n| self.nodes[n].raft.status().term).copied()
    }
    fn elect(&mut self) -> u64 {
        self.pass(2000);
        self.leader().expect("a leader")
    }
    fn propose(&mut self, n: u64, request: u64) {
        let proposal = Proposal { request: RequestId(request), payload: Payload::from("x") };
        self.step(n, Event::Propose(proposal));
    }
    fn change(&mut self, n: u64, request: u64, changes: &[Change]) {
        let changes = changes.to_vec();
        self.step(
            n,
            Event::Reconfigure(Reconfigure {
                request: RequestId(request),
                expected: None,
                changes,
                force: false,
            }),
        );
        self.run();
    }
    fn outcome(&self, request: u64) -> Option<Outcome> {
        let found = self.answers.iter().find(|(_, r, _)| *r == RequestId(request));
        found.map(|(_, _, outcome)| *outcome)
    }
    fn raft(&self, n: u64) -> &Raft {
        &self.nodes[&n].raft
    }
}

fn entry(term: u64, index: u64, body: EntryBody) -> Entry {
    Entry { id: LogId::new(term, index), body }
}
fn data(term: u64, index: u64) -> Entry {
    entry(term, index, EntryBody::Data(Payload::from("x")))
}
fn append(from: u64, to: Member, term: u64, prev: LogId, entries: Vec<Entry>, commit: u64) -> Event {
    let slice = LogSlice::new(prev, entries.into_iter().collect()).unwrap();
    let body = Body::Append { slice, commit: Index::new(commit) };
    Event::Receive(Message::new(me(m(from)), to, Term::new(term), body))
}

/// A newcomer whose process comes up a second after it was added has everything at once, in a group without
/// traffic, and is never promoted: a round ends only with news, and there is none.
#[test]
fn a_newcomer_that_has_the_whole_log_of_an_idle_group_is_promoted() {
    let mut net = Net::group(&[1, 2, 3], &Options::default());
    let leader = net.elect();
    net.change(leader, 1, &[Change::AddVoter(m(4))]);
    net.pass(1000);
    net.add(4, Options::default(), Durable::default());
    net.pass(60_000);
    assert_eq!(net.leader(), Some(leader));
    let log = net.raft(leader).log();
    assert_eq!(net.raft(4).log().durable(), log.last().index, "it has everything");
    assert!(matches!(net.outcome(1), Some(Outcome::Committed(_))), "a minute later: {:?}", net.outcome(1));
}

/// 1b. The same with one write a second.
#[test]
fn a_newcomer_is_promoted_in_a_group_with_little_traffic() {
    let mut net = Net::group(&[1, 2, 3], &Options::default());
    let leader = net.elect();
    net.change(leader, 1, &[Change::AddVoter(m(4))]);
    net.pass(1000);
    net.add(4, Options::default(), Durable::default());
    for write in 100..160 {
        net.propose(leader, write);
        net.run();
        net.pass(1000);
    }
    assert!(matches!(net.outcome(1), Some(Outcome::Committed(_))), "after 60 writes: {:?}", net.outcome(1));
}

/// A staged witness is still a learner. The next change, of any member, must not make it an ordinary voter.
#[test]
fn a_staged_witness_stays_a_witness_when_another_change_is_made() {
    let options = Options { catch_up_timeout: std::time::Duration::from_secs(1), ..Options::default() };
    let mut net = Net::group(&[1, 2], &options);
    let leader = net.elect();
    net.change(leader, 1, &[Change::AddWitness(m(3))]);
    net.pass(3000);
    assert_eq!(net.outcome(1), Some(Outcome::NotCaughtUp(id(3))));
    assert!(net.raft(leader).membership().is_witness(id(3)));
    net.change(leader, 2, &[Change::AddLearner(m(4))]);
    net.pass(100);
    assert!(matches!(net.outcome(2), Some(Outcome::Committed(_))));
    net.add(3, Options { witness: true, ..options }, Durable::default());
    net.pass(1000);
    assert_eq!(net.nodes[&3].halted, None, "the witness halts");
    assert!(net.raft(leader).membership().is_witness(id(3)));
}

/// A newcomer that takes a snapshot before it has reached the first entry with a membership.
#[test]
fn a_snapshot_never_says_that_the_group_is_empty() {
    let mut net = Net::new();
    net.add(4, Options::default(), Durable::default());
    let entries = vec![entry(1, 1, EntryBody::Blank), data(1, 2), data(1, 3)];
    net.step(4, append(1, m(4), 1, LogId::ZERO, entries, 3));
    // It takes nothing before it has heard how the group began.
    assert_eq!(net.raft(4).log().last(), LogId::ZERO);
}

/// Two of three members stay up and connected, and must elect a leader although the witness is ahead of the
/// other voter.
#[test]
fn two_of_three_go_on_when_the_witness_is_ahead() {
    let mut net = Net::new();
    let group = [(m(1), MemberKind::Voter), (m(2), MemberKind::Voter), (m(3), MemberKind::Witness)];
    let group = Durable::bootstrap(Membership::from_kinds(group).unwrap());
    net.add(1, Options::default(), group.clone());
    net.add(2, Options::default(), group.clone());
    net.add(3, Options { witness: true, ..Options::default() }, group);
    let leader = net.elect();
    let other = 3 - leader;
    // One entry is on its way to both; the leader dies before it gets to the other voter.
    net.drop = Box::new(move |message| {
        message.to.id.get() == other && matches!(message.body, Body::Append { .. })
            || message.to.id.get() == leader
    });
    net.propose(leader, 1);
    net.run();
    assert_eq!(net.outcome(1), None, "not even committed");
    net.nodes.get_mut(&leader).unwrap().up = false;
    net.drop = Box::new(|_| false);
    net.pass(60_000);
    assert!(net.leader().is_some(), "a minute without a leader");
}

/// A former witness is started as an ordinary member on the same directory: its log has entries without
/// payloads.
#[test]
fn a_log_with_withheld_entries_is_refused_by_a_member_that_is_no_witness() {
    let membership = Membership::of([id(1), id(2), id(3)]).unwrap();
    let entries = vec![entry(1, 1, EntryBody::Blank), entry(1, 2, EntryBody::Withheld)];
    let durable = Durable {
        ballot: Ballot::new(Term::new(1), None),
        entries,
        committed: Index::new(2),
        ..Durable::bootstrap(membership)
    };
    let config = Config::new(me(m(3)), Options::default()).unwrap();
    if let Ok(mut raft) = Raft::restore(config, durable, Instant::ZERO) {
        let actions = raft.step(Instant::from_millis(1), Event::Wake);
        assert!(
            !actions.iter().any(|a| matches!(a, Action::Apply { .. })),
            "it applies nothing as something: {actions:?}"
        );
    }
}

/// The memberships on the way are larger than either end.
#[test]
fn no_membership_on_the_way_is_larger_than_members_accept() {
    let voters: Vec<_> = (1..=40).collect();
    let mut net = Net::group(&voters, &Options::default());
    let leader = net.elect();
    let stays = leader;
    let changes: Vec<_> = voters
        .iter()
        .filter(|&&n| n != stays)
        .map(|&n| Change::Remove(id(n)))
        .chain((41..=80).map(|n| Change::AddVoter(m(n))))
        .collect();
    net.change(leader, 1, &changes);
    assert!(net.raft(leader).membership().members().len() <= MAX_MEMBERS);
}

/// The leader of a learner is gone. Its reads are answered some time.
#[test]
fn a_read_of_a_learner_is_answered_when_the_leader_is_gone() {
    let mut net = Net::group(&[1, 2, 3], &Options::default());
    let leader = net.elect();
    net.add(4, Options::default(), Durable::default());
    net.change(leader, 1, &[Change::AddLearner(m(4))]);
    net.pass(1000);
    assert_eq!(net.raft(4).status().leader, Some(id(leader)));
    for n in 1..=3 {
        net.nodes.get_mut(&n).unwrap().up = false;
    }
    net.step(4, Event::Read(Read { request: RequestId(2), via: ReadVia::Quorum }));
    net.pass(600_000);
    assert!(net.outcome(2).is_some(), "ten minutes without an answer");
}

/// 8b. The same of a member that was removed.
#[test]
fn a_read_of_a_removed_member_is_answered() {
    let mut net = Net::group(&[1, 2, 3], &Options::default());
    let leader = net.elect();
    let gone = leader % 3 + 1;
    net.change(leader, 1, &[Change::Remove(id(gone))]);
    net.pass(5000);
    assert_eq!(net.raft(gone).status().kind, MemberKind::NonMember);
    net.step(gone, Event::Read(Read { request: RequestId(2), via: ReadVia::Quorum }));
    net.run();
    net.pass(600_000);
    assert!(net.outcome(2).is_some(), "ten minutes without an answer");
}

/// A witness that shall keep everything.
#[test]
fn a_witness_that_retains_everything_does_not_overflow() {
    let group = [(m(1), MemberKind::Voter), (m(2), MemberKind::Voter), (m(3), MemberKind::Witness)];
    let membership = Membership::from_kinds(group).unwrap();
    let mut net = Net::new();
    let options = Options { witness: true, retained_entries: u64::MAX, ..Options::default() };
    net.add(3, options, Durable::bootstrap(membership.clone()));
    let snapshot =
        Snapshot { last: LogId::new(1, 9), configured: LogId::ZERO, membership: Arc::new(membership) };
    let offer = Body::OfferSnapshot { snapshot };
    net.step(3, Event::Receive(Message::new(me(m(1)), m(3), Term::new(1), offer)));
}

/// Every queue is bounded: questions that wait for a disk that stalls, too.
#[test]
fn questions_do_not_pile_up_behind_a_slow_disk() {
    let mut net = Net::group(&[1, 2, 3], &Options::default());
    net.nodes.get_mut(&3).unwrap().stalled = true;
    let beat = |round| {
        let body = Body::Heartbeat { round, commit: Index::ZERO };
        Event::Receive(Message::new(me(m(1)), m(3), Term::new(1), body))
    };
    net.step(3, beat(1));
    net.step(3, Event::Read(Read { request: RequestId(1), via: ReadVia::Quorum }));
    for round in 2..10_000 {
        net.step(3, beat(round));
    }
    net.queue.clear();
    let last = net.nodes[&3].pending.last().unwrap().seq;
    net.step(3, Event::Persisted(last));
    let questions = net.queue.iter().filter(|m| matches!(m.body, Body::ReadIndex { .. })).count();
    assert!(questions < 10, "{questions} questions leave at once");
}

/// A late copy of what an earlier leader said to this incarnation, before the group had it, does not halt a
/// member that the leader of a later term addresses as its own.
#[test]
fn a_late_word_of_disowning_does_not_halt_whom_a_later_leader_has() {
    let mut net = Net::new();
    net.add(4, Options::default(), Durable::default());
    net.step(4, append(1, m(4), 2, LogId::ZERO, vec![entry(1, 1, EntryBody::Blank)], 1));
    let stale = Body::StaleIncarnation { incarnation: Incarnation(77) };
    net.step(4, Event::Receive(Message::new(me(m(2)), m(4), Term::new(1), stale)));
    assert_eq!(net.nodes[&4].halted, None);
}

/// PITFALLS S4c through the public method.
#[test]
fn the_membership_as_of_an_index_below_the_snapshot_is_not_that_of_the_snapshot() {
    let mut net = Net::group(&[1, 2], &Options::default());
    let three = Arc::new(Membership::of([id(1), id(2), id(3)]).unwrap());
    let entries =
        vec![entry(1, 1, EntryBody::Blank), data(1, 2), entry(1, 3, EntryBody::Config(three)), data(1, 4)];
    net.step(2, append(1, m(2), 1, LogId::ZERO, entries, 4));
    let before = net.raft(2).snapshot_at(Index::new(2)).unwrap();
    net.step(2, Event::SnapshotTaken(Index::new(4)));
    let after = net.raft(2).snapshot_at(Index::new(2));
    assert!(after.is_none() || after == Some(before), "{after:?}");
}

/// A member that its group takes for an ordinary voter is started as a witness.
#[test]
fn a_witness_that_the_group_takes_for_a_voter_does_not_start() {
    let group = Durable::bootstrap(Membership::of([id(1), id(2)]).unwrap());
    let config = Config::new(me(m(1)), Options { witness: true, ..Options::default() }).unwrap();
    let error = Raft::restore(config, group, Instant::ZERO).unwrap_err();
    assert_eq!(error, RestoreError::WrongMemberKind { witness: false });
}

/// A newcomer that has the log but not yet an entry with a membership becomes a voter, and gives no vote: one
/// failure of four stops the group for ever.
#[test]
fn a_promoted_voter_is_never_blank() {
    let options = Options { max_append_bytes: 1, ..Options::default() };
    let mut net = Net::group(&[1, 2, 3], &options);
    let leader = net.elect();
    net.propose(leader, 1);
    net.pass(200);
    net.add(4, options, Durable::default());
    let staged = net.raft(leader).log().last().index.next();
    // The entry that makes it a learner, and what follows, is lost on its way to the newcomer, and to one
    // other what follows.
    let lost_on = leader % 3 + 1;
    net.drop = Box::new(move |message| match &message.body {
        Body::Append { slice, .. } => {
            let to = message.to.id.get();
            let holds = |index: Index| slice.entries().iter().any(|entry| entry.id.index >= index);
            (to == 4 && holds(staged)) || (to == lost_on && holds(staged.next()))
        }
        _ => false,
    });
    net.change(leader, 2, &[Change::AddVoter(m(4))]);
    net.run();
    let configured = net.raft(leader).log().configured();
    assert!(!net.raft(leader).membership().is_voter(id(4)) || configured.index > staged);
    if net.raft(leader).membership().voters().contains(&id(4)) {
        net.nodes.get_mut(&leader).unwrap().up = false;
        net.queue.clear();
        net.drop = Box::new(|_| false);
        net.pass(60_000);
        assert!(
            net.leader().is_some(),
            "three of four are up and connected, and no member leads for a minute"
        );
    }
}

/// Wrong stored state is an error, not a panic.
#[test]
fn a_snapshot_beyond_the_log_is_an_error() {
    let membership = Arc::new(Membership::of([id(1)]).unwrap());
    let durable = Durable {
        ballot: Ballot::new(Term::new(9), None),
        snapshot: Some(Snapshot { last: LogId::new(4, 10), configured: LogId::ZERO, membership }),
        base: LogId::ZERO,
        entries: vec![entry(5, 1, EntryBody::Blank)],
        ..Durable::default()
    };
    let config = Config::new(me(m(1)), Options::default()).unwrap();
    assert!(Raft::restore(config, durable, Instant::ZERO).is_err());
}

/// A newcomer that has caught up once and has failed since is not made a voter.
#[test]
fn a_newcomer_that_is_gone_again_is_not_promoted() {
    let mut net = Net::group(&[1, 2, 3], &Options::default());
    let leader = net.elect();
    net.add(4, Options::default(), Durable::default());
    net.change(leader, 1, &[Change::AddVoter(m(4)), Change::AddVoter(m(5))]);
    net.pass(500);
    net.nodes.get_mut(&4).unwrap().up = false;
    for write in 100..400 {
        net.propose(leader, write);
        net.pass(100);
    }
    net.add(5, Options::default(), Durable::default());
    for write in 400..500 {
        net.propose(leader, write);
        net.pass(20);
    }
    assert!(!net.raft(leader).membership().voters().contains(&id(4)), "dead for thirty seconds, and a voter");
}

/// Thesis 4.2.2: "a server that is not part of its own latest configuration should still start new
/// elections", not counting itself. The leader of two removes itself while the other is away, and steps down
/// for want of a quorum: then it refuses its vote to the other, whose log is shorter, and does not stand
/// itself.
#[test]
fn a_leader_that_removed_itself_still_leads_the_group_out_of_it() {
    let mut net = Net::group(&[1, 2], &Options::default());
    let leader = net.elect();
    net.drop = Box::new(|_| true);
    net.change(leader, 1, &[Change::Remove(id(leader))]);
    net.pass(1000);
    assert_eq!(net.leader(), None, "it has stepped down");
    net.drop = Box::new(|_| false);
    net.pass(60_000);
    assert!(net.leader().is_some(), "both are up and connected, and no member leads for a minute");
}

/// 18b. The same of a follower: only the removed one has the entry that removes it. Three of four are up.
#[test]
fn a_removed_follower_that_alone_has_the_entry_still_stands_for_election() {
    let mut net = Net::group(&[1, 2, 3, 4], &Options::default());
    let leader = net.elect();
    let removed = leader % 4 + 1;
    net.drop = Box::new(move |m| matches!(m.body, Body::Append { .. }) && m.to.id.get() != removed);
    net.change(leader, 1, &[Change::Remove(id(removed))]);
    assert_eq!(net.raft(removed).status().kind, MemberKind::NonMember);
    net.nodes.get_mut(&leader).unwrap().up = false;
    net.drop = Box::new(|_| false);
    net.queue.clear();
    net.pass(60_000);
    assert!(net.leader().is_some(), "three of four are up and connected, and no member leads for a minute");
}

/// A late copy of a refusal does not take a follower that goes beyond the leader's snapshot back to it.
#[test]
fn a_late_refusal_does_not_offer_a_snapshot_of_what_the_follower_has() {
    let mut net = Net::group(&[1, 2, 3], &Options { retained_entries: 0, ..Options::default() });
    let leader = net.elect();
    let slow = leader % 3 + 1;
    for request in 1..10 {
        net.propose(leader, request);
        net.run();
    }
    net.pass(200);
    let applied = net.raft(leader).log().applied();
    net.step(leader, Event::SnapshotTaken(applied));
    net.propose(leader, 10);
    net.run();
    // Entries are on their way to the slow one; a refusal of the first of them from before it caught up is
    // late.
    net.drop = Box::new(move |message| message.to.id.get() == slow);
    net.propose(leader, 11);
    net.propose(leader, 12);
    net.run();
    let term = net.raft(leader).status().term;
    let prev = net.raft(leader).log().last().index.prev().unwrap();
    let body = Body::Rejected { prev, hint: LogId::new(1, 2) };
    net.step(leader, Event::Receive(Message::new(me(m(slow)), m(leader), term, body)));
}
