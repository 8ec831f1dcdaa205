//! What a group does when nothing is damaged.

use crate::action;
use crate::event::{Proposal, ReadVia};
use crate::kv;
use crate::machine::{self, Command};
use crate::membership::Change;
use crate::message::Body;
use crate::replica::frame::Envelope;
use crate::replica::tests::group::{Group, in_session, put, reply, small};
use crate::replica::{Answer, Ask, Halt, Input, Lane, ReplicaOptions, ReplicaRefusal};
use crate::status::RoleKind;
use crate::types::{Index, LogId, Member, RequestId};
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

#[test]
fn a_group_elects_a_leader_writes_and_reads_at_any_member() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    assert_eq!(reply(&group.put(leader, "x", "1")), kv::Reply::Written);
    for id in 1..=3 {
        assert_eq!(group.get(id, "x"), Some(b"1".to_vec()), "at member {id}");
    }
    let follower = 1 + leader % 3;
    let refused = Answer::Refused(ReplicaRefusal::Raft(action::Refusal::NotLeader {
        leader: Some(super::group::node(leader)),
    }));
    assert_eq!(group.put(follower, "x", "2"), refused);
    group.converge();
    assert_eq!(group.replica(leader).waiting(), 0);
}

/// An election takes one sync of the candidate and one of its voters, however slow they are.
#[test]
fn a_request_for_votes_and_a_vote_each_leave_after_one_sync() {
    let mut group = Group::of(3, &small());
    let sent = Rc::new(RefCell::new(Vec::new()));
    let seen = sent.clone();
    group.network = Box::new(move |wire| {
        if let Envelope::Raft(message) = &wire.frame.envelope
            && matches!(message.body, Body::RequestVote { .. } | Body::Voted { granted: true })
        {
            seen.borrow_mut().push((wire.from.get(), wire.syncs));
        }
        1
    });
    for _ in 0..3 {
        let leader = group.elect();
        let votes = sent.take();
        assert!(
            votes.iter().any(|(from, _)| *from == leader) && votes.iter().any(|(from, _)| *from != leader)
        );
        assert!(votes.iter().all(|(_, syncs)| *syncs == 1), "{votes:?}");
        // In their next lives, all of them begin with a ballot again.
        (1..=3).for_each(|id| group.restart(id));
    }
}

#[test]
fn commands_of_one_batch_share_a_write_and_each_has_its_own_answer() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    let written = group.replica(leader).status().last.index;
    let commands = (1..=20).map(|key| {
        let Ask::Command(payload) = put(&alloc::format!("{key}"), "v") else { unreachable!() };
        Proposal { request: RequestId(1_000 + key), payload }
    });
    let commands: Vec<_> = commands.collect();
    group.input(leader, Input::Commands(commands));
    group.run(50);
    for key in 1..=20 {
        let answer = group.answer(leader, RequestId(1_000 + key)).unwrap();
        let Answer::Applied { id, .. } = answer else { panic!("{answer}") };
        assert_eq!(id.index, written + key);
    }
}

#[test]
fn a_group_that_was_restarted_goes_on_with_what_it_had() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    group.fill(leader, 0..30, 10);
    group.converge();
    let digest = group.host(1).worker.machine().state().clone();
    for round in 0..3 {
        for id in 1..=3 {
            group.crash(id);
        }
        for id in 1..=3 {
            group.start(id);
        }
        let leader = group.elect();
        group.converge();
        assert_eq!(*group.host(1).worker.machine().state(), digest, "in round {round}");
        assert!(group.get(leader, "000029").is_some());
    }
}

#[test]
fn a_command_that_is_tried_again_at_the_next_leader_is_applied_once() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    let opened = group.asked(leader, Ask::Command(Command::Register.encode()));
    let Answer::Applied { answer: machine::Answer::Opened(session), .. } = opened else { panic!("{opened}") };
    let swap = kv::Command::CompareAndSwap { key: b"x", expected: None, value: b"1" };
    let payload = in_session(session, 1, &swap);

    // It is committed, and the leader goes away before it can answer.
    group.host(leader).machine_stands = true;
    let request = group.ask(leader, Ask::Command(payload.clone()));
    group.run(60);
    assert_eq!(group.answer(leader, request), None);
    group.crash(leader);
    group.host(leader).machine_stands = false;
    let next = group.elect();
    assert_ne!(leader, next);
    let again = group.asked(next, Ask::Command(payload));
    assert_eq!(reply(&again), kv::Reply::Written, "the first copy's answer, and no second execution");
    group.start(leader);
    group.converge();
}

