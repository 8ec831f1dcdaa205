//! The Raft paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", extended
//! version), sections 5.1 to 5.5, sentence by sentence. A test's name is the sentence; after every step the
//! lab checks the properties of figure 3 besides.

use kontiki_core::action::{Action, Outcome, Refusal};
use kontiki_core::config::Options;
use kontiki_core::event::Event;
use kontiki_core::message::{Body, Message};
use kontiki_core::status::RoleKind;
use kontiki_core::time::Nanos;
use kontiki_core::types::{Index, LogId, NodeId, Term};
use kontiki_tests::lab::{Lab, append, disk_of, id, message};
use std::collections::BTreeSet;

/// A cluster without the pre-votes of the thesis, which the paper does not know.
fn plain(voters: u64) -> Lab {
    let options = Options { pre_vote: false, ..Options::default() };
    Lab::new(voters, 0, &options)
}

/// Member 1 leads in term 1, and all members have its blank entry.
fn led(voters: u64) -> Lab {
    let mut lab = plain(voters);
    lab.elect(1);
    lab
}

/// A cluster whose logs have entries of these terms.
fn with_logs(logs: &[&[u64]]) -> Lab {
    let mut lab = plain(logs.len() as u64);
    for (log, member) in logs.iter().zip(1..) {
        lab.set_disk(member, disk_of(log));
    }
    lab
}

/// What a member sends in answer to a message made by hand.
fn answer(lab: &mut Lab, message: Message) -> Vec<Body> {
    let to = message.to.id.get();
    let already = lab.count(&format!("{to}→"));
    lab.arrive(message);
    let sent = lab.in_flight().iter().filter(|message| message.from.id == id(to));
    sent.skip(already).map(|message| message.body.clone()).collect()
}

fn request_vote(term: u64, index: u64) -> Body {
    let last = LogId::new(term, index);
    Body::RequestVote { last, transfer: false }
}

/// The shortest election timeout, for which a member refuses its vote after it heard from a leader or
/// started.
const MIN_TIMEOUT: Nanos = Nanos::new(150_000_000);

const GRANTED: Body = Body::Voted { granted: true };
const REFUSED: Body = Body::Voted { granted: false };

// ---- §5.1 Raft basics ----

/// §5.1: "five is a typical number, which allows the system to tolerate two failures."
#[test]
fn five_servers_tolerate_two_failures() {
    let mut lab = led(5);
    lab.crash(4);
    lab.crash(5);
    let request = lab.propose(1, "two are down");
    lab.deliver();
    assert_eq!(lab.outcomes(request), [Outcome::Committed(LogId::new(1, 2))]);
    lab.crash(3);
    let request = lab.propose(1, "three are down");
    lab.deliver();
    assert_eq!(lab.outcomes(request), []);
}

/// §5.1: "In normal operation there is exactly one leader and all of the other servers are followers."
#[test]
fn in_normal_operation_there_is_one_leader_and_all_others_are_followers() {
    let lab = led(5);
    assert_eq!(lab.leaders(), [1]);
    for member in 2..=5 {
        let status = lab.status(member);
        assert_eq!((status.role, status.leader), (RoleKind::Follower, Some(id(1))));
    }
}

/// §5.1: "Followers are passive: they issue no requests on their own but simply respond to requests."
#[test]
fn followers_issue_no_requests_on_their_own() {
    let mut lab = led(3);
    assert_eq!(lab.step(2, Event::Wake), []);
    assert_eq!(answer(&mut lab, message(3, 2, 1, GRANTED)), []);
}

/// §5.1: "if a client contacts a follower, the follower redirects it to the leader."
#[test]
fn a_follower_redirects_clients_to_the_leader() {
    let mut lab = led(3);
    let request = lab.propose(2, "x");
    let leader = Some(id(1));
    assert_eq!(lab.outcomes(request), [Outcome::Refused(Refusal::NotLeader { leader })]);
}

/// §5.1: "Terms are numbered with consecutive integers. Each term begins with an election."
#[test]
fn terms_are_consecutive_and_each_begins_with_an_election() {
    let mut lab = plain(3);
    for (member, term) in [(1, 1), (2, 2), (3, 3), (1, 4)] {
        lab.elect(member);
        assert_eq!(lab.status(member).term, Term::new(term));
    }
    assert_eq!(lab.terms(1), [1, 2, 3, 4]);
}

