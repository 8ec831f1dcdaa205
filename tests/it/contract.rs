//! What the kernel promises its host beyond the paper: an outcome for every request, promises only when they
//! are durable, garbage dropped and counted, proof of broken safety answered by a halt. The names of some
//! tests begin with the pitfall, of other implementations, that they show to be avoided.

use kontiki_core::action::{Action, Outcome, Refusal, Violation};
use kontiki_core::config::{Config, Options};
use kontiki_core::durable::{Durable, RestoreError};
use kontiki_core::event::Event;
use kontiki_core::log::{Discontinuity, LogSlice};
use kontiki_core::membership::Membership;
use kontiki_core::message::Body;
use kontiki_core::raft::Raft;
use kontiki_core::status::{DropReason, RoleKind};
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::{Ballot, Index, LogId, RequestId, Term, WriteSeq};
use kontiki_tests::lab::{Lab, append, disk_of, id, identity, message};

const MIN_TIMEOUT: Nanos = Nanos::new(150_000_000);
const GRANTED: Body = Body::Voted { granted: true };

/// Member 1 leads a group of three in term 1.
fn led() -> Lab {
    let mut lab = Lab::of(3);
    lab.elect(1);
    lab
}

fn led_with(change: impl Fn(&mut Options)) -> Lab {
    let mut options = Options::default();
    change(&mut options);
    let mut lab = Lab::new(3, 0, &options);
    lab.elect(1);
    lab
}

fn restore(durable: Durable) -> Result<Raft, RestoreError> {
    let group = Durable::bootstrap(Membership::of([id(1), id(2), id(3)]).unwrap());
    let durable = Durable { snapshot: group.snapshot, ..durable };
    Raft::restore(Config::new(identity(1), Options::default()).unwrap(), durable, Instant::ZERO)
}

fn heartbeat(round: u64, commit: u64) -> Body {
    let commit = Index::new(commit);
    Body::Heartbeat { round, commit }
}

fn dropped(lab: &Lab, member: u64, reason: DropReason) -> u64 {
    lab.raft(member).drops().count(reason)
}

// ---- requests ----

#[test]
fn every_request_gets_exactly_one_outcome() {
    let mut lab = led_with(|options| {
        options.max_payload_bytes = 4;
        options.max_uncommitted_bytes = 100;
    });
    let batch = lab.propose_batch(1, &["a", "large", "b", "c", "d"]);
    lab.deliver();
    let refused = lab.propose(2, "e");
    lab.isolate(1);
    let lost = lab.propose(1, "f");
    lab.elect(2);
    lab.heal();
    lab.beat(2);
    assert!(lab.requests().all(|request| lab.outcomes(request).len() == 1));
    let outcomes: Vec<_> = batch.iter().map(|request| lab.outcomes(*request)[0]).collect();
    let committed = |index| Outcome::Committed(LogId::new(1, index));
    let (large, busy) = (Refusal::TooLarge { max: 4 }, Refusal::Busy);
    assert_eq!(
        outcomes,
        [committed(2), Outcome::Refused(large), committed(3), committed(4), Outcome::Refused(busy)]
    );
    let leader = Some(id(1));
    assert_eq!(lab.outcomes(refused), [Outcome::Refused(Refusal::NotLeader { leader })]);
    assert_eq!(lab.outcomes(lost), [Outcome::Unknown]);
}

#[test]
fn who_knows_no_leader_says_so() {
    let mut lab = Lab::of(3);
    let request = lab.propose(2, "x");
    assert_eq!(lab.outcomes(request), [Outcome::Refused(Refusal::NotLeader { leader: None })]);
}

/// The entry that was given up as unknown may commit, or be replaced: "failed" would have been a lie in one
/// case, and "committed" in the other.
#[test]
fn x3_a_proposal_of_a_lost_leadership_is_unknown_whether_it_commits_or_not() {
    for survives in [true, false] {
        let mut lab = led();
        lab.cut(1, 3);
        if !survives {
            lab.cut(1, 2);
        }
        let request = lab.propose(1, "x");
        lab.deliver_only("1→2");
        lab.lose("");
        lab.isolate(1);
        lab.elect(2);
        lab.heal();
        lab.beat(2);
        assert_eq!(lab.outcomes(request), [Outcome::Unknown]);
        assert_eq!(lab.applied(1).len(), usize::from(survives));
    }
}

