//! A small sweep with everything on: what holds, and what must have been seen for that to mean anything.

use kontiki_core::types::NodeId;
use kontiki_sim::report::Counters;
use kontiki_sim::scenario::{Fault, Profile, Scenario, Target, TimedFault};

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

#[test]
fn groups_form_whatever_happens_to_their_members() {
    let mut events = 0;
    for seed in 0..200 {
        let report = kontiki_sim::formation::run(seed);
        assert_eq!(report.failure, None, "cargo sim formation --seed {seed} --trace");
        events += report.events;
    }
    assert!(events > 20_000, "only {events} events: something must have happened for this to mean anything");
    let (once, again) = (kontiki_sim::formation::run(7), kontiki_sim::formation::run(7));
    assert_eq!(once, again, "the same seed is the same run");
}

/// What so small a sweep seldom comes to, if ever. Each is played in tests/data:
/// `joint_left_by_another_leader`, `never_catches_up`, `rolled_back_change` and `transfer`; and that a
/// proposal is known to be overwritten at the very moment at which its leader is deposed takes a message that
/// honest peers do not send, in `contract.rs`. That a member finds damage while it reads its log back, before
/// it restarts, is tested with the replica. A snapshot on which a log rests is damaged, and a session
/// expires, a few times in a thousand seeds.
const RARE: &[&str] = &[
    "damage_found",
    "session_expired",
    "snapshot_lost",
    "joint_left_by_another",
    "not_caught_up",
    "overwritten",
    "rolled_back",
    "transfer_failed",
];

/// What only full replicas on disks of their own meet.
const OF_FULL_REPLICAS: &[&str] = &[
    "command_sent_on",
    "late_command",
    "earlier_life_sent_on",
    "sent_on_to_earlier_life",
    "kill",
    "rot",
    "rot_log",
    "rot_snapshot",
    "rot_vote",
    "sync_fails",
    "too_many_requests",
    "log_read",
    "log_read_compacted",
    "log_read_unreadable",
    "lost_write",
    "misdirected_write",
    "crash_in_recovery",
    "damage_found",
    "disk_halt",
    "entries_lost",
    "gave_up",
    "repaired",
    "snapshot_lost",
    "vote_damaged",
    "entries_repaired",
    "rewritten",
    "session_expired",
    "torn_tail",
    "torn_write",
    "unreadable",
    "reads_again",
];

/// What a simulated host does by itself, and a replica in another way, or not where it could be counted.
const OF_PLAYED_HOSTS: &[&str] = &["fetch_failed", "frame_refused", "read_unasked", "slow_sync"];

/// What few links come to in a small sweep of three members.
const OF_BUSY_LINKS: &[&str] = &["queue_full"];

/// What never happened, though it should have.
fn never(counts: std::collections::BTreeMap<&'static str, u64>, excused: &[&[&str]]) -> Vec<&'static str> {
    let is_excused = |name: &str| excused.iter().any(|names| names.contains(&name));
    let missed = counts.into_iter().filter(|&(name, count)| count == 0 && !is_excused(name));
    missed.map(|(name, _)| name).collect()
}

/// Green without coverage is not green: each kind of fault must have happened, and each rare turn of the
/// protocol must have been taken.
#[test]
fn a_sweep_meets_every_fault_and_reaches_every_mark() {
    let counters = sweep(0..300, 5, Profile::Swarm);
    let excused = [RARE, OF_FULL_REPLICAS];
    assert_eq!(never(counters.faults(), &excused), Vec::<&str>::new(), "faults that never happened");
    assert_eq!(never(counters.marks(), &excused), Vec::<&str>::new(), "marks that were never reached");
}

#[test]
fn a_sweep_of_whole_members_meets_every_fault_of_their_disks() {
    let counters = sweep(3_000..3_400, 3, Profile::Storage);
    let excused = [RARE, OF_PLAYED_HOSTS, OF_BUSY_LINKS];
    assert_eq!(never(counters.faults(), &excused), Vec::<&str>::new(), "faults that never happened");
    assert_eq!(never(counters.marks(), &excused), Vec::<&str>::new(), "marks that were never reached");
}

#[test]
fn nothing_goes_wrong_in_a_calm_world() {
    let counters = sweep(0..5, 3, Profile::Calm);
    assert!(counters.faults().values().all(|&count| count == 0), "{:?}", counters.faults());
    assert!(counters.elections >= 5 && counters.acknowledged > 0);
}

/// A disk answers a read at once, and the member asks for the next.
#[test]
fn a_snapshot_of_thousands_of_pieces_takes_no_more_stack_than_one() {
    let member = Target::Member(NodeId::new(3).expect("not zero"));
    let mut counters = Counters::default();
    for seed in 0..8 {
        let mut scenario = Scenario::draw(seed, 3, Profile::Storage);
        (scenario.chaos_us, scenario.operations) = (20_000_000, Vec::new());
        let fault = Fault::Isolate { member };
        scenario.faults = vec![TimedFault { at_us: 0, for_us: scenario.chaos_us, fault }];
        (scenario.snapshots.every, scenario.snapshots.fail) = (100, 0);
        (scenario.options.retained_entries, scenario.options.retained_bytes) = (0, 0);
        (scenario.workload.payload_bytes, scenario.workload.keys) = (2_500, 20);
        let replica = scenario.replica.as_mut().expect("it is of the profile `storage`");
        (replica.chunk_bytes, replica.old_wire) = (16, Vec::new());
        let report = kontiki_sim::run(&scenario).expect("it can be run");
        assert_eq!(report.failure, None, "seed {seed}");
        counters.add(&report.counters);
    }
    assert!(counters.marks()["snapshot_installed"] > 0, "{counters:?}");
}

#[test]
fn groups_of_every_size_survive() {
    for members in [1, 2, 3, 4, 6, 7] {
        let counters = sweep(100..106, members, Profile::Swarm);
        assert!(counters.acknowledged > 0, "{members} members");
    }
}

#[test]
fn groups_survive_whose_hosts_wait_for_disk_or_state_machine() {
    for (seeds, members) in [(0..40, 5), (0..40, 3), (0..20, 1)] {
        let counters = sweep(seeds, members, Profile::Synchronous);
        let marks = counters.marks();
        assert!(counters.acknowledged > 0 && counters.faults()["crash_mid_step"] > 0, "{members} members");
        assert!(members < 3 || marks["snapshot_installed"] > 0, "{members} members");
    }
}

/// Old messages are aimed at members that lead or have led: merely late ones hardly ever meet them.
#[test]
fn old_messages_come_to_members_that_lead_or_have_led() {
    let drawn = (0..80).map(|seed| Scenario::draw(seed, 5, Profile::Swarm));
    let arrivals = drawn.filter(|scenario| scenario.old_messages.is_some()).map(|scenario| {
        let report = kontiki_sim::run(&scenario).expect("every seed can be run");
        let marks = report.counters.marks();
        marks["old_message_to_leader"] + marks["old_message_to_former_leader"]
    });
    let mut arrivals: Vec<_> = arrivals.collect();
    arrivals.sort_unstable();
    assert!(arrivals.len() >= 20, "old messages are drawn in {} of 80 seeds", arrivals.len());
    assert!(arrivals[arrivals.len() / 2] >= 5, "few of them arrive: {arrivals:?}");
}