/// §5.1: "In some situations an election will result in a split vote. In this case the term will end with no
/// leader; a new term (with a new election) will begin shortly."
#[test]
fn a_split_vote_ends_the_term_without_a_leader_and_a_new_term_begins() {
    let mut lab = plain(4);
    lab.campaign(1);
    lab.campaign(2);
    lab.deliver_only("1→3");
    lab.deliver_only("2→4");
    lab.deliver();
    assert!(lab.leaders().is_empty());
    lab.elect(1);
    assert_eq!(lab.status(1).term, Term::new(2));
}

/// §5.1: "Raft ensures that there is at most one leader in a given term."
#[test]
fn there_is_at_most_one_leader_in_a_term() {
    let mut lab = plain(3);
    lab.campaign(1);
    lab.campaign(2);
    assert_eq!(lab.status(1).term, lab.status(2).term);
    lab.deliver();
    assert_eq!(lab.leaders().len(), 1);
}

/// §5.1: "Each server stores a current term number, which increases monotonically over time."
#[test]
fn the_current_term_never_falls() {
    let mut lab = led(3);
    lab.arrive(message(2, 3, 7, Body::Outdated));
    for term in [0, 1, 6] {
        lab.arrive(message(1, 3, term, append(LogId::ZERO, &[], 0)));
        assert_eq!(lab.status(3).term, Term::new(7));
    }
}

/// §5.1: "Current terms are exchanged whenever servers communicate."
#[test]
fn every_message_carries_the_current_term_of_its_sender() {
    let mut lab = led(3);
    lab.elect(2);
    lab.propose(2, "x");
    lab.heartbeat(2);
    lab.deliver_only("2→1");
    assert!(lab.in_flight().iter().all(|message| message.term == Term::new(2)));
    assert_eq!(lab.count("1→2"), 2);
}

/// §5.1: "if one server's current term is smaller than the other's, then it updates its current term to the
/// larger value."
#[test]
fn a_server_that_sees_a_larger_term_updates_its_own() {
    for body in [Body::Outdated, REFUSED, request_vote(0, 0), append(LogId::ZERO, &[], 0)] {
        let mut lab = plain(3);
        lab.pass(MIN_TIMEOUT);
        lab.arrive(message(2, 1, 9, body));
        assert_eq!(lab.status(1).term, Term::new(9));
        assert_eq!(lab.disk(1).ballot.term(), Term::new(9));
    }
}

/// §5.1: "If a candidate or leader discovers that its term is out of date, it immediately reverts to follower
/// state."
#[test]
fn a_candidate_or_leader_that_is_out_of_date_reverts_to_follower() {
    let mut lab = led(3);
    lab.arrive(message(2, 1, 5, Body::Outdated));
    assert_eq!(lab.status(1).role, RoleKind::Follower);
    lab.campaign(3);
    lab.arrive(message(2, 3, 5, Body::Outdated));
    assert_eq!(lab.status(3).role, RoleKind::Follower);
}

/// §5.1: "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn a_request_with_a_stale_term_is_rejected() {
    let mut lab = led(3);
    lab.elect(2);
    lab.pass(MIN_TIMEOUT);
    for body in [append(LogId::ZERO, &[1, 1], 2), request_vote(1, 9)] {
        assert_eq!(answer(&mut lab, message(1, 3, 1, body)), [Body::Outdated]);
    }
    assert_eq!(lab.terms(3), [1, 2]);
}

/// §5.1: "Servers retry RPCs if they do not receive a response in a timely manner."
#[test]
fn a_request_without_a_response_is_retried() {
    let mut lab = led(3);
    lab.propose(1, "x");
    lab.lose("Append");
    lab.heartbeat(1);
    lab.deliver();
    assert_eq!(lab.applied(2), ["x"]);
}

/// §5.1: "... and they issue RPCs in parallel for best performance."
#[test]
fn requests_go_to_all_in_parallel() {
    let mut lab = led(5);
    lab.propose(1, "x");
    lab.propose(1, "y");
    assert_eq!(lab.count("1→ Append"), 8, "two to each, none waiting for the other");
}

// ---- §5.2 Leader election ----

/// §5.2: "When servers start up, they begin as followers."
#[test]
fn servers_start_up_as_followers() {
    let lab = with_logs(&[&[], &[1], &[1, 2, 3]]);
    assert!(lab.up().all(|member| lab.status(member).role == RoleKind::Follower));
}

