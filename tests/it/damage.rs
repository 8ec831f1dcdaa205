//! What a member does whose disk has damaged what it had acknowledged: it keeps its word, and gets it back
//! from others.

use kontiki_core::action::{Action, Outcome, Refusal};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::{Durable, RestoreError};
use kontiki_core::event::Event;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::membership::{Change, Membership};
use kontiki_core::message::Body;
use kontiki_core::raft::Raft;
use kontiki_core::status::{DropReason, PauseReason, RoleKind};
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{Index, LogId};
use kontiki_tests::lab::{Cast, Lab, disk_of, id, identity, message};

/// Member 1 leads three; entries 1 to 5 are committed and applied by all.
fn led() -> Lab {
    let mut lab = Lab::of(3);
    lab.elect(1);
    lab.propose_batch(1, &["a", "b", "c", "d"]);
    lab.deliver();
    lab.heartbeat(1);
    lab.deliver();
    lab
}

fn lost(lab: &Lab, member: u64) -> usize {
    lab.disk(member).entries.iter().filter(|entry| entry.body == EntryBody::Lost).count()
}

#[test]
fn the_leader_fills_again_what_a_follower_has_lost() {
    let mut lab = led();
    let applied = lab.applied(3);
    lab.damage(3, &[2, 3, 5]);
    assert_eq!(lab.status(3).last, LogId::new(1, 5), "it knows what it had");
    assert!(!lab.raft(3).log().is_whole());
    lab.beat(1);
    assert!(lab.raft(3).log().is_whole());
    assert_eq!((lost(&lab, 3), lab.applied(3)), (0, applied));
}

#[test]
fn nothing_beyond_the_damage_is_applied_or_acknowledged() {
    let mut lab = led();
    lab.damage(3, &[3]);
    lab.isolate(2);
    let write = lab.propose(1, "e");
    lab.heartbeat(1);
    while lab.lose("RepairResponse") > 0 || !lab.in_flight().is_empty() {
        lab.deliver_at(0);
    }
    assert_eq!(lab.status(3).last, LogId::new(1, 6), "it takes what comes");
    assert_eq!((lab.status(3).applied, lab.outcomes(write)), (Index::new(2), &[][..]));
    (0..3).for_each(|_| lab.beat(1));
    assert_eq!(lab.outcomes(write), [Outcome::Committed(LogId::new(1, 6))]);
}

/// PITFALLS P2: a member that came back with less must not help to elect one that has less.
#[test]
fn p2_what_is_lost_counts_in_votes() {
    let mut lab = Lab::of(3);
    lab.elect(1);
    lab.isolate(2);
    lab.propose_batch(1, &["a", "b"]);
    lab.deliver();
    assert_eq!(lab.committed(), Index::new(3));
    lab.damage(3, &[2, 3]);
    lab.crash(1);
    lab.heal();
    for _ in 0..8 {
        lab.campaign(2);
        lab.deliver();
        lab.fire(3);
        lab.deliver();
    }
    assert_eq!(lab.leaders(), [0; 0], "one has less than what is committed, the other has lost it");
    lab.restart(1);
    lab.elect(1);
    lab.beat(1);
    assert_eq!((lost(&lab, 3), lab.applied(2).len(), lab.applied(3).len()), (0, 2, 2));
}

#[test]
fn a_member_with_damage_does_not_stand_for_election() {
    let mut lab = led();
    lab.damage(3, &[3]);
    lab.isolate(3);
    lab.wait();
    lab.fire(3);
    assert_eq!((lab.status(3).role, lab.status(3).term.get()), (RoleKind::Follower, 1));
    lab.heal();
    lab.beat(1);
    lab.beat(1);
    lab.transfer(1, Some(3));
    lab.deliver();
    assert_eq!(lab.leaders(), [3], "once it is whole it may");
}

