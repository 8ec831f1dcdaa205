//! Golden traces: the same seeds give the same runs, step by step, in every build and on every machine.
//!
//! A changed hash means that the kernel or the simulator behaves differently. That is often what a commit
//! wants: then it says why, and blesses the new hashes with `BLESS=1 cargo test -p kontiki-tests golden`.

use kontiki_sim::scenario::{Profile, Scenario};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What is kept: seeds of every profile and of one to seven members.
const KEPT: [(u64, u32, Profile); 10] = [
    (1, 1, Profile::Swarm),
    (2, 2, Profile::Swarm),
    (3, 3, Profile::Swarm),
    (4, 4, Profile::Swarm),
    (5, 5, Profile::Swarm),
    (6, 7, Profile::Swarm),
    (7, 3, Profile::Calm),
    (8, 5, Profile::Flaky),
    (9, 5, Profile::Chaos),
    (10, 5, Profile::Chaos),
];

#[test]
fn golden_traces_are_the_same_everywhere() {
    let mut hashes = String::new();
    for (seed, members, profile) in KEPT {
        let report =
            kontiki_sim::run(&Scenario::draw(seed, members, profile)).expect("every seed can be run");
        assert_eq!(
            report.failure, None,
            "cargo sim replay --seed {seed} --members {members} --profile {profile}"
        );
        let (steps, hash) = (report.counters.steps, report.trace_hash);
        writeln!(hashes, "seed {seed}, {members} members, {profile}: {steps} steps, {hash:016x}")
            .expect("memory");
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/traces.txt");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &hashes).expect("the file can be written");
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        hashes, kept,
        "the runs have changed; if they should, say why and BLESS=1 cargo test -p kontiki-tests golden"
    );
}
