//! Forks of runs that fail by a rule made by hand, and of one that fails by itself.

use super::*;
use crate::scenario::{Heal, Profile};

/// A failure at step 1,000 that is as good as decided at `doomed`, and never happens to forks before `risky`.
fn made_by_hand(doomed: u64, risky: u64) -> impl Fn(&Scenario, u64) -> Result<Report, ScenarioError> {
    move |scenario, steps| {
        assert!(
            steps == u64::MAX || steps == 2_000 && !scenario.forks.is_empty(),
            "forks are watched as long"
        );
        let fails = match scenario.forks.last() {
            None => true,
            Some(fork) => fork.after_step >= doomed || fork.after_step >= risky && fork.seed % 2 == 0,
        };
        let property = if fails { "Made by Hand" } else { "Another" };
        let is_quiet = scenario.forks.last().is_some_and(|fork| fork.seed % 4 == 1);
        let failure = Failure::new(property, String::new(), 1_000, 0);
        Ok(Report {
            seed: 0,
            counters: Default::default(),
            operations: 0,
            trace_hash: 0,
            failure: (fails || !is_quiet).then_some(failure),
        })
    }
}

#[test]
fn bisection_finds_the_step_at_which_a_failure_became_inevitable() {
    let scenario = Scenario::draw(1, 3, Profile::Swarm);
    let run = made_by_hand(637, 200);
    let effort = Effort { forks: 32, points: 24 };
    let mut shown = 0;
    let when = when_run_by(&scenario, &run, effort, &mut |_| shown += 1).unwrap().expect("it fails");
    let Inevitable { before, from } = when.inevitable().expect("the last point is doomed");
    let before = before.expect("it was not always so");
    assert_eq!((before.step, from.step, from.failed), (636, 637, 32), "{when:?}");
    assert!((4..29).contains(&before.failed), "half of the forks escape: {before:?}");
    assert_eq!((shown, when.points.len()), (24, 24));
    assert!(when.points.is_sorted_by_key(|point| point.step));
    let safe = when.points.iter().filter(|point| point.step < 200);
    assert!(safe.clone().count() > 0 && safe.clone().all(|point| point.failed == 0 && point.otherwise > 0));

    let again = when_run_by(&scenario, &run, effort, &mut |_| ()).unwrap();
    assert_eq!(again, Some(when), "the same forks, the same table");
}

#[test]
fn a_failure_may_be_inevitable_from_the_beginning_or_not_even_at_the_end() {
    let scenario = Scenario::draw(1, 3, Profile::Swarm);
    let tell = |doomed, risky| {
        let run = made_by_hand(doomed, risky);
        when_run_by(&scenario, &run, Effort::default(), &mut |_| ()).unwrap().expect("it fails").inevitable()
    };
    let always = tell(0, 0).expect("it was always so");
    assert_eq!((always.before, always.from.step), (None, 0));
    assert_eq!(tell(u64::MAX, 0), None);
}

#[test]
fn what_holds_has_no_past_to_fork() {
    let mut scenario = Scenario::draw(7, 3, Profile::Calm);
    let nothing = when(&scenario, Effort { forks: 2, points: 2 }, &mut |_| ()).unwrap();
    assert_eq!(nothing, None);
    scenario.workload.clients = 0;
    assert!(when(&scenario, Effort::default(), &mut |_| ()).is_err());
}

/// Forks are the same until they part, and differ afterwards.
#[test]
fn forks_share_the_past_and_not_the_luck_that_follows() {
    for profile in [Profile::Swarm, Profile::Storage] {
        let mut scenario = Scenario::draw(3, 3, profile);
        let trace = |scenario: &Scenario| {
            let mut lines = Vec::new();
            crate::run_traced(scenario, &mut |traced| lines.push(traced.line())).expect("it can be run");
            lines
        };
        let original = trace(&scenario);
        let fork = |seed| Fork { after_step: 150, seed };
        let forked = [1, 2].map(|seed| {
            scenario.forks = vec![fork(seed)];
            trace(&scenario)
        });
        let shared = |one: &[String], other: &[String]| {
            let steps = one.iter().zip(other).take_while(|(one, other)| one == other);
            steps.filter(|(line, _)| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).count()
        };
        for (one, other) in [(&original, &forked[0]), (&original, &forked[1]), (&forked[0], &forked[1])] {
            let shared = shared(one, other);
            assert!((150..one.len().min(other.len())).contains(&shared), "{profile}: they share {shared}");
        }
        assert_eq!(trace(&scenario), forked[1], "the same fork is the same run");
    }
}

/// Commands that are larger than members take are never served: whatever the luck, from the beginning.
#[test]
fn a_failure_that_luck_has_no_part_in_is_inevitable_from_the_beginning() {
    let mut scenario = Scenario::draw(1, 1, Profile::Calm);
    scenario.options.max_payload_bytes = 1;
    scenario.workload.read = 0;
    scenario.workload.timeout_us = 300_000;
    (scenario.heal, scenario.quiet, scenario.chaos_us) = (Heal::Everything, false, 300_000);
    let when = when(&scenario, Effort { forks: 4, points: 4 }, &mut |_| ()).unwrap().expect("it fails");
    assert_eq!(when.failure.property, "Liveness");
    assert_eq!(when.inevitable().map(|it| (it.before, it.from.step)), Some((None, 0)));
}