/// §5.2: "A server remains in follower state as long as it receives valid RPCs from a leader or candidate."
#[test]
fn a_server_remains_a_follower_as_long_as_it_hears_from_a_leader() {
    let mut lab = led(3);
    for _ in 0..100 {
        lab.heartbeat(1);
        lab.deliver();
        assert!(lab.time_to_deadline(2) >= MIN_TIMEOUT);
    }
    assert_eq!((lab.status(2).term, lab.leaders()), (Term::new(1), vec![1]));
}

/// §5.2: a server that grants its vote has heard from a valid candidate, and waits anew (also figure 2, rules
/// for followers). PITFALLS E15: a pre-vote, which is no promise, does not have that effect.
#[test]
fn e15_a_vote_puts_off_the_voters_own_election_and_a_pre_vote_does_not() {
    let mut lab = plain(3);
    lab.pass(MIN_TIMEOUT);
    let deadline = lab.raft(2).deadline();
    let last = LogId::ZERO;
    let promise = Body::PreVoted { granted: true };
    assert_eq!(answer(&mut lab, message(1, 2, 0, Body::PreVote { last })), [promise]);
    assert_eq!(lab.raft(2).deadline(), deadline);
    assert_eq!(answer(&mut lab, message(1, 2, 1, request_vote(0, 0))), [GRANTED]);
    assert!(lab.raft(2).deadline() > deadline);
}

/// §5.2: "Leaders send periodic heartbeats ... to all followers in order to maintain their authority."
#[test]
fn leaders_send_periodic_heartbeats_to_all_followers() {
    let mut lab = led(5);
    for round in 1..=3 {
        lab.heartbeat(1);
        assert_eq!(lab.count(&format!("1→ Heartbeat round={round}")), 4);
        lab.deliver();
    }
}

/// §5.2: "If a follower receives no communication over a period of time called the election timeout, then it
/// assumes there is no viable leader and begins an election to choose a new leader."
#[test]
fn a_follower_that_hears_nothing_over_the_election_timeout_begins_an_election() {
    let mut lab = led(3);
    lab.fire(2);
    assert_eq!(lab.status(2).role, RoleKind::Candidate);
}

/// §5.2: "To begin an election, a follower increments its current term and transitions to candidate state."
#[test]
fn to_begin_an_election_a_follower_increments_its_term_and_becomes_a_candidate() {
    let mut lab = led(3);
    lab.campaign(2);
    let status = lab.status(2);
    assert_eq!((status.role, status.term), (RoleKind::Candidate, Term::new(2)));
}

/// §5.2: "It then votes for itself and issues RequestVote RPCs in parallel to each of the other servers."
#[test]
fn a_candidate_votes_for_itself_and_requests_votes_from_each_of_the_others() {
    let mut lab = plain(5);
    lab.campaign(2);
    assert_eq!(lab.status(2).vote, Some(id(2)));
    for other in [1, 3, 4, 5] {
        assert_eq!(lab.count(&format!("2→{other} t1 RequestVote")), 1);
    }
}

/// §5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full
/// cluster for the same term."
#[test]
fn a_candidate_wins_with_votes_from_a_majority_of_the_full_cluster() {
    let mut lab = plain(5);
    lab.campaign(1);
    lab.arrive(message(2, 1, 1, GRANTED));
    lab.arrive(message(2, 1, 1, GRANTED));
    assert_eq!(lab.status(1).role, RoleKind::Candidate, "the same voter twice is one vote");
    lab.arrive(message(3, 1, 0, GRANTED));
    assert_eq!(lab.status(1).role, RoleKind::Candidate, "a vote of another term is none");
    lab.arrive(message(3, 1, 1, GRANTED));
    assert_eq!(lab.status(1).role, RoleKind::Leader);
}

/// §5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served
/// basis."
#[test]
fn each_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served() {
    let mut lab = plain(3);
    lab.pass(MIN_TIMEOUT);
    assert_eq!(answer(&mut lab, message(1, 3, 1, request_vote(0, 0))), [GRANTED]);
    assert_eq!(
        answer(&mut lab, message(2, 3, 1, request_vote(9, 9))),
        [],
        "an entry of a later term: garbage"
    );
    assert_eq!(answer(&mut lab, message(2, 3, 1, request_vote(1, 9))), [REFUSED]);
    assert_eq!(answer(&mut lab, message(1, 3, 1, request_vote(0, 0))), [GRANTED], "asked again");
    assert_eq!(answer(&mut lab, message(2, 3, 2, request_vote(1, 9))), [GRANTED], "another term");
}

