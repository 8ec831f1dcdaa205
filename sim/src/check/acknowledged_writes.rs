//! Acknowledged Writes: what a client was told is committed is in the group's log, where it was told, and
//! stays there; what it was told is refused never gets there.

use super::Finding;
use super::state_machine_safety::StateMachineSafety;
use crate::ledger::{Link, held_at, index_of, link_at};
use crate::part::{Involvement, LogEntry, Part, Stamp};
use kontiki_core::types::{LogId, NodeId, RequestId};
use std::collections::BTreeSet;
use std::fmt;

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
    /// The member that told the client.
    pub member: NodeId,
    /// When.
    pub at: Stamp,
}

/// Everything that was acknowledged or refused.
#[derive(Default, Debug)]
pub struct AcknowledgedWrites {
    writes: Vec<Acknowledged>,
    /// The hashes of what was refused. No two requests propose the same.
    refused: BTreeSet<u64>,
}

impl AcknowledgedWrites {
    /// A client is told; `log` is what the group has committed.
    pub fn acknowledged(&mut self, write: Acknowledged, log: &StateMachineSafety) -> Result<(), Finding> {
        self.writes.push(write);
        is_in(write, log.committed()).map_err(|found| {
            let what = format!("{write} is acknowledged, and the group has committed {found}");
            Finding::new(what, [write.told()].into_iter().chain(log.committed_by(write.id.index)))
        })
    }

    /// A client is told that nothing was done about its request, and nothing will be.
    pub fn refused(&mut self, content: u64) {
        self.refused.insert(content);
    }

    /// Whether all that was ever acknowledged is in the log of this member, and nothing that was refused.
    pub fn all_in(&self, member: NodeId, log: &[Link]) -> Result<(), Finding> {
        if let Some(position) = log.iter().position(|link| self.refused.contains(&link.content)) {
            return Err(Finding::new(
                format!("entry {} of member {member} was refused when it was proposed", position + 1),
                [Part { member: Some(member), since: None, what: held_at(log, index_of(position)) }],
            ));
        }
        self.writes.iter().try_for_each(|&write| {
            is_in(write, log).map_err(|found| {
                let what = format!("{write} was acknowledged, and member {member} has {found}");
                Finding::new(what, [write.told(), write.instead(member, log)])
            })
        })
    }
}

impl Acknowledged {
    /// What the client was told.
    fn told(&self) -> Part {
        Part::of(self.member, self.at, Involvement::Acknowledges(LogEntry::new(self.id, self.content)))
    }

    /// What a log has in its place.
    fn instead(&self, member: NodeId, log: &[Link]) -> Part {
        Part { member: Some(member), since: None, what: held_at(log, self.id.index) }
    }
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of request {:?}", self.id, self.request)
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
    use super::super::testing::{chain, id, show, status};
    use super::*;
    use kontiki_core::status::RoleKind::Leader;

    #[test]
    fn fires_on_an_answer_about_what_is_not_committed_and_on_a_log_that_lost_it() {
        let log = chain(&[(1, "a"), (1, "b")]);
        let write = |index: u64, content| {
            let (request, member, at) = (RequestId(1), id(1), Stamp::default());
            Acknowledged { request, id: LogId::new(1, index), content, member, at }
        };
        let mut check = AcknowledgedWrites::default();
        let committed = committed(&log);
        assert!(check.acknowledged(write(2, log[1].content), &committed).is_ok());
        assert!(check.all_in(id(1), &log).is_ok());
        assert!(check.all_in(id(2), &log[..1]).is_err());
        assert!(
            check.acknowledged(write(2, log[0].content), &committed).is_err(),
            "another request's payload"
        );
        assert!(
            check.acknowledged(write(3, log[0].content), &committed).is_err(),
            "beyond what is committed"
        );
    }

    #[test]
    fn fires_on_a_log_that_holds_what_was_refused() {
        let log = chain(&[(1, "a"), (1, "b")]);
        let mut check = AcknowledgedWrites::default();
        check.refused(log[1].content);
        assert!(check.all_in(id(1), &log[..1]).is_ok());
        assert!(check.all_in(id(1), &log).is_err());
    }

    #[test]
    fn names_who_told_the_client_and_what_is_in_its_place() {
        let log = chain(&[(1, "a"), (1, "b")]);
        let mut check = AcknowledgedWrites::default();
        let at = Stamp { step: 4, at: 2_500_000 };
        let (request, content) = (RequestId(1), log[1].content);
        let write = Acknowledged { request, id: LogId::new(1, 2), content, member: id(3), at };
        check.acknowledged(write, &committed(&log)).unwrap();
        let told = |log: &[Link]| -> Vec<String> {
            let seen = check.all_in(id(1), log).expect_err("it is lost");
            seen.parts.iter().map(ToString::to_string).collect()
        };
        let first = "member 3 tells a client that 2:1 is committed, at step 4 (2.500 ms)";
        assert_eq!(told(&log[..1]), [first, "member 1 holds no entry 2"]);
        let other = chain(&[(1, "a"), (2, "x")]);
        assert_eq!(told(&other), [first, "member 1 holds 2:2"]);
        let seen = check.acknowledged(write, &committed(&other)).expect_err("another is committed");
        let parts: Vec<_> = seen.parts.iter().map(ToString::to_string).collect();
        assert_eq!(parts, [first, "member 2 knows 2:2 to be committed, since step 0 (0.000 ms)"]);
    }

    /// Member 2 has committed this log.
    fn committed(log: &[Link]) -> StateMachineSafety {
        let mut check = StateMachineSafety::default();
        let (before, after) = (status(2, Leader, 2, 0), status(2, Leader, 2, log.len() as u64));
        show(&mut check, &before, &after, log).expect("nothing else is committed");
        check
    }
}
