//! What a member does when its disk fails it.

use crate::action;
use crate::event::ReadVia;
use crate::kv;
use crate::replica::tests::group::{Group, delete, node, put, small};
use crate::replica::{Answer, Ask, Halt, Lane, ReplicaOptions, ReplicaRefusal};
use crate::types::Index;
use crate::wal::{DiskError, FileName};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

fn broken() -> DiskError {
    DiskError::Failed(String::from("no longer there"))
}

#[test]
fn a_write_that_failed_ends_the_member_and_every_request_is_answered() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    group.put(leader, "x", "1");
    group.host(leader).disk_error = Some((Lane::Log, broken()));
    let command = group.ask(leader, put("y", "1"));
    let query = Ask::Query { query: kv::Query::Get { key: b"x" }.encode(), via: ReadVia::Quorum };
    let read = group.ask(leader, query);
    group.run(10);
    assert_eq!(group.host(leader).halted, Some(Halt::Disk(broken())));
    assert!(group.answer(leader, command).is_some() && group.answer(leader, read).is_some());
    let refused = Answer::Refused(ReplicaRefusal::Raft(action::Refusal::Halted));
    assert_eq!(group.asked(leader, put("z", "1")), refused);

    // The others go on; and so does this one once it is started again.
    group.host(leader).disk_error = None;
    group.until("another leader", |group| group.leader().is_some_and(|other| other != leader));
    let next = group.elect();
    group.put(next, "z", "1");
    group.restart(leader);
    group.converge();
    assert!(group.get(leader, "z").is_some());
}

#[test]
fn a_disk_without_space_for_a_snapshot_stops_nothing_and_it_is_tried_again() {
    let options = ReplicaOptions { snapshot_every_entries: 10, ..small() };
    let mut group = Group::of(1, &options);
    let leader = group.elect();
    group.host(leader).disk_error = Some((Lane::Bulk, DiskError::Full));
    group.fill(leader, 0..20, 10);
    assert_eq!(group.host(leader).halted, None);
    assert_eq!(group.replica(leader).counters().snapshots_taken, 0);
    assert_eq!(group.asked(leader, Ask::Snapshot), Answer::Refused(ReplicaRefusal::DiskFull));
    group.host(leader).disk_error = None;
    group.run(1_500);
    assert_eq!(group.replica(leader).counters().snapshots_taken, 1);
}

#[test]
fn a_full_disk_refuses_new_work_serves_reads_and_goes_on_when_there_is_space() {
    let mut group = Group::of(1, &small());
    let leader = group.elect();
    group.put(leader, "x", "1");
    group.host(leader).disk_error = Some((Lane::Bulk, DiskError::Full));
    let mut written = 0;
    let refused = loop {
        match group.put(leader, &alloc::format!("{written:03}"), "some value") {
            Answer::Applied { .. } => written += 1,
            refused => break refused,
        }
        assert!(written < 1_000, "the disk has no space for so much");
    };
    assert_eq!(refused, Answer::Refused(ReplicaRefusal::Raft(action::Refusal::DiskFull)));
    assert_eq!(group.get(leader, "x"), Some(b"1".to_vec()));
    assert_eq!(group.host(leader).halted, None);
    group.host(leader).disk_error = None;
    group.run(1_500);
    assert!(matches!(group.put(leader, "y", "1"), Answer::Applied { .. }));
    group.restart(leader);
    group.elect();
    group.converge();
    assert_eq!(group.host(leader).worker.machine().state().len(), written + 2, "nothing is lost");
}

#[test]
fn what_is_left_of_a_snapshot_goes_once_a_later_one_is_there() {
    let options = ReplicaOptions { keep_snapshots: 1, ..small() };
    let config = crate::config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(1, &config, &options);
    let leader = group.elect();
    group.fill(leader, 0..20, 50);
    group.host(leader).lane_stands = Some(Lane::Bulk);
    let asked = group.ask(leader, Ask::Snapshot);
    group.settle();
    group.crash_midway(leader, 2);
    assert_eq!(group.answer(leader, asked), None);
    let partials = |group: &mut Group| {
        let is_partial = |file: &&FileName| matches!(file, FileName::Partial { .. });
        group.host(1).disk.files.keys().filter(is_partial).count()
    };
    assert_eq!(partials(&mut group), 1);
    group.host(leader).lane_stands = None;
    group.start(leader);
    let leader = group.elect();
    group.fill(leader, 20..25, 50);
    assert!(matches!(group.asked(leader, Ask::Snapshot), Answer::Snapshot(_)));
    group.run(200);
    assert_eq!((partials(&mut group), group.host(leader).snapshots()), (0, 1));
}