#[test]
fn a_slow_state_machine_delays_answers_and_neither_leadership_nor_the_log() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    let term = group.replica(leader).status().term;
    (1..=3).for_each(|id| group.host(id).machine_stands = true);
    let request = group.ask(leader, put("x", "1"));
    let query = kv::Query::Get { key: b"x" }.encode();
    let read = group.ask(leader, Ask::Query { query, via: ReadVia::Quorum });
    group.run(3_000);
    let status = group.replica(leader).status();
    assert_eq!((status.role, status.term), (RoleKind::Leader, term));
    assert_eq!(status.committed, status.last.index);
    assert_eq!(group.answer(leader, request), None);
    (1..=3).for_each(|id| group.host(id).machine_stands = false);
    group.run(10);
    assert_eq!(reply(&group.answer(leader, request).unwrap()), kv::Reply::Written);
    assert!(matches!(group.answer(leader, read), Some(Answer::Read { .. })));
}

#[test]
fn a_large_write_to_the_disk_delays_no_other_request() {
    let mut group = Group::of(3, &small());
    // With room for all of it: the next segment is made in the same lane.
    for id in 1..=3 {
        group.host(id).wal.segment_bytes = 4 << 20;
        group.restart(id);
    }
    let leader = group.elect();
    group.fill(leader, 0..20, 50);
    group.host(leader).lane_stands = Some(Lane::Bulk);
    let snapshot = group.ask(leader, Ask::Snapshot);
    group.fill(leader, 20..40, 50);
    assert_eq!(group.answer(leader, snapshot), None);
    group.host(leader).lane_stands = None;
    group.run(10);
    assert!(matches!(group.answer(leader, snapshot), Some(Answer::Snapshot(_))));
}

#[test]
fn snapshots_are_taken_when_so_much_was_applied_and_old_ones_go() {
    let options = ReplicaOptions { snapshot_every_entries: 10, ..small() };
    let config = crate::config::Options { retained_entries: 5, ..Default::default() };
    let mut group = Group::with(3, &config, &options);
    let leader = group.elect();
    group.fill(leader, 0..100, 10);
    group.converge();
    for id in 1..=3 {
        assert!(group.replica(id).counters().snapshots_taken >= 9);
        assert!(group.replica(id).raft().log().base() >= Index::new(80));
        assert!((1..=options.keep_snapshots).contains(&group.host(id).snapshots()));
    }
    // And what they hold is what a member starts from.
    (1..=3).for_each(|id| group.restart(id));
    group.elect();
    group.converge();
    assert_eq!(group.host(2).worker.machine().state().len(), 100);
}

/// A small entry that is written alone takes a block on the disk: a log of such entries is as long as its
/// blocks.
#[test]
fn snapshots_are_taken_when_so_much_was_written_however_small_the_entries_are() {
    let options =
        ReplicaOptions { snapshot_every_bytes: 20 * 4096, snapshot_every_entries: u64::MAX, ..small() };
    let config = crate::config::Options { retained_bytes: 1_000, ..Default::default() };
    let mut group = Group::with(1, &config, &options);
    let leader = group.elect();
    for round in 0..100 {
        group.put(leader, "key", if round % 2 == 0 { "even" } else { "odd" });
    }
    let replica = group.replica(leader);
    let applied: u64 = replica.raft().log().applied().get() * 100;
    assert!(applied < options.snapshot_every_bytes, "by their own size none would be due: {applied}");
    assert!((3..=10).contains(&replica.counters().snapshots_taken), "{:?}", replica.counters());
    // What is kept is told, and is what there is.
    let (log, kept) = (replica.raft().log(), replica.raft().retention());
    let runs = [kept.fetching, kept.tail, kept.applied, kept.unapplied];
    assert_eq!(runs.iter().map(|run| run.entries).sum::<u64>(), log.last().index - log.base());
    assert!(kept.tail.entries < 20 && kept.applied.entries > 0, "{kept:?}");
    assert_eq!((kept.fetching.entries, kept.unapplied.entries), (0, 0));
}

#[test]
fn a_snapshot_asked_for_twice_is_taken_once() {
    let mut group = Group::of(1, &small());
    let leader = group.elect();
    group.put(leader, "x", "1");
    let Answer::Snapshot(last) = group.asked(leader, Ask::Snapshot) else { panic!("no snapshot") };
    assert_eq!(last.index, group.host(1).applied());
    assert_eq!(group.asked(leader, Ask::Snapshot), Answer::Snapshot(last));
    assert_eq!(group.replica(leader).counters().snapshots_taken, 1);
}

#[test]
fn too_many_requests_and_too_large_queries_are_refused() {
    let options = ReplicaOptions { max_requests: 3, max_query_bytes: 10, ..small() };
    let mut group = Group::of(1, &options);
    let leader = group.elect();
    let large = Ask::Query { query: vec![0; 11], via: ReadVia::Quorum };
    assert_eq!(group.asked(leader, large), Answer::Refused(ReplicaRefusal::QueryTooLarge { max: 10 }));
    group.host(1).machine_stands = true;
    let requests: Vec<_> = (0..5).map(|_| group.ask(leader, put("x", "1"))).collect();
    group.run(10);
    let refused = Some(Answer::Refused(ReplicaRefusal::TooMany));
    let answers: Vec<_> = requests.iter().map(|request| group.answer(leader, *request)).collect();
    assert_eq!(answers, [None, None, None, refused.clone(), refused]);
    group.host(1).machine_stands = false;
    group.run(10);
    assert!(requests.iter().all(|request| group.answer(leader, *request).is_some()));
}

