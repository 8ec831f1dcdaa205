//! Small groups explored to the end, and the judge.

use super::alone::{Before, has_latest_membership, is_applied, is_latest};
use super::clocks::NOW;
use super::ghost::{Ghost, applied_is_committed};
use super::host::Host;
use super::*;
use crate::explain;
use crate::happened::Happened;
use crate::hash::StableHasher;
use crate::report::Failure;
use crate::story::Story;
use crate::story::cause::Run;
use crate::trace::{Fate, Traced};
use kontiki_core::action::{Action, Outcome};
use kontiki_core::config::{Config, Options};
use kontiki_core::event::Event;
use kontiki_core::log::{Entries, Entry, EntryBody, LogSlice};
use kontiki_core::membership::Membership;
use kontiki_core::message::{Body, Message};
use kontiki_core::raft::Raft;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{
    Ballot, ClusterId, Identity, Incarnation, Index, LogId, Member, NodeId, Payload, RequestId, Term,
};
use std::collections::BTreeSet;
use std::num::NonZeroU32;

pub(super) const PAIR: Bounds = Bounds {
    members: 2,
    voters: 2,
    terms: 2,
    elections: 2,
    proposals: 1,
    crashes: 1,
    instant_disks: true,
    ..Bounds::NONE
};

pub(super) fn explored(bounds: Bounds, batch: usize) -> Exploration {
    let mut exploration = Exploration::new(bounds).unwrap();
    while !exploration.is_done() {
        exploration.go_on(batch);
    }
    exploration
}

#[test]
fn a_pair_with_a_crash_is_explored_to_the_end_and_holds() {
    let exploration = explored(PAIR, 64);
    assert_eq!(exploration.found(), None);
    assert_eq!(exploration.frontier(), 0);
    assert!(exploration.states() > 1_000 && exploration.depth() > 10, "{}", exploration.states());
}

/// Members and messages are shared, and each step is worked out once: an exploration that cloned every member
/// and stepped it for every transition found as many states by as many transitions.
#[test]
fn what_is_shared_is_explored_in_full() {
    let numbers = |bounds| {
        let mut it = Exploration::reduced(bounds, Reductions { symmetry: false }).unwrap();
        while !it.is_done() {
            it.go_on(1_000);
        }
        (it.states(), it.transitions(), it.depth())
    };
    let election = Bounds { elections: 1, ..Bounds::default() };
    assert_eq!(numbers(Bounds { instant_disks: true, ..election }), (5_287, 66_786, 17));
    assert_eq!(numbers(Bounds { proposals: 0, terms: 1, ..election }), (1_597, 14_199, 18));
}

/// States whose fingerprints are zero, or fall on one another, are told apart, and paths lead back to the
/// first.
#[test]
fn a_store_knows_what_it_has_taken_in() {
    let by = Transition::Propose(1);
    let mut store = Store::new(7);
    let colliding: Vec<u64> = (0..3_000).map(|number| number << 32).collect();
    for (&fingerprint, from) in colliding.iter().zip(0..) {
        assert!(!store.contains(fingerprint));
        assert_eq!(store.insert(fingerprint, from, by), Some(from + 1));
        assert_eq!(store.insert(fingerprint, 0, by), None);
    }
    assert_eq!(store.len(), 3_001);
    assert!(colliding.iter().all(|&fingerprint| store.contains(fingerprint)) && !store.contains(8));
    assert_eq!(store.path(4), [by; 4]);
}

#[test]
fn slow_disks_reads_and_changes_bring_more_states() {
    let fast = Bounds { crashes: 0, terms: 1, elections: 1, ..PAIR };
    let states = |bounds| explored(bounds, 64).states();
    let least = states(fast);
    for bounds in [
        Bounds { instant_disks: false, ..fast },
        Bounds { slow_machines: true, ..fast },
        Bounds { led: true, terms: 2, ..fast },
        Bounds { reads: 1, ..fast },
        Bounds { follower_reads: 1, ..fast },
        Bounds { snapshots: 1, ..fast },
        Bounds { heartbeats: 1, ..fast },
        Bounds { transfers: 1, ..fast },
        Bounds { losses: 1, ..fast },
        Bounds { wipes: 1, ..fast },
        Bounds { members: 3, learners: 1, ..fast },
        Bounds { voters: 1, changes: 1, ..fast },
        Bounds { voters: 1, changes: 1, swap: true, ..fast },
        Bounds { terms: 2, elections: 2, ..fast },
    ] {
        assert!(states(bounds) > least, "{bounds:?}");
    }
}

/// What is found does not depend on how the work is divided.
#[test]
fn batches_and_parts_do_not_matter() {
    let numbers = |it: &Exploration| (it.states(), it.transitions(), it.depth());
    let bounds = Bounds { crashes: 0, ..PAIR };
    let one = explored(bounds, 1);
    let mut parts = Exploration::new(bounds).unwrap();
    while !parts.is_done() {
        parts.go_on_in_parts(100, |batch| {
            let mut backwards: Vec<_> = (0..batch.len()).rev().map(|state| batch.expand(state)).collect();
            backwards.reverse();
            backwards
        });
    }
    assert_eq!(numbers(&one), numbers(&explored(bounds, 1_000)));
    assert_eq!(numbers(&one), numbers(&parts));
}

#[test]
fn wrong_bounds_say_what_is_wrong() {
    let error = |bounds| Exploration::new(bounds).unwrap_err();
    assert_eq!(error(Bounds { members: 6, ..PAIR }), BoundsError::Members(6));
    assert_eq!(error(Bounds { voters: 3, ..PAIR }), BoundsError::Voters(3));
    assert_eq!(error(Bounds { voters: 0, ..PAIR }), BoundsError::Voters(0));
    assert_eq!(error(Bounds { learners: 1, ..PAIR }), BoundsError::Voters(3));
    assert_eq!(error(Bounds { learners: 255, ..PAIR }), BoundsError::Voters(255));
    assert_eq!(error(Bounds { witness: true, ..PAIR }), BoundsError::Witness);
    assert_eq!(error(Bounds { terms: 0, ..PAIR }), BoundsError::Terms(0));
    assert_eq!(error(Bounds { swap: true, ..PAIR }), BoundsError::Swap);
    assert!(BoundsError::Members(6).to_string().contains("choose 1 to 5"));
}

