//! What an exploration finds, as a script: its members do in the lab what they did there.

use kontiki_core::status::Status;
use kontiki_sim::explore::{Bounds, Schedule, Transition};
use kontiki_sim::stream::Stream;
use kontiki_sim::trace::Traced;
use kontiki_tests::script;
use std::collections::{BTreeMap, BTreeSet};

/// A way of so many events within these bounds, drawn at random.
fn drawn(bounds: Bounds, seed: u64, events: usize) -> Schedule {
    let mut draws = Stream::named(seed, "exploring", 0);
    let mut schedule = Schedule { bounds, path: Vec::new() };
    for _ in 0..events {
        let next = schedule.next().expect("it can be gone");
        // Messages are many, and most have no effect any more: a kind of event is drawn first.
        let (others, deliveries): (Vec<_>, Vec<_>) =
            next.into_iter().partition(|it| !matches!(it, Transition::Deliver(_)));
        let kind = if deliveries.is_empty() || (!others.is_empty() && draws.below(3) == 0) {
            others
        } else {
            deliveries
        };
        if kind.is_empty() {
            break;
        }
        schedule.path.push(*draws.pick(&kind));
    }
    schedule
}

/// The members after it, by their ids.
fn members(schedule: &Schedule) -> BTreeMap<u64, Status> {
    let mut members = BTreeMap::new();
    let failure = schedule.run_traced(&mut |traced| match traced {
        Traced::Step { after, .. } => drop(members.insert(after.id.get(), **after)),
        Traced::World { what, .. } => drop(what.member().and_then(|id| members.remove(&id.get()))),
        Traced::Message { .. } => {}
    });
    assert_eq!(failure, Ok(None));
    members
}

#[test]
fn a_way_through_the_states_is_gone_as_a_script_too() {
    let group = Bounds { elections: 3, terms: 3, proposals: 2, heartbeats: 1, ..Bounds::default() };
    let mut used = BTreeSet::new();
    // In the lab, where time goes on, a member that asks for the same again and again is not always answered.
    let once = Bounds { copied: Some(0), instant_disks: true, ..group };
    let pair = Bounds { members: 2, voters: 2, ..group };
    for (bounds, events) in [
        (Bounds { instant_disks: true, ..group }, 40),
        (Bounds { crashes: 2, ..group }, 60),
        (Bounds { led: true, slow_machines: true, copied: Some(1), ..group }, 60),
        (Bounds { crashes: 1, pre_vote: true, ..pair }, 60),
        (Bounds { reads: 1, follower_reads: 1, ..pair }, 40),
        (Bounds { snapshots: 2, instant_disks: true, ..pair }, 40),
        (Bounds { transfers: 1, instant_disks: true, ..group }, 40),
        (Bounds { members: 3, voters: 2, changes: 2, snapshots: 1, ..group }, 60),
        (Bounds { members: 3, voters: 2, changes: 2, swap: true, ..group }, 60),
        (Bounds { witness: true, losses: 1, wipes: 1, ..once }, 24),
        (Bounds { members: 4, voters: 2, learners: 1, changes: 1, losses: 1, ..once }, 24),
    ] {
        for seed in 0..5 {
            let schedule = drawn(bounds, seed, events);
            let text = schedule.script().expect("it can be gone");
            let lab = script::perform(&text);
            used.extend(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned));
            for (member, status) in members(&schedule) {
                let played = lab.status(member);
                let seen = |it: &Status| {
                    (it.role, it.term, it.vote, it.leader, it.last, it.durable, it.committed, it.applied)
                };
                assert_eq!(
                    seen(&played),
                    seen(&status),
                    "member {member} within {bounds:?}, seed {seed}:\n{text}"
                );
            }
        }
    }
    for command in [
        "campaign",
        "crash",
        "damage",
        "deliver",
        "duplicate",
        "flush",
        "heartbeat",
        "persist",
        "propose",
        "read",
        "reconfigure",
        "restart",
        "slow-disk",
        "snapshot",
        "transfer",
        "wipe",
    ] {
        assert!(used.contains(command), "no way has needed `{command}`: draw more, or longer ones");
    }
}
