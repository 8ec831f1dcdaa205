//! What the hot path allocates: nothing. A binary of its own, for its allocator counts for all of it.

use kontiki_core::action::Action;
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::Durable;
use kontiki_core::event::{EntriesLoaded, Event, Proposal};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::Raft;
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::{Index, LogId, Payload, RequestId, WriteSeq};
use kontiki_tests::lab::{id, identity, message};
use kontiki_tests::memory::{self, Counting};
use std::collections::VecDeque;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `act` makes.
fn allocations(act: impl FnOnce()) -> u64 {
    let before = memory::allocations();
    act();
    memory::allocations() - before
}

/// Enough to let every queue and buffer grow to its size.
const WARM_UP: u64 = 100;
const ROUNDS: u64 = 100;

/// A member with a buffer that is kept from step to step, and what its host needs to feed it.
struct Host {
    raft: Raft,
    now: Instant,
    actions: Vec<Action>,
    written: WriteSeq,
}

impl Host {
    fn new(member: u64) -> Self {
        Self::with(member, Membership::of((1..=3).map(id)).expect("distinct ids"), &Options::default())
    }

    fn with(member: u64, group: Membership, options: &Options) -> Self {
        let config = Config::new(identity(member), options.clone()).expect("sound options");
        let raft = Raft::restore(config, Durable::bootstrap(group), Instant::ZERO).expect("an empty disk");
        Self { raft, now: Instant::ZERO, actions: Vec::with_capacity(64), written: WriteSeq::ZERO }
    }

    /// Member 1, elected in term 1, with its blank entry committed.
    fn leader() -> Self {
        let mut host = Self::new(1);
        host.now = host.raft.deadline();
        host.step(Event::Wake);
        host.receive(message(2, 1, 0, Body::PreVoted { granted: true }));
        host.persisted();
        host.receive(message(2, 1, 1, Body::Voted { granted: true }));
        assert_eq!(host.raft.status().role, RoleKind::Leader);
        host.persisted();
        host.acknowledge(Index::new(1));
        host
    }

    fn step(&mut self, event: Event) {
        self.actions.clear();
        self.raft.step_into(self.now, event, &mut self.actions);
        for action in &self.actions {
            if let Action::Persist(write) = action {
                self.written = write.seq;
            }
        }
    }

    fn receive(&mut self, message: Message) {
        self.step(Event::Receive(message));
    }

    fn persisted(&mut self) {
        self.step(Event::Persisted(self.written));
    }

    fn acknowledge(&mut self, matched: Index) {
        for follower in [2, 3] {
            self.receive(message(follower, 1, 1, Body::Appended { matched }));
        }
        self.step(Event::Applied(matched));
    }

    fn propose(&mut self, payload: &Payload, request: u64) {
        let proposal = Proposal { request: RequestId(request), payload: payload.clone() };
        self.step(Event::Propose(proposal));
    }
}

#[test]
fn an_acknowledgement_and_the_commit_that_follows_allocate_nothing() {
    let (mut leader, payload) = (Host::leader(), Payload::from("payload"));
    let mut total = 0;
    for round in 0..WARM_UP + ROUNDS {
        leader.propose(&payload, round);
        leader.persisted();
        let matched = leader.raft.status().last.index;
        let made = allocations(|| leader.acknowledge(matched));
        assert_eq!(leader.raft.status().applied, matched, "it commits and is applied");
        total += if round < WARM_UP { 0 } else { made };
    }
    assert_eq!(total, 0, "in {ROUNDS} commits");
}

#[test]
fn the_report_of_a_write_allocates_nothing() {
    let (mut leader, payload) = (Host::leader(), Payload::from("payload"));
    let mut total = 0;
    for round in 0..WARM_UP + ROUNDS {
        leader.propose(&payload, round);
        let matched = leader.raft.status().last.index;
        leader.receive(message(2, 1, 1, Body::Appended { matched }));
        let made = allocations(|| leader.persisted());
        assert_eq!(leader.raft.status().committed, matched, "the leader's own disk was the second of three");
        leader.acknowledge(matched);
        total += if round < WARM_UP { 0 } else { made };
    }
    assert_eq!(total, 0, "in {ROUNDS} writes");
}

#[test]
fn a_heartbeat_round_with_all_its_answers_allocates_nothing() {
    let mut leader = Host::leader();
    let matched = leader.raft.status().last.index;
    let mut beat = |round| {
        leader.now = leader.raft.deadline();
        leader.step(Event::Wake);
        assert_eq!(leader.actions.len(), 2, "a heartbeat to each");
        for follower in [2, 3] {
            leader.receive(message(follower, 1, 1, Body::HeartbeatAck { round, received: matched, matched }));
        }
    };
    (1..=WARM_UP).for_each(&mut beat);
    let made = allocations(|| (WARM_UP + 1..=WARM_UP + ROUNDS).for_each(&mut beat));
    assert_eq!(made, 0, "in {ROUNDS} rounds");
}

#[test]
fn a_follower_answers_heartbeats_without_allocating() {
    let mut follower = Host::new(2);
    follower.receive(message(1, 2, 1, kontiki_tests::lab::append(Default::default(), &[1], 0)));
    follower.persisted();
    let mut beat = |round| {
        follower.receive(message(1, 2, 1, Body::Heartbeat { round, commit: Index::new(1) }));
        assert!(matches!(follower.actions[..], [Action::Send(_), ..]), "it answers");
    };
    (1..=WARM_UP).for_each(&mut beat);
    let made = allocations(|| (WARM_UP + 1..=WARM_UP + ROUNDS).for_each(&mut beat));
    assert_eq!(made, 0, "in {ROUNDS} heartbeats");
}

