//! What the hot path allocates: nothing. A binary of its own, for its allocator counts for all of it.

// An allocator is an unsafe trait; this one adds one to a counter and passes everything on.
#![allow(unsafe_code)]

use kontiki_core::action::Action;
use kontiki_core::config::{Config, Options};
use kontiki_core::event::{Event, Proposal};
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::{Durable, Raft};
use kontiki_core::status::RoleKind;
use kontiki_core::time::Instant;
use kontiki_core::types::{Index, Payload, RequestId, WriteSeq};
use kontiki_tests::lab::{id, identity, message};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// Allocations of this thread, so that tests that run beside each other do not count each other's.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // The thread may be past its end, where nobody asks any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `act` makes.
fn allocations(act: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    act();
    ALLOCATIONS.get() - before
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
        let group = Membership::of((1..=3).map(id)).expect("distinct ids");
        let config = Config::new(identity(member), Options::default()).expect("sound options");
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
