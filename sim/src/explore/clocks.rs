//! The clocks of members, where time is not left out.
//!
//! Time goes on in ticks, for all members at once. The clock of one member, any, is as slow as [`DRIFT_PPM`]
//! allows, and those of the others are as fast: no other rates make leases end later or promises sooner. All
//! else happens between two ticks, in any order.

use super::bounds::Bounds;
use super::symmetry::Renaming;
use crate::hash::StableHasher;
use kontiki_core::time::Instant;
use kontiki_core::types::NodeId;

/// When it begins, and where time is left out the only time there is.
pub(super) const NOW: Instant = Instant::from_millis(1_000_000);

/// For how long a voter promises its vote to a leader, in milliseconds.
pub(super) const PROMISE: u64 = 300;
/// How far a clock goes on in a tick: half a promise.
const TICK: u64 = PROMISE / 2;
/// How far a slow one does.
const SLOW_TICK: u64 = TICK * (1_000_000 - DRIFT_PPM as u64) / (1_000_000 + DRIFT_PPM as u64);
/// How far the rate of a clock may be from true. A lease lasts for two slow ticks, to the nanosecond.
pub(super) const DRIFT_PPM: u32 = 200_000;
/// How often leaders send heartbeats, in milliseconds: one is due after each tick, and no tick is so long
/// that a leader which is woken after it must distrust its clock.
pub(super) const HEARTBEAT: u64 = SLOW_TICK;

/// When members that begin have started: so long before that their timers are due and nothing is promised.
pub(super) fn started(bounds: &Bounds) -> Instant {
    if bounds.ticks == 0 { NOW } else { Instant::from_nanos(NOW.as_nanos() - PROMISE * 1_000_000) }
}

/// How long a tick takes by a clock that is not slow, in nanoseconds.
pub(super) const TICK_NANOS: u64 = TICK * 1_000_000;

/// How far the clock of one member is.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Clock {
    ticks: u8,
    is_slow: bool,
}

impl Clock {
    pub(super) fn now(self) -> Instant {
        let tick = if self.is_slow { SLOW_TICK } else { TICK };
        Instant::from_nanos(NOW.as_nanos() + u64::from(self.ticks) * tick * 1_000_000)
    }
}

/// How far the clocks of all members are.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Clocks {
    ticks: u8,
    /// Whose clock is slow; any could be before the first tick.
    slow: Option<u8>,
}

impl Clocks {
    pub(super) fn ticks(&self) -> u8 {
        self.ticks
    }

    pub(super) fn of(&self, member: usize) -> Clock {
        Clock { ticks: self.ticks, is_slow: self.slow.is_some_and(|slow| usize::from(slow) == member) }
    }

    /// What time it is for a member.
    pub(super) fn now(&self, member: NodeId) -> Instant {
        self.of(member.get() as usize - 1).now()
    }

    /// Whether the clock of this member, counted from zero, may be the slow one.
    pub(super) fn may_be_slow(&self, member: u8) -> bool {
        self.slow.is_none_or(|slow| slow == member)
    }

    /// All go on, that of this member slowly.
    pub(super) fn tick(self, slow: u8) -> Self {
        Self { ticks: self.ticks + 1, slow: Some(slow) }
    }

    /// Equal for clocks that are equal under a renaming.
    pub(super) fn hash(&self, renaming: &Renaming) -> u64 {
        let slow = self.slow.map(|slow| renaming.place(slow.into()));
        StableHasher::of(&(self.ticks, slow))
    }
}

#[cfg(test)]
mod tests {
    use super::super::bounds::{BoundsError, ReplayError, Transition, id};
    use super::super::ghost::Ghost;
    use super::super::schedule::Schedule;
    use super::super::symmetry::Symmetry;
    use super::super::{Exploration, Reductions, replay};
    use super::*;
    use kontiki_core::types::Term;
    use std::num::NonZeroU32;
    use std::sync::Arc;

    /// A pair whose first member leads.
    const LED: Bounds = Bounds {
        members: 2,
        voters: 2,
        led: true,
        terms: 2,
        elections: 1,
        heartbeats: 1,
        reads: 1,
        ticks: 3,
        copied: Some(0),
        instant_disks: true,
        ..Bounds::NONE
    };