/// §5.2 and figure 2: votedFor is "persistent state on all servers, updated on stable storage before
/// responding". PITFALLS E1, E3, E8: term and vote are one record, and the vote is not given before it is on
/// disk.
#[test]
fn a_vote_survives_a_crash() {
    let mut lab = plain(3);
    lab.campaign(1);
    lab.deliver_only("1→3");
    lab.crash(3);
    lab.restart(3);
    lab.pass(MIN_TIMEOUT);
    assert_eq!(answer(&mut lab, message(2, 3, 1, request_vote(0, 0))), [REFUSED]);
    assert_eq!(answer(&mut lab, message(1, 3, 1, request_vote(0, 0))), [GRANTED]);
}

/// §5.2: "Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of
/// the other servers to establish its authority and prevent new elections." Here the blank entry of its term
/// does that.
#[test]
fn a_candidate_that_wins_establishes_its_authority_at_once() {
    let mut lab = plain(3);
    lab.campaign(1);
    lab.deliver_only("RequestVote");
    lab.deliver_only("2→1 Voted");
    assert_eq!((lab.count("1→2 Append"), lab.count("1→3 Append")), (1, 1));
    lab.deliver_only("Append");
    assert_eq!(lab.status(3).leader, Some(id(1)));
}

/// §5.2: "If the leader's term is at least as large as the candidate's current term, then the candidate
/// recognizes the leader as legitimate and returns to follower state." PITFALLS E22.
#[test]
fn e22_a_candidate_that_hears_from_a_leader_of_its_term_returns_to_follower() {
    for body in [append(LogId::ZERO, &[1], 0), Body::Heartbeat { round: 1, commit: Index::ZERO }] {
        let mut lab = plain(3);
        lab.campaign(1);
        lab.arrive(message(2, 1, 1, body));
        let status = lab.status(1);
        assert_eq!((status.role, status.leader), (RoleKind::Follower, Some(id(2))));
    }
}

/// §5.2: "If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the
/// RPC and continues in candidate state."
#[test]
fn a_candidate_rejects_a_leader_of_a_smaller_term_and_continues() {
    let mut lab = led(3);
    lab.campaign(3);
    let sent = answer(&mut lab, message(1, 3, 1, append(LogId::new(1, 1), &[1], 1)));
    assert_eq!(sent, [Body::Outdated]);
    assert_eq!((lab.status(3).role, lab.terms(3)), (RoleKind::Candidate, vec![1]));
}

/// §5.2: "each candidate will time out and start a new election by incrementing its term and initiating
/// another round of RequestVote RPCs."
#[test]
fn a_candidate_without_an_outcome_times_out_and_starts_a_new_election() {
    let mut lab = plain(3);
    lab.campaign(1);
    lab.lose("RequestVote");
    lab.fire(1);
    assert_eq!(lab.status(1).term, Term::new(2));
    assert_eq!(lab.count("1→ t2 RequestVote"), 2);
}

/// §5.2: "election timeouts are chosen randomly from a fixed interval (e.g., 150–300ms)." PITFALLS E19:
/// members with the same seed draw differently.
#[test]
fn election_timeouts_are_chosen_randomly_from_a_fixed_interval() {
    let mut drawn = BTreeSet::new();
    for member in 1..=5 {
        let mut lab = Lab::of(5);
        for _ in 0..20 {
            let timeout = lab.time_to_deadline(member).get();
            assert!((150_000_000..300_000_000).contains(&timeout));
            assert!(drawn.insert(timeout), "drawn twice");
            lab.campaign(member);
        }
    }
    let (least, most) = (drawn.first().unwrap(), drawn.last().unwrap());
    assert!(*least < 170_000_000 && *most > 280_000_000, "from all of the interval");
}

/// §5.2: "Each candidate restarts its randomized election timeout at the start of an election."
#[test]
fn a_candidate_restarts_its_timeout_at_the_start_of_an_election() {
    let mut lab = plain(3);
    let first = lab.time_to_deadline(1);
    lab.campaign(1);
    let second = lab.time_to_deadline(1);
    assert!(second >= MIN_TIMEOUT && second != first);
}

// ---- §5.3 Log replication ----

/// §5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in
/// parallel to each of the other servers."
#[test]
fn the_leader_appends_a_command_to_its_log_and_sends_it_to_each_of_the_others() {
    let mut lab = led(3);
    lab.propose(1, "x");
    assert_eq!(lab.status(1).last, LogId::new(1, 2));
    assert_eq!((lab.count("1→2 Append 2:1"), lab.count("1→3 Append 2:1")), (1, 1));
}