/// A group in which member 1 leads term 1, with the messages that elected it.
fn elected() -> Vec<Host> {
    let bounds = Bounds { crashes: 0, ..PAIR };
    let steps = Steps::new(bounds, Symmetry::none());
    let mut state = Arc::new(State::first(&steps).unwrap());
    let mut told = 0;
    while state.hosts[0].raft.status().role != RoleKind::Leader {
        let next = match told {
            0 => Transition::Timeout(0),
            _ => (0..).map(Transition::Deliver).find(|it| is_news(&state, *it, &steps)).unwrap(),
        };
        state = state.after(next, &steps).unwrap().unwrap();
        told += 1;
        assert!(told < 20);
    }
    state.hosts.iter().map(|host| (**host).clone()).collect()
}

/// What is remembered when member 1 has got the vote of 2 in term 1.
fn granted() -> Arc<Ghost> {
    let mut ghost = Arc::<Ghost>::default();
    Arc::make_mut(&mut ghost).voted(Term::new(1), id(2).into(), id(1).into());
    ghost
}

/// Whether something that can happen changes something.
fn is_news(state: &Arc<State>, transition: Transition, steps: &Steps) -> bool {
    state.after(transition, steps).unwrap().unwrap().fingerprint() != state.fingerprint()
}

fn id(number: u64) -> NodeId {
    NodeId::new(number).unwrap()
}

fn property(judged: Result<(), Violation>) -> &'static str {
    judged.map_or_else(|violation| violation.property, |()| "nothing")
}

fn message(from: u64, to: u64, body: Body) -> Message {
    let from = Identity::new(ClusterId(1), id(from));
    Message::new(from, id(to).into(), Term::new(1), body)
}

#[test]
fn leaders_that_others_lead_beside_are_seen() {
    let hosts = elected();
    let blank = Host::of(&PAIR, 0);
    let all: Vec<_> = hosts.iter().collect();
    let mut ghost = granted();
    assert_eq!(property(ghost.judge(&blank, &all, 0, std::iter::empty(), &[])), "nothing");
    let mut ghost = Arc::<Ghost>::default();
    Arc::make_mut(&mut ghost).led(Term::new(1), id(2));
    assert_eq!(property(ghost.judge(&blank, &all, 0, std::iter::empty(), &[])), "Election Safety");
    let mut ghost = granted();
    Arc::make_mut(&mut ghost).leased(Term::ZERO, id(2), NOW);
    assert_eq!(property(ghost.judge(&blank, &all, 0, std::iter::empty(), &[])), "Linearizable Reads");
}

#[test]
fn a_leader_without_the_votes_of_a_majority_is_seen() {
    let (hosts, blank) = (elected(), Host::of(&PAIR, 0));
    let all: Vec<_> = hosts.iter().collect();
    let judged = |term, voter, candidate| {
        let mut ghost = Arc::<Ghost>::default();
        Arc::make_mut(&mut ghost).voted(Term::new(term), id(voter).into(), id(candidate).into());
        property(ghost.judge(&blank, &all, 0, std::iter::empty(), &[]))
    };
    assert_eq!(judged(1, 2, 1), "nothing");
    for (term, voter, candidate) in [(2, 2, 1), (1, 1, 1), (1, 2, 2)] {
        assert_eq!(
            judged(term, voter, candidate),
            "Election Safety",
            "{voter} votes for {candidate} in {term}"
        );
    }
}

/// A group that begins with a leader has nothing under way, and everyone knows that its blank entry is
/// committed.
#[test]
fn a_group_may_begin_with_a_leader() {
    for bounds in
        [Bounds { led: true, ..Bounds::default() }, Bounds { led: true, instant_disks: false, ..PAIR }]
    {
        let steps = Steps::new(bounds, Symmetry::within(&bounds));
        let state = State::first(&steps).unwrap();
        let known = |host: &Host| (host.raft.status().role, host.raft.status().committed, host.writes.len());
        let (leader, follower) =
            ((RoleKind::Leader, Index::new(1), 0), (RoleKind::Follower, Index::new(1), 0));
        let all: Vec<_> = state.hosts.iter().map(|host| known(host)).collect();
        assert_eq!((all[0], &all[1..]), (leader, &vec![follower; all.len() - 1][..]));
        let mut events = Vec::new();
        (0..all.len()).for_each(|member| state.events(member, &bounds, &mut events));
        assert!(!events.iter().any(|(_, it)| matches!(it, Transition::Deliver(_))), "{events:?}");
    }
}

#[test]
fn a_leader_that_lacks_what_is_committed_is_seen() {
    let hosts = elected();
    let mut ghost = granted();
    Arc::make_mut(&mut ghost).commit(LogId::new(1, 3), 7, Term::ZERO);
    let judged =
        ghost.judge(&Host::of(&PAIR, 0), &hosts.iter().collect::<Vec<_>>(), 0, std::iter::empty(), &[]);
    assert_eq!(property(judged), "Leader Completeness");
}

#[test]
fn a_leader_that_changes_its_log_is_seen() {
    let hosts = elected();
    let (mut longer, all) = (hosts.clone(), hosts.iter().collect::<Vec<_>>());
    let proposal = kontiki_core::event::Proposal { request: RequestId(9), payload: Payload::from("x") };
    longer[0].raft.step(NOW, Event::Propose(proposal));
    let judge = |before: &Host| property(granted().judge(before, &all, 0, std::iter::empty(), &[]));
    assert_eq!(judge(&hosts[0]), "nothing");
    assert_eq!(judge(&longer[0]), "Leader Append-Only");
}

/// A host whose log holds these entries, on its disk.
fn holding(member: usize, entries: &[(u64, u64, &str)], committed: u64) -> Host {
    let mut host = Host::of(&PAIR, member);
    let entry = |&(term, index, text): &(u64, u64, &str)| Entry {
        id: LogId::new(term, index),
        body: EntryBody::Data(Payload::from(text)),
    };
    host.disk.entries = entries.iter().map(entry).collect();
    host.disk.ballot = Ballot::new(Term::new(5), None);
    host.disk.committed = Index::new(committed);
    host.restart(&PAIR, host.member(), NOW).unwrap();
    host
}

