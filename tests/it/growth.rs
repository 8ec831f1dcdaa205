//! A group of one grows to three, five and seven members and shrinks back to one, under load and with
//! everything going wrong.

use kontiki_core::membership::MemberKind;
use kontiki_core::types::NodeId;
use kontiki_sim::scenario::{Alteration, Heal, Operation, Profile, Scenario, Target, TimedOperation};

fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

/// Seven hosts, of which the first is a group by itself; two more join at a time, then two leave at a time,
/// once the leader among them.
fn there_and_back(seed: u64, profile: Profile) -> Scenario {
    let mut scenario = Scenario::draw(seed, 7, profile);
    for (position, member) in scenario.members.iter_mut().enumerate() {
        member.initially = if position == 0 { MemberKind::Voter } else { MemberKind::NonMember };
        member.witness = false;
    }
    // A member that was removed and does not know it must not disturb the group (thesis 4.2.3).
    (scenario.options.pre_vote, scenario.options.check_quorum) = (true, true);
    scenario.options.catch_up_timeout = 20 * scenario.options.election_timeout_max;
    let remove = |number| Alteration::Remove(Target::Member(id(number)));
    let steps = [
        vec![Alteration::Add(id(2)), Alteration::Add(id(3))],
        vec![Alteration::Add(id(4)), Alteration::Add(id(5))],
        vec![Alteration::Add(id(6)), Alteration::Add(id(7))],
        vec![remove(1), remove(2)],
        vec![remove(3), remove(4)],
        vec![remove(5), remove(6)],
    ];
    let election_us = u64::try_from(scenario.options.election_timeout_max.as_micros()).expect("a short time");
    let pace = 25 * election_us;
    let operation = |(changes, step): (Vec<_>, u64)| TimedOperation {
        at_us: step * pace,
        operation: Operation::Reconfigure { changes },
    };
    scenario.operations = steps.into_iter().zip(1..).map(operation).collect();
    // The faults are of all the time that it takes.
    let stretch = 8 * pace / scenario.chaos_us.max(1);
    scenario.faults.iter_mut().for_each(|timed| timed.at_us *= stretch.max(1));
    scenario.chaos_us = 8 * pace;
    scenario.heal = Heal::Everything;
    scenario
}

#[test]
fn a_calm_group_grows_to_seven_and_shrinks_to_one() {
    for seed in 0..3 {
        let report = kontiki_sim::run(&there_and_back(seed, Profile::Calm)).expect("it can be run");
        assert_eq!(report.failure, None, "seed {seed}");
        let marks = report.counters.marks();
        assert_eq!((marks["change_finished"], marks["promoted"]), (6, 6), "seed {seed}: {marks:?}");
        assert!(marks["leader_removed"] >= 1 && report.counters.acknowledged > 100, "seed {seed}: {marks:?}");
    }
}

#[test]
fn a_group_grows_and_shrinks_while_everything_goes_wrong() {
    let (mut finished, mut acknowledged) = (0, 0);
    for seed in 0..6 {
        let report = kontiki_sim::run(&there_and_back(seed, Profile::Chaos)).expect("it can be run");
        assert_eq!(report.failure, None, "seed {seed}");
        finished += report.counters.marks()["change_finished"];
        acknowledged += report.counters.acknowledged;
    }
    assert!(finished >= 12 && acknowledged > 500, "{finished} changes, {acknowledged} writes");
}