/// What waits to be committed is counted down by a commit, and anew by a new leader.
#[test]
fn r24_a_leader_that_was_busy_takes_proposals_again() {
    let mut lab = led_with(|options| options.max_uncommitted_bytes = 1);
    let proposals = [lab.propose(1, "a"), lab.propose(1, "b")];
    lab.deliver();
    let third = lab.propose(1, "c");
    lab.lose("");
    assert_eq!(lab.outcomes(proposals[1]), [Outcome::Refused(Refusal::Busy)]);
    lab.isolate(1);
    lab.elect(2);
    lab.heal();
    lab.beat(2);
    lab.elect(1);
    let fourth = lab.propose(1, "d");
    lab.deliver();
    assert_eq!(lab.outcomes(third), [Outcome::Unknown]);
    assert!(matches!(lab.outcomes(fourth), [Outcome::Committed(_)]));
}

/// Where the message that ends a leadership also says what became of a proposal, its client is told. No peer
/// that keeps to the protocol sends such a message as its first, for a new leader knows less; but nothing
/// forbids it.
#[test]
fn a_proposal_whose_fate_is_known_when_leadership_is_lost_is_not_unknown() {
    for (terms, fate) in
        [(&[1, 2], Outcome::Committed(LogId::new(1, 2))), (&[2, 2], Outcome::Refused(Refusal::Overwritten))]
    {
        let mut lab = led();
        let known = lab.propose(1, "x");
        let after = lab.propose(1, "y");
        lab.lose("");
        let x = lab.disk(1).entries[1].clone();
        let mut body = append(LogId::new(1, 1), terms, 2);
        if let (1, Body::Append { slice, .. }) = (terms[0], &mut body) {
            let entries = std::iter::once(x).chain(slice.entries()[1..].iter().cloned());
            *slice = LogSlice::new(LogId::new(1, 1), entries.collect()).expect("entries without a gap");
        }
        lab.arrive(message(2, 1, 2, body));
        assert_eq!(lab.outcomes(known), [fate]);
        assert_eq!(
            lab.outcomes(after),
            [Outcome::Unknown],
            "nothing is committed in the place of the second"
        );
    }
}

#[test]
fn a_member_that_is_stopped_answers_what_waits_and_refuses_what_comes() {
    let mut lab = led();
    let waits = lab.propose(1, "x");
    lab.shutdown(1);
    assert_eq!(lab.outcomes(waits), [Outcome::Unknown]);
    let later = [lab.propose(1, "y"), lab.transfer(1, None), lab.reconfigure(1, &[], None)];
    let stopped = [Outcome::Refused(Refusal::Stopped)];
    assert!(later.iter().all(|request| lab.outcomes(*request) == stopped));
    assert_eq!((lab.halted(1), lab.status(1).role), (None, RoleKind::Halted), "which is no violation");
    assert_eq!(lab.disk(1).entries.len(), 2, "what was to be written is");
}

// ---- promises and the disk ----

/// The schedule that this prevents: member 3 stands for term 2 on the strength of 2:1, which is not yet on
/// its disk; member 2 votes for it. Member 3 crashes and comes back with neither 2:1 nor term 2, stands for
/// term 2 again, and the first grant arrives late: member 3 leads without 2:1, which members 1 and 2 have
/// committed.
#[test]
fn e2_a_candidate_asks_for_no_vote_before_its_term_and_its_log_are_durable() {
    let mut lab = led_with(|options| options.pre_vote = false);
    lab.slow_disk(3);
    lab.propose(1, "x");
    lab.deliver();
    lab.crash(1);
    lab.campaign(3);
    assert_eq!((lab.status(3).last, lab.count("RequestVote")), (LogId::new(1, 2), 0));
    lab.persist(3, 1);
    assert_eq!(lab.count("RequestVote"), 0, "the log is durable, and the vote not");
    lab.persist(3, 1);
    assert_eq!(lab.count("RequestVote last=2:1"), 2);
    lab.deliver();
    assert_eq!(lab.leaders(), [3]);
}

/// ... and its own vote does not count either before that.
#[test]
fn e2_a_candidate_does_not_count_its_own_vote_before_it_is_durable() {
    let mut lab = Lab::of(3);
    lab.slow_disk(1);
    lab.campaign(1);
    lab.deliver();
    lab.arrive(message(2, 1, 1, GRANTED));
    assert_eq!(lab.status(1).role, RoleKind::Candidate, "one vote of three");
    lab.persist(1, 1);
    assert_eq!(lab.status(1).role, RoleKind::Leader);
}

