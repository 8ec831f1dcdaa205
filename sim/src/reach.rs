//! Whether a sweep was large enough for what it has not seen to be a finding: green without coverage is not
//! green.

use crate::report::{Counters, Mark};
use crate::scenario::Profile;
use std::ops::RangeInclusive;

/// The sizes of groups for which the numbers of [`Due`](crate::report::Due) hold.
const SIZES: RangeInclusive<u32> = 3..=7;

/// The marks that so many seeds of a profile must have reached and have not. Small sweeps must reach nothing,
/// and so must groups of few members, and the profiles in which too little goes wrong.
pub fn unmet(counters: &Counters, seeds: u64, profile: Profile, members: u32) -> Vec<Mark> {
    let is_due = |mark: &Mark| due(*mark, profile, members).is_some_and(|due| seeds >= due);
    unseen(counters).filter(is_due).collect()
}

/// The marks that some number of seeds of a profile must have reached, and that these have not.
pub fn unreached(counters: &Counters, profile: Profile, members: u32) -> Vec<Mark> {
    unseen(counters).filter(|mark| due(*mark, profile, members).is_some()).collect()
}

/// From how many seeds on a sweep must have reached a mark; none where it need not.
pub fn due(mark: Mark, profile: Profile, members: u32) -> Option<u64> {
    match profile {
        Profile::Swarm if SIZES.contains(&members) => mark.due().swarm,
        Profile::Storage if SIZES.contains(&members) => mark.due().storage,
        _ => None,
    }
}

fn unseen(counters: &Counters) -> impl Iterator<Item = Mark> + '_ {
    Mark::ALL.into_iter().filter(|mark| counters.seen(*mark) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_missed_only_in_a_sweep_that_is_large_enough() {
        let mut counters = Counters::default();
        let swarm = |counters: &Counters, seeds, members| unmet(counters, seeds, Profile::Swarm, members);
        assert_eq!(swarm(&counters, 199, 5), []);
        assert!(swarm(&counters, 200, 5).contains(&Mark::Truncated));
        assert!(!swarm(&counters, u64::MAX, 5).contains(&Mark::DiskHalt), "it takes a disk");
        assert!(unmet(&counters, 200, Profile::Storage, 3).contains(&Mark::DiskHalt));
        assert_eq!((swarm(&counters, 9_000, 2), unmet(&counters, 9_000, Profile::Calm, 5)), (vec![], vec![]));
        counters.mark(Mark::Truncated);
        assert!(!swarm(&counters, 200, 5).contains(&Mark::Truncated));
        assert!(unreached(&counters, Profile::Swarm, 5).contains(&Mark::JointLeftByAnother));
    }

    #[test]
    fn every_mark_is_due_somewhere_and_says_in_a_sentence_what_brings_it_about() {
        for mark in Mark::ALL {
            let sentence = mark.brought_about_by();
            assert!(sentence.ends_with('.') && sentence.len() > 20, "{}: {sentence}", mark.name());
            assert!(mark.due().swarm.or(mark.due().storage).is_some(), "{} is due nowhere", mark.name());
        }
    }
}
