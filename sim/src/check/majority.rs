//! Whether a majority of the voters has what a check looks for.

use kontiki_core::membership::Membership;
use kontiki_core::types::{Member, NodeId};

/// Whether a majority of the voters of `membership` is such: of both sets of voters, where two decide.
/// Counted here, and not by the kernel whose counting is judged.
pub(crate) fn has_majority(membership: &Membership, is_such: impl Fn(Member) -> bool) -> bool {
    let counts = |id: NodeId| {
        let incarnation = membership.incarnation(id);
        incarnation.is_some_and(|incarnation| is_such(Member::new(id, incarnation)))
    };
    let of = |voters: &[NodeId]| 2 * voters.iter().filter(|&&id| counts(id)).count() > voters.len();
    of(membership.voters()) && (membership.outgoing().is_empty() || of(membership.outgoing()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{group, id};
    use super::*;
    use kontiki_core::types::Incarnation;

    #[test]
    fn both_sets_decide_while_there_are_two() {
        let joint = Membership::joint([1, 4, 5].map(id), [1, 2, 3].map(id), []).expect("members");
        let has = |all: &[u64]| has_majority(&joint, |member| all.contains(&member.id.get()));
        assert!(has(&[1, 2, 4]) && has(&[2, 3, 4, 5]));
        assert!(!has(&[1, 4, 5]) && !has(&[1, 2, 3]));
    }

    #[test]
    fn another_incarnation_is_another_member() {
        let wiped = Member::new(id(2), Incarnation(1));
        let of = |second: Member| {
            let group = Membership::of([id(1).into(), second, id(3).into()]).expect("members");
            has_majority(&group, |member| [id(1).into(), wiped].contains(&member))
        };
        assert!(of(wiped));
        assert!(!of(id(2).into()));
        assert!(!has_majority(&group(4), |member| member.id.get() <= 2), "half is no majority");
    }
}
