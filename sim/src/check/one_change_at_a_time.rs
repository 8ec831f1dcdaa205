//! One Change at a Time: a leader appends a membership only once the one before it is committed, and with it
//! an entry of the leader's own term; and any majority that decides under one of them shares a member with
//! any that decides under the other (paper §6, thesis 4.1 and its erratum of 2015). A joint phase is left for
//! what it leads to: its new voters, its learners, and those of its old voters that become learners.

use super::{Check, Finding, Observation};
use crate::ledger::link_at;
use kontiki_core::action::Action;
use kontiki_core::log::EntryBody;
use kontiki_core::membership::Membership;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, Member, NodeId};

/// Needs to remember nothing.
#[derive(Default, Debug)]
pub struct OneChangeAtATime;

impl Check for OneChangeAtATime {
    const NAME: &'static str = "One Change at a Time";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let (before, after) = (step.before, step.after);
        if after.role != RoleKind::Leader {
            return Ok(());
        }
        let mut latest = before.configured.index;
        let mut membership = step.membership_before;
        for action in step.actions {
            let Action::Persist(write) = action else { continue };
            for entry in write.append.iter() {
                let EntryBody::Config(next) = &entry.body else { continue };
                let (id, index) = (after.id, entry.id.index);
                if latest > after.committed {
                    return Err(format!(
                        "leader {id} appends a membership at {index}, and that at {latest} is not committed"
                    )
                    .into());
                }
                if !has_committed(step, after.committed) {
                    return Err(format!(
                        "leader {id} appends a membership at {index} and has committed nothing of its term"
                    )
                    .into());
                }
                if !overlap(membership, next) {
                    return Err(format!("leader {id} goes from {membership} to {next} in one step").into());
                }
                if membership.is_joint() && !next.is_joint() && !leads_to(membership, next) {
                    return Err(format!("leader {id} leaves {membership} for {next}").into());
                }
                latest = index;
                membership = next;
            }
        }
        Ok(())
    }
}

fn has_committed(step: &Observation<'_>, committed: Index) -> bool {
    link_at(step.chain, committed).is_some_and(|link| link.term == step.after.term)
}

/// Whether every majority of one shares a member with every majority of the other.
fn overlap(one: &Membership, other: &Membership) -> bool {
    let sets = |membership: &Membership| -> Vec<Vec<NodeId>> {
        let sets = [membership.voters().to_vec(), membership.outgoing().to_vec()];
        sets.into_iter().filter(|set| !set.is_empty()).collect()
    };
    // It is enough that one set of each is so close that their majorities must meet.
    sets(one).iter().any(|a| {
        sets(other).iter().any(|b| {
            a.iter().filter(|id| !b.contains(id)).count() + b.iter().filter(|id| !a.contains(id)).count() <= 1
        })
    })
}

