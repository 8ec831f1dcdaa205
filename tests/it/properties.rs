//! What holds for any sequence of events, drawn at random and shrunk where it fails.
//!
//! The draws are the same in every run. `PROPTEST_RNG_SEED=7 PROPTEST_CASES=10000 cargo test -p kontiki-tests
//! properties` makes others, and more of them; a failure prints the smallest input that fails and the command
//! that draws it again.

mod changes;
mod cluster;
mod member;
mod wire;

use kontiki_tests::lab::Lab;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The last lines of a cluster's transcript, after a run that may panic.
fn how_it_ended(mut lab: Lab, run: impl FnOnce(&mut Lab)) -> String {
    let _ = catch_unwind(AssertUnwindSafe(|| run(&mut lab)));
    let transcript = lab.take_transcript();
    let lines: Vec<_> = transcript.lines().collect();
    format!("how it ended:\n{}\n", lines[lines.len().saturating_sub(80)..].join("\n"))
}

/// Checks a property for `cases` inputs, or as many as PROPTEST_CASES says. The property panics where it does
/// not hold; `explain` then says more about the smallest such input.
fn holds<S: Strategy>(
    name: &str,
    cases: u32,
    inputs: S,
    property: impl Fn(S::Value),
    explain: impl Fn(S::Value) -> String,
) where
    S::Value: Clone + Debug,
{
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => 1,
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let cases = config.cases;
    let result = TestRunner::new(config).run(&inputs, |input| {
        property(input);
        Ok(())
    });
    let (reason, input) = match result {
        Ok(()) => return,
        Err(TestError::Abort(reason)) => panic!("{name} could not be checked: {reason}"),
        Err(TestError::Fail(reason, input)) => (reason, input),
    };
    panic!(
        "{name} does not hold: {reason}\n\nthe smallest input that shows it: {input:#?}\n\n{}\nto draw it again:\n  \
         PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases} cargo test -p kontiki-tests {name}\n",
        explain(input.clone())
    );
}

/// All links carry messages again, and every member is up and quick.
fn heal(lab: &mut Lab) {
    lab.heal();
    for member in 1..=lab.members() {
        if !lab.is_up(member) {
            lab.restart(member);
        }
        assert_eq!(lab.halted(member), None, "member {member} has no reason to halt");
        lab.fast_host(member);
    }
}

/// What is in flight arrives. One member leads then, and what it is asked to propose commits.
fn one_leads_and_commits(lab: &mut Lab) -> u64 {
    lab.deliver();
    assert_eq!(lab.leaders().len(), 1, "one leader");
    let leader = lab.leaders()[0];
    let request = lab.propose(leader, "after all");
    lab.deliver();
    if has_timer(lab, leader) {
        lab.beat(leader);
    }
    assert_eq!(lab.outcomes(request).len(), 1, "what is proposed commits");
    leader
}

fn has_timer(lab: &Lab, member: u64) -> bool {
    lab.raft(member).deadline() != kontiki_core::time::Instant::NEVER
}
