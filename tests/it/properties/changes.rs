//! A whole cluster under any schedule in which its members change, leadership is handed over, snapshots are
//! taken and sent, clients read, and disks are lost. After every step the lab checks what it checks in every
//! test: the paper's properties, what leaders commit against the disks of a quorum, memberships and snapshots
//! against the log, reads against what was committed.

use super::{has_timer, heal, holds, how_it_ended, one_leads_and_commits};
use kontiki_core::config::Options;
use kontiki_core::event::{Event, ReadVia};
use kontiki_core::membership::{Change, MemberKind, Membership};
use kontiki_core::status::RoleKind;
use kontiki_core::time::Nanos;
use kontiki_tests::lab::{Cast, Lab, id};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

/// Something that happens. Members and messages are named by any number, counted around.
#[derive(Clone, Debug)]
enum Happening {
    Deliver(usize),
    Lose(usize),
    Repeat(usize),
    Fire(u64),
    Pass(u64),
    Persist(u64, usize),
    FastDisk(u64),
    SlowDisk(u64),
    Crash(u64),
    Restart(u64),
    Wipe(u64),
    Cut(u64, u64),
    Heal,
    Propose(u64),
    Read(u64, bool),
    /// Each change with whether it is one that makes sense.
    Reconfigure(u64, Vec<(u8, u64, bool)>),
    Transfer(u64, Option<u64>),
    Shutdown(u64),
    /// Of everything but the last few entries that are applied.
    Snapshot(u64, u64),
    SlowApply(u64),
    Apply(u64),
    SlowTransfers(u64),
    Fetch(u64, bool),
    Load(u64, bool),
    /// Everything that is on its way arrives, so that changes get far.
    Calm,
}

#[derive(Clone, Debug)]
struct Schedule {
    cast: Cast,
    options: Options,
    happenings: Vec<Happening>,
}

fn happening(wipes: bool) -> impl Strategy<Value = Happening> {
    let member = || 0..8_u64;
    let messages = prop_oneof![
        20 => any::<usize>().prop_map(Happening::Deliver),
        // The oldest message, so that some of it happens in order.
        30 => Just(Happening::Deliver(0)),
        3 => any::<usize>().prop_map(Happening::Lose),
        3 => any::<usize>().prop_map(Happening::Repeat),
        8 => Just(Happening::Calm),
        1 => (member(), member()).prop_map(|(from, to)| Happening::Cut(from, to)),
        2 => Just(Happening::Heal),
    ];
    let machines = prop_oneof![
        20 => member().prop_map(Happening::Fire),
        3 => (0..400_u64).prop_map(Happening::Pass),
        10 => (member(), 1..4_usize).prop_map(|(member, count)| Happening::Persist(member, count)),
        3 => member().prop_map(Happening::FastDisk),
        1 => member().prop_map(Happening::SlowDisk),
        2 => member().prop_map(Happening::Crash),
        6 => member().prop_map(Happening::Restart),
        u32::from(wipes) => member().prop_map(Happening::Wipe),
    ];
    let change = (0..6_u8, member(), prop::bool::weighted(0.9));
    let wishes = prop_oneof![
        8 => member().prop_map(Happening::Propose),
        8 => (member(), any::<bool>()).prop_map(|(member, lease)| Happening::Read(member, lease)),
        12 => (member(), prop_oneof![1 => Just(Vec::new()), 20 => vec(change, 1..4)]).prop_map(|(member, changes)| Happening::Reconfigure(member, changes)),
        5 => (member(), prop::option::of(member())).prop_map(|(member, to)| Happening::Transfer(member, to)),
        u32::from(wipes) => member().prop_map(Happening::Shutdown),
    ];
    let states = prop_oneof![
        6 => (member(), 0..3_u64).prop_map(|(member, back)| Happening::Snapshot(member, back)),
        1 => member().prop_map(Happening::SlowApply),
        6 => member().prop_map(Happening::Apply),
        1 => member().prop_map(Happening::SlowTransfers),
        5 => (member(), prop::bool::weighted(0.8)).prop_map(|(member, can)| Happening::Fetch(member, can)),
        5 => (member(), prop::bool::weighted(0.8)).prop_map(|(member, can)| Happening::Load(member, can)),
    ];
    prop_oneof![6 => messages, 3 => machines, 2 => wishes, 1 => states]
}