/// Whether this is what a joint membership becomes when it is left.
fn leads_to(joint: &Membership, next: &Membership) -> bool {
    let mut learners = [joint.learners(), joint.demoted()].concat();
    learners.sort_unstable();
    let stays = |member: &&Member| joint.voters().contains(&member.id) || learners.contains(&member.id);
    next.voters() == joint.voters()
        && joint.members().iter().filter(stays).eq(next.members())
        && next.members().iter().all(|member| joint.is_witness(member.id) == next.is_witness(member.id))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, observation, status};
    use super::*;
    use kontiki_core::action::Write;
    use kontiki_core::log::{Entries, Entry};
    use kontiki_core::types::{Ballot, Incarnation, LogId, Term, WriteSeq};

    fn ids(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().map(|&number| NodeId::new(number).unwrap()).collect()
    }

    fn of(voters: &[u64], learners: &[u64]) -> Membership {
        Membership::new(ids(voters), ids(learners)).unwrap()
    }

    /// The membership, with these as its set of that name.
    fn with(membership: &Membership, set: &str, numbers: &[u64]) -> Membership {
        let mut sets = serde_json::to_value(membership).unwrap();
        sets[set] = serde_json::to_value(ids(numbers)).unwrap();
        serde_json::from_value(sets).unwrap()
    }

    /// What is said of a leader of term 1, all of whose log is committed, that appends these after `first`.
    fn appends(first: &Membership, then: &[&Membership]) -> Result<(), Finding> {
        let append = then.iter().zip(2..).map(|(&next, index)| {
            let body = EntryBody::Config(next.clone().into());
            Entry { id: LogId::new(1, index), body }
        });
        let write = Write {
            seq: WriteSeq::new(1),
            ballot: Ballot::new(Term::new(1), None),
            starts: 1,
            truncate_after: None,
            rebase: None,
            repaired: Entries::EMPTY,
            append: append.collect(),
            committed: Index::new(1),
        };
        let (leads, log) = (status(1, RoleKind::Leader, 1, 1), chain(&[(1, "x")]));
        OneChangeAtATime.observe(&Observation {
            actions: &[Action::Persist(write)],
            chain: &log,
            ..observation(&leads, &leads, first)
        })
    }

    #[test]
    fn a_joint_phase_is_left_for_what_it_leads_to() {
        let joint = Membership::joint(ids(&[3, 4, 5]), ids(&[1, 2, 3]), ids(&[6])).unwrap();
        let right = of(&[3, 4, 5], &[6]);
        assert_eq!(appends(&joint, &[&right]), Ok(()));
        let reborn = Member { incarnation: Incarnation(9), ..ids(&[4])[0].into() };
        let reborn = Membership::of([ids(&[3])[0].into(), reborn, ids(&[5])[0].into()]).unwrap();
        let wrong = [
            of(&[3, 4, 5], &[]),
            of(&[3, 4], &[5, 6]),
            of(&[3, 4], &[6]),
            of(&[1, 2, 3], &[6]),
            of(&[3, 4, 5, 6], &[]),
            of(&[3, 4, 5], &[1, 6]),
            with(&right, "witnesses", &[4]),
            reborn,
        ];
        for other in wrong {
            let seen = appends(&joint, &[&other]).expect_err("it leads elsewhere").detail;
            assert_eq!(seen, format!("leader 1 leaves {joint} for {other}"));
        }
        let joint = with(&joint, "witnesses", &[5]);
        assert_eq!(appends(&joint, &[&with(&right, "witnesses", &[5])]), Ok(()));
        assert!(appends(&joint, &[&right]).is_err(), "the witness stays one");
        let joint = with(&joint, "demoted", &[2]);
        assert_eq!(appends(&joint, &[&with(&of(&[3, 4, 5], &[2, 6]), "witnesses", &[5])]), Ok(()));
        assert!(appends(&joint, &[&with(&right, "witnesses", &[5])]).is_err(), "2 goes on as a learner");
    }

    #[test]
    fn a_change_waits_for_the_one_before_it() {
        let group = of(&[1, 2, 3], &[]);
        let [four, five] = [of(&[1, 2, 3, 4], &[]), of(&[1, 2, 3, 4, 5], &[])];
        assert_eq!(appends(&group, &[&four]), Ok(()));
        let seen = appends(&group, &[&four, &five]).expect_err("4 is not decided").detail;
        assert_eq!(seen, "leader 1 appends a membership at 3, and that at 2 is not committed");
    }

    #[test]
    fn one_voter_more_or_less_or_a_joint_step_overlaps_and_a_swap_does_not() {
        let of = |voters: &[u64]| Membership::of(ids(voters)).unwrap();
        let joint = Membership::joint(ids(&[3, 4, 5]), ids(&[1, 2, 3]), []).unwrap();
        assert!(overlap(&of(&[1, 2, 3]), &of(&[1, 2])));
        assert!(overlap(&of(&[1, 2, 3]), &joint) && overlap(&joint, &of(&[3, 4, 5])));
        assert!(!overlap(&of(&[1, 2, 3]), &of(&[1, 2, 4])));
    }
}
