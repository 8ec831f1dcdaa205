//! Who is who: messages of another cluster, of another incarnation of a member, of one that has left.

use kontiki_core::action::Violation;
use kontiki_core::membership::Change;
use kontiki_core::message::{Body, Message};
use kontiki_core::status::{DropReason, RoleKind};
use kontiki_core::types::{ClusterId, Incarnation, Index, LogId, Member, Term};
use kontiki_tests::lab::{CLUSTER, Lab, append, id, message};

fn led() -> Lab {
    let mut lab = Lab::of(3);
    lab.elect(1);
    lab
}

fn dropped(lab: &Lab, member: u64, reason: DropReason) -> u64 {
    lab.raft(member).drops().count(reason)
}

fn second_life(number: u64) -> Member {
    Member::new(id(number), Incarnation(1))
}

/// PITFALLS M15. Not even its term is looked at.
#[test]
fn m15_messages_of_another_cluster_are_dropped_and_counted() {
    let bodies = [
        append(LogId::ZERO, &[9], 1),
        Body::Heartbeat { round: 1, commit: Index::new(9) },
        Body::RequestVote { last: LogId::new(9, 9), transfer: true },
        Body::TimeoutNow { last: LogId::ZERO },
        Body::StaleIncarnation { incarnation: Incarnation(7) },
        Body::Outdated,
    ];
    let mut lab = led();
    for (body, count) in bodies.into_iter().zip(1..) {
        let before = lab.status(3);
        lab.arrive(Message { cluster: ClusterId(CLUSTER.0 + 1), ..message(2, 3, 9, body) });
        assert_eq!((lab.status(3), dropped(&lab, 3, DropReason::OtherCluster)), (before, count));
        assert!(lab.in_flight().is_empty(), "nor is it answered");
    }
}

#[test]
fn messages_to_another_life_of_a_member_are_dropped_and_their_senders_told() {
    let mut lab = led();
    let heartbeat = Body::Heartbeat { round: 1, commit: Index::ZERO };
    lab.arrive(Message { to: second_life(3), ..message(2, 3, 9, heartbeat) });
    assert_eq!((dropped(&lab, 3, DropReason::OtherIncarnation), lab.status(3).term), (1, Term::new(1)));
    assert_eq!(lab.count("3→2 WrongIncarnation"), 1);
    // Answers to a former life are not answered: two who mistake each other must not go on for ever.
    lab.lose("");
    let matched = Index::new(1);
    lab.arrive(Message { to: second_life(1), ..message(3, 1, 1, Body::Appended { matched }) });
    assert_eq!((dropped(&lab, 1, DropReason::OtherIncarnation), lab.in_flight().len()), (1, 0));
}

/// PITFALLS P4, R8: neither the vote nor the acknowledgement of a life that the group does not have counts.
#[test]
fn p4_a_wiped_member_neither_votes_nor_acknowledges() {
    let mut lab = Lab::of(3);
    lab.campaign(1);
    lab.deliver_only("PreVote");
    lab.deliver_only("PreVoted");
    for granted in [true, false] {
        let vote = message(3, 1, 1, Body::Voted { granted });
        lab.arrive(Message { from: second_life(3), ..vote });
    }
    assert_eq!((lab.status(1).role, dropped(&lab, 1, DropReason::Stranger)), (RoleKind::Candidate, 2));
    lab.deliver_only("1→2 RequestVote");
    lab.deliver_only("2→1 Voted");
    let matched = Index::new(1);
    lab.arrive(Message { from: second_life(3), ..message(3, 1, 1, Body::Appended { matched }) });
    assert_eq!((lab.status(1).committed, dropped(&lab, 1, DropReason::OtherIncarnation)), (Index::ZERO, 1));
}

/// PITFALLS E21: a member that knows of no group does not vote, whatever candidate asks: it may be one that
/// has forgotten.
#[test]
fn a_blank_member_does_not_vote() {
    let mut lab = led();
    lab.wipe(3);
    lab.pass(kontiki_core::time::Nanos::new(150_000_000));
    let last = LogId::new(1, 9);
    for body in [Body::PreVote { last }, Body::RequestVote { last, transfer: false }] {
        lab.arrive(Message { to: second_life(3), ..message(2, 3, 9, body) });
    }
    assert_eq!((lab.count("PreVoted no"), lab.count("Voted no")), (1, 1), "{:?}", lab.in_flight());
}

#[test]
fn a_member_that_is_told_that_it_is_another_halts_and_says_what_to_do() {
    let mut lab = led();
    lab.wipe(3);
    lab.beat(1);
    let violation = Violation::StaleIncarnation { ours: Incarnation(1), theirs: Incarnation(0) };
    assert_eq!(lab.halted(3), Some(violation));
    assert!(violation.to_string().contains("remove it from the"), "{violation}");
    assert_eq!(lab.leaders(), [1]);
}

/// The word may be late: by now the group has it.
#[test]
fn a_member_that_was_added_again_does_not_halt_on_what_was_said_before() {
    let mut lab = led();
    lab.wipe(3);
    lab.heartbeat(1);
    lab.deliver_only("1→3");
    lab.deliver_only("3→1 WrongIncarnation");
    assert_eq!(lab.hold("StaleIncarnation"), 1);
    for change in [Change::Remove(id(3)), Change::AddVoter(second_life(3))] {
        lab.reconfigure(1, &[change], None);
        lab.deliver();
    }
    lab.release("StaleIncarnation");
    assert_eq!((lab.halted(3), lab.raft(1).membership().to_string()), (None, "{1 2 3@1}".into()));
    let request = lab.propose(1, "x");
    lab.isolate(2);
    lab.deliver();
    assert_eq!(lab.outcomes(request).len(), 1, "it acknowledges");
}

/// PITFALLS M11, M18: what a member that has left says in a later term raises no member's.
#[test]
fn a_stranger_does_not_raise_the_term() {
    let mut lab = led();
    for body in [Body::Outdated, Body::Voted { granted: false }, Body::Appended { matched: Index::ZERO }] {
        lab.arrive(message(9, 1, 7, body));
    }
    assert_eq!((lab.status(1).term, dropped(&lab, 1, DropReason::Stranger)), (Term::new(1), 3));
}
