//! What operators are told of changes of the membership and of handing over: every refusal has its own
//! reason, and names what to do about it. What the changes themselves look like is in tests/data.

use kontiki_core::action::{Outcome, Refusal, Violation};
use kontiki_core::config::Options;
use kontiki_core::membership::{Change, ChangeError, MAX_MEMBERS, MemberKind, Membership};
use kontiki_core::status::RoleKind;
use kontiki_core::time::Nanos;
use kontiki_core::types::{Incarnation, LogId, Member, RequestId};
use kontiki_tests::lab::{Cast, Lab, id};
use std::time::Duration;

/// Member 1 leads voters 1 to 3, learner 4 beside them; 5 knows of no group.
fn led() -> Lab {
    let cast = Cast { voters: 3, learners: 1, spares: 1, ..Cast::default() };
    let mut lab = Lab::with(cast, &Options::default());
    lab.elect(1);
    lab
}

fn refused(lab: &mut Lab, member: u64, changes: &[Change]) -> Refusal {
    refused_if(lab, member, changes, None)
}

fn refused_if(lab: &mut Lab, member: u64, changes: &[Change], expected: Option<LogId>) -> Refusal {
    let request = lab.reconfigure(member, changes, expected);
    match lab.outcomes(request) {
        [Outcome::Refused(refusal)] => *refusal,
        outcomes => panic!("{outcomes:?}"),
    }
}

const ADD: Change = Change::Promote(match kontiki_core::types::NodeId::new(4) {
    Some(id) => id,
    None => unreachable!(),
});

#[test]
fn a_change_that_makes_no_sense_is_refused_with_its_reason_and_nothing_is_done() {
    let member = |number: u64, incarnation| Member::new(id(number), Incarnation(incarnation));
    let crowd: Vec<_> =
        (5..=MAX_MEMBERS as u64 + 1).map(|number| Change::AddLearner(id(number).into())).collect();
    let cases: Vec<(Vec<Change>, ChangeError)> = vec![
        (vec![], ChangeError::Nothing),
        (vec![Change::Remove(id(2)), Change::Demote(id(2))], ChangeError::NamedTwice(id(2))),
        (vec![Change::Remove(id(9))], ChangeError::Stranger(id(9))),
        (vec![Change::Promote(id(9))], ChangeError::Stranger(id(9))),
        (vec![Change::AddVoter(member(2, 0))], ChangeError::AlreadyMember(id(2))),
        (vec![Change::AddLearner(member(4, 0))], ChangeError::AlreadyMember(id(4))),
        (vec![Change::AddVoter(member(2, 1))], ChangeError::OtherIncarnation(id(2))),
        (vec![Change::Promote(id(2))], ChangeError::AlreadyVoter(id(2))),
        (vec![Change::Demote(id(4))], ChangeError::AlreadyLearner(id(4))),
        ([1, 2, 3].map(|number| Change::Remove(id(number))).to_vec(), ChangeError::NoVoters),
        (
            vec![Change::AddWitness(member(5, 0)), Change::Remove(id(2)), Change::Remove(id(3))],
            ChangeError::TooManyWitnesses,
        ),
        (crowd, ChangeError::TooMany),
    ];
    let mut lab = led();
    for (changes, error) in cases {
        assert_eq!(refused(&mut lab, 1, &changes), Refusal::Change(error));
        assert!(error.to_string().contains(": "), "it says what to do: {error}");
    }
    assert_eq!((lab.status(1).last, lab.status(1).configured), (LogId::new(1, 1), LogId::ZERO));
}

#[test]
fn a_witness_is_no_learner() {
    let cast = Cast { voters: 2, witnesses: 1, ..Cast::default() };
    let mut lab = Lab::with(cast, &Options::default());
    lab.elect(1);
    let error = ChangeError::Witness(id(3));
    assert_eq!(refused(&mut lab, 1, &[Change::Demote(id(3))]), Refusal::Change(error));
}