    fn explored(bounds: Bounds, symmetry: bool) -> Exploration {
        let mut exploration = Exploration::reduced(bounds, Reductions { symmetry }).unwrap();
        while !exploration.is_done() {
            exploration.go_on(1_000);
        }
        exploration
    }

    #[test]
    fn leases_hold_whatever_clocks_do_within_their_drift() {
        let exploration = explored(LED, true);
        assert_eq!(exploration.found(), None);
        assert!(exploration.states() > 5_000 && exploration.depth() > 15, "{}", exploration.states());
    }

    /// A lease is given without asking the others, from when the heartbeat was sent on; the judge ends it in
    /// time.
    #[test]
    fn a_heartbeat_that_was_answered_gives_a_lease() {
        let mut schedule = Schedule { bounds: LED, path: Vec::new() };
        let until = |schedule: &Schedule| {
            let end = schedule.walk(&schedule.steps().unwrap(), |_, _| ()).unwrap().unwrap();
            end.ghost().lease_before(Term::new(2)).map(|(_, until)| until.as_nanos() - NOW.as_nanos())
        };
        for words in ["clock of member 1", "member 1 times out", "Heartbeat ", "HeartbeatAck", "reads at"] {
            assert_eq!(until(&schedule), None);
            then(&mut schedule, words);
        }
        assert_eq!(until(&schedule), Some(300_000_000), "sent at 100 ms by the leader's clock");
        let mut crashed = Schedule { bounds: Bounds { crashes: 1, ..LED }, path: schedule.path.clone() };
        then(&mut crashed, "member 1 crashes");
        assert_eq!(until(&crashed), None, "its host reads no more");
        then(&mut schedule, "clock of member 1");
        assert!(until(&schedule).is_some());
        then(&mut schedule, "clock of member 1");
        assert_eq!(until(&schedule), None);
    }

    #[test]
    fn members_may_be_renamed_with_their_clocks() {
        let bounds = Bounds { led: false, ticks: 2, ..LED };
        let (all, reduced) = (explored(bounds, false), explored(bounds, true));
        assert_eq!((all.found(), reduced.found(), all.depth()), (None, None, reduced.depth()));
        assert_eq!(all.states(), 2 * reduced.states() - 1, "all but the first have a twin");
    }

    /// Two slow ticks are a lease, and two others a promise.
    #[test]
    fn ticks_are_as_different_as_clocks_may_be() {
        let after = |ticks| (0..ticks).fold(Clocks::default(), |clocks, _| clocks.tick(0));
        let passed = |clocks: Clocks, member| clocks.of(member).now().as_nanos() - NOW.as_nanos();
        let (slow, fast) = (passed(after(2), 0), passed(after(2), 1));
        assert_eq!(fast, PROMISE * 1_000_000);
        let drift = u64::from(DRIFT_PPM);
        assert_eq!(slow * (1_000_000 + drift), fast * (1_000_000 - drift));
        assert!(after(1).may_be_slow(0) && !after(1).may_be_slow(1) && after(0).may_be_slow(1));
        // Due in each, and late in none.
        const { assert!(TICK < 2 * HEARTBEAT && SLOW_TICK >= HEARTBEAT) };
    }

    fn events(schedule: &Schedule) -> Vec<String> {
        let told = |transition: Transition| {
            let longer = Schedule { path: [&schedule.path[..], &[transition]].concat(), ..schedule.clone() };
            replay(&longer).unwrap().0.pop().unwrap()
        };
        schedule.next().unwrap().into_iter().map(told).collect()
    }

    /// Goes on with what is told in these words.
    fn then(schedule: &mut Schedule, words: &str) {
        let place = events(schedule).iter().position(|told| told.contains(words));
        let place = place.unwrap_or_else(|| panic!("{words} cannot happen"));
        schedule.path.push(schedule.next().unwrap()[place]);
    }