/// §5.3: "When the entry has been safely replicated, the leader applies the entry to its state machine and
/// returns the result of that execution to the client." PITFALLS X6, P1.
#[test]
fn the_client_is_answered_when_the_entry_is_safely_replicated_and_not_before() {
    let mut lab = led(3);
    let request = lab.propose(1, "x");
    lab.deliver_only("Append");
    assert_eq!((lab.outcomes(request), lab.applied(1).len()), (&[][..], 0));
    lab.deliver_only("2→1 Appended");
    assert_eq!(lab.outcomes(request), [Outcome::Committed(LogId::new(1, 2))]);
    assert_eq!(lab.applied(1), ["x"]);
}

/// §5.3: "If followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries
/// RPCs indefinitely (even after it has responded to the client) until all followers eventually store all log
/// entries."
#[test]
fn the_leader_retries_until_all_followers_store_all_entries() {
    let mut lab = led(3);
    lab.crash(3);
    lab.propose(1, "x");
    for _ in 0..20 {
        lab.heartbeat(1);
        lab.deliver();
    }
    lab.restart(3);
    lab.heartbeat(1);
    lab.deliver();
    assert_eq!(lab.applied(3), ["x"]);
}

/// §5.3: "Each log entry stores a state machine command along with the term number when the entry was
/// received by the leader. ... Each log entry also has an integer index identifying its position in the log."
#[test]
fn each_entry_has_the_term_in_which_the_leader_received_it_and_its_position() {
    let mut lab = led(3);
    lab.elect(2);
    lab.propose(2, "x");
    lab.deliver();
    let ids: Vec<_> = lab.disk(3).entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [LogId::new(1, 1), LogId::new(2, 2), LogId::new(2, 3)]);
}

/// §5.3: "A log entry is committed once the leader that created the entry has replicated it on a majority of
/// the servers."
#[test]
fn an_entry_is_committed_once_its_leader_has_replicated_it_on_a_majority() {
    let mut lab = led(5);
    lab.propose(1, "x");
    lab.deliver_only("Append");
    lab.deliver_only("2→1");
    assert_eq!(lab.status(1).committed, Index::new(1), "on two of five");
    lab.deliver_only("3→1");
    assert_eq!(lab.status(1).committed, Index::new(2), "on three of five");
}

/// §5.3: "This also commits all preceding entries in the leader's log, including entries created by previous
/// leaders."
#[test]
fn a_commit_also_commits_all_preceding_entries_of_previous_leaders() {
    let mut lab = with_logs(&[&[1, 2, 3], &[1, 2], &[1]]);
    assert_eq!(lab.status(1).committed, Index::ZERO);
    lab.elect(1);
    for member in 1..=3 {
        assert_eq!((lab.terms(member), lab.status(member).committed), (vec![1, 2, 3, 4], Index::new(4)));
    }
}

/// §5.3: "The leader keeps track of the highest index it knows to be committed, and it includes that index in
/// future AppendEntries RPCs (including heartbeats) so that the other servers eventually find out." The
/// heartbeat names no more than the follower is known to have.
#[test]
fn the_commit_index_travels_with_entries_and_with_heartbeats() {
    let mut lab = led(3);
    lab.propose(1, "x");
    lab.lose("→3");
    lab.deliver();
    lab.propose(1, "y");
    assert_eq!(lab.count("Append commit=2"), 2);
    lab.lose("");
    lab.heartbeat(1);
    assert_eq!((lab.count("1→2 Heartbeat commit=2"), lab.count("1→3 Heartbeat commit=1")), (1, 1));
}

/// §5.3: "Once a follower learns that a log entry is committed, it applies the entry to its local state
/// machine (in log order)."
#[test]
fn a_follower_applies_what_it_learns_to_be_committed_in_log_order() {
    let mut lab = led(3);
    let payloads = ["a", "b", "c", "d"];
    for payload in payloads {
        lab.propose(1, payload);
    }
    lab.deliver_only("1→2");
    assert!(lab.applied(2).is_empty());
    lab.deliver();
    assert_eq!(lab.applied(2), payloads);
}

/// §5.3: "a leader creates at most one entry with a given log index in a given term, and log entries never
/// change their position in the log."
#[test]
fn entries_never_change_their_position() {
    let mut lab = led(3);
    lab.propose_batch(1, &["a", "b"]);
    lab.deliver();
    let before = lab.disk(3).entries.clone();
    lab.elect(3);
    lab.propose(3, "c");
    lab.deliver();
    assert_eq!(lab.disk(1).entries[..before.len()], before);
    assert_eq!(lab.disk(1).entries.len(), before.len() + 2);
}

