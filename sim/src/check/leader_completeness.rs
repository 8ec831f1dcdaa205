//! Leader Completeness: if a log entry is committed in a given term, then that entry will be present in the
//! logs of the leaders for all higher-numbered terms (paper §5.4, figure 3).

use super::{Check, Finding, Observation};
use crate::ledger::{Link, entry_at, held_at, link_at};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, NodeId, Term};
use std::collections::BTreeMap;

/// How far each term has committed.
#[derive(Default, Debug)]
pub struct LeaderCompleteness {
    committed: BTreeMap<Term, Furthest>,
    furthest: Index,
}

/// The furthest entry that was committed in a term, and who was the first to know.
#[derive(Debug)]
struct Furthest {
    index: Index,
    link: Link,
    member: NodeId,
    since: Stamp,
}

impl Check for LeaderCompleteness {
    const NAME: &'static str = "Leader Completeness";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let (before, after) = (step.before, step.after);
        if after.committed > self.furthest
            && let Some(&link) = link_at(step.chain, after.committed)
        {
            self.furthest = after.committed;
            let (index, member, since) = (after.committed, after.id, step.now);
            self.committed.insert(after.term, Furthest { index, link, member, since });
        }
        let elected =
            after.role == RoleKind::Leader && (before.role != RoleKind::Leader || before.term != after.term);
        if !elected {
            return Ok(());
        }
        // The furthest commit of any earlier term: commits of the terms between went less far, and are part
        // of it.
        let Some((term, furthest)) = self.committed.range(..after.term).next_back() else {
            return Ok(());
        };
        let Furthest { index, link, member, since } = furthest;
        if link_at(step.chain, *index).is_some_and(|ours| ours.prefix == link.prefix) {
            return Ok(());
        }
        let id = after.id;
        Err(Finding::new(
            format!(
                "member {id} leads term {} without the log that term {term} committed through {index}",
                after.term
            ),
            [
                Part::of(*member, *since, Involvement::Commits(entry_at(*index, link))),
                Part { member: Some(id), since: None, what: held_at(step.chain, *index) },
                Part::of(id, step.now, Involvement::Leads { term: after.term }),
            ],
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

    #[test]
    fn names_who_committed_and_what_the_leader_lacks() {
        let mut check = LeaderCompleteness::default();
        let log = chain(&[(1, "a"), (2, "b")]);
        show(&mut check, &status(1, Leader, 2, 0), &status(1, Leader, 2, 2), &log).unwrap();
        let (before, after) = (status(2, Candidate, 4, 0), status(2, Leader, 4, 0));
        let seen = show(&mut check, &before, &after, &chain(&[(1, "a")])).expect_err("it lacks entry 2");
        let told: Vec<_> = seen.parts.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "member 1 knows 2:2 to be committed, since step 0 (0.000 ms)",
                "member 2 holds no entry 2",
                "member 2 leads term 4, since step 0 (0.000 ms)",
            ]
        );
    }
}