    /// A timer goes off when it is due, or later; the slow clock is always that of the same member.
    #[test]
    fn time_goes_on_in_ticks() {
        let mut schedule = Schedule { bounds: LED, path: Vec::new() };
        let may = |schedule: &Schedule, words: &str| events(schedule).iter().any(|told| told.contains(words));
        assert!(!may(&schedule, "times out"), "nothing is due");
        then(&mut schedule, "by the clock of member 1 slowly");
        assert!(may(&schedule, "member 1 times out"), "a heartbeat is due");
        assert!(!may(&schedule, "member 2 times out") && !may(&schedule, "clock of member 2"));
        then(&mut schedule, "by the clock of member 1 slowly");
        assert!(may(&schedule, "member 2 times out"), "it has heard nothing for as long as it promised");
        then(&mut schedule, "by the clock of member 1 slowly");
        assert!(!may(&schedule, "by the clock of"), "those were all ticks");
        assert_eq!(schedule.script(), Err(ReplayError::Clocks));
    }

    /// The host of a leader may read until its lease ends by its clock; in that time none is elected.
    #[test]
    fn another_leader_while_a_lease_holds_is_seen() {
        let lease = Instant::from_nanos(NOW.as_nanos() + 250_000_000);
        let mut ghost = Arc::<Ghost>::default();
        Arc::make_mut(&mut ghost).leased(Term::new(2), id(0), lease);
        assert_eq!(ghost.lease_before(Term::new(3)).map(|(leader, _)| leader), Some(id(0)));
        assert_eq!(ghost.lease_before(Term::new(2)), None, "it is of no earlier term");
        let clocks = Clocks::default().tick(0).tick(0);
        ghost.time_passes(&clocks);
        assert!(ghost.lease_before(Term::new(3)).is_some(), "200 ms by its slow clock");
        let symmetry = Symmetry::within(&Bounds { led: false, ..LED });
        let holders =
            symmetry.renamings().iter().map(|names| ghost.renamed(names).lease_before(Term::new(3)));
        let holders: Vec<_> = holders.map(|lease| lease.map(|(leader, _)| leader)).collect();
        assert_eq!(holders, [Some(id(0)), Some(id(1))], "it is renamed with its leader");
        let mut crashed = Arc::clone(&ghost);
        crashed.crashes(id(1));
        assert_eq!(crashed, ghost, "another");
        crashed.crashes(id(0));
        assert_eq!(crashed.lease_before(Term::new(3)), None);
        ghost.time_passes(&clocks.tick(0));
        assert_eq!(ghost.lease_before(Term::new(3)), None);
    }

    /// The host of a leader that crashes reads no more by its lease: so another may lead at once.
    #[test]
    fn crashes_and_alarms_break_no_lease() {
        let crashed = Bounds { crashes: 1, ticks: 2, ..LED };
        let alarmed = Bounds { alarms: 1, ..crashed };
        let exploration = explored(alarmed, true);
        assert_eq!(exploration.found(), None);
        assert!(exploration.states() > 5_000, "{}", exploration.states());
        let mut schedule = Schedule { bounds: alarmed, path: Vec::new() };
        let may = |schedule: &Schedule, words: &str| events(schedule).iter().any(|told| told.contains(words));
        for alarmed in ["member 1 takes its leader for lost", "member 2 takes its leader for lost"] {
            assert_eq!(may(&schedule, alarmed), alarmed.contains('2'), "only a follower has one");
        }
        then(&mut schedule, "by the clock of member 1 slowly");
        then(&mut schedule, "by the clock of member 1 slowly");
        assert!(may(&schedule, "member 2 times out"));
        then(&mut schedule, "member 2 crashes");
        assert!(!may(&schedule, "member 2 times out"), "it counts from its start on");
    }

    #[test]
    fn what_has_no_time_is_refused() {
        let error = |bounds| Exploration::new(bounds).unwrap_err();
        assert_eq!(error(Bounds { ticks: 9, ..LED }), BoundsError::Ticks(9));
        assert_eq!(error(Bounds { liveness_every: NonZeroU32::new(1), ..LED }), BoundsError::TimedLiveness);
        assert_eq!(error(Bounds { trial_every: NonZeroU32::new(1), ..LED }), BoundsError::TimedLiveness);
    }
}
