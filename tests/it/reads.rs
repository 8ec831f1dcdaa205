//! What readers are told. What rounds, leases and lost questions look like is in tests/data.

use kontiki_core::action::{Outcome, Refusal};
use kontiki_core::config::{Config, ConfigError, Options};
use kontiki_core::event::ReadVia;
use kontiki_core::message::{Body, ReadContext};
use kontiki_core::status::DropReason;
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::Index;
use kontiki_tests::lab::{Cast, Lab, id, identity, message};

fn led_with(change: impl Fn(&mut Options)) -> Lab {
    let mut options = Options::default();
    change(&mut options);
    let mut lab = Lab::new(3, 0, &options);
    lab.elect(1);
    lab
}

fn ready(index: u64) -> Outcome {
    Outcome::Ready { index: Index::new(index), until: None }
}

#[test]
fn a_read_is_answered_by_the_leader_and_by_followers_alike() {
    let mut lab = led_with(|_| ());
    lab.propose(1, "x");
    lab.deliver();
    for member in 1..=3 {
        let request = lab.read(member, ReadVia::Quorum);
        assert!(lab.outcomes(request).is_empty(), "a quorum is asked first");
        lab.deliver();
        assert_eq!(lab.outcomes(request), [ready(2)], "member {member}");
    }
}

#[test]
fn a_read_is_refused_without_a_leader_or_before_its_first_commit() {
    let no_leader = Outcome::Refused(Refusal::NotLeader { leader: None });
    let mut lab = Lab::of(3);
    let request = lab.read(2, ReadVia::Quorum);
    assert_eq!(lab.outcomes(request), [no_leader]);
    lab.campaign(1);
    let request = lab.read(1, ReadVia::Lease);
    assert_eq!(lab.outcomes(request), [no_leader], "a candidate");

    let mut lab = Lab::with(Cast { voters: 2, witnesses: 1, ..Cast::default() }, &Options::default());
    lab.elect(1);
    let request = lab.read(3, ReadVia::Quorum);
    assert_eq!(
        lab.outcomes(request),
        [Outcome::Refused(Refusal::NotLeader { leader: Some(id(1)) })],
        "a witness"
    );
}

/// Bounded, with a typed refusal beyond: on the leader, on a follower, and for those that only wait to be
/// applied.
#[test]
fn reads_beyond_the_limit_are_refused_as_busy() {
    for member in [1, 3] {
        let mut lab = led_with(|options| options.max_waiting_reads = 2);
        let requests = [(); 3].map(|()| lab.read(member, ReadVia::Quorum));
        assert_eq!(lab.outcomes(requests[2]), [Outcome::Refused(Refusal::Busy)]);
        lab.deliver();
        assert!(requests[..2].iter().all(|request| lab.outcomes(*request) == [ready(1)]));
    }
    let mut lab = led_with(|options| options.max_waiting_reads = 2);
    lab.slow_apply(1);
    lab.propose(1, "x");
    lab.deliver();
    let requests = [(); 3].map(|()| {
        let request = lab.read(1, ReadVia::Quorum);
        lab.deliver();
        request
    });
    assert_eq!(lab.outcomes(requests[2]), [Outcome::Refused(Refusal::Busy)]);
    lab.apply(1);
    assert!(requests[..2].iter().all(|request| lab.outcomes(*request) == [ready(2)]));
}

/// A leader takes no more questions of followers than reads of its own; those are asked again.
#[test]
fn questions_beyond_the_limit_are_dropped_and_counted_and_asked_again() {
    let mut lab = led_with(|options| options.max_waiting_reads = 1);
    lab.isolate(2);
    lab.lose("");
    let own = lab.read(1, ReadVia::Quorum);
    let asked = lab.read(3, ReadVia::Quorum);
    lab.lose("Heartbeat");
    lab.deliver();
    assert_eq!(lab.raft(1).drops().count(DropReason::TooManyWaiting), 1);
    lab.beat(1);
    lab.beat(1);
    assert_eq!((lab.outcomes(own), lab.outcomes(asked)), (&[ready(1)][..], &[ready(1)][..]));
}

/// PITFALLS L3, L11: answers of learners count for nothing, and in a joint phase one half is not enough.
#[test]
fn l3_a_read_is_not_confirmed_by_learners() {
    let mut lab = Lab::new(3, 2, &Options::default());
    lab.elect(1);
    lab.crash(2);
    lab.crash(3);
    let request = lab.read(1, ReadVia::Quorum);
    lab.deliver();
    assert_eq!(lab.outcomes(request), []);
}

#[test]
fn an_answer_to_a_question_that_was_not_asked_is_dropped_and_counted() {
    let mut lab = led_with(|_| ());
    let request = lab.read(3, ReadVia::Quorum);
    for (start, number) in [(0, 1), (1, 2), (2, 1)] {
        let context = ReadContext { start, number };
        lab.arrive(message(1, 3, 1, Body::ReadIndexIs { context, index: Index::ZERO }));
    }
    let context = ReadContext { start: 1, number: 1 };
    lab.arrive(message(2, 3, 1, Body::ReadIndexIs { context, index: Index::ZERO }));
    assert_eq!((lab.outcomes(request), lab.raft(3).drops().count(DropReason::Late)), (&[][..], 4));
}

/// A lease is shorter than the promise that it rests on by as much as two clocks may differ, and counts from
/// the sending.
#[test]
fn l10_a_lease_is_shorter_than_the_promise_by_twice_the_drift() {
    for (drift, nanos) in [(0, 150_000_000), (10_000, 147_029_702), (100_000, 122_727_272)] {
        let mut lab = led_with(|options| {
            options.lease_reads = true;
            options.max_clock_drift_ppm = drift;
        });
        lab.heartbeat(1);
        let sent = Instant::from_nanos(lab.raft(1).deadline().as_nanos() - 50_000_000);
        lab.deliver();
        let request = lab.read(1, ReadVia::Lease);
        let until = Some(sent + Nanos::new(nanos));
        assert_eq!(lab.outcomes(request), [Outcome::Ready { index: Index::new(1), until }]);
    }
}

/// Leases need what they rest on.
#[test]
fn leases_without_check_quorum_and_clocks_that_may_run_at_half_speed_are_refused() {
    let options = |drift, check_quorum| Options {
        lease_reads: true,
        check_quorum,
        max_clock_drift_ppm: drift,
        ..Options::default()
    };
    let refused = |options| Config::new(identity(1), options).expect_err("refused");
    assert_eq!(refused(options(0, false)), ConfigError::LeaseWithoutCheckQuorum);
    assert_eq!(refused(options(500_000, true)), ConfigError::DriftTooLarge(500_000));
}

/// The host may be wrong about a connection, and a lease may rest on the promise: with leases, it is kept.
#[test]
fn a_broken_connection_does_not_break_the_promise_that_a_lease_rests_on() {
    for lease_reads in [false, true] {
        let mut lab = led_with(|options| options.lease_reads = lease_reads);
        lab.beat(1);
        lab.unreachable(3, 1);
        let last = lab.status(2).last;
        lab.arrive(message(2, 3, 1, Body::PreVote { last }));
        let granted = lab.count("3→2 PreVoted yes");
        assert_eq!(granted == 0, lease_reads);
    }
}
