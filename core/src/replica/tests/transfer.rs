//! Snapshots on their way from one member to another.

use crate::membership::Change;
use crate::message::Body;
use crate::replica::frame::{Envelope, ReplicaBody, ReplicaMessage};
use crate::replica::tests::group::{Group, Network, Wire, node, small};
use crate::replica::{Answer, Ask, Lane, ReplicaOptions};
use crate::types::{Index, Member};
use crate::wal::{FileName, SnapshotHeader};
use alloc::boxed::Box;
use alloc::vec;

fn body(wire: &Wire) -> Option<&ReplicaBody> {
    match &wire.frame.envelope {
        Envelope::Replica(ReplicaMessage { body, .. }) => Some(body),
        Envelope::Raft(_) => None,
    }
}

fn is_piece(wire: &Wire) -> bool {
    matches!(body(wire), Some(ReplicaBody::SnapshotPiece { .. }))
}

fn has_entries(wire: &Wire) -> bool {
    matches!(&wire.frame.envelope, Envelope::Raft(message) if matches!(message.body, Body::Append { .. }))
}

/// A network that delivers so many pieces, and loses the rest.
fn after_pieces(mut left: usize) -> Network {
    Box::new(move |wire| {
        left -= usize::from(is_piece(wire) && left > 0);
        usize::from(left > 0 || !is_piece(wire))
    })
}

/// Three members with the same snapshot, of which all but the leader cut theirs into chunks of this length.
fn with_snapshot_cut(keys: u64, chunk_bytes: u32) -> (Group, u64) {
    let config = crate::config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(3, &config, &small());
    let leader = group.elect();
    for id in (1..=3).filter(|id| *id != leader) {
        group.host(id).options.snapshot_chunk_bytes = chunk_bytes;
        group.restart(id);
    }
    group.fill(leader, 0..keys, 50);
    group.converge();
    assert_eq!(group.leader(), Some(leader));
    for id in 1..=3 {
        assert!(matches!(group.asked(id, Ask::Snapshot), Answer::Snapshot(_)));
    }
    (group, leader)
}

/// Three members with a snapshot of this many keys each, and nothing before it in their logs.
fn with_snapshot(keys: u64, options: &ReplicaOptions) -> (Group, u64) {
    let config = crate::config::Options { retained_entries: 0, ..Default::default() };
    let mut group = Group::with(3, &config, options);
    let leader = group.elect();
    group.fill(leader, 0..keys, 50);
    group.converge();
    for id in 1..=3 {
        assert!(matches!(group.asked(id, Ask::Snapshot), Answer::Snapshot(_)));
    }
    (group, leader)
}

fn joined(group: &mut Group, id: u64) {
    group.until("the newcomer has all", |group| group.host(id).applied() >= Index::new(30));
    group.converge();
}

/// How many pieces the snapshot on this member's disk has.
fn pieces(group: &mut Group, id: u64) -> u64 {
    let disk = &mut group.host(id).disk;
    let is_whole = |file: &&FileName| matches!(file, FileName::Snapshot { .. });
    let file = *disk.files.keys().find(is_whole).expect("a snapshot");
    let header = SnapshotHeader::read(file).perform(disk).unwrap();
    SnapshotHeader::decode(file, &header).unwrap().chunks() + 1
}

#[test]
fn a_newcomer_gets_a_snapshot_piece_by_piece() {
    let (mut group, _) = with_snapshot(30, &small());
    group.network = Box::new(|wire| {
        assert_eq!(
            is_piece(wire) || has_entries(wire),
            wire.lane == Lane::Bulk,
            "the rest is held up by nothing"
        );
        1
    });
    group.join(4);
    let request = group.add_voter(4);
    joined(&mut group, 4);
    let leader = group.leader().unwrap();
    assert!(matches!(group.answer(leader, request), Some(Answer::Reconfigured(_))));
    let counters = *group.replica(4).counters();
    assert_eq!((counters.snapshots_fetched, counters.pieces_dropped), (1, 0));
    assert!(counters.pieces_taken > 10);
    assert!(group.get(4, "000029").is_some());
    // What it has fetched is what it starts from.
    group.restart(4);
    joined(&mut group, 4);
    assert_eq!(group.replica(4).counters().snapshots_fetched, 0);
}

