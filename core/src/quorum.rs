//! Majorities, and what they have decided: pure functions over a set of voters.
//!
//! Everything is asked through a closure, once for each voter and in the order of the voters, and counted
//! without allocating. The cost is linear in the number of voters.

use crate::types::NodeId;

/// The most voters that are counted; no group has more members.
pub(crate) const MAX_VOTERS: usize = 64;
/// Up to so many voters, which is nearly every group, take the short way.
const FEW: usize = 8;

/// What a set of voters makes of a question that each may have answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Tally {
    /// A majority said yes.
    Won,
    /// So many said no that a majority can no longer say yes.
    Lost,
    /// Not enough answers yet.
    Pending,
}

/// How many of `voters` are more than half of them.
pub(crate) fn majority(voters: &[NodeId]) -> usize {
    voters.len() / 2 + 1
}

/// Counts the answers of `voters`; `answer` is called for voters alone.
pub(crate) fn tally(voters: &[NodeId], answer: impl Fn(NodeId) -> Option<bool>) -> Tally {
    let (mut yes, mut no) = (0, 0);
    for &voter in voters {
        match answer(voter) {
            Some(true) => yes += 1,
            Some(false) => no += 1,
            None => {}
        }
    }
    if yes >= majority(voters) {
        Tally::Won
    } else if no > voters.len() - majority(voters) {
        Tally::Lost
    } else {
        Tally::Pending
    }
}

/// The greatest value beyond `floor` that a majority of `voters` has reached; `floor` where there is none.
/// There are at most [`MAX_VOTERS`].
pub(crate) fn reached_beyond<T: Copy + Ord>(
    floor: T,
    voters: &[NodeId],
    value_of: impl FnMut(NodeId) -> T,
) -> T {
    if voters.len() <= FEW {
        reached_of::<T, FEW>(floor, voters, value_of)
    } else {
        reached_of::<T, MAX_VOTERS>(floor, voters, value_of)
    }
}

/// The same of at most `MOST` voters: of the values beyond the floor, sorted downwards, the one with which a
/// majority is complete.
fn reached_of<T: Copy + Ord, const MOST: usize>(
    floor: T,
    voters: &[NodeId],
    mut value_of: impl FnMut(NodeId) -> T,
) -> T {
    let mut values = [floor; MOST];
    let mut beyond = 0;
    for &voter in voters {
        let value = value_of(voter);
        if value > floor {
            values[beyond] = value;
            beyond += 1;
        }
    }
    if beyond < majority(voters) {
        return floor;
    }
    let (_, reached, _) = values[..beyond].select_nth_unstable_by(majority(voters) - 1, |a, b| b.cmp(a));
    *reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Index;
    use alloc::vec::Vec;

    fn voters(count: u64) -> Vec<NodeId> {
        (1..=count).map(|id| NodeId::new(id).unwrap()).collect()
    }

    #[test]
    fn a_majority_is_more_than_half() {
        let sizes = [1, 2, 3, 4, 5, 6, 7].map(|count| majority(&voters(count)));
        assert_eq!(sizes, [1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn half_of_an_even_number_decides_nothing() {
        let answer = |id: NodeId| Some(id.get() <= 2);
        assert_eq!(tally(&voters(4), answer), Tally::Lost);
        assert_eq!(tally(&voters(3), answer), Tally::Won);
    }

    #[test]
    fn an_election_is_open_while_enough_are_silent() {
        assert_eq!(tally(&voters(5), |id| (id.get() <= 2).then_some(true)), Tally::Pending);
        assert_eq!(tally(&voters(5), |id| (id.get() <= 2).then_some(false)), Tally::Pending);
        assert_eq!(tally(&voters(5), |id| (id.get() <= 3).then_some(false)), Tally::Lost);
    }

    /// Against the definition: sort, take the element that a majority is at or beyond.
    #[test]
    fn reached_is_the_median_from_below() {
        for count in (1..=9u64).chain([15, 16, 17, 63, 64]) {
            for salt in 0..200u64 {
                let index = |id: NodeId| Index::new(id.get().wrapping_mul(salt * 2_654_435_761 + 7) % 25 / 5);
                let mut sorted: Vec<_> = voters(count).into_iter().map(index).collect();
                sorted.sort_unstable_by(|a, b| b.cmp(a));
                let reached = sorted[majority(&voters(count)) - 1];
                assert_eq!(reached_beyond(Index::ZERO, &voters(count), index), reached);
                assert_eq!(reached_beyond(Index::new(2), &voters(count), index), reached.max(Index::new(2)));
            }
        }
    }

    /// Who asks in order may keep its place among the peers, so that the whole is linear.
    #[test]
    fn each_voter_is_asked_once_in_order() {
        for count in [0, 1, 3, 8, 9, 64] {
            let mut asked = Vec::new();
            let value_of = |id| {
                asked.push(id);
                Index::ZERO
            };
            assert_eq!(reached_beyond(Index::new(3), &voters(count), value_of), Index::new(3));
            assert_eq!(asked, voters(count));
        }
    }
}