/// A vote that waits for the disk is given in the term in which it was promised, even if it leaves in a later
/// one.
#[test]
fn a_withheld_vote_keeps_its_term() {
    let mut lab = Lab::of(3);
    lab.slow_disk(1);
    lab.pass(MIN_TIMEOUT);
    let last = LogId::ZERO;
    lab.arrive(message(2, 1, 5, Body::RequestVote { last, transfer: false }));
    lab.arrive(message(3, 1, 6, Body::Outdated));
    assert_eq!((lab.in_flight().len(), lab.status(1).term), (0, Term::new(6)));
    lab.persist(1, 2);
    assert_eq!(lab.in_flight().iter().collect::<Vec<_>>(), [&message(1, 2, 5, GRANTED)]);
}

/// Every write carries the ballot, so that no order of writes can leave an entry without its term.
#[test]
fn r12_no_entry_is_durable_before_the_term_that_wrote_it() {
    let mut lab = Lab::of(3);
    let actions = lab.arrive(message(2, 1, 3, append(LogId::ZERO, &[3], 0)));
    let written = actions.iter().filter_map(|action| match action {
        Action::Persist(write) => Some((write.ballot.term(), write.append.len())),
        _ => None,
    });
    assert_eq!(written.collect::<Vec<_>>(), [(Term::new(3), 1)]);
}

/// Reports that come late, or twice, take nothing back and add nothing.
#[test]
fn r14_a_report_of_an_earlier_write_changes_nothing() {
    let mut lab = led();
    lab.slow_disk(1);
    let requests = [lab.propose(1, "a"), lab.propose(1, "b")];
    lab.crash(3);
    lab.deliver();
    lab.persist(1, 2);
    let before = lab.raft(1).clone();
    for seq in [0, 1, 2, 3] {
        assert_eq!(lab.step(1, Event::Persisted(WriteSeq::new(seq))), []);
    }
    assert_eq!(lab.raft(1), &before);
    assert!(requests.iter().all(|request| lab.outcomes(*request).len() == 1));
}

/// An answer to a heartbeat says what is on the follower's disk, *in the leader's term*. Before that term is
/// there too, a crash takes the follower back to an earlier one, where an earlier leader may still change its
/// log: and a leader that believes a match which is none would refuse to go back below it, and never repair
/// that follower.
#[test]
fn a_heartbeat_answer_promises_nothing_before_its_term_is_durable() {
    let mut lab = Lab::of(3);
    lab.set_disk(3, disk_of(&[1, 1]));
    lab.slow_disk(3);
    let log = LogId::new(1, 2);
    lab.arrive(message(2, 3, 3, append(log, &[3], 0)));
    lab.arrive(message(2, 3, 3, heartbeat(1, 0)));
    assert_eq!(lab.count("3→2 t3 HeartbeatAck received=3 matched=0"), 1, "{:?}", lab.in_flight());
    lab.persist(3, 1);
    lab.arrive(message(2, 3, 3, heartbeat(2, 0)));
    assert_eq!(lab.count("3→2 t3 HeartbeatAck received=3 matched=3"), 1);
}

/// The same, played to its end: member 3 answers the heartbeat of the leader of term 3, crashes, forgets term
/// 3, and takes a late message of the leader of term 2 that puts another entry in the place of the one it had
/// confirmed.
#[test]
fn a_follower_that_forgot_a_term_is_repaired_by_its_leader() {
    let mut lab = Lab::new(5, 0, &Options { pre_vote: false, ..Options::default() });
    for (member, log) in [(1, &[1][..]), (2, &[1, 1]), (3, &[1, 1]), (4, &[1]), (5, &[1])] {
        lab.set_disk(member, disk_of(log));
    }
    lab.campaign(1);
    lab.deliver_only("1→4 RequestVote");
    lab.deliver_only("1→5 RequestVote");
    lab.deliver_only("Voted");
    let late = message(1, 3, 2, append(LogId::new(1, 1), &[2], 0));
    assert_eq!(lab.count("1→3 t2 Append prev=1:1 2:2"), 1);
    lab.lose("");
    lab.crash(1);
    lab.slow_disk(3);
    lab.arrive(message(4, 2, 2, Body::Outdated));
    lab.campaign(2);
    lab.lose("2→3");
    lab.deliver_only("RequestVote");
    lab.deliver_only("Voted");
    lab.deliver_only("2→3 Append");
    lab.heartbeat(2);
    lab.deliver_only("2→3 Heartbeat");
    lab.deliver_only("3→2 HeartbeatAck");
    lab.crash(3);
    lab.restart(3);
    lab.fast_disk(3);
    lab.arrive(late);
    assert_eq!(lab.terms(3), [1, 2]);
    lab.deliver();
    for _ in 0..3 {
        lab.beat(2);
    }
    assert_eq!(lab.terms(3), [1, 1, 3], "{}", lab.take_transcript());
}

