//! Who belongs to the group, and who of them decides.

use crate::quorum::{self, Tally};
use crate::types::{Index, NodeId};
use alloc::vec::Vec;
use core::fmt;

/// The members of a group: voters, and learners that receive the log but decide nothing.
///
/// While the group moves from one set of voters to another (joint consensus, paper §6), `outgoing` holds the old
/// set, and every decision needs a majority of both. All sets are sorted and free of duplicates, a learner is in no
/// voting set, and there is at least one voter.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(try_from = "Sets", into = "Sets"))]
pub struct Membership {
    voters: Vec<NodeId>,
    outgoing: Vec<NodeId>,
    learners: Vec<NodeId>,
}

/// The most members of any one kind. Decisions are counted without sorting, which is fast for real groups and would
/// not be for large ones.
pub const MAX_MEMBERS: usize = 64;

/// Why a list of members is no membership.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MembershipError {
    /// There are no voters: nobody could ever decide anything.
    NoVoters,
    /// A member is listed twice.
    Duplicate(NodeId),
    /// More members of one kind than [`MAX_MEMBERS`]; the number that was given.
    TooMany(usize),
}

impl Membership {
    /// A group of `voters` alone.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Result<Self, MembershipError> {
        Self::new(voters, [])
    }

    /// A group of `voters` and `learners`, in any order.
    pub fn new(
        voters: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Result<Self, MembershipError> {
        Self::joint(voters, [], learners)
    }

    /// A group on its way from the voters `outgoing` to the voters `incoming` (paper §6).
    pub fn joint(
        incoming: impl IntoIterator<Item = NodeId>,
        outgoing: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Result<Self, MembershipError> {
        let voters = sorted(incoming)?;
        let outgoing = sorted(outgoing)?;
        let learners = sorted(learners)?;
        if voters.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        let votes = |id: &NodeId| voters.binary_search(id).is_ok() || outgoing.binary_search(id).is_ok();
        match learners.iter().copied().find(votes) {
            Some(twice) => Err(MembershipError::Duplicate(twice)),
            None => Ok(Self { voters, outgoing, learners }),
        }
    }

    /// The voters, or while joint, those of the new set; sorted.
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// While joint, the voters of the old set; empty otherwise; sorted.
    pub fn outgoing(&self) -> &[NodeId] {
        &self.outgoing
    }

    /// The members that receive the log and decide nothing; sorted.
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Whether two sets of voters must agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` has a vote in either set.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.voters.binary_search(&id).is_ok() || self.outgoing.binary_search(&id).is_ok()
    }

    /// Whether `id` is anybody here.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.binary_search(&id).is_ok()
    }

    /// Everybody, each once, in the order of their ids.
    pub fn members(&self) -> Vec<NodeId> {
        if self.outgoing.is_empty() && self.learners.is_empty() {
            // Sorted and free of duplicates already.
            return self.voters.clone();
        }
        let mut all = [&self.voters[..], &self.outgoing, &self.learners].concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Everybody with a vote in either set, each once; those of the new set first.
    pub(crate) fn all_voters(&self) -> impl Iterator<Item = NodeId> {
        let only_outgoing = self.outgoing.iter().filter(|id| self.voters.binary_search(id).is_err());
        self.voters.iter().chain(only_outgoing).copied()
    }

    /// Counts answers: won where every set has a majority for it, lost where one has none left.
    pub fn tally(&self, answer: impl Fn(NodeId) -> Option<bool>) -> Tally {
        let incoming = quorum::tally(&self.voters, &answer);
        if !self.is_joint() {
            return incoming;
        }
        match (incoming, quorum::tally(&self.outgoing, &answer)) {
            (Tally::Won, Tally::Won) => Tally::Won,
            (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
            _ => Tally::Pending,
        }
    }

    /// The greatest index that a majority of every set has reached.
    pub fn reached(&self, index_of: impl Fn(NodeId) -> Index) -> Index {
        self.reached_beyond(Index::ZERO, index_of)
    }

    /// The same, where only indexes beyond `floor` are of interest; `floor` where there is none.
    pub(crate) fn reached_beyond(&self, floor: Index, index_of: impl Fn(NodeId) -> Index) -> Index {
        let incoming = quorum::reached_beyond(floor, &self.voters, &index_of);
        if !self.is_joint() {
            return incoming;
        }
        incoming.min(quorum::reached_beyond(floor, &self.outgoing, &index_of))
    }
}

fn sorted(ids: impl IntoIterator<Item = NodeId>) -> Result<Vec<NodeId>, MembershipError> {
    let mut ids: Vec<_> = ids.into_iter().take(MAX_MEMBERS + 1).collect();
    if ids.len() > MAX_MEMBERS {
        return Err(MembershipError::TooMany(ids.len()));
    }
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(MembershipError::Duplicate(pair[0])),
        None => Ok(ids),
    }
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoters => f.write_str("no voters: name at least one member that votes"),
            Self::Duplicate(id) => {
                write!(f, "member {id} is listed twice: list each member once, as voter or as learner")
            }
            Self::TooMany(count) => {
                write!(f, "{count} members of one kind: a group takes at most {MAX_MEMBERS}")
            }
        }
    }
}

impl core::error::Error for MembershipError {}

/// What a membership looks like outside: checked on its way in.
#[cfg(feature = "serde")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Sets {
    voters: Vec<NodeId>,
    #[serde(default)]
    outgoing: Vec<NodeId>,
    #[serde(default)]
    learners: Vec<NodeId>,
}

#[cfg(feature = "serde")]
impl TryFrom<Sets> for Membership {
    type Error = MembershipError;
    fn try_from(sets: Sets) -> Result<Self, MembershipError> {
        Self::joint(sets.voters, sets.outgoing, sets.learners)
    }
}

#[cfg(feature = "serde")]
impl From<Membership> for Sets {
    fn from(membership: Membership) -> Self {
        let Membership { voters, outgoing, learners } = membership;
        Self { voters, outgoing, learners }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().map(|&number| NodeId::new(number).unwrap()).collect()
    }

    #[test]
    fn wrong_lists_are_refused_each_with_its_reason() {
        assert_eq!(Membership::of([]), Err(MembershipError::NoVoters));
        assert_eq!(Membership::of(ids(&[1, 2, 1])), Err(MembershipError::Duplicate(ids(&[1])[0])));
        assert_eq!(Membership::new(ids(&[1, 2]), ids(&[2])), Err(MembershipError::Duplicate(ids(&[2])[0])));
        assert_eq!(Membership::of(ids(&(1..100).collect::<Vec<_>>())), Err(MembershipError::TooMany(65)));
    }

    #[test]
    fn a_joint_group_needs_a_majority_of_both_sets() {
        let joint = Membership::joint(ids(&[3, 4, 5]), ids(&[1, 2, 3]), []).unwrap();
        let yes = |set: &'static [u64]| move |id: NodeId| set.contains(&id.get()).then_some(true);
        assert_eq!(joint.tally(yes(&[3, 4, 5])), Tally::Pending);
        assert_eq!(joint.tally(yes(&[1, 2, 4])), Tally::Pending);
        assert_eq!(joint.tally(yes(&[2, 3, 4])), Tally::Won);
        assert_eq!(joint.tally(|id| (id.get() <= 2).then_some(false)), Tally::Lost);
        let index = |id: NodeId| Index::new(if id.get() >= 3 { 9 } else { 4 });
        assert_eq!(joint.reached(index), Index::new(4));
    }

    #[test]
    fn learners_decide_nothing() {
        let group = Membership::new(ids(&[1, 2, 3]), ids(&[4, 5])).unwrap();
        assert_eq!(group.tally(|id| (id.get() >= 3).then_some(true)), Tally::Pending);
        assert_eq!(group.reached(|id| Index::new(if id.get() >= 3 { 9 } else { 2 })), Index::new(2));
        assert_eq!(group.members(), ids(&[1, 2, 3, 4, 5]));
    }
}
