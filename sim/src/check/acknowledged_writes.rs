//! Acknowledged Writes: what a client was told is committed is in the group's log, where it was told, and
//! stays there; what it was told is refused never gets there.

use crate::ledger::{Link, link_at};
use kontiki_core::types::{LogId, NodeId, RequestId};
use std::collections::BTreeSet;

/// The name of the property.
pub const NAME: &str = "Acknowledged Writes";

/// A request that was answered as committed.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// The request.
    pub request: RequestId,
    /// Where it was said to be committed.
    pub id: LogId,
    /// The hash of what was proposed.
    pub content: u64,
}

/// Everything that was acknowledged or refused.
#[derive(Default, Debug)]
pub struct AcknowledgedWrites {
    writes: Vec<Acknowledged>,
    /// The hashes of what was refused. No two requests propose the same.
    refused: BTreeSet<u64>,
}

impl AcknowledgedWrites {
    /// A client is told; `committed` is what the group has committed.
    pub fn acknowledged(&mut self, write: Acknowledged, committed: &[Link]) -> Result<(), String> {
        self.writes.push(write);
        is_in(write, committed)
            .map_err(|found| format!("{write:?} is acknowledged, and the group has committed {found}"))
    }

    /// A client is told that nothing was done about its request, and nothing will be.
    pub fn refused(&mut self, content: u64) {
        self.refused.insert(content);
    }

    /// Whether all that was ever acknowledged is in the log of this member, and nothing that was refused.
    pub fn all_in(&self, member: NodeId, log: &[Link]) -> Result<(), String> {
        if let Some(position) = log.iter().position(|link| self.refused.contains(&link.content)) {
            return Err(format!(
                "entry {} of member {member} was refused when it was proposed",
                position + 1
            ));
        }
        self.writes.iter().try_for_each(|&write| {
            is_in(write, log)
                .map_err(|found| format!("{write:?} was acknowledged, and member {member} has {found}"))
        })
    }
}

fn is_in(write: Acknowledged, log: &[Link]) -> Result<(), String> {
    match link_at(log, write.id.index) {
        Some(link) if link.term == write.id.term && link.content == write.content => Ok(()),
        Some(link) => Err(format!("something else there, of term {}", link.term)),
        None => Err("nothing there".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{chain, id};
    use super::*;

    #[test]
    fn fires_on_an_answer_about_what_is_not_committed_and_on_a_log_that_lost_it() {
        let log = chain(&[(1, "a"), (1, "b")]);
        let write =
            |index: u64, content| Acknowledged { request: RequestId(1), id: LogId::new(1, index), content };
        let mut check = AcknowledgedWrites::default();
        assert!(check.acknowledged(write(2, log[1].content), &log).is_ok());
        assert!(check.all_in(id(1), &log).is_ok());
        assert!(check.all_in(id(2), &log[..1]).is_err());
        assert!(check.acknowledged(write(2, log[0].content), &log).is_err(), "another request's payload");
        assert!(check.acknowledged(write(3, log[0].content), &log).is_err(), "beyond what is committed");
    }

    #[test]
    fn fires_on_a_log_that_holds_what_was_refused() {
        let log = chain(&[(1, "a"), (1, "b")]);
        let mut check = AcknowledgedWrites::default();
        check.refused(log[1].content);
        assert!(check.all_in(id(1), &log[..1]).is_ok());
        assert!(check.all_in(id(1), &log).is_err());
    }
}
