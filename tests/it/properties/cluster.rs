//! A whole cluster under any schedule: messages lost, repeated and reordered, crashes that lose what was not
//! yet on disk, disks that do some writes and not others, clocks that pass unevenly. After every step the lab
//! checks election safety, leader append-only, log matching, leader completeness, state machine safety, and
//! each kernel's contract.

use super::{heal, holds, how_it_ended, one_leads_and_commits};
use kontiki_core::config::Options;
use kontiki_core::time::Nanos;
use kontiki_tests::lab::Lab;
use proptest::collection::vec;
use proptest::prelude::*;

/// Something that happens. Members and messages are named by any number, counted around.
#[derive(Clone, Debug)]
enum Happening {
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    Fire(u64),
    Pass(u64),
    Propose(u64),
    Persist(u64, usize),
    FastDisk(u64),
    SlowDisk(u64),
    Crash(u64),
    Restart(u64),
    Unreachable(u64, u64),
    Cut(u64, u64),
    Heal,
}

#[derive(Clone, Debug)]
struct Schedule {
    members: u64,
    pre_vote: bool,
    check_quorum: bool,
    window: usize,
    append_bytes: u64,
    happenings: Vec<Happening>,
}

fn happening() -> impl Strategy<Value = Happening> {
    let member = || 0..5_u64;
    prop_oneof![
        40 => any::<usize>().prop_map(Happening::Deliver),
        // The oldest message, so that some of it happens in order.
        30 => Just(Happening::Deliver(0)),
        6 => any::<usize>().prop_map(Happening::Lose),
        4 => any::<usize>().prop_map(Happening::Repeat),
        10 => member().prop_map(Happening::Fire),
        3 => (0..400_u64).prop_map(Happening::Pass),
        10 => member().prop_map(Happening::Propose),
        12 => (member(), 1..4_usize).prop_map(|(member, count)| Happening::Persist(member, count)),
        2 => member().prop_map(Happening::FastDisk),
        2 => member().prop_map(Happening::SlowDisk),
        2 => member().prop_map(Happening::Crash),
        5 => member().prop_map(Happening::Restart),
        1 => (member(), member()).prop_map(|(member, peer)| Happening::Unreachable(member, peer)),
        1 => (member(), member()).prop_map(|(from, to)| Happening::Cut(from, to)),
        1 => Just(Happening::Heal),
    ]
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let options = (any::<bool>(), any::<bool>(), 1..4_usize, prop_oneof![Just(1), Just(1 << 20)]);
    (3..=5_u64, options, vec(happening(), 0..300)).prop_map(|(members, options, happenings)| {
        let (pre_vote, check_quorum, window, append_bytes) = options;
        Schedule { members, pre_vote, check_quorum, window, append_bytes, happenings }
    })
}

fn cluster(schedule: &Schedule) -> Lab {
    let options = Options {
        pre_vote: schedule.pre_vote,
        check_quorum: schedule.check_quorum,
        max_in_flight_messages: schedule.window,
        max_append_bytes: schedule.append_bytes,
        ..Options::default()
    };
    Lab::new(schedule.members, 0, &options)
}

fn play(lab: &mut Lab, schedule: &Schedule) {
    let name = |number: u64| number % schedule.members + 1;
    for happening in &schedule.happenings {
        let place = |number: usize| number % lab.in_flight().len().max(1);
        match *happening {
            Happening::Deliver(number) => lab.deliver_at(place(number)),
            Happening::Lose(number) => lab.lose_at(place(number)),
            Happening::Repeat(number) => lab.repeat_at(place(number)),
            Happening::Fire(member) if fires(lab, name(member)) => drop(lab.fire(name(member))),
            Happening::Pass(milliseconds) => lab.pass(Nanos::new(milliseconds * 1_000_000)),
            Happening::Propose(member) if lab.is_up(name(member)) => {
                lab.propose(name(member), "x");
            }
            Happening::Persist(member, count) if lab.is_up(name(member)) => lab.persist(name(member), count),
            Happening::FastDisk(member) if lab.is_up(name(member)) => lab.fast_disk(name(member)),
            Happening::SlowDisk(member) => lab.slow_disk(name(member)),
            Happening::Crash(member) => lab.crash(name(member)),
            Happening::Restart(member) if !lab.is_up(name(member)) => lab.restart(name(member)),
            Happening::Unreachable(member, peer) if lab.is_up(name(member)) && name(member) != name(peer) => {
                lab.unreachable(name(member), name(peer));
            }
            Happening::Cut(from, to) => lab.cut(name(from), name(to)),
            Happening::Heal => lab.heal(),
            _ => {}
        }
    }
}

fn fires(lab: &Lab, member: u64) -> bool {
    lab.is_up(member) && lab.halted(member).is_none()
}

fn told(schedule: &Schedule, act: impl Fn(&mut Lab)) -> String {
    how_it_ended(cluster(schedule), |lab| {
        play(lab, schedule);
        act(lab);
    })
}

#[test]
fn a_cluster_is_safe_under_any_schedule() {
    let property = |schedule: Schedule| play(&mut cluster(&schedule), &schedule);
    let name = "properties::cluster::a_cluster_is_safe_under_any_schedule";
    holds(name, 250, schedule(), property, |schedule| told(&schedule, |_| ()));
}

/// Whatever has happened: once all are up, connected and have working disks again, there is one leader, what
/// is proposed to it commits, and all logs become equal. The worst that a schedule may cost is time.
#[test]
fn a_cluster_recovers_from_any_schedule() {
    let property = |schedule: Schedule| {
        let mut lab = cluster(&schedule);
        play(&mut lab, &schedule);
        recover(&mut lab);
    };
    let name = "properties::cluster::a_cluster_recovers_from_any_schedule";
    holds(name, 150, schedule(), property, |schedule| told(&schedule, recover));
}

fn recover(lab: &mut Lab) {
    heal(lab);
    for _ in 0..100 {
        lab.deliver();
        lab.wait();
    }
    let leader = one_leads_and_commits(lab);
    for member in lab.up().collect::<Vec<_>>() {
        assert_eq!(lab.terms(member), lab.terms(leader), "member {member} has the leader's log");
        assert_eq!(lab.status(member).committed, lab.status(leader).last.index);
        assert_eq!(lab.applied(member), lab.applied(leader));
    }
}