/// An earlier life did not finish this snapshot. It is taken anew, and meanwhile a later one comes.
#[test]
fn what_is_left_of_a_snapshot_stays_while_it_is_taken_anew() {
    let config = crate::config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(3, &config, &small());
    let leader = group.elect();
    group.fill(leader, 0..40, 50);
    group.converge();
    let late = if leader == 1 { 2 } else { 1 };
    group.host(late).lane_stands = Some(Lane::Bulk);
    group.ask(late, Ask::Snapshot);
    group.settle();
    group.crash_midway(late, 2);
    group.host(late).lane_stands = None;
    group.start(late);
    group.converge();
    let left_at = group.host(late).applied();

    // The others go on without it, with a snapshot of much less.
    group.network = Box::new(move |wire| usize::from(![wire.from, wire.to].contains(&node(late))));
    for key in 0..40 {
        let deleted = group.asked(leader, delete(&alloc::format!("{key:06}")));
        assert!(matches!(deleted, Answer::Applied { .. }), "{deleted}");
    }
    assert!(matches!(group.asked(leader, Ask::Snapshot), Answer::Snapshot(_)));
    assert_eq!(group.host(late).applied(), left_at);
    group.host(late).lane_stands = Some(Lane::Bulk);
    group.ask(late, Ask::Snapshot);
    group.settle();
    assert_eq!(group.jobs(late, Lane::Bulk), 1, "its first piece is to be written");
    (group.host(late).lane_stands, group.host(late).machine_stands) = (None, true);
    group.network = Box::new(|_| 1);
    group.until("the later one is there", |group| {
        group.replica(late).counters().snapshots_fetched == 1 && group.jobs(late, Lane::Bulk) == 0
    });
    group.host(late).machine_stands = false;
    group.run(100);
    assert_eq!(group.host(late).halted, None);
    group.converge();
}

/// What is lost lies before all that is in memory: it is had from others, written, and applied from the disk.
#[test]
fn a_hole_in_what_is_not_in_memory_is_filled_again() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    group.fill(leader, 0..200, 50);
    group.converge();
    let victim = 1 + leader % 3;
    group.crash(victim);
    group.host(victim).wal.cached_bytes = 1_000;
    let log = group.host(victim).disk.files.get_mut(&FileName::Segment(1)).unwrap();
    for block in [4, 6] {
        log[block * 4096 + 600] ^= 1;
    }
    group.start(victim);
    let lost = |group: &Group| group.replica(victim).raft().log().missing().map(|(after, _)| after.index);
    let log = group.replica(victim).raft().log();
    assert!(
        lost(&group).is_some_and(|after| after < log.evicted()),
        "{:?} of {:?}",
        lost(&group),
        log.evicted()
    );
    assert!(log.evicted() > Index::new(150));
    group.converge();
    assert!(group.replica(victim).raft().log().is_whole());
    group.restart(victim);
    assert!(group.replica(victim).raft().log().is_whole(), "it is on the disk again");
    group.converge();
    assert_eq!(group.host(victim).worker.machine().state().len(), 200);
}

#[test]
fn a_damaged_snapshot_is_noticed_when_it_is_sent_and_replaced_by_another() {
    let config = crate::config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(3, &config, &small());
    let leader = group.elect();
    group.fill(leader, 0..20, 50);
    let Answer::Snapshot(last) = group.asked(leader, Ask::Snapshot) else { panic!("no snapshot") };
    let file = FileName::Snapshot { term: last.term.get(), index: last.index.get() };
    let bytes = group.host(leader).disk.files.get_mut(&file).unwrap();
    let middle = bytes.len() - 200;
    bytes[middle] ^= 1;
    group.fill(leader, 20..30, 50);
    group.join(4);
    group.add_voter(4);
    group.until("member 4 has it all", |group| group.host(4).applied() >= Index::new(30));
    assert_eq!(group.replica(leader).counters().snapshots_taken, 2);
    group.converge();
}

#[test]
fn a_damaged_snapshot_at_the_start_is_had_from_the_others() {
    let config = crate::config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(3, &config, &small());
    let leader = group.elect();
    group.fill(leader, 0..20, 50);
    for id in 1..=3 {
        assert!(matches!(group.asked(id, Ask::Snapshot), Answer::Snapshot(_)));
    }
    let victim = 1 + leader % 3;
    group.crash(victim);
    let files: Vec<FileName> = group.host(victim).disk.files.keys().copied().collect();
    for file in files.into_iter().filter(|file| matches!(file, FileName::Snapshot { .. })) {
        let bytes = group.host(victim).disk.files.get_mut(&file).unwrap();
        let middle = bytes.len() - 200;
        bytes[middle] ^= 1;
    }
    group.start(victim);
    group.converge();
    assert_eq!(group.replica(victim).counters().snapshots_fetched, 1);
}