/// A follower commits only what it knows to agree with its leader's log, and a restart makes it forget. Its
/// leader, which still knows, has nothing to send, and must remind it.
#[test]
fn a_follower_that_restarts_in_an_idle_group_hears_what_is_committed() {
    let mut lab = led();
    lab.propose(1, "x");
    lab.deliver();
    lab.beat(1);
    lab.crash(3);
    lab.restart(3);
    lab.beat(1);
    lab.beat(1);
    assert_eq!(lab.status(3).committed, lab.status(1).committed);
    assert_eq!(lab.applied(3), lab.applied(1));
}

/// The same without a restart: it stood for election between its acknowledgement and the news of the commit.
#[test]
fn a_follower_that_asked_for_votes_commits_what_it_had_acknowledged() {
    let mut lab = led();
    lab.beat(1);
    lab.propose(1, "x");
    lab.deliver_only("1→ Append");
    lab.deliver_only("→1 Appended");
    lab.lose("1→3 Commit");
    lab.deliver();
    lab.unreachable(3, 1);
    lab.campaign(3);
    lab.deliver();
    lab.beat(1);
    lab.beat(1);
    assert_eq!(lab.status(3).committed, lab.status(1).committed);
}

/// PITFALLS E11: a leader that does not check its quorum may have lost it, and loyalty to it must not outlast
/// that.
#[test]
fn e11_pre_vote_without_check_quorum_does_not_keep_a_leader_that_reaches_no_member() {
    let mut lab = led_with(|options| options.check_quorum = false);
    lab.cut(2, 1);
    lab.cut(1, 3);
    lab.cut(3, 1);
    for _ in 0..100 {
        lab.wait();
        lab.deliver();
    }
    assert!(lab.leaders().iter().any(|&leader| leader != 1), "{:?}", lab.leaders());
}

/// Requests for votes wait for the disk as well, but are no answers: the limit must not keep a member from
/// ever winning.
#[test]
fn the_limit_of_waiting_answers_does_not_silence_a_candidate() {
    let options = Options { max_waiting_answers: 1, ..Options::default() };
    let mut lab = Lab::new(5, 0, &options);
    lab.campaign(1);
    lab.deliver();
    assert_eq!(lab.leaders(), [1]);
}

/// Answers beyond the limit are dropped and counted, and the leader's heartbeats make up for them.
#[test]
fn answers_beyond_the_limit_are_dropped_and_made_up_for() {
    let mut lab = led_with(|options| options.max_waiting_answers = 1);
    lab.slow_disk(3);
    lab.propose(1, "a");
    lab.propose(1, "b");
    lab.deliver();
    assert_eq!(dropped(&lab, 3, DropReason::TooManyWaiting), 1);
    lab.crash(2);
    let request = lab.propose(1, "c");
    lab.fast_disk(3);
    lab.deliver();
    lab.beat(1);
    assert!(matches!(lab.outcomes(request), [Outcome::Committed(_)]));
}

// ---- restarts ----

#[test]
fn a_disk_that_cannot_be_a_members_own_is_refused_and_each_error_says_what_is_wrong() {
    let gap = {
        let mut disk = disk_of(&[1, 1, 1]);
        disk.entries.remove(1);
        disk
    };
    let (after, found) = (LogId::new(1, 1), LogId::new(1, 3));
    let early = Durable { ballot: Ballot::new(Term::new(1), None), ..disk_of(&[1, 2]) };
    let (last, term) = (LogId::new(2, 2), Term::new(1));
    let committed = Index::new(3);
    let short = Durable { committed, ..disk_of(&[1, 2]) };
    let applied = Index::new(3);
    let ahead = Durable { applied, ..disk_of(&[1, 2]) };
    let cases = [
        (gap, RestoreError::Discontinuity(Discontinuity { after, found })),
        (early, RestoreError::EntryAfterBallot { last, term }),
        (short, RestoreError::CommitBeyondLog { committed, last }),
    ];
    for (disk, expected) in cases {
        assert_eq!(restore(disk).unwrap_err(), expected);
        assert!(expected.to_string().contains("do not start it"), "{expected}");
    }
    assert!(matches!(restore(ahead), Err(RestoreError::ApplyBeyondLog { .. })));
}

