//! The host's side of compaction: what it may report, what it is told, and what a crash leaves.

use kontiki_core::action::{Action, Violation};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::{Durable, RestoreError};
use kontiki_core::event::{EntriesLoaded, Event};
use kontiki_core::log::{Entries, Snapshot};
use kontiki_core::membership::Change;
use kontiki_core::message::Body;
use kontiki_core::raft::Raft;
use kontiki_core::status::{FlowKind, RoleKind};
use kontiki_core::time::Instant;
use kontiki_core::types::{Index, LogId};
use kontiki_tests::lab::{Cast, Lab, append, disk_of, id, identity, message};

/// Member 1 leads three; entries 1 to 5 are committed, and nothing of what a snapshot holds stays in the log.
fn led() -> Lab {
    let mut lab = Lab::new(3, 0, &Options { retained_entries: 0, ..Options::default() });
    lab.elect(1);
    lab.propose_batch(1, &["a", "b", "c", "d"]);
    lab.deliver();
    lab
}

/// The same, and member 3, which was away, is offered a snapshot that it has not got yet.
fn offered() -> Lab {
    let mut lab = Lab::new(3, 0, &Options { retained_entries: 0, ..Options::default() });
    lab.elect(1);
    lab.isolate(3);
    lab.propose_batch(1, &["a", "b", "c", "d"]);
    lab.deliver();
    lab.snapshot(1, 4);
    lab.heal();
    lab.slow_transfers(3);
    lab.beat(1);
    lab
}

fn snapshot_at(lab: &Lab, index: u64) -> Option<Snapshot> {
    lab.raft(1).snapshot_at(Index::new(index))
}

#[test]
fn a_snapshot_of_what_is_not_applied_halts_the_member() {
    let mut lab = led();
    let index = Index::new(6);
    lab.step(1, Event::SnapshotTaken(index));
    assert_eq!(lab.halted(1), Some(Violation::UnknownSnapshot(index)));
}

#[test]
fn an_older_snapshot_changes_nothing() {
    let mut lab = led();
    lab.snapshot(1, 4);
    let before = lab.raft(1).clone();
    for index in [0, 1, 3, 4] {
        assert_eq!(lab.step(1, Event::SnapshotTaken(Index::new(index))), []);
    }
    assert_eq!(lab.raft(1), &before);
}

/// PITFALLS S4: the membership as of its last entry, not the latest.
#[test]
fn s4_a_snapshot_has_the_membership_as_of_its_last_entry() {
    let mut lab = led();
    lab.reconfigure(1, &[Change::Demote(id(3))], None);
    lab.deliver();
    let membership = |index| snapshot_at(&lab, index).map(|snapshot| snapshot.membership.to_string());
    assert_eq!((membership(5), membership(6)), (Some("{1 2 3}".into()), Some("{1 2}+{3}".into())));
    assert_eq!(membership(7), None, "which is not applied");
    lab.snapshot(1, 6);
    assert_eq!(snapshot_at(&lab, 5), None, "which is older than the log");
}

/// A joint membership is kept whole (PITFALLS S4a).
#[test]
fn s4a_a_snapshot_in_the_middle_of_a_change_has_both_halves() {
    let mut lab = Lab::new(3, 1, &Options { retained_entries: 0, ..Options::default() });
    lab.elect(1);
    lab.reconfigure(1, &[Change::Promote(id(4)), Change::Remove(id(3))], None);
    lab.deliver();
    lab.elect(2);
    lab.snapshot(2, 2);
    let group = lab.raft(2).log().snapshot().expect("it has one").membership.to_string();
    assert_eq!(group, "{1 2 4}&{1 2 3}");
    lab.crash(2);
    lab.restart(2);
    assert_eq!(lab.raft(2).log().snapshot().expect("it has one").membership.to_string(), group);
}