/// §5.3: "When sending an AppendEntries RPC, the leader includes the index and term of the entry in its log
/// that immediately precedes the new entries."
#[test]
fn an_append_names_the_entry_that_precedes_the_new_ones() {
    let mut lab = led(3);
    lab.propose(1, "x");
    lab.propose(1, "y");
    assert_eq!((lab.count("1→2 prev=1:1 2:1"), lab.count("1→2 prev=2:1 3:1")), (1, 1));
}

/// §5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses the
/// new entries." PITFALLS R5: an index beyond the log is not a match, whatever its term.
#[test]
fn a_follower_that_does_not_find_the_preceding_entry_refuses_the_new_ones() {
    for prev in [LogId::new(2, 2), LogId::new(1, 3), LogId::new(0, 3), LogId::new(0, 2)] {
        let mut lab = with_logs(&[&[], &[1, 1], &[]]);
        let sent = answer(&mut lab, message(1, 2, 3, append(prev, &[3], 0)));
        assert!(matches!(sent[..], [Body::Rejected { .. }]), "{prev} is not in its log: {sent:?}");
        assert_eq!(lab.terms(2), [1, 1]);
    }
}

/// §5.3: "the leader handles inconsistencies by forcing the followers' logs to duplicate its own. This means
/// that conflicting entries in follower logs will be overwritten with entries from the leader's log." Figure
/// 7, all six followers at once; tests/data/figure7.txt shows each message.
#[test]
fn figure_7_the_leader_forces_all_logs_to_duplicate_its_own() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let mut lab = with_logs(&[
        &leader,
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ]);
    lab.arrive(message(5, 1, 7, Body::Outdated));
    lab.elect(1);
    for member in 1..=7 {
        assert_eq!(lab.terms(member), [&leader[..], &[8]].concat(), "member {member}");
    }
}

/// §5.3: "When a leader first comes to power, it initializes all nextIndex values to the index just after the
/// last one in its log."
#[test]
fn a_new_leader_begins_after_the_last_entry_of_its_own_log() {
    let mut lab = with_logs(&[&[1, 2, 3], &[], &[1]]);
    lab.campaign(1);
    lab.deliver_only("RequestVote");
    lab.deliver_only("2→1 Voted");
    assert_eq!((lab.count("1→2 prev=3:3"), lab.count("1→3 prev=3:3")), (1, 1));
}