/// The commit index on the disk is the one of the last write and may lag: "may be lost without harm". A state
/// machine that keeps its own state on disk is then ahead of it, which proves only that more was committed.
#[test]
fn a_member_whose_state_machine_is_ahead_of_the_written_commit_index_restarts() {
    let mut lab = led();
    lab.propose(1, "x");
    lab.deliver();
    let (applied, committed) = (lab.status(1).applied, lab.disk(1).committed);
    assert!(applied > committed, "nothing was written since the commit");
    let disk = Durable { applied, ..lab.disk(1).clone() };
    let raft = restore(disk).expect("it lost nothing");
    assert_eq!((raft.status().applied, raft.status().committed), (applied, applied));
}

/// It may have heard from a leader just before it stopped, and the leader may count on that.
#[test]
fn l9_a_restarted_member_gives_no_vote_for_the_shortest_election_timeout() {
    let mut lab = led();
    lab.crash(2);
    lab.restart(2);
    let last = LogId::new(1, 1);
    lab.arrive(message(3, 2, 9, Body::RequestVote { last, transfer: false }));
    assert_eq!((lab.status(2).term, dropped(&lab, 2, DropReason::LeaderAlive)), (Term::new(1), 1));
    lab.pass(MIN_TIMEOUT);
    lab.arrive(message(3, 2, 9, Body::RequestVote { last, transfer: false }));
    assert_eq!(lab.status(2).vote, Some(id(3)));
}

// ---- roles and members ----

#[test]
fn m12_a_member_without_a_vote_never_campaigns() {
    let mut lab = Lab::new(3, 1, &Options::default());
    for _ in 0..10 {
        lab.fire(4);
    }
    assert_eq!((lab.status(4).role, lab.in_flight().len()), (RoleKind::Follower, 0));
}

/// Its own view of the members may be stale, and the candidate may need its vote.
#[test]
fn m10_a_learner_that_is_asked_votes() {
    let mut lab = Lab::new(3, 1, &Options::default());
    lab.pass(MIN_TIMEOUT);
    let last = LogId::ZERO;
    lab.arrive(message(1, 4, 1, Body::RequestVote { last, transfer: false }));
    assert_eq!(lab.in_flight().iter().collect::<Vec<_>>(), [&message(4, 1, 1, GRANTED)]);
}

#[test]
fn m18_votes_and_acknowledgements_of_others_than_voters_do_not_count() {
    let mut lab = Lab::new(3, 1, &Options { pre_vote: false, ..Options::default() });
    lab.campaign(1);
    lab.arrive(message(4, 1, 1, GRANTED));
    lab.arrive(message(9, 1, 1, GRANTED));
    assert_eq!((lab.status(1).role, dropped(&lab, 1, DropReason::Stranger)), (RoleKind::Candidate, 2));
    lab.arrive(message(2, 1, 1, GRANTED));
    let matched = Index::new(1);
    lab.arrive(message(4, 1, 1, Body::Appended { matched }));
    lab.arrive(message(9, 1, 1, Body::Appended { matched }));
    assert_eq!((lab.status(1).committed, dropped(&lab, 1, DropReason::Stranger)), (Index::ZERO, 3));
    lab.deliver_only("1→2 Append");
    lab.deliver_only("2→1 Appended");
    assert_eq!(lab.status(1).committed, matched);
}

/// An answer is worth something only in the term in which it was given.
#[test]
fn r8_an_acknowledgement_of_an_earlier_term_counts_for_nothing() {
    let mut lab = led();
    lab.elect(2);
    lab.elect(1);
    lab.isolate(1);
    lab.propose(1, "x");
    let matched = lab.status(1).last.index;
    let before = dropped(&lab, 1, DropReason::OlderTerm);
    for term in [1, 2] {
        lab.arrive(message(3, 1, term, Body::Appended { matched }));
    }
    assert!(lab.status(1).committed < matched);
    assert_eq!(dropped(&lab, 1, DropReason::OlderTerm), before + 2);
}

/// A new leader asks each follower with one message whether their logs agree, and waits. The answer to a
/// heartbeat tells it that this message, or its answer, must have been lost.
#[test]
fn r18_a_lost_probe_is_sent_again_after_the_next_heartbeat() {
    for lost in ["1→ Append", "→1 Appended"] {
        let mut lab = Lab::of(3);
        lab.campaign(1);
        for filter in ["PreVote", "PreVoted", "RequestVote", "Voted", "Append"] {
            if filter != "Append" || lost == "→1 Appended" {
                lab.deliver_only(filter);
            }
        }
        assert_eq!(lab.lose(lost), 2);
        lab.beat(1);
        assert!((1..=3).all(|member| lab.status(member).committed == Index::new(1)), "{lost} was lost");
    }
}