#[test]
fn only_the_leader_changes_the_membership() {
    let mut lab = led();
    let leader = Some(id(1));
    assert_eq!(refused(&mut lab, 2, &[ADD]), Refusal::NotLeader { leader });
    assert_eq!(refused(&mut lab, 5, &[ADD]), Refusal::NotLeader { leader: None });
    assert_eq!(
        Membership::of([1, 2].map(id)).map(|group| group.kind(id(5).into())),
        Ok(MemberKind::NonMember)
    );
}

/// PITFALLS M1.
#[test]
fn a_leader_changes_nothing_before_it_has_committed_an_entry_of_its_own() {
    let mut lab = led();
    lab.campaign(2);
    for filter in ["PreVote", "PreVoted", "RequestVote", "Voted"] {
        lab.deliver_only(filter);
    }
    assert_eq!(refused(&mut lab, 2, &[ADD]), Refusal::NotReady);
    lab.deliver();
    let request = lab.reconfigure(2, &[ADD], None);
    lab.deliver();
    assert_eq!(lab.outcomes(request), [Outcome::Committed(LogId::new(2, 3))]);
}

/// PITFALLS M2.
#[test]
fn changes_come_one_at_a_time() {
    let mut lab = led();
    lab.force_reconfigure(1, &[ADD]);
    let configured = LogId::new(1, 2);
    assert_eq!(refused(&mut lab, 1, &[Change::Remove(id(3))]), Refusal::ChangeInFlight { configured });
    let request = lab.transfer(1, Some(2));
    let in_flight = Outcome::Refused(Refusal::ChangeInFlight { configured });
    assert_eq!(lab.outcomes(request), [in_flight], "nor is leadership handed over meanwhile");
    lab.deliver();
    let request = lab.reconfigure(1, &[Change::Remove(id(3))], None);
    lab.deliver();
    assert_eq!(lab.outcomes(request), [Outcome::Committed(LogId::new(1, 3))]);
}

#[test]
fn a_change_may_depend_on_the_membership_that_its_operator_saw() {
    let mut lab = led();
    let configured = LogId::ZERO;
    let wrong = Some(LogId::new(1, 1));
    assert_eq!(refused_if(&mut lab, 1, &[ADD], wrong), Refusal::Outdated { configured });
    let request = lab.reconfigure(1, &[ADD], Some(configured));
    lab.deliver();
    let configured = LogId::new(1, 2);
    assert_eq!(lab.outcomes(request), [Outcome::Committed(configured)]);
    assert_eq!(
        refused_if(&mut lab, 1, &[Change::Remove(id(2))], Some(LogId::ZERO)),
        Refusal::Outdated { configured }
    );
}

#[test]
fn nothing_is_changed_while_leadership_is_handed_over() {
    let mut lab = led();
    lab.transfer(1, Some(3));
    assert_eq!(refused(&mut lab, 1, &[ADD]), Refusal::Transferring { to: id(3) });
}

#[test]
fn who_is_handed_over_to_could_lead() {
    let mut lab = led();
    let cannot = [
        (Some(4), Refusal::CannotLead(id(4))),
        (Some(5), Refusal::CannotLead(id(5))),
        (Some(9), Refusal::CannotLead(id(9))),
        (Some(1), Refusal::LeadsAlready),
    ];
    for (to, refusal) in cannot {
        let request = lab.transfer(1, to);
        assert_eq!(lab.outcomes(request), [Outcome::Refused(refusal)]);
    }
    let mut alone = Lab::of(1);
    alone.elect(1);
    let request = alone.transfer(1, None);
    assert_eq!(alone.outcomes(request), [Outcome::Refused(Refusal::NoSuccessor)]);
}

#[test]
fn leadership_is_not_transferred_to_a_silent_member() {
    let mut lab = led();
    lab.crash(3);
    (0..7).for_each(|_| lab.beat(1));
    let request = lab.transfer(1, Some(3));
    assert_eq!(lab.outcomes(request), [Outcome::Refused(Refusal::Unreachable(id(3)))]);
    let request = lab.transfer(1, None);
    lab.deliver();
    assert_eq!((lab.outcomes(request), lab.leaders()), (&[Outcome::Transferred][..], vec![2]));
}