fn schedule(wipes: bool) -> impl Strategy<Value = Schedule> {
    let cast =
        (1..=4_u64, 0..=1_u64, 0..=2_u64, 0..=2_u64).prop_map(|(voters, witnesses, learners, spares)| {
            // Of two voters none may be a witness.
            Cast { voters, witnesses: if voters > 1 { witnesses } else { 0 }, learners, spares }
        });
    let bytes = || prop_oneof![Just(1), Just(100), Just(1 << 20)];
    let options = (any::<bool>(), any::<bool>(), any::<bool>(), 1..4_usize, bytes(), bytes(), 0..4_u64);
    (cast, options, vec(happening(wipes), 0..400)).prop_map(move |(cast, options, happenings)| {
        let (pre_vote, check_quorum, lease, window, append, cached, retained) = options;
        let options = Options {
            // With neither, a member that was removed and does not know it disturbs the others for ever
            // (paper §6).
            pre_vote: pre_vote || (!wipes && !check_quorum),
            check_quorum,
            lease_reads: lease && check_quorum,
            max_in_flight_messages: window,
            max_append_bytes: append,
            max_cached_bytes: cached,
            retained_entries: retained,
            max_waiting_reads: 4,
            catch_up_timeout: Duration::from_secs(1),
            ..Options::default()
        };
        Schedule { cast, options, happenings }
    })
}

fn cluster(schedule: &Schedule) -> Lab {
    Lab::with(schedule.cast, &schedule.options)
}

fn play(lab: &mut Lab, schedule: &Schedule) {
    schedule.happenings.iter().for_each(|happening| happen(lab, happening));
}

fn happen(lab: &mut Lab, happening: &Happening) {
    let count = lab.members();
    let name = |number: &u64| number % count + 1;
    // Clients and operators ask any member, and mostly one that leads.
    let asked = |number: &u64| match lab.leaders().last() {
        Some(&leader) if !number.is_multiple_of(4) => leader,
        _ => name(number),
    };
    let place = |number: &usize| number % lab.in_flight().len().max(1);
    let up = |number: &u64| lab.is_up(name(number));
    let runs = |number: &u64| up(number) && lab.status(name(number)).role != RoleKind::Halted;
    match happening {
        Happening::Deliver(number) => lab.deliver_at(place(number)),
        Happening::Lose(number) => lab.lose_at(place(number)),
        Happening::Repeat(number) => lab.repeat_at(place(number)),
        // A group of one has nothing to wake up for.
        Happening::Fire(member) if runs(member) && has_timer(lab, name(member)) => {
            lab.fire(name(member));
        }
        Happening::Pass(milliseconds) => lab.pass(Nanos::new(milliseconds * 1_000_000)),
        Happening::Persist(member, writes) if runs(member) => lab.persist(name(member), *writes),
        Happening::FastDisk(member) if runs(member) => lab.fast_disk(name(member)),
        Happening::SlowDisk(member) => lab.slow_disk(name(member)),
        Happening::Crash(member) => lab.crash(name(member)),
        Happening::Restart(member) if !up(member) => lab.restart(name(member)),
        Happening::Wipe(member) => lab.wipe(name(member)),
        Happening::Cut(from, to) => lab.cut(name(from), name(to)),
        Happening::Heal => lab.heal(),
        Happening::Propose(member) if lab.is_up(asked(member)) => drop(lab.propose(asked(member), "x")),
        Happening::Read(member, lease) if lab.is_up(asked(member)) => {
            let via = if *lease { ReadVia::Lease } else { ReadVia::Quorum };
            lab.read(asked(member), via);
        }
        Happening::Reconfigure(member, wishes) if lab.is_up(asked(member)) => {
            let (asked, wishes) =
                (asked(member), wishes.iter().map(|&(kind, who, sound)| (kind, name(&who), sound)));
            let changes = changes(lab, asked, wishes);
            lab.reconfigure(asked, &changes, None);
        }
        Happening::Transfer(member, to) if lab.is_up(asked(member)) => {
            lab.transfer(asked(member), to.as_ref().map(name));
        }
        Happening::Shutdown(member) if up(member) => lab.shutdown(name(member)),
        Happening::Snapshot(member, back) if runs(member) => {
            let applied = lab.status(name(member)).applied.get();
            if applied > *back && !lab.options(name(member)).witness {
                lab.snapshot(name(member), applied - back);
            }
        }
        Happening::SlowApply(member) => lab.slow_apply(name(member)),
        Happening::Apply(member) if runs(member) => lab.apply(name(member)),
        Happening::SlowTransfers(member) => lab.slow_transfers(name(member)),
        Happening::Fetch(member, true) if runs(member) => lab.fetch(name(member)),
        Happening::Fetch(member, false) if runs(member) => lab.fail_fetch(name(member)),
        Happening::Load(member, can) if runs(member) => lab.load(name(member), *can),
        Happening::Calm => lab.deliver(),
        _ => {}
    }
}