#[test]
fn pieces_that_are_lost_repeated_and_out_of_order_make_the_same_snapshot() {
    let (mut group, _) = with_snapshot(30, &small());
    let mut count = 0;
    group.network = Box::new(move |wire| {
        count += usize::from(is_piece(wire));
        match count % 5 {
            _ if !is_piece(wire) => 1,
            0 => 0,
            1 | 2 => 2,
            _ => 1,
        }
    });
    group.reorders = true;
    group.join(4);
    group.add_voter(4);
    joined(&mut group, 4);
    let counters = *group.replica(4).counters();
    assert!(counters.pieces_dropped > 0 && counters.pieces_asked_again > 0, "{counters:?}");
    assert_eq!(counters.snapshots_fetched, 1);
}

#[test]
fn a_transfer_goes_on_after_its_sender_was_restarted() {
    let (mut group, leader) = with_snapshot(30, &small());
    group.network = after_pieces(6);
    group.join(4);
    group.add_voter(4);
    group.until("some of it", |group| group.replica(4).counters().pieces_taken > 3);
    let before = group.replica(4).counters().pieces_taken;
    assert_eq!(group.replica(4).counters().snapshots_fetched, 0, "the rest is lost");
    group.restart(leader);
    group.network = Box::new(|_| 1);
    joined(&mut group, 4);
    let counters = *group.replica(4).counters();
    assert!(before >= 5 && counters.snapshots_fetched == 1, "{counters:?}");
}

#[test]
fn a_transfer_goes_on_after_its_receiver_was_restarted() {
    let (mut group, _) = with_snapshot(30, &small());
    group.network = after_pieces(8);
    group.join(4);
    group.add_voter(4);
    group.until("some of it", |group| group.replica(4).counters().pieces_taken > 5);
    let before = group.replica(4).counters().pieces_taken;
    group.restart(4);
    group.network = Box::new(|_| 1);
    joined(&mut group, 4);
    let counters = *group.replica(4).counters();
    assert_eq!((counters.fetches_resumed, counters.snapshots_fetched), (1, 1));
    assert_eq!(before + counters.pieces_taken, pieces(&mut group, 4), "each piece is fetched once");
}

/// The sender goes away, and the next leader has the same snapshot: cut the same way, or another.
#[test]
fn a_transfer_goes_on_from_another_sender_and_begins_anew_where_its_file_is_another() {
    for (chunk_bytes, anew) in [(64, false), (100, true)] {
        let (mut group, leader) = with_snapshot_cut(30, chunk_bytes);
        group.network = after_pieces(8);
        group.join(4);
        group.add_voter(4);
        group.until("some of it", |group| group.replica(4).counters().pieces_taken > 5);
        let before = group.replica(4).counters().pieces_taken;
        group.crash(leader);
        group.network = Box::new(|_| 1);
        joined(&mut group, 4);
        let counters = *group.replica(4).counters();
        assert_eq!(counters.snapshots_fetched, 1);
        let wasted = if anew { before } else { 0 };
        assert_eq!(counters.pieces_taken - wasted, pieces(&mut group, 4), "{counters:?}");
    }
}

/// Three members with snapshots, of which the leader's is later; and a newcomer that has some of that. Then
/// the next leader offers its own.
fn offered_less() -> (Group, u64, u64) {
    let options = ReplicaOptions { snapshot_bytes_per_second: 8_000, ..small() };
    let (mut group, leader) = with_snapshot(30, &options);
    group.fill(leader, 30..150, 50);
    assert!(matches!(group.asked(leader, Ask::Snapshot), Answer::Snapshot(_)));
    group.converge();
    group.join(4);
    let changes = vec![Change::AddLearner(node(4).into())];
    assert!(matches!(
        group.asked(leader, Ask::Reconfigure { expected: None, changes, force: false }),
        Answer::Reconfigured(_)
    ));
    group.until("some of it", |group| group.replica(4).counters().pieces_taken > 5);
    let next = 1 + leader % 3;
    (group, leader, next)
}

/// What reaches further than what the next leader offers will do as well, and some of it is here.
#[test]
fn a_transfer_goes_on_from_its_sender_where_the_next_leader_offers_less() {
    let (mut group, leader, next) = offered_less();
    group.ask(leader, Ask::Transfer { to: Some(node(next)) });
    group.until("another leader", |group| group.leader() == Some(next));
    assert_eq!(group.replica(4).counters().snapshots_fetched, 0, "it is not done yet");
    group.until("the newcomer has all", |group| group.host(4).applied() >= Index::new(150));
    let counters = *group.replica(4).counters();
    assert_eq!((counters.snapshots_fetched, counters.snapshots_failed), (1, 0));
    assert_eq!(counters.pieces_taken, pieces(&mut group, 4), "each piece is fetched once");
    group.converge();
}

