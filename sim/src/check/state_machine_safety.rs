//! State Machine Safety: if a server has applied a log entry at a given index to its state machine, no other
//! server will ever apply a different log entry for the same index (paper §5.4.3, figure 3). Checked already
//! when an entry is known to be committed, which is before any server may apply it.

use super::{Check, Observation};
use crate::ledger::{Link, link_at};

/// The one sequence of entries that the group has committed.
#[derive(Default, Debug)]
pub struct StateMachineSafety {
    committed: Vec<Link>,
}

impl StateMachineSafety {
    /// What the group has committed.
    pub fn committed(&self) -> &[Link] {
        &self.committed
    }
}

impl Check for StateMachineSafety {
    const NAME: &'static str = "State Machine Safety";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), String> {
        let after = step.after;
        if after.committed == step.before.committed || after.committed.get() == 0 {
            return Ok(());
        }
        let through = after.committed;
        let Some(ours) = link_at(step.chain, through) else {
            return Err(format!("member {} commits {through}, beyond the end of its log", after.id));
        };
        match link_at(&self.committed, through) {
            Some(known) if known.prefix == ours.prefix => Ok(()),
            Some(_) => {
                Err(format!("member {} commits another log through {through} than the group did", after.id))
            }
            None => {
                let known = self.committed.len();
                let agrees = known == 0 || step.chain[known - 1].prefix == self.committed[known - 1].prefix;
                if !agrees {
                    return Err(format!(
                        "member {} commits through {through} on another log than the group's",
                        after.id
                    ));
                }
                self.committed.extend_from_slice(&step.chain[known..through.get() as usize]);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, show, status};
    use super::*;
    use kontiki_core::status::RoleKind::Follower;

    fn commit(
        check: &mut StateMachineSafety,
        id: u64,
        through: u64,
        log: &[(u64, &str)],
    ) -> Result<(), String> {
        show(check, &status(id, Follower, 3, 0), &status(id, Follower, 3, through), &chain(log))
    }

    #[test]
    fn fires_on_two_members_that_commit_different_entries() {
        let mut check = StateMachineSafety::default();
        assert!(commit(&mut check, 1, 2, &[(1, "a"), (1, "b"), (1, "c")]).is_ok());
        assert_eq!(check.committed().len(), 2);
        assert!(commit(&mut check, 2, 2, &[(1, "a"), (1, "b")]).is_ok());
        assert!(commit(&mut check, 2, 2, &[(1, "a"), (2, "b")]).is_err());
        assert!(commit(&mut check, 3, 3, &[(1, "a"), (1, "x"), (1, "c")]).is_err());
        assert!(commit(&mut check, 3, 3, &[(1, "a")]).is_err());
    }
}
