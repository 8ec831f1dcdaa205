//! Members that speak different versions of the wire format.

use crate::message::Body;
use crate::replica::ReplicaOptions;
use crate::replica::frame::{Envelope, ReplicaBody, version_of};
use crate::replica::tests::group::{Group, small};
use crate::replica::{Answer, Ask, Lane};
use crate::status::{PauseReason, RoleKind};
use crate::types::{Index, NodeId};
use crate::wal::DiskError;
use crate::wire::VERSION;
use alloc::boxed::Box;
use alloc::rc::Rc;
use core::cell::Cell;

#[test]
fn members_of_two_versions_make_one_group_and_speak_the_older_to_one_another() {
    let mut group = Group::of(3, &small());
    group.host(3).options.wire_version = 1;
    group.restart(3);
    let leader = group.elect();
    group.fill(leader, 0..10, 10);
    group.run(3_000);
    group.network = Box::new(|wire| {
        let hello =
            matches!(&wire.frame.envelope, Envelope::Replica(message) if message.body == ReplicaBody::Hello);
        let old = [wire.from, wire.to].iter().any(|id| id.get() == 3);
        let expected = match (hello, old) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => VERSION,
        };
        assert_eq!(wire.frame.version, expected, "{wire:?}");
        assert!(version_of(&wire.frame.envelope) <= wire.frame.version);
        1
    });
    group.fill(leader, 10..20, 10);
    group.converge();
    assert_eq!(group.replica(3).counters().bad_frames, 0);
    assert!(group.replica(3).counters().unknown_versions > 0, "it was told of the later one");
}

#[test]
fn a_member_that_is_updated_is_spoken_to_in_the_later_version_and_one_that_is_taken_back_in_the_older() {
    let mut group = Group::of(3, &small());
    group.host(3).options.wire_version = 1;
    group.restart(3);
    let leader = group.elect();
    group.put(leader, "x", "1");
    for version in [2, 1, 2, VERSION, 1, VERSION] {
        group.host(3).options.wire_version = version;
        group.restart(3);
        group.run(6_000);
        let leader = group.elect();
        group.put(leader, "x", "1");
        group.converge();
        let expected = version;
        group.network = Box::new(move |wire| {
            let raft = matches!(&wire.frame.envelope, Envelope::Raft(_));
            assert!(wire.to.get() != 3 || !raft || wire.frame.version == expected, "{wire:?}");
            1
        });
        group.run(500);
        group.network = Box::new(|_| 1);
    }
}

#[test]
fn what_an_old_version_cannot_say_is_counted_and_not_sent() {
    let config = crate::config::Options { retained_entries: 0, ..Default::default() };
    let options = ReplicaOptions { snapshot_retries: 1, ..small() };
    let mut group = Group::with(3, &config, &options);
    let leader = group.elect();
    group.fill(leader, 0..20, 10);
    assert!(matches!(group.asked(leader, Ask::Snapshot), Answer::Snapshot(_)));
    group.fill(leader, 20..22, 10);
    group.join(4);
    group.host(4).options.wire_version = 1;
    group.restart(4);
    group.add_voter(4);
    group.run(5_000);
    assert_eq!(group.host(4).applied(), Index::ZERO);
    let counters = group.replica(4).counters();
    assert!(counters.unsupported_version > 0 && counters.snapshots_failed > 0, "{counters:?}");
    group.host(4).options.wire_version = VERSION;
    group.restart(4);
    group.until("it has all", |group| group.host(4).applied() >= Index::new(22));
}

/// A member of version 2 knows no pause: it is told with the heartbeat's answer how far the follower has got,
/// as before.
#[test]
fn a_leader_that_knows_no_pause_gets_the_answer_to_its_heartbeat() {
    for version in [2, VERSION] {
        let mut group = Group::of(3, &small());
        for id in 1..=3 {
            group.host(id).options.wire_version = version;
            group.restart(id);
        }
        let leader = group.elect();
        group.put(leader, "x", "1");
        group.run(3_000);
        let full = (1..=3).find(|&id| id != leader).expect("there are three");
        group.host(full).disk_error = Some((Lane::Bulk, DiskError::Full));
        group.network = Box::new(move |wire| {
            if let Envelope::Raft(message) = &wire.frame.envelope {
                assert!(version == VERSION || !matches!(message.body, Body::Pause { .. }), "{wire:?}");
            }
            1
        });
        for _ in 0..20 {
            group.fill(leader, 0..10, 10_000);
        }
        let paused = |group: &Group| {
            let view = group.replica(leader).raft().leader();
            view.and_then(|view| view.peer(NodeId::new(full).unwrap())).and_then(|peer| peer.paused)
        };
        group.run(1_000);
        assert_eq!(paused(&group), (version == VERSION).then_some(PauseReason::DiskFull));
        assert_eq!(group.replica(leader).counters().bad_frames, 0);
        group.host(full).disk_error = None;
        group.converge();
        assert_eq!(paused(&group), None);
    }
}

/// One that has just started asks what the others understand before it says what the oldest version cannot,
/// and the others may have nothing to say to it.
#[test]
fn a_member_that_starts_again_learns_the_version_of_those_that_are_silent() {
    let mut group = Group::of(3, &small());
    let leader = group.elect();
    group.put(leader, "x", "1");
    group.run(3_000);
    let other = (1..=3).find(|&id| id != leader).expect("there are three");
    let others = [1, 2, 3].map(|id| group.host(id).member).into_iter().filter(move |it| it.id.get() != other);
    let hellos = Rc::new(Cell::new(0));
    let seen = hellos.clone();
    group.network = Box::new(move |wire| {
        let hello =
            matches!(&wire.frame.envelope, Envelope::Replica(message) if message.body == ReplicaBody::Hello);
        seen.set(seen.get() + u32::from(hello));
        usize::from(wire.to.get() != other || hello)
    });
    group.restart(other);
    group.until("it stands for election", |group| {
        group.replica(other).raft().status().role != RoleKind::Follower
    });
    group.settle();
    for member in others {
        assert_eq!(group.replica(other).common.peers.version(member), VERSION, "{member:?}");
    }
    assert!(hellos.get() <= 6, "{} to greet two and to be answered", hellos.get());
}
