//! Durable Commit: when a leader commits an entry, that entry and all before it are on the disks of a majority. It is
//! what an acknowledgement means, and it is lost as soon as anybody acknowledges what is only in memory.

use super::{Check, Observation};
use crate::ledger::link_at;
use kontiki_core::status::RoleKind;

/// Needs to remember nothing: looks at all disks whenever a leader commits.
#[derive(Default, Debug)]
pub struct DurableCommit;

impl Check for DurableCommit {
    const NAME: &'static str = "Durable Commit";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), String> {
        let (before, after) = (step.before, step.after);
        if after.role != RoleKind::Leader || after.committed == before.committed {
            return Ok(());
        }
        let through = after.committed;
        let prefix = link_at(step.chain, through).map(|link| link.prefix);
        let holds =
            |member: &usize| link_at((step.durable)(*member), through).map(|link| link.prefix) == prefix;
        let copies = (0..step.members).filter(holds).count();
        if prefix.is_some() && copies > step.members / 2 {
            return Ok(());
        }
        Err(format!(
            "leader {} commits through {through}, which is on {copies} of {} disks",
            after.id, step.members
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, show_actions, status};
    use super::*;

    #[test]
    fn fires_on_a_commit_that_is_on_one_disk_of_three() {
        let log = chain(&[(1, "a"), (1, "b")]);
        let before = status(1, RoleKind::Leader, 1, 0);
        let after = status(1, RoleKind::Leader, 1, 2);
        let commit = |others: &[_]| show_actions(&mut DurableCommit, &before, &after, &log, &[], others);
        assert!(commit(&log).is_ok());
        assert!(commit(&log[..1]).is_err());
        assert!(commit(&chain(&[(1, "a"), (1, "x")])).is_err());
    }
}