/// In bounded time either way.
#[test]
fn a_transfer_ends_with_another_leader_or_with_this_one() {
    let mut lab = led();
    let request = lab.transfer(1, Some(3));
    lab.deliver();
    assert_eq!((lab.outcomes(request), lab.leaders()), (&[Outcome::Transferred][..], vec![3]));

    let mut lab = led();
    let request = lab.transfer(1, Some(3));
    lab.crash(3);
    (0..6).for_each(|_| lab.beat(1));
    assert_eq!((lab.outcomes(request), lab.leaders()), (&[Outcome::NotTransferred][..], vec![1]));
}

/// Removed, it could not be elected any more, and would be waited for in vain (PITFALLS M21). A change cannot
/// begin while a transfer is under way; one that another leader began can end.
#[test]
fn m21_a_transfer_does_not_outlast_its_leaders_office() {
    let mut lab = led();
    let request = lab.transfer(1, Some(3));
    lab.lose("TimeoutNow");
    lab.elect(2);
    assert_eq!(lab.outcomes(request), [Outcome::Transferred], "another leads");
    lab.elect(1);
    let request = lab.propose(1, "x");
    lab.deliver();
    assert_eq!(lab.outcomes(request).len(), 1, "nothing is left of it");
}

#[test]
fn a_newcomer_that_does_not_catch_up_is_named() {
    let options = Options { catch_up_timeout: Duration::from_millis(120), ..Options::default() };
    let cast = Cast { voters: 3, spares: 1, ..Cast::default() };
    let mut lab = Lab::with(cast, &options);
    lab.elect(1);
    lab.crash(4);
    let request = lab.reconfigure(1, &[Change::AddVoter(id(4).into()), Change::Remove(id(3))], None);
    lab.deliver();
    (0..3).for_each(|_| lab.beat(1));
    assert_eq!(lab.outcomes(request), [Outcome::NotCaughtUp(id(4))]);
    assert_eq!(lab.raft(1).membership().to_string(), "{1 2 3}+{4}", "nothing else of the request was done");
}

/// Member 4 does not come; members 1 to 3 are as they were.
fn waiting_for_newcomer(options: &Options) -> (Lab, RequestId) {
    let cast = Cast { voters: 3, spares: 1, ..Cast::default() };
    let mut lab = Lab::with(cast, options);
    lab.elect(1);
    lab.isolate(4);
    let request = lab.reconfigure(1, &[Change::AddVoter(id(4).into())], None);
    lab.deliver();
    (lab, request)
}

#[test]
fn a_change_that_waits_for_a_newcomer_can_be_cancelled_and_no_other() {
    let (mut lab, waiting) = waiting_for_newcomer(&Options::default());
    assert_eq!(refused(&mut lab, 1, &[Change::Remove(id(3))]), Refusal::CatchingUp(id(4)));
    let follower = lab.cancel_change(2);
    let not_leader = Outcome::Refused(Refusal::NotLeader { leader: Some(id(1)) });
    assert_eq!(lab.outcomes(follower), [not_leader]);
    let cancel = lab.cancel_change(1);
    assert_eq!(lab.outcomes(cancel), [Outcome::Cancelled]);
    assert_eq!(lab.outcomes(waiting), [Outcome::Cancelled]);
    let again = lab.cancel_change(1);
    assert_eq!(lab.outcomes(again), [Outcome::Refused(Refusal::NothingToCancel)]);

    let decided = lab.force_reconfigure(1, &[Change::Remove(id(3))]);
    let cancel = lab.cancel_change(1);
    let configured = LogId::new(1, 3);
    assert_eq!(lab.outcomes(cancel), [Outcome::Refused(Refusal::ChangeInFlight { configured })]);
    lab.deliver();
    assert_eq!(lab.outcomes(decided), [Outcome::Committed(configured)]);
}

