//! Members that speak different versions of the wire format.

use crate::replica::Options;
use crate::replica::frame::{Envelope, Note, version_of};
use crate::replica::tests::group::{Group, small};
use crate::replica::{Answer, Ask};
use crate::types::Index;
use alloc::boxed::Box;

#[test]
fn members_of_two_versions_make_one_group_and_speak_the_older_to_one_another() {
    let mut group = Group::of(3, &small());
    group.host(3).options.wire_version = 1;
    group.restart(3);
    let leader = group.elect();
    group.fill(leader, 0..10, 10);
    group.run(3_000);
    group.network = Box::new(|wire| {
        let hello = matches!(&wire.frame.envelope, Envelope::Replica(letter) if letter.note == Note::Hello);
        let old = [wire.from, wire.to].iter().any(|id| id.get() == 3);
        assert_eq!(wire.frame.version, if old && !hello { 1 } else { 2 }, "{wire:?}");
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
    for version in [2, 1, 2] {
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
    let options = Options { snapshot_retries: 1, ..small() };
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
    assert!(counters.unsaid > 0 && counters.snapshots_failed > 0, "{counters:?}");
    group.host(4).options.wire_version = 2;
    group.restart(4);
    group.until("it has all", |group| group.host(4).applied() >= Index::new(22));
}