/// The first membership of a group is in no entry, and a newcomer gets the log from its beginning. So it is
/// told of it first, and then may take a snapshot of whatever it has applied.
#[test]
fn a_newcomer_knows_the_first_membership_of_its_group() {
    let cast = Cast { voters: 1, spares: 1, ..Cast::default() };
    let mut lab = Lab::with(cast, &Options { max_append_bytes: 1, ..Options::default() });
    lab.elect(1);
    lab.propose_batch(1, &["a", "b"]);
    assert_eq!(lab.raft(2).snapshot_at(Index::ZERO), None, "of no group");
    lab.reconfigure(1, &[Change::AddLearner(id(2).into())], None);
    lab.deliver();
    let at =
        |index| lab.raft(2).snapshot_at(Index::new(index)).map(|snapshot| snapshot.membership.to_string());
    assert_eq!((at(1), at(3), at(4)), (Some("{1}".into()), Some("{1}".into()), Some("{1}+{2}".into())));
    lab.snapshot(2, 3);
    lab.crash(2);
    lab.restart(2);
    assert_eq!(lab.raft(2).log().snapshot().expect("it has one").membership.to_string(), "{1}");
}

#[test]
fn bytes_that_were_not_asked_for_are_ignored() {
    let mut lab = offered();
    let asked = lab.raft(1).log().snapshot().expect("it has one").clone();
    let other = Snapshot { last: LogId::new(1, 3), ..asked.clone() };
    assert_eq!(lab.step(3, Event::SnapshotFetched(other.clone())), []);
    assert_eq!(lab.step(3, Event::SnapshotFailed(other.last)), []);
    assert_eq!(lab.step(2, Event::SnapshotFetched(asked)), [], "by a member that asked for none");
    lab.fetch(3);
    assert_eq!(lab.status(3).snapshot, LogId::new(1, 4));
}

/// One fetch at a time, and the offer that is repeated does not begin it anew.
#[test]
fn a_repeated_offer_does_not_begin_the_fetch_anew() {
    let mut lab = offered();
    lab.heartbeat(1);
    assert_eq!(lab.deliver_only("OfferSnapshot"), 1);
    let wants = lab.take_transcript().matches("wants snapshot").count();
    assert_eq!(wants, 1);
}

/// PITFALLS S5, S6: a crash in the middle of an install leaves the old log or the new one.
#[test]
fn s6_a_crash_leaves_the_log_before_the_install_or_after_it() {
    for durable in [false, true] {
        let mut lab = offered();
        lab.slow_disk(3);
        lab.fetch(3);
        assert_eq!((lab.status(3).snapshot, lab.applied(3).len()), (LogId::new(1, 4), 0), "not restored yet");
        assert_eq!(lab.count("3→1 Appended"), 0, "nor acknowledged");
        if durable {
            lab.persist(3, 1);
            assert_eq!((lab.applied(3).len(), lab.count("3→1 Appended matched=4")), (3, 1));
        }
        lab.crash(3);
        lab.restart(3);
        let snapshot = if durable { LogId::new(1, 4) } else { LogId::ZERO };
        assert_eq!(
            (lab.status(3).snapshot, lab.status(3).last.index.get()),
            (snapshot, if durable { 4 } else { 1 })
        );
        lab.fast_host(3);
        (0..2).for_each(|_| lab.beat(1));
        assert_eq!(lab.applied(3), lab.applied(1));
    }
}

/// PITFALLS S7: what was to be applied before is overtaken by the snapshot.
#[test]
fn s7_a_snapshot_takes_the_place_of_what_was_still_to_be_applied() {
    let mut lab = Lab::new(3, 0, &Options { retained_entries: 0, ..Options::default() });
    lab.slow_apply(3);
    lab.elect(1);
    lab.propose(1, "a");
    lab.deliver();
    lab.isolate(3);
    lab.propose_batch(1, &["b", "c", "d"]);
    lab.deliver();
    lab.snapshot(1, 5);
    lab.heal();
    lab.beat(1);
    lab.apply(3);
    assert_eq!(lab.applied(3), ["a", "b", "c", "d"]);
}

/// PITFALLS S8: while it gets a snapshot, a member votes and stands by the log that it has.
#[test]
fn s8_a_member_that_gets_a_snapshot_does_not_win_without_it() {
    let mut lab = offered();
    lab.crash(1);
    lab.campaign(3);
    lab.deliver();
    assert!(lab.leaders().is_empty());
    lab.fetch(3);
    lab.elect(2);
    assert_eq!(lab.applied(3), lab.applied(2));
}