/// §5.3: "After a rejection, the leader decrements nextIndex and retries the AppendEntries RPC. Eventually
/// nextIndex will reach a point where the leader and follower logs match."
#[test]
fn after_a_rejection_the_leader_goes_back_and_retries() {
    let mut lab = with_logs(&[&[1, 2, 3], &[1, 2], &[1, 1, 1]]);
    lab.campaign(1);
    lab.deliver();
    assert!(lab.take_transcript().contains("3→1 t4 Rejected prev=3 hint=3:1"));
    assert_eq!((lab.terms(2), lab.terms(3)), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
}

/// §5.3: "one AppendEntries RPC will be required for each term with conflicting entries, rather than one RPC
/// per entry." PITFALLS R21.
#[test]
fn r21_a_conflict_costs_a_round_trip_a_term_and_not_one_an_entry() {
    let long = [vec![1], vec![3; 500], vec![5; 500], vec![7; 500]].concat();
    let other = [vec![1], vec![2; 400], vec![4; 400], vec![6; 400]].concat();
    let mut lab = with_logs(&[&long, &other, &[]]);
    lab.elect(1);
    let rejections = lab.take_transcript().matches("2→1 t8 Rejected").count();
    assert!((1..=3).contains(&rejections), "{rejections} round trips for three terms");
    assert_eq!(lab.terms(2), lab.terms(1));
}

/// §5.3: "A leader never overwrites or deletes entries in its own log." PITFALLS R32. The lab checks it in
/// every test; here the leader is tempted.
#[test]
fn r32_a_leader_never_overwrites_or_deletes_entries_in_its_log() {
    let mut lab = led(3);
    lab.propose(1, "x");
    let before = lab.terms(1);
    lab.arrive(message(2, 1, 0, append(LogId::ZERO, &[], 0)));
    let (prev, hint) = (Index::new(1), LogId::ZERO);
    lab.arrive(message(2, 1, 1, Body::Rejected { prev, hint }));
    assert_eq!(lab.terms(1), before);
}

/// §5.3: "in the normal case a new entry can be replicated with a single round of RPCs to a majority of the
/// cluster; and a single slow follower will not impact performance."
#[test]
fn one_round_trip_to_a_majority_commits_and_a_slow_follower_does_not_matter() {
    let mut lab = led(3);
    lab.slow_disk(3);
    let request = lab.propose(1, "x");
    lab.deliver_only("Append");
    lab.deliver_only("Appended");
    assert_eq!(lab.outcomes(request), [Outcome::Committed(LogId::new(1, 2))]);
}

// ---- §5.4 Safety ----

/// §5.4.1: "Raft uses the voting process to prevent a candidate from winning an election unless its log
/// contains all committed entries."
#[test]
fn a_candidate_whose_log_lacks_a_committed_entry_cannot_win() {
    let mut lab = led(3);
    lab.isolate(3);
    lab.propose(1, "x");
    lab.deliver();
    lab.heal();
    lab.crash(1);
    lab.campaign(3);
    lab.deliver();
    assert_eq!((lab.leaders(), lab.status(2).vote), (vec![], None));
    lab.elect(2);
    assert_eq!(lab.applied(3), ["x"]);
}

/// §5.4.1: "Log entries only flow in one direction, from leaders to followers, and leaders never overwrite
/// existing entries in their logs."
#[test]
fn entries_flow_only_from_leaders_to_followers() {
    let mut lab = with_logs(&[&[1], &[1, 1], &[1, 1]]);
    lab.campaign(1);
    lab.deliver();
    lab.elect(2);
    assert!(!lab.take_transcript().contains("1→2 t2 Append "), "nor a vote to candidates");
    assert_eq!(lab.terms(1), lab.terms(2));
}

/// §5.4.1: "the voter denies its vote if its own log is more up-to-date than that of the candidate." PITFALLS
/// E4: an equal log is up-to-date enough; the term counts before the length.
#[test]
fn e4_a_voter_denies_its_vote_if_its_own_log_is_more_up_to_date() {
    let verdict = |last: (u64, u64)| {
        let mut lab = with_logs(&[&[], &[1, 3, 3], &[]]);
        lab.pass(MIN_TIMEOUT);
        answer(&mut lab, message(1, 2, 9, request_vote(last.0, last.1)))
    };
    assert_eq!(verdict((3, 3)), [GRANTED], "the same");
    assert_eq!(verdict((3, 2)), [REFUSED], "shorter");
    assert_eq!(verdict((2, 9)), [REFUSED], "of an earlier term, however long");
    assert_eq!(verdict((4, 1)), [GRANTED], "of a later term, however short");
}

/// §5.4.1: "If the logs have last entries with different terms, then the log with the later term is more
/// up-to-date."
#[test]
fn the_log_with_the_later_last_term_is_more_up_to_date() {
    let mut lab = with_logs(&[&[1, 2], &[1, 1, 1, 1], &[1, 1, 1, 1]]);
    lab.elect(1);
    assert_eq!(lab.terms(3), [1, 2, 3]);
}

/// §5.4.1: "If the logs end with the same term, then whichever log is longer is more up-to-date."
#[test]
fn of_logs_that_end_with_the_same_term_the_longer_is_more_up_to_date() {
    let mut lab = with_logs(&[&[1, 1], &[1, 1, 1], &[1, 1, 1]]);
    lab.campaign(1);
    lab.deliver();
    assert!(lab.leaders().is_empty());
    lab.elect(2);
    assert_eq!(lab.terms(1), [1, 1, 1, 3]);
}

/// §5.4.2: "a leader cannot immediately conclude that an entry from a previous term is committed once it is
/// stored on a majority of servers." Figure 8; tests/data/figure8.txt shows each message. PITFALLS R1.
#[test]
fn figure_8_a_leader_does_not_commit_an_entry_of_a_previous_term_by_counting_replicas() {
    let mut lab = with_logs(&[&[1, 2], &[1, 2], &[1], &[1], &[1, 3]]);
    lab.set_options(1, |options| options.max_append_bytes = 1);
    lab.crash(5);
    lab.arrive(message(5, 1, 3, Body::Outdated));
    lab.campaign(1);
    lab.deliver_only("RequestVote");
    lab.deliver_only("Voted");
    // Member 2 gets the new entry too, but confirms only the old one, which is on its disk.
    lab.slow_disk(2);
    lab.heartbeat(1);
    for filter in ["1→2", "2→1 HeartbeatAck", "1→3 Append", "3→1 Rejected", "1→3 Append", "3→1 Appended"]
    {
        assert!(lab.deliver_only(filter) > 0, "{filter}");
    }
    let matched = |member| lab.raft(1).leader().unwrap().peer(id(member)).unwrap().matched;
    assert_eq!((matched(2), matched(3)), (Index::new(2), Index::new(2)), "with the leader, a majority");
    assert_eq!(lab.status(1).committed, Index::ZERO, "and yet not committed");
    (1..=2).for_each(|member| lab.crash(member));
    lab.lose("");
    lab.restart(2);
    lab.fast_disk(2);
    lab.restart(5);
    lab.campaign(5);
    lab.deliver();
    lab.elect(5);
    assert_eq!(lab.terms(3), [1, 3, 5], "for it could still be overwritten");
}

/// §5.4.2: "Only log entries from the leader's current term are committed by counting replicas; once an entry
/// from the current term has been committed in this way, then all prior entries are committed indirectly."
#[test]
fn an_entry_of_the_current_term_commits_all_before_it() {
    let mut lab = with_logs(&[&[1, 2], &[1, 2], &[1, 2]]);
    lab.campaign(1);
    lab.deliver_only("RequestVote");
    lab.deliver_only("Voted");
    assert_eq!(lab.status(1).committed, Index::ZERO, "two old entries, on all disks");
    lab.deliver_only("1→2 Append");
    lab.deliver_only("2→1 Appended");
    assert_eq!(lab.status(1).committed, Index::new(3));
}

/// §5.4.2: "log entries retain their original term numbers when a leader replicates entries from previous
/// terms." PITFALLS R30.
#[test]
fn r30_entries_retain_their_term_when_a_later_leader_replicates_them() {
    let mut lab = with_logs(&[&[1, 2, 4], &[], &[]]);
    lab.elect(1);
    assert_eq!((lab.terms(2), lab.terms(3)), (vec![1, 2, 4, 5], vec![1, 2, 4, 5]));
}

// ---- §5.5 Follower and candidate crashes ----

/// §5.5: "Raft RPCs are idempotent, so this causes no harm. For example, if a follower receives an
/// AppendEntries request that includes log entries already present in its log, it ignores those entries in
/// the new request." PITFALLS R4: it does not truncate what follows them either.
#[test]
fn r4_entries_that_are_already_present_are_ignored() {
    let mut lab = led(3);
    lab.propose(1, "x");
    let late = lab.in_flight()[0].clone();
    lab.deliver();
    lab.propose(1, "y");
    // Member 2 has acknowledged y, and does not know yet that it is committed.
    lab.deliver_only("Append");
    lab.deliver_only("2→1 Appended");
    lab.lose("Commit");
    assert_eq!((lab.status(1).committed, lab.status(2).committed), (Index::new(3), Index::new(2)));
    let before = lab.disk(2).clone();
    let sent = answer(&mut lab, late);
    assert_eq!(sent, [Body::Appended { matched: Index::new(2) }]);
    assert_eq!((lab.terms(2), lab.disk(2)), (vec![1, 1, 1], &before));
}

/// §5.5: "If a server crashes after completing an RPC but before responding, then it will receive the same
/// RPC again after it restarts."
#[test]
fn a_server_that_crashed_before_responding_is_asked_again() {
    let mut lab = led(3);
    let request = lab.propose(1, "x");
    lab.lose("1→3 Append");
    lab.deliver_only("1→2 Append");
    lab.lose("2→1 Appended");
    lab.crash(2);
    lab.restart(2);
    lab.heartbeat(1);
    lab.deliver();
    assert_eq!(lab.outcomes(request), [Outcome::Committed(LogId::new(1, 2))]);
}

/// Figure 2: what is persistent comes back from the disk and what is volatile begins anew.
#[test]
fn a_server_restarts_from_its_disk_as_a_follower() {
    let mut lab = led(3);
    lab.propose(1, "x");
    lab.deliver();
    lab.crash(1);
    lab.restart(1);
    let status = lab.status(1);
    assert_eq!((status.role, status.leader), (RoleKind::Follower, None));
    assert_eq!((status.term, status.vote), (Term::new(1), NodeId::new(1)));
    assert_eq!((lab.terms(1), status.durable), (vec![1, 1], LogId::new(1, 2)));
    assert!(!lab.step(1, Event::Wake).iter().any(|action| matches!(action, Action::Send(_))));
}