/// Who has not the whole of the leader's log would lose the election that it is bidden to, and depose the
/// leader by that.
#[test]
fn e14_a_member_that_lacks_an_entry_does_not_obey_a_bidding_to_stand() {
    let mut lab = led();
    lab.arrive(message(1, 3, 1, Body::TimeoutNow { last: LogId::new(1, 2) }));
    assert_eq!((lab.status(3).role, lab.status(3).term), (RoleKind::Follower, Term::new(1)));
    lab.arrive(message(1, 3, 1, Body::TimeoutNow { last: LogId::new(1, 1) }));
    assert_eq!((lab.status(3).role, lab.status(3).term), (RoleKind::Candidate, Term::new(2)));
}

/// Who cannot write its ballot could not win, and the leader would be gone for nothing.
#[test]
fn e14_a_member_whose_disk_stalls_does_not_obey_a_bidding_to_stand() {
    for stalls in [false, true] {
        let mut lab = led();
        lab.slow_disk(3);
        lab.propose(1, "x");
        lab.deliver();
        let beats = if stalls { 100 } else { 1 };
        (0..beats).for_each(|_| lab.beat(1));
        assert_eq!(lab.status(3).role, RoleKind::Follower);
        lab.arrive(message(1, 3, 1, Body::TimeoutNow { last: LogId::new(1, 1) }));
        let role = if stalls { RoleKind::Follower } else { RoleKind::Candidate };
        assert_eq!(lab.status(3).role, role, "its disk stalls: {stalls}");
    }
}

/// Without its blank entry an idle leader could not commit what earlier leaders left.
#[test]
fn r31_a_new_leader_commits_what_earlier_leaders_left_without_a_proposal() {
    let mut lab = Lab::of(3);
    (1..=3).for_each(|member| lab.set_disk(member, disk_of(&[1, 1])));
    lab.elect(2);
    assert!((1..=3).all(|member| lab.status(member).committed == Index::new(3)));
}

/// Member 3 was alone and raised its term (without pre-vote). It is not shut out for ever: the leader's next
/// message brings the term back to the leader, and there is an election.
#[test]
fn e23_a_member_with_a_later_term_finds_its_way_back() {
    let mut lab = led_with(|options| options.pre_vote = false);
    lab.isolate(3);
    (0..5).for_each(|_| lab.campaign(3));
    lab.propose(1, "x");
    lab.deliver();
    lab.heal();
    lab.beat(1);
    assert_eq!((lab.leaders(), lab.status(1).term), (vec![], Term::new(6)));
    lab.elect(1);
    assert_eq!((lab.status(3).leader, lab.applied(3)), (Some(id(1)), vec!["x".into()]));
}

/// A commit index beyond the log, or beyond what is known to agree with the leader's log, is not taken.
#[test]
fn p3_a_follower_commits_no_further_than_its_log_agrees_with_the_leaders() {
    let mut lab = Lab::of(3);
    lab.set_disk(3, disk_of(&[1, 1, 1]));
    lab.arrive(message(1, 3, 2, heartbeat(1, u64::MAX)));
    assert_eq!(lab.status(3).committed, Index::ZERO, "nothing of its log is confirmed");
    lab.arrive(message(1, 3, 2, append(LogId::new(1, 1), &[1], 99)));
    assert_eq!(lab.status(3).committed, Index::new(2), "the third entry may yet be replaced");
    lab.arrive(message(1, 3, 2, Body::Commit { commit: Index::MAX }));
    assert_eq!(lab.status(3).committed, Index::new(2));
}

// ---- time ----

#[test]
fn d4_a_clock_that_goes_back_counts_as_one_that_stands_still() {
    let mut raft = restore(Durable::default()).unwrap();
    let later = Instant::from_millis(100);
    raft.step(later, Event::Wake);
    let (before, deadline) = (raft.clone(), raft.deadline());
    assert_eq!(raft.step(Instant::ZERO, Event::Wake), []);
    assert_eq!((&raft, raft.deadline()), (&before, deadline));
    raft.step(Instant::ZERO, Event::Receive(message(2, 1, 1, heartbeat(1, 0))));
    assert!(raft.deadline() >= later + MIN_TIMEOUT, "counted from the latest time that was seen");
}

/// A host that slept for a minute wakes its member once, not once for each heartbeat or timeout that it
/// missed.
#[test]
fn d1_a_pause_is_one_late_wake_and_not_many() {
    let minute = Instant::from_millis(60_000);
    let mut raft = restore(Durable::default()).unwrap();
    let asked = raft.step(minute, Event::Wake);
    assert_eq!(asked.len(), 2, "one campaign: {asked:?}");
    assert!(raft.deadline() >= minute + MIN_TIMEOUT);
}