/// The changes that `asked` is asked for: each of a kind, about a member, and perhaps only sensible ones.
fn changes(lab: &Lab, asked: u64, wishes: impl Iterator<Item = (u8, u64, bool)>) -> Vec<Change> {
    let fitting = |kind, who, sound| if sound { sensible(lab, asked, kind, who) } else { kind };
    wishes.map(|(kind, who, sound)| change(lab, fitting(kind, who, sound), who)).collect()
}

/// A kind of change that fits what `who` is in the group that `asked` knows.
fn sensible(lab: &Lab, asked: u64, kind: u8, who: u64) -> u8 {
    let membership = lab.raft(asked).membership();
    match membership.kind(lab.identity(who).member) {
        // A member of an earlier incarnation is removed first.
        MemberKind::NonMember if membership.incarnation(id(who)).is_some() => 4,
        MemberKind::NonMember => kind % 2,
        MemberKind::Learner => [2, 2, 4][usize::from(kind % 3)],
        MemberKind::Voter => [3, 4][usize::from(kind % 2)],
        MemberKind::Witness => 4,
    }
}

fn change(lab: &Lab, kind: u8, who: u64) -> Change {
    let member = lab.identity(who).member;
    // A host that was started as a witness is added as one.
    let witness = lab.options(who).witness;
    match kind {
        0 | 1 if witness => Change::AddWitness(member),
        0 => Change::AddVoter(member),
        1 => Change::AddLearner(member),
        2 => Change::Promote(id(who)),
        3 => Change::Demote(id(who)),
        _ => Change::Remove(id(who)),
    }
}

fn told(schedule: &Schedule, act: impl Fn(&mut Lab)) -> String {
    how_it_ended(cluster(schedule), |lab| {
        play(lab, schedule);
        act(lab);
    })
}

/// All members that are up shut down; then every request has its one outcome, but those whose member went
/// down before it could answer.
fn end(lab: &mut Lab) {
    for member in lab.up().collect::<Vec<_>>() {
        if lab.status(member).role != RoleKind::Halted {
            lab.step(member, Event::Shutdown);
        }
    }
    for request in lab.requests() {
        let count = lab.outcomes(request).len();
        assert_eq!(count, usize::from(!lab.is_lost(request)), "one outcome for {request:?}");
    }
}

#[test]
fn a_cluster_that_changes_is_safe_under_any_schedule() {
    let property = |schedule: Schedule| {
        let mut lab = cluster(&schedule);
        play(&mut lab, &schedule);
        end(&mut lab);
    };
    let name = "properties::changes::a_cluster_that_changes_is_safe_under_any_schedule";
    holds(name, 250, schedule(true), property, |schedule| told(&schedule, end));
}

/// Whatever has happened, but no disk was lost for good: once all are up, connected and have working disks
/// again, there is one leader, no joint phase is left, what is proposed commits, and every member has it.
#[test]
fn a_cluster_that_changes_recovers_from_any_schedule() {
    let property = |schedule: Schedule| {
        let mut lab = cluster(&schedule);
        play(&mut lab, &schedule);
        recover(&mut lab);
    };
    let name = "properties::changes::a_cluster_that_changes_recovers_from_any_schedule";
    holds(name, 150, schedule(false), property, |schedule| told(&schedule, recover));
}

fn recover(lab: &mut Lab) {
    heal(lab);
    for _ in 0..200 {
        lab.deliver();
        if lab.up().any(|member| has_timer(lab, member)) {
            lab.wait();
        }
    }
    let leader = one_leads_and_commits(lab);
    let group: Membership = lab.raft(leader).membership().clone();
    assert!(!group.is_joint(), "the joint phase was left: {group}");
    let (last, applied) = (lab.status(leader).last, lab.applied(leader));
    for member in group.members().iter().map(|member| member.id.get()) {
        let status = lab.status(member);
        assert_eq!(
            (status.last, status.committed),
            (last, last.index),
            "member {member} has the leader's log"
        );
        assert_eq!(lab.raft(member).membership(), &group, "member {member} knows the group");
        if !group.is_witness(id(member)) {
            assert_eq!(lab.applied(member), applied);
        }
    }
    end(lab);
}