#[test]
fn logs_that_share_an_entry_and_differ_before_it_are_seen() {
    let (one, same) =
        (holding(0, &[(1, 1, "a"), (2, 2, "b")], 0), holding(1, &[(1, 1, "a"), (3, 2, "c")], 0));
    assert_eq!(
        property(Arc::<Ghost>::default().judge(&one, &[&one, &same], 0, std::iter::empty(), &[])),
        "nothing"
    );
    let other = holding(1, &[(1, 1, "x"), (2, 2, "b")], 0);
    assert_eq!(
        property(Arc::<Ghost>::default().judge(&one, &[&one, &other], 0, std::iter::empty(), &[])),
        "Log Matching"
    );
}

#[test]
fn another_entry_where_one_is_committed_is_seen() {
    let before = Host::of(&PAIR, 0);
    let host = holding(0, &[(1, 1, "a")], 1);
    let mut ghost = Arc::<Ghost>::default();
    assert_eq!(property(ghost.judge(&before, &[&host, &before], 0, std::iter::empty(), &[])), "nothing");
    let other = holding(1, &[(2, 1, "b")], 1);
    let judged = ghost.judge(&before, &[&before, &other], 1, std::iter::empty(), &[]);
    assert_eq!(property(judged), "State Machine Safety");
}

#[test]
fn promises_that_are_not_on_the_disk_are_seen() {
    let mut host = Host::of(&PAIR, 1);
    let granted = message(2, 1, Body::Voted { granted: true });
    let sent = |host: &Host, ghost: &mut Arc<Ghost>, message: &Message| {
        property(ghost.judge(host, &[host, host], 1, std::iter::once(message), &[]))
    };
    assert_eq!(sent(&host, &mut Arc::<Ghost>::default(), &granted), "Vote Durability");
    let appended = message(2, 1, Body::Appended { matched: Index::new(1) });
    assert_eq!(sent(&host, &mut Arc::<Ghost>::default(), &appended), "Durable Commit");
    host.disk.ballot = Ballot::new(Term::new(1), Some(id(1)));
    assert_eq!(sent(&host, &mut Arc::<Ghost>::default(), &granted), "nothing");
    let mut ghost = Arc::<Ghost>::default();
    Arc::make_mut(&mut ghost).voted(Term::new(1), Member::from(id(2)), Member::from(id(2)));
    assert_eq!(sent(&host, &mut ghost, &granted), "Vote Durability", "it has voted for itself before");
}

#[test]
fn what_is_applied_and_not_committed_is_seen() {
    let earlier = holding(0, &[(1, 1, "a")], 1);
    let mut host = earlier.clone();
    host.raft.step(NOW, Event::Wake);
    host.raft.step(NOW, Event::Applied(Index::new(1)));
    assert_eq!(host.raft.log().applied(), Index::new(1));
    let uncommitted = holding(0, &[(1, 1, "a")], 0);
    let judged = |committed: &Host| {
        let ghost = &mut Arc::<Ghost>::default();
        property(ghost.judge(&earlier, &[committed, &earlier], 0, std::iter::empty(), &[]))
    };
    assert_eq!((judged(&host), judged(&uncommitted)), ("nothing", "nothing"));
    assert_eq!(
        property(applied_is_committed(Index::new(2), Index::new(1), 1, id(1))),
        "State Machine Safety"
    );
    assert_eq!(property(applied_is_committed(Index::new(2), Index::new(1), 2, id(1))), "nothing");
}

/// An answer to a heartbeat leaves at once: what it says of the disk must be true of the log as it is.
#[test]
fn a_heartbeat_answered_with_what_is_not_on_the_disk_is_seen() {
    let mut host = holding(1, &[(1, 1, "a"), (2, 2, "b")], 0);
    let answer = |matched: u64| {
        let (round, matched) = (1, Index::new(matched));
        message(2, 1, Body::HeartbeatAck { round, received: matched, matched })
    };
    let sent = |host: &Host, message: Message| {
        let judged = Arc::<Ghost>::default().judge(host, &[host, host], 1, std::iter::once(&message), &[]);
        property(judged)
    };
    assert_eq!(sent(&host, answer(2)), "nothing");
    let later = Message { term: Term::new(6), ..answer(2) };
    assert_eq!(sent(&host, later), "Durable Commit", "its disk is in term 5");
    host.disk.entries.pop();
    assert_eq!(sent(&host, answer(1)), "nothing");
    assert_eq!(sent(&host, answer(2)), "Durable Commit");
}

/// What a disk has damaged is on it no more, nor what comes after it: not for the leader that asks.
#[test]
fn a_promise_of_what_the_disk_has_damaged_is_seen() {
    let mut host = holding(1, &[(1, 1, "a"), (2, 2, "b"), (2, 3, "c")], 0);
    let sent = |host: &Host, body: Body| {
        let message = message(2, 1, body);
        property(Arc::<Ghost>::default().judge(host, &[host, host], 1, std::iter::once(&message), &[]))
    };
    let appended = |matched| Body::Appended { matched: Index::new(matched) };
    assert_eq!(sent(&host, appended(3)), "nothing");
    host.lose(2);
    host.restart(&PAIR, host.member(), NOW).unwrap();
    assert_eq!((sent(&host, appended(1)), sent(&host, appended(2))), ("nothing", "Durable Commit"));
    assert_eq!(sent(&host, appended(3)), "Durable Commit");
    let matched = Index::new(3);
    let answer = Body::HeartbeatAck { round: 1, received: matched, matched };
    assert_eq!(sent(&host, answer), "Durable Commit");
    assert_eq!(property(host.may_apply(Index::new(1))), "nothing");
    assert_eq!(property(host.may_apply(Index::new(2))), "Halt");
}

/// Where a witness has no body, or a disk has damaged it, two logs may still be the same.
#[test]
fn what_is_not_known_of_an_entry_does_not_differ() {
    let (ours, mut theirs) =
        (holding(0, &[(1, 1, "a"), (2, 2, "b")], 0), holding(1, &[(1, 1, "x"), (2, 2, "b")], 0));
    let judged = |theirs: &Host| {
        let ghost = &mut Arc::<Ghost>::default();
        property(ghost.judge(&ours, &[&ours, theirs], 0, std::iter::empty(), &[]))
    };
    assert_eq!(judged(&theirs), "Log Matching");
    theirs.lose(1);
    theirs.restart(&PAIR, theirs.member(), NOW).unwrap();
    assert_eq!(judged(&theirs), "nothing");
}