/// A leader that was paused, and whose followers' answers waited meanwhile, hears them first. One whose
/// followers said nothing steps down at once, since they may have elected another.
#[test]
fn d1_a_leader_that_was_paused_steps_down_unless_it_hears_a_quorum() {
    for hears in [true, false] {
        let mut lab = led();
        let late = Instant::from_nanos(lab.raft(1).deadline().as_nanos() + 10_000_000_000);
        let mut raft = lab.raft(1).clone();
        let matched = Index::new(1);
        let answer = message(2, 1, 1, Body::Appended { matched });
        raft.step(late, if hears { Event::Receive(answer) } else { Event::Wake });
        assert_eq!(raft.status().role == RoleKind::Leader, hears);
        lab.heartbeat(1);
    }
}

#[test]
fn a_time_that_never_comes_is_a_time_like_any_other() {
    let mut raft = restore(Durable::default()).unwrap();
    raft.step(Instant::NEVER, Event::Wake);
    raft.step(Instant::NEVER, Event::Receive(message(2, 1, 1, heartbeat(1, 0))));
    assert_eq!(raft.deadline(), Instant::NEVER);
}

// ---- garbage ----

/// Absurd numbers are garbage: no peer is so old. Nothing of such a message is looked at, its term least of
/// all.
#[test]
fn absurd_terms_and_indexes_are_dropped_and_counted() {
    let (absurd, max) = (Index::new(u64::MAX), Term::MAX.get());
    let last = LogId::new(7, 1);
    let prev = LogId::new(1, u64::MAX);
    let hint = LogId::new(1, u64::MAX);
    let bodies = [
        (max + 1, Body::Outdated),
        (u64::MAX, heartbeat(1, 0)),
        (6, Body::RequestVote { last, transfer: false }),
        (6, Body::PreVote { last }),
        (6, append(LogId::new(7, 1), &[], 0)),
        (6, append(LogId::ZERO, &[7], 0)),
        (6, append(prev, &[], 0)),
        (6, Body::Appended { matched: absurd }),
        (6, Body::Rejected { prev: Index::new(9), hint }),
        (6, Body::HeartbeatAck { round: 1, received: absurd, matched: Index::ZERO }),
        (6, Body::HeartbeatAck { round: 1, received: Index::new(1), matched: Index::new(2) }),
    ];
    for (term, body) in bodies {
        let mut lab = led();
        lab.arrive(message(2, 1, term, body.clone()));
        assert_eq!(dropped(&lab, 1, DropReason::Malformed), 1, "{body}");
        assert_eq!((lab.status(1).term, lab.leaders()), (Term::new(1), vec![1]));
    }
}

/// A refusal that names the last of all indexes reaches a leader while it waits for the answer to a probe.
#[test]
fn an_absurd_refusal_is_dropped() {
    let mut lab = Lab::of(3);
    lab.campaign(1);
    lab.deliver_only("PreVote");
    lab.deliver_only("PreVoted");
    lab.deliver_only("1→2 RequestVote");
    lab.deliver_only("2→1 Voted");
    let before = lab.raft(1).leader().unwrap().peer(id(2));
    let (prev, hint) = (Index::new(u64::MAX), LogId::ZERO);
    lab.arrive(message(2, 1, 1, Body::Rejected { prev, hint }));
    assert_eq!(lab.raft(1).leader().unwrap().peer(id(2)), before);
}