/// The newcomer comes while leadership is being handed over: the log must come to an end that the other can
/// have.
#[test]
fn a_newcomer_does_not_vote_while_leadership_is_handed_over() {
    let (mut lab, waiting) = waiting_for_newcomer(&Options::default());
    let transfer = lab.transfer(1, Some(3));
    lab.crash(3);
    lab.heal();
    (0..4).for_each(|_| lab.beat(1));
    assert_eq!(lab.raft(1).membership().to_string(), "{1 2 3}+{4}");
    (0..4).for_each(|_| lab.beat(1));
    assert_eq!(lab.outcomes(transfer), [Outcome::NotTransferred]);
    assert!(matches!(lab.outcomes(waiting), [Outcome::Committed(_)]), "{:?}", lab.outcomes(waiting));
    assert_eq!(lab.raft(1).membership().to_string(), "{1 2 3 4}");
}

/// What is in the log and is not decided in time may commit yet, or not; no later change is begun before it
/// has.
#[test]
fn a_change_that_is_not_decided_in_time_is_unknown() {
    let options =
        Options { check_quorum: false, catch_up_timeout: Duration::from_millis(200), ..Options::default() };
    let mut lab = Lab::with(Cast { voters: 3, ..Cast::default() }, &options);
    lab.elect(1);
    lab.isolate(1);
    let request = lab.force_reconfigure(1, &[Change::Remove(id(3))]);
    (0..5).for_each(|_| lab.beat(1));
    assert_eq!(lab.outcomes(request), [Outcome::Unknown]);
    let configured = LogId::new(1, 2);
    assert_eq!(refused(&mut lab, 1, &[Change::Remove(id(2))]), Refusal::ChangeInFlight { configured });
    lab.heal();
    lab.beat(1);
    assert_eq!(lab.status(1).committed, configured.index);
}

/// Its own clock ends it: no heartbeat need be due, and no follower need be there.
#[test]
fn a_change_ends_at_its_deadline() {
    let options = Options { catch_up_timeout: Duration::from_millis(10), ..Options::default() };
    let (mut lab, waiting) = waiting_for_newcomer(&options);
    lab.run(Nanos::from(Duration::from_millis(11)));
    assert_eq!(lab.outcomes(waiting), [Outcome::NotCaughtUp(id(4))]);
}

/// Which members are silent is named; the new voters of a swap count as there, since they are waited for.
#[test]
fn a_change_that_leaves_no_majority_within_reach_names_the_silent() {
    let cast = Cast { voters: 5, spares: 2, ..Cast::default() };
    let mut lab = Lab::with(cast, &Options::default());
    lab.elect(1);
    lab.crash(4);
    lab.crash(5);
    (0..7).for_each(|_| lab.beat(1));
    let unreachable = [4, 5].map(id).into_iter().collect();
    let refusal = Refusal::NoReachableMajority { unreachable };
    assert_eq!(refused(&mut lab, 1, &[Change::Remove(id(2))]), refusal);
    assert_eq!(refused(&mut lab, 1, &[Change::Demote(id(2))]), refusal);
    assert!(refusal.to_string().contains("members 4, 5"), "{refusal}");
    let swap = [
        Change::Remove(id(4)),
        Change::AddVoter(id(6).into()),
        Change::Remove(id(5)),
        Change::AddVoter(id(7).into()),
    ];
    let swapped = lab.reconfigure(1, &swap, None);
    lab.deliver();
    assert!(matches!(lab.outcomes(swapped), [Outcome::Committed(_)]), "{:?}", lab.outcomes(swapped));
    assert_eq!(lab.raft(1).membership().to_string(), "{1 2 3 6 7}");
}