/// A member that has lost its disk is another one, whatever it said before.
#[test]
fn a_member_that_was_wiped_begins_anew() {
    let before = holding(1, &[(1, 1, "a")], 0);
    let mut host = before.clone();
    host.wipe();
    host.restart(&PAIR, before.reborn(), NOW).unwrap();
    assert_eq!(host.member(), Member { id: id(2), incarnation: Incarnation(1) });
    assert_eq!((host.raft.log().last(), host.raft.status().term), (LogId::ZERO, Term::ZERO));
    assert_eq!(*host.disk_in(Incarnation(0)), before.disk, "what it had counts for what it was");
    assert_eq!(host.disk_in(Incarnation(1)).entries.len(), 0);
}

/// A group with a witness or a learner, of which a member loses an entry or its disk, holds all properties;
/// and with three voters, one that has lost an entry is no end.
/// A wiped member is removed, and added again in its new incarnation.
#[test]
fn a_member_that_was_wiped_may_come_back() {
    let bounds = Bounds { wipes: 1, changes: 2, led: true, crashes: 0, ..PAIR };
    let bounds = Bounds { members: 3, voters: 3, ..bounds };
    let mut schedule = schedule(bounds, &[]);
    for words in [
        "the operator changes the membership at 1",
        "member 2 receives from 1",
        "member 1 receives from 2, sent in term 1: Appended",
        "member 3 loses its disk",
        "the operator changes the membership at 1",
    ] {
        then(&mut schedule, words);
    }
    let end = schedule.walk(&schedule.steps().unwrap(), |_, _| ()).unwrap().unwrap();
    let known = |host: usize| end.hosts[host].raft.membership().incarnation(id(3));
    assert_eq!((known(0), known(1)), (Some(Incarnation(1)), None));
}

/// Hosts that wait are hosts whose disks are instant, but for what a step says in which order.
#[test]
fn hosts_that_wait_come_to_the_same_states() {
    let numbers = |bounds| {
        let exploration = explored(bounds, 64);
        assert_eq!(exploration.found(), None);
        (exploration.states(), exploration.transitions(), exploration.depth())
    };
    assert_eq!(numbers(PAIR), numbers(Bounds { synchronous: true, instant_disks: false, ..PAIR }));
    let told = schedule(Bounds { synchronous: true, ..PAIR }, &[]).script();
    assert_eq!(told, Err(ReplayError::Synchronous));
}

#[test]
fn groups_of_all_kinds_are_explored_with_damage() {
    let led = Bounds { led: true, instant_disks: true, elections: 1, copied: Some(0), ..Bounds::default() };
    let idle = Bounds { proposals: 0, ..led };
    for bounds in [
        Bounds { losses: 1, ..lively(idle) },
        Bounds { wipes: 1, ..lively(idle) },
        Bounds { witness: true, losses: 1, ..lively(idle) },
        Bounds { witness: true, crashes: 1, ..idle },
        Bounds { members: 3, voters: 2, learners: 1, losses: 1, ..idle },
        Bounds { members: 3, voters: 2, learners: 1, copied: None, ..led },
        Bounds { voters: 2, losses: 1, changes: 1, elections: 0, ..idle },
    ] {
        let explored = explored(bounds, 1_000);
        assert_eq!(explored.found(), None, "{bounds:?}");
        assert!(explored.states() > 100, "{} states within {bounds:?}", explored.states());
    }
}

/// Of two voters, one can lose what the other has never had. Nothing tells whether it was committed.
#[test]
fn a_pair_may_have_to_be_recovered_by_hand() {
    let bounds = Bounds { losses: 1, crashes: 0, proposals: 0, elections: 1, ..lively(PAIR) };
    let exploration = explored(bounds, 64);
    let found = exploration.found().expect("it leads nowhere");
    assert_eq!(found.violation.property, "Liveness");
    assert!(matches!(found.path.last(), Some(Transition::Lose(_, 1))), "{:?}", found.path);
}

/// A snapshot is of what was committed, with the membership as of its end.
#[test]
fn a_snapshot_of_what_was_not_committed_is_seen() {
    let mut host = holding(0, &[(1, 1, "a")], 1);
    let earlier = host.clone();
    host.raft.step(NOW, Event::Wake);
    host.raft.step(NOW, Event::Applied(Index::new(1)));
    host.raft.step(NOW, Event::SnapshotTaken(Index::new(1)));
    assert_eq!(host.raft.status().snapshot, LogId::new(1, 1));
    let judged = |committed: LogId| {
        let mut ghost = Arc::<Ghost>::default();
        Arc::make_mut(&mut ghost).commit(committed, 0, Term::new(1));
        property(ghost.judge(&earlier, &[&host, &earlier], 0, std::iter::empty(), &[]))
    };
    assert_eq!(judged(LogId::new(1, 1)), "nothing");
    assert_eq!(judged(LogId::new(2, 1)), "Snapshot Prefix");
}

/// The membership in force is the latest in the log, and that of the beginning where the log has none.
#[test]
fn a_member_that_goes_by_another_membership_than_its_log_says_is_seen() {
    let mut host = holding(0, &[(1, 1, "a")], 0);
    assert_eq!(property(has_latest_membership(&host.raft)), "nothing");
    let alone = Arc::new(Membership::of([id(1)]).unwrap());
    let entry = Entry { id: LogId::new(2, 2), body: EntryBody::Config(Arc::clone(&alone)) };
    host.disk.entries = host.disk.entries.iter().cloned().chain([entry]).collect();
    host.restart(&PAIR, host.member(), NOW).unwrap();
    assert_eq!(property(has_latest_membership(&host.raft)), "nothing");
    assert_eq!(property(is_latest(&alone, host.raft.log(), id(1))), "nothing");
    let first = Membership::of([id(1), id(2)]).unwrap();
    assert_eq!(property(is_latest(&first, host.raft.log(), id(1))), "Latest Membership");
}

/// The simulator's checks of single steps: here a vote for a shorter log.
#[test]
fn a_step_that_breaks_a_rule_of_its_own_is_seen() {
    let mut host = holding(1, &[(1, 1, "a"), (2, 2, "b")], 0);
    let before = Before::of(&host.raft);
    let asked = |last| {
        let body = Body::RequestVote { last, transfer: false };
        let from = Identity::new(ClusterId(1), id(1));
        Event::Receive(Message::new(from, id(2).into(), Term::new(6), body))
    };
    let vote = asked(LogId::new(2, 2));
    let actions = host.raft.step(NOW, vote.clone());
    assert_eq!(host.raft.status().vote, Some(id(1)));
    assert_eq!(before.judge(&host.raft, &vote, &actions), Ok(()));
    let violation = before.judge(&host.raft, &asked(LogId::new(1, 1)), &actions).unwrap_err();
    assert_eq!(violation.property, "Election Restriction");
}