/// The log that a follower will need when it has its snapshot stays, while it is there to get it.
#[test]
fn s12_the_log_after_a_snapshot_that_is_being_sent_stays() {
    let mut lab = offered();
    lab.propose_batch(1, &["e", "f"]);
    lab.deliver();
    lab.snapshot(1, 7);
    let base = lab.raft(1).log().base();
    assert_eq!(base, Index::new(4), "the snapshot through 4 is on its way");
    lab.fetch(3);
    lab.deliver();
    assert_eq!(lab.applied(3), lab.applied(1), "and needed no other");
    lab.crash(3);
    lab.propose(1, "g");
    lab.deliver();
    lab.snapshot(1, 8);
    assert_eq!(lab.raft(1).log().base(), Index::new(8), "no follower is waited for");
}

/// PITFALLS S15: an offer of an earlier term is refused like everything of an earlier term.
#[test]
fn s15_an_offer_of_an_earlier_term_is_refused() {
    let mut lab = offered();
    lab.heartbeat(1);
    lab.hold("OfferSnapshot");
    lab.lose("");
    lab.crash(1);
    lab.elect(2);
    lab.restart(1);
    lab.release("OfferSnapshot");
    assert_eq!(lab.count("3→1 Outdated"), 1);
}

#[test]
fn entries_that_were_not_asked_for_are_ignored() {
    let mut lab = led();
    let (to, after) = (id(3), LogId::ZERO);
    let entries: Entries = lab.disk(1).entries.iter().cloned().collect();
    for after in [after, LogId::new(1, 5), LogId::new(7, 7)] {
        let loaded = EntriesLoaded { to, after, entries: entries.clone() };
        let actions = lab.step(1, Event::EntriesLoaded(loaded));
        assert!(!actions.iter().any(|action| matches!(action, Action::Send(_))), "{actions:?}");
    }
    let loaded = EntriesLoaded { to: id(9), after, entries };
    assert_eq!(lab.step(1, Event::EntriesLoaded(loaded.clone())), []);
    assert_eq!(lab.step(2, Event::EntriesLoaded(loaded)), [], "nor by who does not lead");
}

/// A follower says that it cannot get a snapshot that no member has offered.
#[test]
fn a_failure_of_what_was_not_offered_is_dropped() {
    let mut lab = offered();
    lab.arrive(message(3, 1, 1, Body::SnapshotUnavailable { last: LogId::new(1, 2) }));
    let peer = lab.raft(1).leader().expect("it leads").peer(id(3)).expect("a member");
    assert_eq!((peer.flow, lab.status(1).role), (FlowKind::Snapshot, RoleKind::Leader));
}

#[test]
fn a_disk_whose_log_rests_on_nothing_is_refused() {
    let restore = |durable| {
        Raft::restore(Config::new(identity(1), Options::default()).unwrap(), durable, Instant::ZERO)
    };
    let base = LogId::new(1, 3);
    let gone = Durable { base, ..disk_of(&[1]) };
    let gone = Durable { entries: Vec::new(), ..gone };
    assert_eq!(restore(gone).unwrap_err(), RestoreError::NoSnapshot { base });
    // A snapshot that goes further than the log does not stand for it: the write that installs one begins the
    // log after it.
    let group = Lab::of(1).disk(1).snapshot.clone();
    let beyond = group.map(|snapshot| Snapshot { last: LogId::new(1, 9), ..snapshot });
    let gone = Durable { snapshot: beyond, ..disk_of(&[1, 1]) };
    assert!(matches!(restore(gone), Err(RestoreError::NoSnapshot { .. })));
}

/// A leader that offers a snapshot and then sends another entry in the place of its last one contradicts
/// itself: safety is broken, and the follower says so rather than fall over when the bytes come.
#[test]
fn a_leader_whose_snapshot_contradicts_its_log_halts_its_follower() {
    let mut lab = Lab::of(3);
    lab.slow_transfers(3);
    let group = lab.disk(1).snapshot.clone().expect("the first membership");
    let offered = Snapshot { last: LogId::new(1, 2), ..group };
    lab.arrive(message(1, 3, 2, Body::OfferSnapshot { snapshot: offered.clone() }));
    lab.arrive(message(1, 3, 2, append(LogId::ZERO, &[1, 2, 2], 0)));
    lab.step(3, Event::SnapshotFetched(offered));
    let (ours, theirs) = (LogId::new(2, 2), LogId::new(1, 2));
    assert_eq!(lab.halted(3), Some(Violation::AgreedEntryContradicted { ours, theirs }));
}
