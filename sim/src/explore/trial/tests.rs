//! Trials that groups stand, and such as they do not.

use super::super::tests::{PAIR, explored, half_deaf};
use super::super::{Bounds, Schedule, replay};
use super::*;
use crate::explore::steps::Steps;
use crate::explore::symmetry::Symmetry;
use std::num::NonZeroU32;

fn tried(bounds: Bounds) -> Bounds {
    Bounds { trial_every: NonZeroU32::new(1), ..bounds }
}

#[test]
fn states_of_small_groups_stand_their_trials() {
    let once = Bounds { terms: 1, elections: 1, ..PAIR };
    for bounds in [
        Bounds { instant_disks: false, ..once },
        Bounds { synchronous: true, ..once },
        Bounds { slow_machines: true, crashes: 0, ..once },
        Bounds {
            led: true,
            reads: 1,
            follower_reads: 1,
            heartbeats: 1,
            elections: 0,
            copied: Some(0),
            ..PAIR
        },
        Bounds { led: true, transfers: 1, crashes: 0, elections: 0, copied: Some(0), ..PAIR },
        Bounds { voters: 1, changes: 1, snapshots: 1, crashes: 0, copied: Some(0), ..once },
        Bounds { members: 3, voters: 3, crashes: 0, copied: Some(0), proposals: 0, ..once },
        Bounds {
            members: 3,
            voters: 3,
            led: true,
            witness: true,
            crashes: 0,
            elections: 0,
            copied: Some(0),
            ..PAIR
        },
        Bounds {
            members: 4,
            voters: 3,
            learners: 1,
            led: true,
            crashes: 0,
            elections: 0,
            copied: Some(0),
            ..PAIR
        },
    ] {
        let exploration = explored(Bounds { trial_every: NonZeroU32::new(31), ..bounds }, 64);
        assert_eq!(exploration.found(), None, "{bounds:?}");
        assert!(exploration.states() > 9, "{} of {bounds:?}", exploration.states());
    }
}

/// What came of the trial is told with the way that leads there.
#[test]
fn a_group_that_stands_still_does_not_stand_its_trial() {
    let steps = Steps::new(tried(PAIR), Symmetry::none());
    assert!(State::first(&steps).unwrap().stands_trial().is_ok());
    let ended = half_deaf(&steps).stands_trial().unwrap_err();
    assert_eq!(ended.violation.property, "Liveness");
    assert!(ended.violation.detail.starts_with("no leader brings all members to where it is"));
    assert!(
        ended.told.iter().any(|line| line.contains("member 1 asks for votes in term 0")),
        "{:?}",
        ended.told
    );
    let is_wanted = |every: NonZeroU32| every.get() == 1;
    assert_eq!(half_deaf(&steps).goes_on(&steps, is_wanted).unwrap_err(), ended);
    assert_eq!(half_deaf(&steps).goes_on(&steps, |_| false), Ok(()), "not each state is tried");
    let lossy = Bounds { losses: 1, crashes: 0, proposals: 0, copied: Some(0), elections: 1, ..PAIR };
    let found = explored(tried(lossy), 64).found().cloned().unwrap();
    let lost = Schedule { bounds: tried(lossy), path: found.path };
    let (told, violation) = replay(&lost).unwrap();
    assert_eq!(violation, Some(found.violation));
    let of_the_trial: Vec<_> = told.iter().skip(lost.path.len()).collect();
    assert!(of_the_trial.len() > 1 && of_the_trial.iter().all(|line| line.contains(" ms: ")), "{told:?}");
    let calm = Schedule { bounds: tried(PAIR), path: Vec::new() };
    assert_eq!(replay(&calm).unwrap(), (Vec::new(), None));
}

/// A trial waits as long as it says for two disks that stall and a member that is cut off, and then fails.
#[test]
fn what_does_not_come_in_time_is_no_answer() {
    let steps = Steps::new(tried(PAIR), Symmetry::none());
    let mut trial = Trial::of(&State::first(&steps).unwrap().hosts);
    trial.members[0].stalls = true;
    trial.members[1].stalls = true;
    assert_eq!(trial.takes_its_course().unwrap_err().property, "Liveness");
    let mut trial = Trial::of(&State::first(&steps).unwrap().hosts);
    trial.members[0].side = Side::CutOff;
    assert_eq!(trial.takes_its_course().unwrap_err().property, "Liveness");
    let mut trial = Trial::of(&State::first(&steps).unwrap().hosts);
    assert_eq!(trial.until(HEARTBEAT, |_| false), Ok(false));
    assert_eq!(trial.now, NOW + HEARTBEAT);
}