/// What a follower has acknowledged is not sent to it again.
#[test]
fn a_leader_that_goes_back_behind_what_matches_is_seen() {
    let mut leader = elected().swap_remove(0);
    let matched = leader.raft.log().last();
    let acknowledged = message(2, 1, Body::Appended { matched: matched.index });
    leader.raft.step(NOW, Event::Receive(acknowledged));
    let before = Before::of(&leader.raft);
    let sent = |prev| {
        let slice = LogSlice::new(prev, Entries::default()).unwrap();
        let append = Action::Send(message(1, 2, Body::Append { slice, commit: Index::ZERO }));
        property(before.judge(&leader.raft, &Event::Wake, &[append]))
    };
    assert_eq!((sent(matched), sent(LogId::ZERO)), ("nothing", "Match Index"));
}

#[test]
fn a_read_that_is_served_before_its_entry_is_applied_is_seen() {
    let host = holding(0, &[(1, 1, "a")], 1);
    let ready = |index| Outcome::Ready { index: Index::new(index), until: None };
    assert_eq!(host.raft.log().applied(), Index::ZERO);
    let judged = |index| property(is_applied(id(1), host.applied, ready(index)));
    assert_eq!((judged(0), judged(1)), ("nothing", "Linearizable Reads"));
}

/// A client that was told no must not find its entry in the log: neither before it was told nor after.
#[test]
fn a_refused_proposal_that_is_committed_is_seen() {
    use kontiki_core::action::Refusal;
    let payload = "7";
    let before = Host::of(&PAIR, 0);
    let host = holding(0, &[(1, 1, payload)], 1);
    let refused = |request| [(RequestId(request), Outcome::Refused(Refusal::Overwritten))];
    let judge = |ghost: &mut Arc<Ghost>, host: &Host, answers: &[(RequestId, Outcome)]| {
        property(ghost.judge(&before, &[host, &before], 0, std::iter::empty(), answers))
    };
    let mut ghost = Arc::<Ghost>::default();
    assert_eq!(judge(&mut ghost, &before, &refused(7)), "nothing");
    assert_eq!(judge(&mut ghost, &host, &[]), "Acknowledged Writes");
    let mut ghost = Arc::<Ghost>::default();
    assert_eq!(judge(&mut ghost, &host, &refused(8)), "nothing");
    assert_eq!(judge(&mut ghost, &host, &refused(7)), "Acknowledged Writes");
}

#[test]
fn answers_that_are_not_true_are_seen() {
    let host = Host::of(&PAIR, 0);
    let answered = |ghost: &mut Arc<Ghost>, outcome| {
        property(ghost.judge(&host, &[&host, &host], 0, std::iter::empty(), &[(RequestId(1), outcome)]))
    };
    let mut ghost = Arc::<Ghost>::default();
    assert_eq!(answered(&mut ghost, Outcome::Committed(LogId::new(1, 1))), "Acknowledged Writes");
    Arc::make_mut(&mut ghost).commit(LogId::new(1, 1), 7, Term::new(1));
    assert_eq!(answered(&mut ghost, Outcome::Committed(LogId::new(1, 1))), "nothing");
    let ready = |index| Outcome::Ready { index: Index::new(index), until: None };
    let mut asked = Arc::clone(&ghost);
    Arc::make_mut(&mut asked).read_begins(RequestId(1), false);
    assert_eq!(answered(&mut asked.clone(), ready(0)), "Linearizable Reads");
    assert_eq!(answered(&mut asked, ready(1)), "nothing");
    // A leader must have asked a majority since: of two, the other one.
    let (round, zero) = (1, Index::ZERO);
    let answer = message(2, 1, Body::HeartbeatAck { round, received: zero, matched: zero });
    let heard = |ghost: &mut Arc<Ghost>| {
        let other = Host::of(&PAIR, 1);
        property(ghost.judge(&other, &[&other, &other], 1, std::iter::once(&answer), &[]))
    };
    assert_eq!(heard(&mut ghost), "nothing");
    Arc::make_mut(&mut ghost).read_begins(RequestId(1), true);
    assert_eq!(answered(&mut ghost.clone(), ready(1)), "Linearizable Reads", "it answered before");
    assert_eq!((heard(&mut ghost), answered(&mut ghost, ready(1))), ("nothing", "nothing"));
}

fn schedule(bounds: Bounds, path: &[Transition]) -> Schedule {
    Schedule { bounds, path: path.to_vec() }
}

#[test]
fn a_way_is_told_event_by_event() {
    let path = [Transition::Timeout(0), Transition::Deliver(0), Transition::Crash(1, 0)];
    let (told, violation) = replay(&schedule(PAIR, &path)).unwrap();
    assert_eq!(violation, None);
    assert_eq!(told.len(), 3);
    assert_eq!(told[0], "member 1 times out");
    assert!(told[1].starts_with("member 2 receives from 1, sent in term 1: RequestVote"), "{}", told[1]);
    assert_eq!(told[2], "member 2 crashes with 0 of 0 writes on its disk, and starts again");
}

/// A pair in which a late copy of a request for a vote arrives after a crash: 1 asks for votes, 2 grants and
/// forgets, and is asked once more.
fn late_and_twice() -> Schedule {
    let bounds = Bounds { instant_disks: false, terms: 3, elections: 3, ..PAIR };
    let mut schedule = schedule(bounds, &[Transition::Timeout(0), Transition::Persisted(0)]);
    let request = "receives from 1, sent in term 1: RequestVote";
    for words in [
        request,
        "member 2 crashes with 0 of 1 writes",
        request,
        "2's oldest write is durable",
        "receives from 2, sent in term 1: Voted",
        "member 1's oldest write is durable",
    ] {
        then(&mut schedule, words);
    }
    schedule
}

/// Goes on with what is told in these words.
fn then(schedule: &mut Schedule, words: &str) {
    let is_it = |transition: &Transition| {
        let longer = Schedule { path: [&schedule.path[..], &[*transition]].concat(), ..schedule.clone() };
        replay(&longer).unwrap().0.last().unwrap().contains(words)
    };
    let next = schedule.next().unwrap().into_iter().find(is_it);
    schedule.path.push(next.unwrap_or_else(|| panic!("{words} cannot happen")));
}