#[test]
fn messages_for_others_and_from_oneself_are_dropped_and_counted() {
    let mut raft = restore(Durable::default()).unwrap();
    for (from, to) in [(2, 3), (1, 1), (1, 2)] {
        raft.step(Instant::ZERO, Event::Receive(message(from, to, 5, Body::Outdated)));
    }
    assert_eq!((raft.drops().count(DropReason::Misrouted), raft.status().term), (3, Term::ZERO));
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_dropped_and_counted() {
    let mut lab = led();
    let matched = Index::new(2);
    lab.arrive(message(2, 1, 1, Body::Appended { matched }));
    lab.arrive(message(2, 1, 1, Body::HeartbeatAck { round: 1, received: matched, matched }));
    assert_eq!((dropped(&lab, 1, DropReason::NeverSent), lab.status(1).committed), (2, Index::new(1)));
}

// ---- halting ----

/// A violation, what a member was doing, and the event that proves it.
fn violations() -> Vec<(Lab, Event, Violation)> {
    let leads = led();
    let mut follows = led();
    follows.elect(2);
    let mut committed = led();
    committed.elect(2);
    let (seq, index) = (WriteSeq::new(99), Index::new(99));
    let two = |known, other, term| Violation::TwoLeaders {
        term: Term::new(term),
        known: id(known),
        other: id(other),
    };
    let (ours, theirs) = (LogId::new(1, 1), LogId::new(3, 1));
    vec![
        (leads, Event::Receive(message(2, 1, 1, heartbeat(1, 0))), two(1, 2, 1)),
        (follows, Event::Receive(message(3, 1, 2, append(LogId::ZERO, &[], 0))), two(2, 3, 2)),
        (
            committed,
            Event::Receive(message(3, 1, 3, append(LogId::ZERO, &[3], 0))),
            Violation::AgreedEntryContradicted { ours, theirs },
        ),
        (led(), Event::Persisted(seq), Violation::UnknownWrite(seq)),
        (led(), Event::Applied(index), Violation::UnknownApply(index)),
    ]
}

/// PITFALLS E20: two leaders of a term are not tolerated.
#[test]
fn e20_proof_that_safety_is_broken_halts_a_member_once_and_for_all() {
    for (mut lab, event, violation) in violations() {
        let actions = lab.step(1, event.clone());
        let halts = actions.iter().filter(|action| **action == Action::Halt(violation)).count();
        assert_eq!((halts, lab.halted(1)), (1, Some(violation)), "{actions:?}");
        assert!(!actions.iter().any(|action| matches!(action, Action::Persist(_) | Action::Apply { .. })));
        assert_eq!((lab.status(1).role, lab.raft(1).deadline()), (RoleKind::Halted, Instant::NEVER));
        let later = [event, Event::Wake, Event::Persisted(WriteSeq::new(1)), Event::PeerUnreachable(id(2))];
        assert!(later.into_iter().all(|event| lab.step(1, event).is_empty()), "silent after {violation}");
    }
}

#[test]
fn a_halted_member_refuses_every_request_and_gives_up_its_own() {
    let mut lab = led();
    let open = lab.propose(1, "open");
    lab.arrive(message(2, 1, 1, heartbeat(1, 0)));
    let later = lab.propose(1, "later");
    let batch = lab.propose_batch(1, &["a", "b"]);
    assert_eq!(lab.outcomes(open), [Outcome::Unknown]);
    let halted = [Outcome::Refused(Refusal::Halted)];
    assert!([later].iter().chain(&batch).all(|request| lab.outcomes(*request) == halted));
    lab.arrive(message(2, 1, 9, Body::Outdated));
    assert_eq!((dropped(&lab, 1, DropReason::Halted), lab.status(1).term), (1, Term::new(1)));
}

/// A leader that sends one thing and then another for the same place has changed its own log: safety is
/// broken, and the follower, which has acknowledged the first, must say so rather than follow, or fall over.
#[test]
fn a_leader_that_rewrites_its_own_log_halts_its_follower() {
    let mut lab = Lab::of(3);
    lab.arrive(message(1, 3, 4, append(LogId::ZERO, &[1, 2, 2], 0)));
    lab.arrive(message(1, 3, 4, append(LogId::ZERO, &[1, 3], 0)));
    assert!(lab.halted(3).is_some());
}

/// A request id belongs to the host: the kernel does not mind if it comes twice, and answers both.
#[test]
fn a_request_id_may_be_used_again() {
    let mut raft = restore(Durable::default()).unwrap();
    let proposal =
        |text: &str| kontiki_core::event::Proposal { request: RequestId(u64::MAX), payload: text.into() };
    let actions = raft.step(Instant::ZERO, Event::ProposeBatch(vec![proposal("a"), proposal("b")]));
    assert_eq!(actions.len(), 2);
}

/// What is large takes its time on a disk, too: a leader that writes it does not stall, one whose disk hangs
/// does.
#[test]
fn a_leader_leads_on_while_its_disk_writes_what_is_large_and_no_longer() {
    let mut lab = led();
    lab.slow_disk(1);
    lab.quietly(|lab| {
        lab.propose(1, &"x".repeat(16_000_000));
        lab.deliver();
    });
    let passes = |lab: &mut Lab, beats: u32| {
        for _ in 0..beats {
            lab.quietly(|lab| {
                lab.run(Nanos::new(50_000_000));
                lab.deliver();
            });
        }
    };
    // 16 MB at 8 MB a second, after an election timeout.
    passes(&mut lab, 40);
    assert_eq!(lab.leaders(), [1]);
    passes(&mut lab, 10);
    assert!(!lab.leaders().contains(&1));
}