#[test]
fn a_member_that_is_shut_down_answers_every_request_and_finishes_its_writes() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    group.put(leader, "x", "1");
    group.network = Box::new(|_| 0);
    group.host(leader).lane_stands = Some(Lane::Log);
    let command = group.ask(leader, put("y", "1"));
    let query = Ask::Query { query: kv::Query::Get { key: b"x" }.encode(), via: ReadVia::Quorum };
    let read = group.ask(leader, query);
    group.input(leader, Input::Shutdown);
    group.settle();
    assert_eq!(group.host(leader).halted, None, "a write is under way");
    group.host(leader).lane_stands = None;
    group.settle();
    assert_eq!(group.host(leader).halted, Some(Halt::Stopped));
    assert_eq!(group.answer(leader, command), Some(Answer::Unknown));
    assert!(matches!(group.answer(leader, read), Some(Answer::Refused(_))));
    let late = group.ask(leader, put("z", "1"));
    assert!(matches!(group.answer(leader, late), Some(Answer::Refused(_))));
    assert_eq!(group.replica(leader).deadline(), crate::time::Instant::NEVER);
}

#[test]
fn a_log_larger_than_memory_is_applied_from_the_disk_after_a_restart() {
    let options = ReplicaOptions { apply_bytes: 500, ..small() };
    let config = crate::config::Options { max_cached_bytes: 1_000, ..Default::default() };
    let mut group = Group::with(3, &config, &options);
    (1..=3).for_each(|id| group.host(id).wal.cached_bytes = 1_000);
    let leader = group.elect();
    group.fill(leader, 0..200, 100);
    group.converge();
    let state = group.host(1).worker.machine().state().clone();
    (1..=3).for_each(|id| group.restart(id));
    for id in 1..=3 {
        assert!(group.replica(id).raft().log().evicted() > Index::new(100), "most is not in memory");
    }
    group.elect();
    group.converge();
    assert_eq!(*group.host(1).worker.machine().state(), state);
}

#[test]
fn a_follower_that_lags_behind_memory_gets_entries_from_the_leaders_disk() {
    let config = crate::config::Options { max_cached_bytes: 1_000, ..Default::default() };
    let mut group = Group::with(3, &config, &small());
    let leader = group.elect();
    let away = 1 + leader % 3;
    group.crash(away);
    group.fill(leader, 0..100, 100);
    assert!(group.replica(leader).raft().log().evicted() > Index::new(50));
    group.start(away);
    group.converge();
    assert_eq!(group.host(away).snapshots(), 0, "no snapshot was needed");
}

#[test]
fn every_step_of_the_kernel_can_be_watched() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    group.put(leader, "x", "1");
    let watch = &group.host(leader).watch;
    assert!(watch.steps > 10 && watch.elections == 1);
}

#[test]
fn a_witness_keeps_no_state_and_is_asked_for_none() {
    let config = crate::config::Options { retained_entries: 5, ..Default::default() };
    let mut group = Group::with(2, &config, &small());
    let leader = group.elect();
    group.join(3);
    group.host(3).config.witness = true;
    group.restart(3);
    let member = Member::from(super::group::node(3));
    let changes = vec![Change::AddWitness(member)];
    let added = group.asked(leader, Ask::Reconfigure { expected: None, changes, force: false });
    assert!(matches!(added, Answer::Reconfigured(_)), "{added}");
    group.fill(leader, 0..100, 10);
    assert_eq!(group.asked(3, Ask::Snapshot), Answer::Refused(ReplicaRefusal::Witness));
    let query = Ask::Query { query: kv::Query::Get { key: b"x" }.encode(), via: ReadVia::Quorum };
    assert!(matches!(group.asked(3, query), Answer::Refused(_)));
    assert_eq!(group.host(3).applied(), Index::ZERO);
    assert!(group.replica(3).raft().log().base() > Index::ZERO, "its log is compacted all the same");
    group.restart(3);
    group.run(500);
    assert!(group.replica(3).status().committed > Index::new(50));
    assert_eq!(group.host(3).halted, None);
}

#[test]
fn the_first_thing_a_replica_wants_is_to_be_woken() {
    let group = Group::of(1, &small());
    assert!(group.replica(1).deadline() > crate::time::Instant::ZERO);
    assert_eq!(group.replica(1).status().committed, LogId::ZERO.index);
}
