//! A small sweep with everything on: what holds, and what must have been seen for that to mean anything.

use kontiki_sim::report::Counters;
use kontiki_sim::scenario::{Profile, Scenario};

fn sweep(seeds: std::ops::Range<u64>, members: u32, profile: Profile) -> Counters {
    let mut counters = Counters::default();
    for seed in seeds {
        let report =
            kontiki_sim::run(&Scenario::draw(seed, members, profile)).expect("every seed can be run");
        assert_eq!(
            report.failure, None,
            "cargo sim replay --seed {seed} --members {members} --profile {profile}"
        );
        counters.add(&report.counters);
    }
    counters
}

/// Green without coverage is not green: each kind of fault must have happened, and each rare turn of the protocol must
/// have been taken.
#[test]
fn a_sweep_meets_every_fault_and_reaches_every_mark() {
    let counters = sweep(0..300, 5, Profile::Swarm);
    let never = |counts: std::collections::BTreeMap<&'static str, u64>| {
        counts.into_iter().filter(|&(_, count)| count == 0).map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(never(counters.faults()), Vec::<&str>::new(), "faults that never happened");
    assert_eq!(never(counters.marks()), Vec::<&str>::new(), "marks that were never reached");
}

#[test]
fn nothing_goes_wrong_in_a_calm_world() {
    let counters = sweep(0..5, 3, Profile::Calm);
    assert!(counters.faults().values().all(|&count| count == 0), "{:?}", counters.faults());
    assert!(counters.elections >= 5 && counters.acknowledged > 0);
}

#[test]
fn groups_of_every_size_survive() {
    for members in [1, 2, 3, 4, 6, 7] {
        let counters = sweep(100..106, members, Profile::Swarm);
        assert!(counters.acknowledged > 0, "{members} members");
    }
}