/// Writes are numbered through, messages are sent before they arrive, and a copy has the number of the first.
#[test]
fn a_way_is_traced_like_a_run() {
    let (mut lines, mut fates) = (Vec::new(), Vec::new());
    let failure = late_and_twice().run_traced(&mut |traced| match traced {
        Traced::Message { number, fate, .. } => fates.push((*number, (*fate).clone())),
        traced => lines.push(traced.line()),
    });
    assert_eq!(failure, Ok(None));
    let lines: Vec<_> =
        lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let [wake, written, first, crash, restart, second, durable, vote, _] = &lines[..] else {
        panic!("{lines:#?}");
    };
    assert!(wake.starts_with("1 1.000ms 1 C t1") && wake.contains("write 1 t1 vote=1"), "{wake}");
    assert!(written.contains("written 1 => 1>2 t1 RequestVote"), "{written}");
    assert!(first.starts_with("3 3.000ms 2 F t1") && first.contains("write 1 t1 vote=1"), "{first}");
    assert_eq!(crash, "4.000ms * member 2 crashes before its last write is durable");
    assert_eq!(restart, "4.000ms * member 2 starts again");
    assert!(second.contains("write 2 t1 vote=1"), "{second}");
    assert!(durable.contains("written 2 => 2>1 t1 Voted yes"), "{durable}");
    assert!(vote.contains("1 L t1") && vote.contains("write 2 t1"), "{vote}");
    let carried = Fate::Carried { arrives_ns: vec![3_000_000, 5_000_000], delayed: false };
    let arrived = Fate::Arrived { kept_back: false };
    assert_eq!(fates[..3], [(1, carried), (1, arrived.clone()), (1, arrived)]);
}

/// A message is late if its term has passed at the receiver, or a later one of the same link was faster.
#[test]
fn what_arrives_after_its_time_is_late() {
    let is_late = |timeouts: &[Transition]| {
        let mut schedule = schedule(Bounds { terms: 3, elections: 3, ..PAIR }, timeouts);
        then(&mut schedule, "member 2 receives from 1, sent in term 1: RequestVote");
        let mut late = Vec::new();
        let traced = schedule.run_traced(&mut |traced| {
            if let Traced::Message { number: 1, fate: Fate::Carried { delayed, .. }, .. } = traced {
                late.push(*delayed);
            }
        });
        traced.unwrap();
        late
    };
    let [one, two] = [0, 1].map(Transition::Timeout);
    assert_eq!(is_late(&[one, two]), [false], "both are in term 1");
    assert_eq!(is_late(&[one, two, two]), [true], "the receiver is in term 2");
    assert_eq!(is_late(&[one, one]), [false], "the later request has not arrived");
}

/// The story of what an exploration finds tells elections, crashes and copies; the page shows the same
/// events.
#[test]
fn a_way_is_told_as_a_story_and_drawn_as_a_page() {
    let schedule = late_and_twice();
    let mut run = Run::default();
    schedule.run_traced(&mut |traced| run.note(traced)).unwrap();
    let failure = Failure::new("Election Safety", "of a test".to_owned(), 7, 9_000_000);
    let story = Story::of(&run, failure).to_string();
    for fact in [
        "member 1 stands for election in term 1",
        "member 2 crashes before",
        "member 2 votes for 1 in term 1, by a copy of a message sent 3.000ms before",
        "member 1 gets the vote of 2, becomes leader of term 1",
    ] {
        assert!(story.contains(fact), "no `{fact}` in:\n{story}");
    }
    assert_eq!(schedule.story(), Ok(None), "nothing is violated");
    let diagram = explain::schedule(&schedule).unwrap();
    assert_eq!((diagram.members.len(), diagram.events.len()), (2, 9));
    assert_eq!(diagram.title, "explored, 2 members, 8 events");
    let twice = diagram.messages.iter().find(|message| message.duplicated).unwrap();
    assert_eq!(twice.arrived.len(), 2);
    assert_eq!(
        diagram.writes.iter().map(|write| write.unheard).collect::<Vec<_>>(),
        [false, true, false, false]
    );
}

/// A crash tells of the writes that its disk does not hold.
#[test]
fn a_crash_names_what_is_lost() {
    let story = |written: u8| {
        let bounds = Bounds { instant_disks: false, ..PAIR };
        let path = [Transition::Timeout(0), Transition::Crash(0, written)];
        let mut run = Run::default();
        schedule(bounds, &path).run_traced(&mut |traced| run.note(traced)).unwrap();
        Story::of(&run, Failure::new("Restart", String::new(), 1, 2_000_000)).to_string()
    };
    assert!(story(0).contains("member 1 crashes before"), "{}", story(0));
    assert!(story(1).contains("member 1 crashes\n"), "{}", story(1));
}

/// What a disk damages and what is wiped is told, as a trace and as a script.
#[test]
fn damage_is_told_in_scripts_and_traces() {
    let bounds =
        Bounds { led: true, losses: 1, wipes: 1, witness: true, copied: Some(0), ..Bounds::default() };
    let path = [Transition::Propose(0), Transition::Lose(0, 1), Transition::Wipe(2)];
    let schedule = schedule(bounds, &path);
    let script = schedule.script().unwrap();
    assert!(script.starts_with("cluster 2 witnesses=1 pre_vote=false"), "{script}");
    assert!(script.contains("propose 1 1\nflush 1 1\ndamage 1 1\nwipe 3\n"), "{script}");
    let (mut restarts, mut disks) = (Vec::new(), Vec::new());
    let failure = schedule.run_traced(&mut |traced| match traced {
        Traced::World { what: Happened::Restart { member, incarnation }, .. } => {
            restarts.push((*member, *incarnation));
        }
        Traced::World { what: Happened::Other { what, .. }, .. } => disks.push(what.clone()),
        _ => {}
    });
    assert_eq!((failure, restarts), (Ok(None), vec![(id(1), Incarnation(0)), (id(3), Incarnation(1))]));
    assert_eq!(disks, ["the disk of member 1 is damaged: entry 1", "the disk of member 3 is lost"]);
}