/// Every committed entry is intact on some member, and no log is whole: members repair one another without a
/// leader.
#[test]
fn members_with_different_damage_help_one_another() {
    let mut lab = led();
    lab.crash(1);
    lab.damage(2, &[2, 5]);
    lab.damage(3, &[3, 4]);
    lab.wait();
    lab.fire(2);
    lab.deliver();
    assert!(lab.raft(2).log().is_whole(), "member 3 has both");
    lab.elect(2);
    lab.beat(2);
    lab.beat(2);
    assert_eq!((lost(&lab, 2), lost(&lab, 3)), (0, 0));
    assert_eq!(lab.applied(3), ["a", "b", "c", "d"]);
}

#[test]
fn what_was_never_committed_makes_way_for_the_next_leader() {
    let mut lab = led();
    lab.isolate(1);
    lab.propose_batch(1, &["x", "y"]);
    lab.deliver();
    lab.damage(1, &[6]);
    lab.wait();
    lab.elect(2);
    lab.propose(2, "e");
    lab.heal();
    lab.beat(2);
    lab.beat(2);
    assert!(lab.raft(1).log().is_whole());
    assert_eq!(lab.applied(1), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_membership_that_was_lost_is_known_again() {
    let mut lab = Lab::new(3, 1, &Options::default());
    lab.elect(1);
    lab.reconfigure(1, &[Change::Promote(id(4)), Change::Remove(id(3))], None);
    lab.deliver();
    lab.beat(1);
    let membership = lab.raft(2).membership().to_string();
    let configs: Vec<_> =
        lab.disk(2).entries.iter().filter(|e| matches!(e.body, EntryBody::Config(_))).collect();
    let indexes: Vec<_> = configs.iter().map(|entry| entry.id.index.get()).collect();
    assert!(indexes.len() >= 2, "into the joint membership and out of it");
    lab.damage(2, &indexes);
    assert_eq!(lab.raft(2).membership().to_string(), "{1 2 3}+{4}");
    lab.beat(1);
    assert_eq!(lab.raft(2).membership().to_string(), membership);
}

#[test]
fn what_the_leader_has_only_on_its_disk_is_read_back_for_it() {
    let mut lab = Lab::new(3, 0, &Options { max_cached_bytes: 0, ..Options::default() });
    lab.elect(1);
    lab.propose_batch(1, &["a", "b", "c", "d"]);
    lab.deliver();
    lab.beat(1);
    assert_eq!(lab.raft(1).log().evicted(), Index::new(5));
    lab.damage(3, &[2, 4]);
    lab.slow_transfers(1);
    lab.beat(1);
    assert_eq!(lost(&lab, 3), 2);
    lab.fast_host(1);
    lab.deliver();
    lab.beat(1);
    assert_eq!((lost(&lab, 3), lab.applied(3).len()), (0, 4));
}

/// Seed 302 of three members on bad disks: the state machine was restored beyond the damage, which then left
/// memory unfilled.
#[test]
fn entries_covered_by_a_snapshot_are_not_repaired() {
    let mut lab = led();
    lab.snapshot(3, 4);
    assert_eq!(lab.disk(3).base, LogId::ZERO, "the log behind the snapshot stays");
    lab.damage(3, &[2, 3]);
    assert!(lab.raft(3).log().is_whole());
    assert_eq!(lab.raft(3).log().base(), Index::new(3));
    lab.beat(1);
    assert_eq!(lab.applied(3), ["a", "b", "c", "d"]);
    assert_eq!(lab.disk(3).base, LogId::new(1, 3), "the disk is told, too");
}

/// Storage seed 61573: the disk was told of the log's later beginning, and with it that it has the snapshot.
#[test]
fn a_lost_snapshot_is_still_lost_once_the_entries_before_it_are_left_behind() {
    let mut lab = led();
    lab.snapshot(3, 4);
    lab.damage_snapshot(3);
    lab.damage(3, &[2, 3]);
    for _ in 0..2 {
        lab.step(3, Event::Wake);
        assert!(!lab.raft(3).log().is_whole() && lab.disk(3).snapshot_lost);
        assert_eq!((lab.raft(3).log().base(), lab.applied(3).len()), (Index::new(3), 0));
        lab.crash(3);
        lab.restart(3);
    }
    lab.snapshot(1, 5);
    (0..3).for_each(|_| lab.beat(1));
    assert!(lab.raft(3).log().is_whole() && !lab.disk(3).snapshot_lost);
    assert_eq!(lab.applied(3), ["a", "b", "c", "d"]);
}

#[test]
fn what_is_only_in_a_snapshot_comes_with_it() {
    let mut lab = Lab::new(3, 0, &Options { retained_entries: 0, ..Options::default() });
    lab.elect(1);
    lab.propose_batch(1, &["a", "b", "c", "d"]);
    lab.deliver();
    lab.beat(1);
    lab.snapshot(1, 4);
    lab.damage(3, &[3]);
    lab.beat(1);
    lab.beat(1);
    assert!(lab.raft(3).log().is_whole());
    assert_eq!(lab.disk(3).base, LogId::new(1, 4), "it rests on the leader's snapshot");
    assert_eq!(lab.applied(3), ["a", "b", "c", "d"], "and keeps what follows it");
}

#[test]
fn a_lost_snapshot_is_had_from_another_member() {
    let mut lab = Lab::new(3, 0, &Options { retained_entries: 0, ..Options::default() });
    lab.elect(1);
    lab.propose_batch(1, &["a", "b", "c", "d"]);
    lab.deliver();
    lab.beat(1);
    lab.snapshot(3, 4);
    lab.damage_snapshot(3);
    assert_eq!(lab.applied(3), [""; 0]);
    lab.heartbeat(1);
    lab.deliver();
    assert!(lab.take_transcript().contains("shall take a snapshot"), "no other member has one yet");
    lab.snapshot(1, 5);
    lab.beat(1);
    lab.beat(1);
    assert!(lab.raft(3).log().is_whole() && !lab.disk(3).snapshot_lost);
    assert_eq!(lab.applied(3), ["a", "b", "c", "d"]);
}

#[test]
fn who_is_alone_does_not_start_with_damage_and_says_what_is_lost() {
    let mut entries = disk_of(&[1, 1, 1]).entries;
    entries[1].body = EntryBody::Lost;
    let alone = Durable::bootstrap(Membership::of([id(1)]).unwrap());
    let disk = Durable { snapshot: alone.snapshot, entries, ..disk_of(&[1]) };
    let config = Config::new(identity(1), Options::default()).unwrap();
    let error = Raft::restore(config, disk, Instant::ZERO).unwrap_err();
    assert_eq!(error, RestoreError::LastCopyLost { after: LogId::new(1, 1), through: LogId::new(1, 2) });
}

#[test]
fn a_log_larger_than_memory_is_restored_piece_by_piece() {
    let mut whole = disk_of(&[1, 1, 2, 2, 2]);
    let group = Durable::bootstrap(Membership::of([1, 2, 3].map(id)).unwrap());
    (whole.snapshot, whole.committed) = (group.snapshot, Index::new(4));
    let mut skipped = whole.clone();
    skipped.skip(2 * Entry::OVERHEAD);
    assert_eq!((skipped.entries.len(), skipped.skipped_through()), (2, LogId::new(2, 3)));
    skipped.skip(0);
    assert_eq!(skipped.entries.len(), 1, "what is not committed stays");
    let config = || Config::new(identity(1), Options::default()).unwrap();
    let raft = Raft::restore(config(), skipped, Instant::ZERO).unwrap();
    let other = Raft::restore(config(), whole, Instant::ZERO).unwrap();
    for index in 0..=6 {
        let index = Index::new(index);
        assert_eq!(raft.log().term(index), other.log().term(index));
    }
    assert_eq!((raft.status(), raft.log().evicted()), (other.status(), Index::new(4)));
}

#[test]
fn a_full_disk_refuses_new_work_and_nothing_else() {
    let mut lab = led();
    lab.step(1, Event::DiskFull(true));
    let refused = lab.propose(1, "e");
    assert_eq!(lab.outcomes(refused), [Outcome::Refused(Refusal::DiskFull)]);
    lab.beat(1);
    assert_eq!(lab.leaders(), [1]);
    lab.step(1, Event::DiskFull(false));
    lab.step(3, Event::DiskFull(true));
    lab.isolate(2);
    let waits = lab.propose(1, "e");
    lab.deliver();
    assert_eq!((lab.outcomes(waits).len(), lab.status(3).last.index), (0, Index::new(5)));
    assert_eq!(lab.raft(3).drops().count(DropReason::DiskFull), 1);
    lab.step(3, Event::DiskFull(false));
    lab.beat(1);
    lab.beat(1);
    assert_eq!(lab.outcomes(waits), [Outcome::Committed(LogId::new(1, 6))]);
}

/// A follower that takes no more asks its leader to pause, and says so as soon as there is space again.
#[test]
fn a_follower_with_a_full_disk_is_sent_heartbeats_and_nothing_else() {
    let mut lab = led();
    let last = lab.status(1).last.index;
    lab.step(3, Event::DiskFull(true));
    lab.propose(1, "e");
    lab.propose(1, "f");
    assert_eq!(lab.count("1→3 t1 Append"), 2);
    lab.deliver_only("1→3");
    assert_eq!(lab.count("3→1 t1 Pause disk_full"), 1, "once: {:?}", lab.in_flight());
    lab.deliver();
    let paused =
        |lab: &Lab| lab.raft(1).leader().and_then(|view| view.peer(id(3))).and_then(|peer| peer.paused);
    assert_eq!(paused(&lab), Some(PauseReason::DiskFull));
    assert_eq!(lab.raft(3).drops().count(DropReason::DiskFull), 2);
    for _ in 0..10 {
        lab.propose(1, "g");
        lab.heartbeat(1);
        assert_eq!((lab.count("1→3 t1 Append"), lab.count("1→3 t1 Heartbeat")), (0, 1));
        lab.deliver();
    }
    assert_eq!(lab.status(3).last.index, last);
    lab.step(3, Event::DiskFull(false));
    assert_eq!(lab.count("3→1 t1 HeartbeatAck"), 1, "it does not wait for the next heartbeat");
    lab.deliver();
    assert_eq!((paused(&lab), lab.status(3).last), (None, lab.status(1).last));
}

/// A follower that was restarted knows of less agreement than its log holds. While its disk is full it takes
/// no entries, and still learns how far its log agrees with its leader's: what it has counts.
#[test]
fn a_full_follower_that_was_restarted_counts_for_what_it_has() {
    let mut lab = led();
    lab.isolate(2);
    let waits = lab.propose(1, "e");
    lab.deliver_only("1→3");
    lab.lose("3→1");
    lab.crash(3);
    lab.restart(3);
    lab.step(3, Event::DiskFull(true));
    let last = lab.status(3).last;
    for _ in 0..3 {
        lab.heartbeat(1);
        lab.deliver();
    }
    assert_eq!((lab.status(3).last, lab.status(1).last), (last, last));
    assert_eq!(lab.outcomes(waits), [Outcome::Committed(last)]);
}

/// A witness knows which entries there were, and not what was in them: what it sends must not take their
/// place.
#[test]
fn a_witness_fills_nothing_with_its_empty_entries() {
    let cast = Cast { voters: 2, witnesses: 1, ..Cast::default() };
    let mut lab = Lab::with(cast, &Options::default());
    lab.elect(1);
    lab.propose_batch(1, &["a", "b"]);
    lab.deliver();
    lab.beat(1);
    lab.crash(2);
    lab.damage(1, &[1, 2]);
    lab.wait();
    for _ in 0..3 {
        lab.fire(1);
        lab.deliver();
    }
    let held: Vec<&EntryBody> = lab.disk(1).entries.iter().map(|entry| &entry.body).collect();
    assert_eq!(*held[1], EntryBody::Lost, "only member 2 has it, which is down: {held:?}");
    assert_ne!(*held[0], EntryBody::Lost, "nothing was in it that a witness does not know");
    lab.restart(2);
    lab.elect(2);
    lab.beat(2);
    lab.beat(2);
    assert_eq!(lab.applied(1), ["a", "b"]);
}

/// A learner is no voter, and has everything all the same.
#[test]
fn the_only_voter_gets_back_from_a_learner_what_its_disk_has_lost() {
    let mut lab = Lab::new(1, 1, &Options::default());
    lab.elect(1);
    lab.propose_batch(1, &["a", "b"]);
    lab.deliver();
    lab.beat(1);
    lab.damage(1, &[2]);
    for _ in 0..3 {
        lab.fire(1);
        lab.deliver();
    }
    assert_eq!(lab.leaders(), [1]);
    assert_eq!(lab.applied(1), ["a", "b"]);
}

/// Any host may send a repair request, under any name. The leader knows the members, and a follower that
/// hears it leaves requests to it. Without a leader a stranger may be a member all the same: all
/// of them together get what one member would.
#[test]
fn strangers_are_answered_without_a_leader_and_together_as_one() {
    let options = Options { max_cached_bytes: 0, max_in_flight_bytes: 4 << 20, ..Options::default() };
    let mut lab = Lab::new(3, 0, &options);
    lab.elect(1);
    lab.propose_batch(1, &["a", "b", "c", "d"]);
    lab.deliver();
    lab.beat(1);
    (1..=2).for_each(|member| lab.slow_transfers(member));
    let missing = Body::RepairRequest { after: LogId::ZERO, through: LogId::new(1, 3) };
    let loads = |lab: &mut Lab, to: u64| {
        let term = lab.status(to).term.get();
        let actions =
            (10..1_000).flat_map(|stranger| lab.arrive(message(stranger, to, term, missing.clone())));
        actions.filter(|action| matches!(action, Action::LoadEntries { .. })).count()
    };
    assert_eq!([loads(&mut lab, 1), loads(&mut lab, 2)], [0, 0]);
    assert_eq!(lab.raft(1).drops().count(DropReason::Stranger), 990);
    lab.crash(1);
    lab.isolate(2);
    lab.pass(Nanos::new(1_000_000_000));
    assert_eq!(loads(&mut lab, 2), 4);
    assert_eq!(lab.raft(2).drops().count(DropReason::TooOften), 986);
}

/// What a member gets in a heartbeat's time is bounded, however often it asks.
#[test]
fn repair_requests_are_answered_at_a_bounded_rate() {
    let mut lab = led();
    let missing = Body::RepairRequest { after: LogId::ZERO, through: LogId::new(1, 3) };
    let answers = |lab: &mut Lab| {
        let actions = (0..100).flat_map(|_| lab.arrive(message(3, 1, 1, missing.clone())));
        let repairs = |action: &Action| matches!(action, Action::Send(m) if matches!(m.body, Body::RepairResponse { .. }));
        actions.filter(repairs).count()
    };
    assert_eq!(answers(&mut lab), 8, "eight times a megabyte is on its way to a follower at most");
    assert_eq!(lab.raft(1).drops().count(DropReason::TooOften), 92);
    lab.heartbeat(1);
    assert_eq!(answers(&mut lab), 8, "and so it is in the next interval");
}

/// What a member does not have itself it has nothing to answer with.
#[test]
fn a_repair_request_for_entries_behind_the_end_of_the_log_is_dropped() {
    let mut lab = led();
    let last = lab.status(1).last.index.get();
    for after in [last + 1, last + 2] {
        let before = lab.raft(1).drops().count(DropReason::Late);
        let missing = Body::RepairRequest { after: LogId::new(1, after), through: LogId::new(1, after + 1) };
        let actions = lab.arrive(message(3, 1, 1, missing));
        assert!(!actions.iter().any(|action| matches!(action, Action::Send(_))), "{actions:?}");
        assert_eq!(lab.raft(1).drops().count(DropReason::Late), before + 1, "after {after}");
    }
}

/// A follower that hears a leader knows the membership too.
#[test]
fn a_follower_that_hears_a_leader_mends_members_and_no_strangers() {
    let mut lab = led();
    let term = lab.status(1).term.get();
    for (from, answered) in [(3, 1), (9, 0)] {
        let missing = Body::RepairRequest { after: LogId::ZERO, through: LogId::new(1, 1) };
        let actions = lab.arrive(message(from, 2, term, missing));
        let to_it = |action: &&Action| matches!(action, Action::Send(sent) if sent.to.id == id(from));
        assert_eq!(actions.iter().filter(to_it).count(), answered, "{from}: {actions:?}");
    }
    assert_eq!(lab.raft(2).drops().count(DropReason::Stranger), 1);
}

/// A member that was removed is a stranger until it is added again; then it gets back what it has lost.
#[test]
fn a_member_that_is_added_again_is_mended() {
    let mut lab = led();
    lab.isolate(3);
    for change in [Change::Remove(id(3)), Change::AddVoter(id(3).into())] {
        lab.reconfigure(1, &[change], None);
        // For a while it is still told that it has left.
        for _ in 0..40 {
            lab.beat(1);
        }
        if !lab.raft(1).membership().contains(id(3).into()) {
            let missing = Body::RepairRequest { after: LogId::ZERO, through: LogId::new(1, 3) };
            lab.arrive(message(3, 1, lab.status(1).term.get(), missing));
            assert_eq!(lab.raft(1).drops().count(DropReason::Stranger), 1);
            lab.heal();
        }
    }
    lab.damage(3, &[2, 3]);
    lab.beat(1);
    lab.beat(1);
    assert!(lab.raft(3).log().is_whole());
    assert_eq!(lab.applied(3), ["a", "b", "c", "d"]);
}

/// What comes back waits for the disk: no more of it is taken in meanwhile than may be on its way to a
/// follower.
#[test]
fn a_slow_disk_is_not_flooded_with_what_it_has_lost() {
    let options = Options { max_in_flight_bytes: 100, max_append_bytes: 1, ..Options::default() };
    let mut lab = Lab::new(3, 0, &options);
    lab.elect(1);
    (0..10).for_each(|_| drop(lab.propose_batch(1, &["a"])));
    (0..12).for_each(|_| lab.beat(1));
    assert_eq!(lab.status(3).durable, LogId::new(1, 11));
    lab.damage(3, &[2, 3, 4, 5, 6, 7, 8]);
    lab.slow_disk(3);
    (0..20).for_each(|_| lab.beat(1));
    let held =
        (2..=8).filter(|&index| lab.raft(3).log().get(Index::new(index)).unwrap().body != EntryBody::Lost);
    assert_eq!(held.count(), 3, "of 41 bytes each");
    lab.fast_disk(3);
    (0..20).for_each(|_| lab.beat(1));
    assert!(lab.raft(3).log().is_whole());
}

/// The membership that added others is lost with the rest: this member knows no other to ask, and it
/// says what can be done.
#[test]
fn who_takes_itself_for_the_only_one_names_the_ways_out() {
    let lost = RestoreError::LastCopyLost { after: LogId::new(1, 1), through: LogId::new(1, 2) };
    let text = lost.to_string();
    for way in ["put back a copy", "add it again", "recover::force_new_cluster"] {
        assert!(text.contains(way), "{text}");
    }
}

/// Member 3 has lost its snapshot, and member 2 an entry behind its own: each has what the other lacks.
#[test]
fn a_snapshot_is_had_from_a_member_that_is_damaged_elsewhere() {
    let mut lab = Lab::new(3, 0, &Options { retained_entries: 0, ..Options::default() });
    lab.elect(1);
    lab.propose_batch(1, &["a", "b", "c", "d"]);
    lab.deliver();
    lab.beat(1);
    lab.snapshot(2, 3);
    lab.snapshot(3, 3);
    lab.crash(1);
    lab.damage(2, &[5]);
    lab.damage_snapshot(3);
    lab.wait();
    let _ = lab.take_transcript();
    lab.fire(3);
    lab.deliver();
    assert!(lab.raft(3).log().is_whole(), "{}", lab.take_transcript());
    // And one that has lost its snapshot does not offer it.
    lab.damage_snapshot(3);
    let missing = Body::RepairRequest { after: LogId::ZERO, through: LogId::new(1, 2) };
    lab.wait();
    let actions = lab.arrive(message(2, 3, lab.status(3).term.get(), missing));
    let offers =
        |action: &Action| matches!(action, Action::Send(m) if matches!(m.body, Body::RepairSnapshot { .. }));
    assert!(!actions.iter().any(offers), "{actions:?}");
}
