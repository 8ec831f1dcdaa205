//! Leader Append-Only: a leader never overwrites or deletes entries in its log; it only appends (paper §5.3,
//! figure 3).

use super::{Check, Finding, Observation};
use kontiki_core::action::Action;
use kontiki_core::status::RoleKind;

/// Needs to remember nothing.
#[derive(Default, Debug)]
pub struct LeaderAppendOnly;

impl Check for LeaderAppendOnly {
    const NAME: &'static str = "Leader Append-Only";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let (before, after) = (step.before, step.after);
        let leads =
            before.role == RoleKind::Leader && after.role == RoleKind::Leader && before.term == after.term;
        if !leads {
            return Ok(());
        }
        for action in step.actions {
            if let Action::Persist(write) = action
                && let Some(cut) = write.truncate_after
            {
                return Err(
                    format!("leader {} of term {} cut its log after {cut}", after.id, after.term).into()
                );
            }
        }
        if after.last < before.last {
            return Err(format!(
                "the log of leader {} ended at {} and ends at {}",
                after.id, before.last, after.last
            )
            .into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{show, show_actions, status};
    use super::*;
    use kontiki_core::action::Write;
    use kontiki_core::log::Entries;
    use kontiki_core::types::{Ballot, Index, LogId, WriteSeq};

    #[test]
    fn fires_on_a_leader_that_cuts_its_log_and_not_on_a_follower() {
        let cut = Action::Persist(Write {
            starts: 1,
            rebase: None,
            seq: WriteSeq::new(1),
            ballot: Ballot::default(),
            truncate_after: Some(Index::new(3)),
            repaired: Entries::EMPTY,
            append: Entries::EMPTY,
            committed: Index::ZERO,
        });
        let mut check = LeaderAppendOnly;
        let leader = status(1, RoleKind::Leader, 4, 0);
        let follower = status(1, RoleKind::Follower, 4, 0);
        assert!(show_actions(&mut check, &leader, &leader, &[], std::slice::from_ref(&cut), &[]).is_err());
        assert!(show_actions(&mut check, &follower, &follower, &[], &[cut], &[]).is_ok());
    }

    #[test]
    fn fires_on_a_leader_whose_log_shrinks() {
        let leader = status(1, RoleKind::Leader, 4, 0);
        let longer = kontiki_core::status::Status { last: LogId::new(4, 7), ..leader };
        assert!(show(&mut LeaderAppendOnly, &leader, &longer, &[]).is_ok());
        assert!(show(&mut LeaderAppendOnly, &longer, &leader, &[]).is_err());
    }
}