/// A script repeats a message that arrives once more, and does not repeat what arrives once.
#[test]
fn a_way_is_written_as_a_script() {
    let text = late_and_twice().script().unwrap();
    let copies = text.lines().filter(|line| line.starts_with("duplicate \"1→2 t1 RequestVote")).count();
    assert_eq!(copies, 1, "{text}");
    assert!(text.starts_with("cluster 2 pre_vote=false check_quorum=false\nslow-disk 1\n"), "{text}");
    assert!(text.contains("\ncrash 2\nrestart 2\n") && text.ends_with("\nstatus\n----\n"), "{text}");
}

#[test]
fn a_way_that_cannot_be_gone_says_where_it_ends() {
    let impossible = |path: &[Transition]| replay(&schedule(PAIR, path)).unwrap_err();
    for transition in [
        Transition::Deliver(0),
        Transition::Timeout(9),
        Transition::Persisted(0),
        Transition::Crash(0, 3),
        Transition::Propose(0),
        Transition::Lose(0, 1),
        Transition::Wipe(0),
    ] {
        assert_eq!(impossible(&[transition]), ReplayError::Impossible { step: 1, transition });
    }
    let error = impossible(&[Transition::Timeout(0), Transition::Timeout(7)]).to_string();
    assert!(error.starts_with("event 2, Timeout(7), cannot happen there"), "{error}");
    let bounds = Bounds { members: 9, ..PAIR };
    assert_eq!(replay(&schedule(bounds, &[])), Err(ReplayError::Bounds(BoundsError::Members(9))));
}

/// All states within bounds, each under the least of its names. Of those that are equal but for names all are
/// looked at, or one.
fn all_states(bounds: Bounds, looks_at_all: bool) -> (BTreeSet<u64>, usize) {
    let steps = Steps::new(bounds, Symmetry::within(&bounds));
    let first = Arc::new(State::first(&steps).unwrap());
    let key = |state: &State| if looks_at_all { state.own_fingerprint() } else { state.fingerprint() };
    let mut known = BTreeSet::from([key(&first)]);
    let mut names_aside = BTreeSet::new();
    let mut waiting = vec![first];
    while let Some(state) = waiting.pop() {
        names_aside.insert(state.fingerprint());
        let mut events = Vec::new();
        (0..state.hosts.len()).for_each(|member| state.events(member, &bounds, &mut events));
        for (_, transition) in events {
            let next = state.after(transition, &steps).unwrap().unwrap();
            if known.insert(key(&next)) {
                waiting.push(next);
            }
        }
    }
    (names_aside, known.len())
}

#[test]
fn one_of_the_states_that_are_equal_but_for_names_is_enough() {
    let least = Bounds { elections: 1, proposals: 0, terms: 1, ..Bounds::default() };
    let instant = Bounds { instant_disks: true, ..least };
    for (bounds, least_factor) in [
        (Bounds { proposals: 1, ..instant }, 5),
        (Bounds { pre_vote: true, ..instant }, 4),
        (Bounds { terms: 2, crashes: 1, members: 2, voters: 2, ..least }, 1),
        (Bounds { voters: 2, changes: 1, ..instant }, 1),
    ] {
        let (all, looked_at) = all_states(bounds, true);
        let (reduced, fewer) = all_states(bounds, false);
        assert_eq!(all, reduced, "{bounds:?}");
        assert_eq!(reduced.len(), fewer);
        assert!(looked_at > fewer * least_factor, "{looked_at} and {fewer} within {bounds:?}");
    }
}

/// The number of renamings: of members that begin alike, in their places where they must stay.
#[test]
fn members_that_begin_alike_can_be_renamed() {
    let three = Bounds::default();
    let renamings = |bounds: Bounds| Symmetry::within(&bounds).renamings().len();
    assert_eq!(renamings(three), 6);
    assert_eq!(renamings(Bounds { members: 5, voters: 5, ..three }), 120);
    assert_eq!(renamings(Bounds { members: 5, voters: 3, ..three }), 12);
    assert_eq!(renamings(Bounds { changes: 1, ..three }), 2);
    assert_eq!(renamings(Bounds { witness: true, ..three }), 2);
    assert_eq!(renamings(Bounds { members: 5, voters: 3, learners: 2, witness: true, ..three }), 4);
    assert_eq!(renamings(Bounds { members: 4, changes: 1, swap: true, ..three }), 2);
    assert_eq!(renamings(Bounds { transfers: 1, ..three }), 1);
    assert_eq!(renamings(Bounds { wipes: 1, ..three }), 6);
    assert_eq!(renamings(Bounds { wipes: 1, changes: 1, ..three }), 1, "a leader that leaves bids by names");
    let symmetry = Symmetry::within(&three);
    for (one, other) in (0..6).flat_map(|one| (0..6).map(move |other| (one, other))) {
        let both = symmetry.renamings()[symmetry.composed(one, other)];
        let in_turn = |place| symmetry.renamings()[one].place(symmetry.renamings()[other].place(place));
        assert!((0..3).all(|place| both.place(place) == in_turn(place)));
    }
}

/// A member that does what no other would do in its place is no reason to leave anything out.
#[test]
fn what_is_not_symmetric_is_seen() {
    let steps =
        Steps::new(Bounds { transfers: 1, ..Bounds::default() }, Symmetry::within(&Bounds::default()));
    let mut state = Arc::new(State::first(&steps).unwrap());
    let mut events = Vec::new();
    // A leader hands over to the first of two followers that are equally good.
    let found = (0..200).find_map(|_| {
        events.clear();
        (0..3).for_each(|member| state.events(member, &steps.bounds, &mut events));
        let is_transfer = |it: &Transition| matches!(it, Transition::Transfer(_));
        let transfer = events.iter().map(|(_, it)| *it).find(is_transfer);
        if let Some(Err(violation)) = transfer.and_then(|transfer| state.after(transfer, &steps)) {
            return Some(violation);
        }
        let next = events.iter().map(|(_, it)| *it).filter(|it| !is_transfer(it));
        let next = next.filter_map(|it| state.after(it, &steps)?.ok());
        let own = state.own_fingerprint();
        state = next.filter(|next| next.own_fingerprint() != own).last()?;
        None
    });
    assert_eq!(found.map(|violation| violation.property), Some("Symmetry"));
}