#[test]
fn a_status_and_a_look_at_the_peers_allocate_nothing() {
    let leader = Host::leader();
    let mut matched = Index::ZERO;
    let made = allocations(|| {
        for _ in 0..ROUNDS {
            let view = leader.raft.leader().expect("it leads");
            matched = view.peers().map(|peer| peer.matched).max().expect("it has peers");
            matched = matched.max(leader.raft.status().committed);
        }
    });
    assert_eq!((made, matched), (0, Index::new(1)));
}

/// The counter counts: a proposal, which builds a new run of entries, does allocate, and not much.
#[test]
fn a_proposal_allocates_little() {
    let (mut leader, payload) = (Host::leader(), Payload::from("payload"));
    let mut total = 0;
    for round in 0..WARM_UP + ROUNDS {
        let made = allocations(|| leader.propose(&payload, round));
        leader.persisted();
        leader.acknowledge(leader.raft.status().last.index);
        total += if round < WARM_UP { 0 } else { made };
    }
    assert!((ROUNDS..=3 * ROUNDS).contains(&total), "{total} allocations in {ROUNDS} proposals");
}

/// How many bytes of the log the members of the long run hold in memory.
const CACHED: u64 = 1 << 20;

/// Commits ten million entries in batches, with a snapshot now and then.
fn commit_ten_million(leader: &mut Host, payload: &Payload) {
    const BATCH: u64 = 10_000;
    leader.now = leader.raft.deadline();
    leader.step(Event::Wake);
    leader.persisted();
    leader.persisted();
    let mut batch = 0;
    while leader.raft.status().last.index.get() < 10_000_000 {
        let proposals =
            (0..BATCH).map(|request| Proposal { request: RequestId(request), payload: payload.clone() });
        leader.step(Event::ProposeBatch(proposals.collect()));
        leader.persisted();
        leader.step(Event::Applied(leader.raft.status().committed));
        let log = leader.raft.log();
        assert!(log.cached_size() <= CACHED, "{} bytes in memory", log.cached_size());
        batch += 1;
        if batch % 100 == 0 {
            leader.step(Event::SnapshotTaken(leader.raft.status().applied));
            leader.persisted();
        }
    }
    leader.actions = Vec::new();
}

/// The learner comes back and gets the first of what it lacks, which the host of the leader reads from its
/// disk. What was written is easy to remember here.
fn catch_up(hosts: &mut [Host; 2], payload: &Payload) {
    let on_disk = |index| {
        let body = if index == 1 { EntryBody::Blank } else { EntryBody::Data(payload.clone()) };
        Entry { id: LogId::new(1, index), body }
    };
    hosts[0].now = hosts[0].raft.deadline();
    let mut served = 0;
    let mut events = VecDeque::from([(0, Event::Wake)]);
    while let Some((host, event)) = events.pop_front()
        && served < 300_000
    {
        hosts[host].step(event);
        for action in std::mem::take(&mut hosts[host].actions) {
            events.push_back(match action {
                Action::Send(message) => (message.to.id.get() as usize - 1, Event::Receive(message)),
                Action::Persist(write) => (host, Event::Persisted(write.seq)),
                Action::Apply { through } => (host, Event::Applied(through)),
                Action::LoadEntries { to, after, through, max_bytes } => {
                    let count = (max_bytes / Entry::OVERHEAD).min(through - after.index);
                    let entries = (1..=count).map(|offset| on_disk(after.index.get() + offset)).collect();
                    served += count;
                    (host, Event::EntriesLoaded(EntriesLoaded { to, after, entries }))
                }
                action => panic!("{action:?}"),
            });
        }
        assert!(hosts.iter().all(|host| host.raft.log().cached_size() <= 3 * CACHED));
    }
}

/// A leader keeps of its log what `max_cached_bytes` allows, however long the log is, and a few bytes for the
/// terms of all of it. Here it is ten million entries long, none of which may leave the disk, since a learner
/// still lacks nearly all: for that one they are read back.
#[test]
fn ten_million_entries_take_no_more_memory_than_the_options_allow() {
    let options = Options {
        max_cached_bytes: CACHED,
        retained_entries: u64::MAX,
        retained_bytes: u64::MAX,
        catch_up_timeout: std::time::Duration::MAX,
        ..Options::default()
    };
    let group = Membership::new([id(1)], [id(2)]).expect("distinct ids");
    let payload = Payload::from("");
    let before = memory::live();
    let mut leader = Host::with(1, group.clone(), &options);
    commit_ten_million(&mut leader, &payload);
    assert_eq!((leader.raft.log().base(), leader.raft.status().committed.get()), (Index::ZERO, 10_000_001));
    let live = memory::live() - before;
    assert!((0..8 * CACHED as i64).contains(&live), "{live} bytes for ten million entries");

    let mut hosts = [leader, Host::with(2, group, &options)];
    catch_up(&mut hosts, &payload);
    assert!(hosts[1].raft.log().evicted() > Index::ZERO, "it keeps no more than that either");
    assert!(hosts[1].raft.status().applied >= Index::new(50_000), "{:?}", hosts[1].raft.status());
}
