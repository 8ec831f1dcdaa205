//! Leases and clocks: as long as clocks keep to the bound, no read is stale; beyond it reads are, and the
//! simulator sees it.
//!
//! The published failures of lease reads (PITFALLS L7 to L10) need a leader that is cut off and still asked
//! by clients, a leader that hands over, or a voter that restarts: each has its script in tests/data. Here
//! the whole cluster runs.

use kontiki_core::action::{Action, Outcome};
use kontiki_core::config::Options;
use kontiki_core::event::{Event, Read, ReadVia};
use kontiki_core::time::{Instant, Nanos};
use kontiki_core::types::RequestId;
use kontiki_sim::check::linearizable_reads;
use kontiki_sim::report::Report;
use kontiki_sim::scenario::{
    Fault, Leading, Operation, Profile, Scenario, Target, TimedFault, TimedOperation,
};
use kontiki_tests::lab::Lab;
use std::time::Duration;

/// What clocks may be off by, in parts per million.
const BOUND: u32 = 20_000;

/// Three members under many readers. Again and again the leader is cut off from the others, though not from
/// its clients, while its clock runs at `slow` and those of the others at `fast`.
fn cut_off(seed: u64, slow: i64, fast: i64) -> Scenario {
    let mut scenario = Scenario::draw(seed, 3, Profile::Calm);
    scenario.options.election_timeout_min = Duration::from_millis(150);
    scenario.options.election_timeout_max = Duration::from_millis(300);
    scenario.options.heartbeat_interval = Duration::from_millis(40);
    scenario.options.lease_reads = true;
    scenario.options.max_clock_drift_ppm = BOUND;
    scenario.network.latency_min_us = 100;
    (scenario.network.latency_max_us, scenario.network.tail_max_us) = (2_000, 2_000);
    let workload = &mut scenario.workload;
    (workload.clients, workload.think_us, workload.timeout_us) = (5, 4_000, 40_000);
    (workload.keys, workload.read, workload.lease, workload.batch) = (2, 6_000, 10_000, 1);
    for member in &mut scenario.members {
        (member.clock_ppm, member.apply_us) = (fast, 0);
    }
    let leader = Target::Leading(Leading::Leader);
    scenario.chaos_us = 6_000_000;
    scenario.faults = (1..8_u64)
        .flat_map(|round| {
            let fault = |at_us, for_us, fault| TimedFault { at_us: round * 700_000 + at_us, for_us, fault };
            let clock = Fault::Clock { member: leader, ppm: slow };
            [fault(0, 600_000, clock), fault(100_000, 450_000, Fault::Isolate { member: leader })]
        })
        .collect();
    scenario
}

fn run(scenario: &Scenario) -> Report {
    kontiki_sim::run(scenario).expect("the scenario can be run")
}

fn served_by_lease(report: &Report) -> u64 {
    let marks = report.counters.marks();
    marks["read_by_lease"] + marks["read_unasked"]
}

#[test]
fn clocks_at_the_very_bound_make_no_lease_read_stale() {
    let bound = i64::from(BOUND);
    for seed in 0..8 {
        let report = run(&cut_off(seed, -bound, bound));
        assert_eq!(report.failure, None, "seed {seed}");
        assert!(served_by_lease(&report) > 50, "seed {seed}: {} reads by lease", served_by_lease(&report));
    }
}

/// A check that the check works: what the documentation says does not hold any more does not.
#[test]
fn clocks_far_beyond_the_bound_make_lease_reads_stale_and_it_is_seen() {
    let stale = (0..8).filter_map(|seed| run(&cut_off(seed, -700_000, 300_000)).failure);
    let stale: Vec<_> = stale.collect();
    assert!(!stale.is_empty(), "no lease read was stale, however far the clocks were off");
    assert!(stale.iter().all(|failure| failure.property == linearizable_reads::NAME), "{stale:?}");
}

/// Reads by quorum depend on no clock at all.
#[test]
fn clocks_far_beyond_the_bound_leave_reads_by_quorum_alone() {
    for seed in 0..8 {
        let mut scenario = cut_off(seed, -700_000, 300_000);
        scenario.workload.lease = 0;
        let report = run(&scenario);
        assert_eq!(report.failure, None, "seed {seed}");
        assert!(report.counters.marks()["read_by_quorum"] > 50);
    }
}

/// raft-rs 0.7.0 keeps the lease while it hands over: the successor's election is held against all promises.
#[test]
fn no_lease_outlives_the_handing_over_of_leadership() {
    let bound = i64::from(BOUND);
    let mut handed_over = 0;
    for seed in 0..8 {
        let mut scenario = cut_off(seed, -bound, bound);
        scenario.faults.clear();
        let transfer =
            |round| TimedOperation { at_us: round * 90_000, operation: Operation::Transfer { to: None } };
        scenario.operations = (1..60_u64).map(transfer).collect();
        // The old leader is told late that it is one no more.
        (scenario.network.tail, scenario.network.tail_max_us) = (2_000, 200_000);
        let report = run(&scenario);
        assert_eq!(report.failure, None, "seed {seed}");
        handed_over += report.counters.marks()["transfer_done"];
    }
    assert!(handed_over > 80, "{handed_over} transfers");
}

/// raft-rs 0.7.0 and openraft 0.10 forget a voter's promise when it restarts.
#[test]
fn no_lease_is_broken_by_voters_that_restart() {
    let bound = i64::from(BOUND);
    for seed in 0..8 {
        let mut scenario = cut_off(seed, -bound, bound);
        let ids = scenario.ids();
        let crash = |round: u64| TimedFault {
            at_us: 150_000 + round * 60_000,
            for_us: 5_000,
            fault: Fault::Crash { member: Target::Member(ids[round as usize % 3]), after_actions: 0 },
        };
        scenario.faults.extend((0..80).map(crash));
        let report = run(&scenario);
        assert_eq!(report.failure, None, "seed {seed}");
        assert!(served_by_lease(&report) > 0);
    }
}

/// A host was suspended and its clock tells of it only in part: a leader that is woken a heartbeat interval
/// late serves no read by lease before a fresh round of heartbeats is answered, however long its leases are.
#[test]
fn a_jump_of_the_clock_ends_the_lease_until_a_fresh_round_is_answered() {
    let options = Options {
        lease_reads: true,
        election_timeout_min: Duration::from_secs(1),
        election_timeout_max: Duration::from_secs(2),
        heartbeat_interval: Duration::from_millis(50),
        ..Options::default()
    };
    let mut lab = Lab::new(3, 0, &options);
    lab.elect(1);
    lab.beat(1);
    lab.beat(1);
    let mut leader = lab.raft(1).clone();
    let due = leader.deadline();
    let read_by_lease = |leader: &mut kontiki_core::raft::Raft, now: Instant| {
        let read = Read { request: RequestId(99), via: ReadVia::Lease };
        let actions = leader.step(now, Event::Read(read));
        let ready = |action: &Action| {
            matches!(action, Action::Respond { outcome: Outcome::Ready { until: Some(_), .. }, .. })
        };
        actions.iter().any(ready)
    };
    let late = |ms: u64| due + Nanos::new(ms * 1_000_000);
    assert!(read_by_lease(&mut leader.clone(), late(49)), "a little late");
    assert!(!read_by_lease(&mut leader, late(50)), "a jump, within what is left of the lease");
    assert!(!read_by_lease(&mut leader, late(51)), "and no answer since");
    lab.beat(1);
    let mut leader = lab.raft(1).clone();
    let now = Instant::from_nanos(leader.deadline().as_nanos() - 1);
    assert!(read_by_lease(&mut leader, now), "a fresh round was answered");
}
