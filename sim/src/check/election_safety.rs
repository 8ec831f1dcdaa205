//! Election Safety: at most one leader can be elected in a given term (paper §5.2, figure 3).

use super::{Check, Observation};
use kontiki_core::status::RoleKind;
use kontiki_core::types::{NodeId, Term};
use std::collections::BTreeMap;

/// Who led each term.
#[derive(Default, Debug)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
}

impl Check for ElectionSafety {
    const NAME: &'static str = "Election Safety";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), String> {
        let (before, after) = (step.before, step.after);
        let known = before.role == RoleKind::Leader && before.term == after.term;
        if after.role != RoleKind::Leader || known {
            return Ok(());
        }
        let first = *self.leaders.entry(after.term).or_insert(after.id);
        if first == after.id {
            Ok(())
        } else {
            Err(format!("members {first} and {} both lead term {}", after.id, after.term))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{show, status};
    use super::*;

    #[test]
    fn fires_on_a_second_leader_of_a_term() {
        let mut check = ElectionSafety::default();
        let candidate = |id| status(id, RoleKind::Candidate, 4, 0);
        let leader = |id| status(id, RoleKind::Leader, 4, 0);
        assert_eq!(show(&mut check, &candidate(1), &leader(1), &[]), Ok(()));
        assert_eq!(show(&mut check, &leader(1), &leader(1), &[]), Ok(()));
        assert!(show(&mut check, &candidate(2), &leader(2), &[]).is_err());
    }
}
