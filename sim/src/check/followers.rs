//! What a check knows of each follower of each leader, for as long as that leads.

use super::Observation;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Member, Term};
use std::collections::BTreeMap;

/// By the position of the leader.
#[derive(Default, Debug)]
pub(super) struct Followers<F> {
    leaders: BTreeMap<usize, (Term, BTreeMap<Member, F>)>,
}

impl<F> Followers<F> {
    /// The followers of the member that has taken this step, if it leads: none are known when its term
    /// begins. Of a follower that has left the group or joined it, `begin_anew` says whether it is still
    /// known.
    pub(super) fn of(
        &mut self,
        step: &Observation<'_>,
        begin_anew: impl Fn(&mut F) -> bool,
    ) -> Option<&mut BTreeMap<Member, F>> {
        if step.after.role != RoleKind::Leader {
            self.leaders.remove(&step.member);
            return None;
        }
        let (term, followers) = self.leaders.entry(step.member).or_default();
        if *term != step.after.term {
            (*term, *followers) = (step.after.term, BTreeMap::new());
        }
        if step.before.configured != step.after.configured {
            let both = [step.membership_before, step.membership];
            let stays = |member: &Member| both.iter().all(|it| it.contains(*member));
            followers.retain(|member, known| stays(member) || begin_anew(known));
        }
        Some(followers)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Check;
    use super::super::testing::{id, show, status};
    use super::*;
    use crate::check::Finding;
    use kontiki_core::status::Status;
    use kontiki_core::types::LogId;

    /// Counts the steps in which each follower was known: members 2, which stays, and 4, which is no member.
    struct Steps {
        followers: Followers<u32>,
        keeps: bool,
    }

    impl Check for Steps {
        const NAME: &'static str = "Steps";

        fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
            let keeps = self.keeps;
            if let Some(followers) = self.followers.of(step, |_| keeps) {
                for member in [2, 4] {
                    *followers.entry(id(member).into()).or_default() += 1;
                }
            }
            Ok(())
        }
    }

    impl Steps {
        fn take(&mut self, before: &Status, after: &Status) -> Vec<u32> {
            show(self, before, after, &[]).expect("a check that only counts");
            self.followers
                .leaders
                .get(&0)
                .map(|(_, known)| known.values().copied().collect())
                .unwrap_or_default()
        }
    }

    #[test]
    fn are_known_for_as_long_as_one_leads_and_they_are_members() {
        let mut steps = Steps { followers: Followers::default(), keeps: false };
        let leads = |term| status(1, RoleKind::Leader, term, 0);
        assert_eq!(steps.take(&leads(1), &leads(1)), [1, 1]);
        assert_eq!(steps.take(&leads(1), &leads(1)), [2, 2]);
        let configured = Status { configured: LogId::new(1, 1), ..leads(1) };
        assert_eq!(steps.take(&leads(1), &configured), [3, 1], "member 4 begins anew");
        steps.keeps = true;
        assert_eq!(steps.take(&leads(1), &configured), [4, 2], "it is kept where the check says so");
        assert_eq!(steps.take(&leads(1), &leads(2)), [1, 1], "another term");
        assert_eq!(
            steps.take(&leads(2), &status(1, RoleKind::Follower, 2, 0)),
            Vec::<u32>::new(),
            "it leads no more"
        );
        assert_eq!(steps.take(&leads(2), &leads(2)), [1, 1]);
    }
}