#[test]
fn reductions_change_neither_what_is_found_nor_how_far_away_it_is() {
    let bounds = Bounds { instant_disks: true, proposals: 0, terms: 1, ..Bounds::default() };
    let explored = |symmetry| {
        let mut exploration = Exploration::reduced(bounds, Reductions { symmetry }).unwrap();
        while !exploration.is_done() {
            exploration.go_on(1_000);
        }
        exploration
    };
    let (full, reduced) = (explored(false), explored(true));
    assert_eq!((full.found(), reduced.found()), (None, None));
    assert_eq!(full.depth(), reduced.depth());
    assert!(full.states() > 4 * reduced.states(), "{} and {}", full.states(), reduced.states());
}

/// The members' states in every state of a group, each under the least of its names.
fn member_states(bounds: Bounds) -> (BTreeSet<u64>, usize) {
    let steps = Steps::new(bounds, Symmetry::none());
    let first = Arc::new(State::first(&steps).unwrap());
    let (mut known, mut waiting) = (BTreeSet::from([first.own_fingerprint()]), vec![first]);
    let mut members = BTreeSet::new();
    while let Some(state) = waiting.pop() {
        members.insert(StableHasher::of(&state.hosts.iter().map(|host| host.hash).collect::<Vec<_>>()));
        let mut events = Vec::new();
        (0..state.hosts.len()).for_each(|member| state.events(member, &bounds, &mut events));
        for (_, transition) in events {
            let next = state.after(transition, &steps).unwrap().unwrap();
            if known.insert(next.own_fingerprint()) {
                waiting.push(next);
            }
        }
    }
    (members, known.len())
}

/// What may come any number of times can do whatever it could do as often as is allowed, and the more the
/// more often that is.
#[test]
fn with_more_copies_members_reach_more_and_never_more_than_without_a_bound() {
    let bounds = Bounds { crashes: 1, elections: 2, terms: 1, proposals: 0, ..PAIR };
    let reached = |copied| member_states(Bounds { copied, ..bounds }).0;
    let (none, one, many, all) = (reached(Some(0)), reached(Some(1)), reached(Some(9)), reached(None));
    assert!(none.is_subset(&one) && one.is_subset(&many) && many.is_subset(&all));
    assert!(none.len() < one.len(), "{} and {}", none.len(), one.len());
    assert_eq!(many, all);
}

/// A message that has arrived is gone, unless it is to come again; equal ones that were sent twice come
/// twice.
#[test]
fn messages_are_counted_where_copies_are_bounded() {
    let mut schedule = schedule(Bounds { copied: Some(1), ..PAIR }, &[Transition::Timeout(0)]);
    let deliveries = |schedule: &Schedule| {
        let next = schedule.next().unwrap();
        next.into_iter().filter(|it| matches!(it, Transition::Deliver(_) | Transition::Repeat(_))).collect()
    };
    let [first, second]: [_; 2] = <Vec<_> as TryInto<_>>::try_into(deliveries(&schedule)).unwrap();
    assert_eq!((first, second), (Transition::Deliver(0), Transition::Repeat(0)));
    schedule.path.push(second);
    let after: Vec<_> = deliveries(&schedule);
    assert_eq!(after.len(), 2, "the request once more, and the vote: {after:?}");
    then(&mut schedule, "RequestVote");
    let after: Vec<_> = deliveries(&schedule);
    assert_eq!(after.len(), 1, "no request any more, and two equal votes: {after:?}");
    assert_eq!(deliveries(&schedule), after);
}

/// A group from each of whose states a way on is looked for.
fn lively(bounds: Bounds) -> Bounds {
    Bounds { liveness_every: NonZeroU32::new(1), ..bounds }
}

#[test]
fn from_each_state_of_a_pair_there_is_a_way_on() {
    for bounds in [
        Bounds { terms: 1, elections: 1, ..PAIR },
        Bounds { pre_vote: true, terms: 1, elections: 1, ..PAIR },
        Bounds { voters: 1, changes: 2, crashes: 0, terms: 1, elections: 1, ..PAIR },
        Bounds { led: true, transfers: 1, crashes: 0, elections: 1, ..PAIR },
        Bounds { snapshots: 1, terms: 1, elections: 1, ..PAIR },
    ] {
        let (all, lively) = (explored(bounds, 64), explored(lively(bounds), 64));
        assert_eq!(lively.found(), None, "{bounds:?}");
        assert_eq!(lively.states(), all.states(), "what was found on the way is not explored: {bounds:?}");
    }
}

/// A pair at its beginning, of which the second member takes messages of another cluster alone.
pub(super) fn half_deaf(steps: &Steps) -> State {
    let mut state = State::first(steps).unwrap();
    let of_another_cluster = Identity::new(ClusterId(2), id(2));
    let config = Config::new(of_another_cluster, Options::default()).unwrap();
    let mut deaf = (*state.hosts[1]).clone();
    deaf.raft = Raft::restore(config, deaf.disk.clone(), NOW).unwrap();
    deaf.seal(&steps.bounds);
    let images = [deaf.hash].into();
    state.hosts[1] = steps.host(deaf, images).unwrap();
    state
}

#[test]
fn a_group_without_a_majority_that_answers_leads_nowhere() {
    let steps = Steps::new(lively(PAIR), Symmetry::none());
    assert_eq!(State::first(&steps).unwrap().leads_on(&steps), Ok(()));
    let violation = half_deaf(&steps).leads_on(&steps).unwrap_err();
    assert_eq!(violation.property, "Liveness");
    assert!(
        violation.detail.ends_with("member 1 is not elected, member 2 is not elected"),
        "{}",
        violation.detail
    );
}

#[test]
fn a_way_on_is_looked_for_from_every_so_many_states() {
    for (number, is_looked_for) in [(0, true), (1, false), (2, true)] {
        let bounds = Bounds { liveness_every: NonZeroU32::new(2), ..PAIR };
        let mut exploration = Exploration::reduced(bounds, Reductions { symmetry: false }).unwrap();
        let state = Arc::new(half_deaf(&exploration.steps));
        exploration.store.insert(1, 0, Transition::Timeout(0));
        exploration.store.insert(2, 1, Transition::Timeout(1));
        exploration.frontier = [(number, Waiting::First(state))].into();
        exploration.go_on(1);
        let found = exploration.found().map(|found| (found.violation.property, found.path.len()));
        assert_eq!(found, is_looked_for.then_some(("Liveness", number as usize)), "state {number}");
    }
}