/// Where its sender is gone, what the next leader offers is not waited for longer than a piece.
#[test]
fn a_transfer_whose_sender_is_gone_begins_anew_with_what_there_is() {
    let (mut group, leader, next) = offered_less();
    group.ask(leader, Ask::Transfer { to: Some(node(next)) });
    group.until("another leader", |group| group.leader() == Some(next));
    group.crash(leader);
    let gone = group.now;
    group.until("the newcomer takes the other", |group| group.replica(4).counters().snapshots_fetched == 1);
    let took = (group.now - gone).get() / 1_000_000;
    assert!(took < 3_500, "{took} ms, of which one second in vain");
    assert_eq!(group.replica(4).counters().snapshots_failed, 1);
    group.until("the newcomer has all", |group| group.host(4).applied() >= Index::new(150));
}

#[test]
fn a_transfer_that_was_given_up_is_resumed_where_it_ended() {
    let (mut group, _) = with_snapshot(30, &ReplicaOptions { snapshot_retries: 2, ..small() });
    group.network = after_pieces(8);
    group.join(4);
    group.add_voter(4);
    group.until("it is given up", |group| group.replica(4).counters().snapshots_failed > 0);
    let taken = group.replica(4).counters().pieces_taken;
    group.network = Box::new(|_| 1);
    joined(&mut group, 4);
    let counters = *group.replica(4).counters();
    assert!(counters.fetches_resumed > 0 && taken >= 5, "{counters:?}");
    assert_eq!(counters.pieces_taken, pieces(&mut group, 4), "each piece is fetched once");
}

#[test]
fn a_snapshot_that_is_gone_is_replaced_by_the_latest() {
    let (mut group, leader) = with_snapshot(30, &small());
    group.network = Box::new(|wire| usize::from(!is_piece(wire)));
    group.join(4);
    group.add_voter(4);
    group.until("it asks", |group| group.replica(leader).counters().pieces_sent > 0);
    // The sender loses the file, and has a later one.
    group.fill(leader, 30..40, 50);
    group.asked(leader, Ask::Snapshot);
    group.fill(leader, 40..50, 50);
    group.asked(leader, Ask::Snapshot);
    group.network = Box::new(|_| 1);
    group.until("the newcomer has all", |group| group.host(4).applied() >= Index::new(50));
    group.converge();
}

#[test]
fn a_sender_keeps_to_its_rate_and_serves_only_members() {
    let options = ReplicaOptions { snapshot_bytes_per_second: 2_000, ..small() };
    let (mut group, leader) = with_snapshot(30, &options);
    group.join(4);
    group.add_voter(4);
    let begun = group.now;
    group.until("the newcomer has all", |group| group.host(4).applied() >= Index::new(30));
    let took = (group.now - begun).get() / 1_000_000;
    assert!(took > 500, "{took} ms for two thousand bytes at that rate");

    group.join(9);
    let stranger = ReplicaBody::SnapshotRequest {
        last: group.replica(leader).status().snapshot,
        edition: None,
        piece: 0,
    };
    let before = group.replica(leader).counters().pieces_sent;
    let message = ReplicaMessage {
        cluster: crate::types::ClusterId(7),
        from: Member::from(node(9)),
        to: Member::from(node(leader)),
        body: stranger,
    };
    let mut bytes = vec![];
    assert!(crate::replica::frame::encode(&Envelope::Replica(message), 2, 2, &mut bytes));
    group.input(leader, crate::replica::Input::Frame { bytes });
    group.run(100);
    assert_eq!(group.replica(leader).counters().pieces_sent, before);
    assert_eq!(group.replica(leader).counters().unexpected_messages, 1);
}

#[test]
fn a_member_that_was_removed_gets_no_snapshot_and_the_rest_goes_on() {
    let (mut group, leader) = with_snapshot(30, &small());
    group.network = Box::new(|wire| usize::from(!is_piece(wire)));
    group.join(4);
    let changes = vec![Change::AddLearner(node(4).into())];
    group.asked(leader, Ask::Reconfigure { expected: None, changes, force: false });
    group.run(500);
    let changes = vec![Change::Remove(node(4))];
    assert!(matches!(
        group.asked(leader, Ask::Reconfigure { expected: None, changes, force: false }),
        Answer::Reconfigured(_)
    ));
    group.network = Box::new(|_| 1);
    let before = group.replica(leader).counters().pieces_sent;
    group.run(3_000);
    assert_eq!(group.replica(leader).counters().pieces_sent, before);
    assert!(matches!(group.put(leader, "x", "1"), Answer::Applied { .. }));
}
