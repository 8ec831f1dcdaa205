//! Election Safety: at most one leader can be elected in a given term (paper §5.2, figure 3).

use super::{Check, Finding, Observation};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::status::RoleKind;
use kontiki_core::types::{NodeId, Term};
use std::collections::BTreeMap;

/// Who led each term, and since when.
#[derive(Default, Debug)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, (NodeId, Stamp)>,
}

impl Check for ElectionSafety {
    const NAME: &'static str = "Election Safety";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let (before, after) = (step.before, step.after);
        let known = before.role == RoleKind::Leader && before.term == after.term;
        if after.role != RoleKind::Leader || known {
            return Ok(());
        }
        let (first, since) = *self.leaders.entry(after.term).or_insert((after.id, step.now));
        if first == after.id {
            return Ok(());
        }
        let term = after.term;
        let parts = [(first, since), (after.id, step.now)];
        Err(Finding::new(
            format!("members {first} and {} both lead term {term}", after.id),
            parts.map(|(id, since)| Part::of(id, since, Involvement::Leads { term })),
        ))
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
        let seen = show(&mut check, &candidate(2), &leader(2), &[]).expect_err("a second leader");
        let told: Vec<_> = seen.parts.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "member 1 leads term 4, since step 0 (0.000 ms)",
                "member 2 leads term 4, since step 0 (0.000 ms)"
            ]
        );
    }
}