/// A leader that has just begun does not know who is there: it waits for an answer instead of refusing.
#[test]
fn a_new_leader_does_not_take_the_others_for_silent() {
    let mut lab = led();
    lab.campaign(2);
    for filter in ["PreVote", "PreVoted", "RequestVote", "Voted"] {
        lab.deliver_only(filter);
    }
    lab.deliver_only("2→3 t2 Append");
    lab.deliver_only("3→2 t2 Appended");
    let transfer = lab.transfer(2, Some(1));
    assert_eq!(lab.outcomes(transfer), [Outcome::Refused(Refusal::NotReady)]);
    let request = lab.reconfigure(2, &[Change::Remove(id(3))], None);
    assert_eq!(lab.outcomes(request), []);
    lab.deliver();
    assert!(matches!(lab.outcomes(request), [Outcome::Committed(_)]), "{:?}", lab.outcomes(request));
}

/// Each step of a growth to seven and back to one commits, and so does what is proposed between them.
#[test]
fn a_group_grows_to_seven_and_shrinks_to_one() {
    let cast = Cast { voters: 1, spares: 6, ..Cast::default() };
    let mut lab = Lab::with(cast, &Options::default());
    lab.elect(1);
    let mut committed = 0;
    let mut change = |lab: &mut Lab, changes: Vec<Change>| {
        let leader = lab.leaders()[0];
        let requests = [lab.propose(leader, "x"), lab.reconfigure(leader, &changes, None)];
        lab.deliver();
        for request in requests {
            assert!(matches!(lab.outcomes(request), [Outcome::Committed(_)]), "{:?}", lab.outcomes(request));
        }
        committed += 1;
        if lab.leaders().is_empty() {
            lab.wait();
            lab.deliver();
        }
    };
    for pair in [[2, 3], [4, 5], [6, 7]] {
        change(&mut lab, pair.map(|number| Change::AddVoter(id(number).into())).to_vec());
    }
    assert_eq!(lab.raft(7).membership().voters().len(), 7);
    for pair in [[1, 2], [3, 4], [5, 6]] {
        change(&mut lab, pair.map(|number| Change::Remove(id(number))).to_vec());
    }
    assert_eq!((lab.leaders(), lab.raft(7).membership().to_string()), (vec![7], "{7}".into()));
    assert_eq!(lab.applied(7), vec!["x"; committed]);
}

/// The requests of a leader that stepped down: those in the log may or may not commit; what is not,
/// was not done.
#[test]
fn a_change_of_a_lost_leadership_is_unknown_once_it_is_in_the_log() {
    let mut lab = led();
    lab.isolate(1);
    let begun = lab.force_reconfigure(1, &[ADD]);
    lab.elect(2);
    lab.heal();
    lab.beat(2);
    assert_eq!(lab.outcomes(begun), [Outcome::Unknown]);

    // Here it waits for a learner that was one already: nothing is in the log.
    let mut lab = led();
    lab.crash(4);
    lab.propose(1, "x");
    lab.deliver();
    let waiting = lab.reconfigure(1, &[ADD], None);
    lab.isolate(1);
    lab.elect(2);
    lab.heal();
    lab.beat(2);
    assert_eq!(lab.outcomes(waiting), [Outcome::Refused(Refusal::NotLeader { leader: Some(id(2)) })]);
}

#[test]
fn a_member_that_is_a_witness_and_should_not_be_halts_and_the_other_way_round() {
    for witness in [false, true] {
        let cast = Cast { voters: 3, spares: 1, ..Cast::default() };
        let mut lab = Lab::with(cast, &Options::default());
        lab.set_options(4, |options| options.witness = !witness);
        lab.elect(1);
        let newcomer = id(4).into();
        let change = if witness { Change::AddWitness(newcomer) } else { Change::AddLearner(newcomer) };
        lab.reconfigure(1, &[change], None);
        lab.deliver();
        assert_eq!(lab.halted(4), Some(Violation::WrongMemberKind { witness }));
        assert_eq!((lab.status(4).role, lab.leaders()), (RoleKind::Halted, vec![1]));
    }
}
