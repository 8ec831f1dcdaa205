//! Leader Completeness: if a log entry is committed in a given term, then that entry will be present in the
//! logs of the leaders for all higher-numbered terms (paper §5.4, figure 3).

use super::{Check, Observation};
use crate::ledger::link_at;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, Term};
use std::collections::BTreeMap;

/// How far each term has committed: the furthest index, and the hash of the log up to it.
#[derive(Default, Debug)]
pub struct LeaderCompleteness {
    committed: BTreeMap<Term, (Index, u64)>,
    furthest: Index,
}

impl Check for LeaderCompleteness {
    const NAME: &'static str = "Leader Completeness";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), String> {
        let (before, after) = (step.before, step.after);
        if after.committed > self.furthest
            && let Some(link) = link_at(step.chain, after.committed)
        {
            self.furthest = after.committed;
            self.committed.insert(after.term, (after.committed, link.prefix));
        }
        let elected =
            after.role == RoleKind::Leader && (before.role != RoleKind::Leader || before.term != after.term);
        if !elected {
            return Ok(());
        }
        // The furthest commit of any earlier term: commits of the terms between went less far, and are part
        // of it.
        let Some((term, (index, prefix))) = self.committed.range(..after.term).next_back() else {
            return Ok(());
        };
        if link_at(step.chain, *index).is_some_and(|link| link.prefix == *prefix) {
            return Ok(());
        }
        Err(format!(
            "member {} leads term {} without the log that term {term} committed through {index}",
            after.id, after.term
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, show, status};
    use super::*;
    use RoleKind::{Candidate, Leader};

    #[test]
    fn fires_on_a_later_leader_without_a_committed_entry() {
        let log = chain(&[(1, "a"), (2, "b")]);
        let mut check = LeaderCompleteness::default();
        let leader = |id, term, committed| status(id, Leader, term, committed);
        assert!(show(&mut check, &leader(1, 2, 0), &leader(1, 2, 2), &log).is_ok());
        let elected = |check: &mut _, term, log: &_| {
            show(check, &status(2, Candidate, term, 0), &leader(2, term, 0), log)
        };
        assert!(elected(&mut check, 3, &chain(&[(1, "a"), (2, "b"), (3, "c")])).is_ok());
        assert!(elected(&mut check, 1, &chain(&[(1, "a")])).is_ok(), "an earlier term need not have it");
        assert!(elected(&mut check, 4, &chain(&[(1, "a")])).is_err());
        assert!(elected(&mut check, 5, &chain(&[(1, "a"), (3, "x")])).is_err());
    }
}
