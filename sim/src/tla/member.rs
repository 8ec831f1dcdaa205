//! What must be known of a member to tell the acts of its next step.

use kontiki_core::action::{Action, Write};
use kontiki_core::status::Status;
use kontiki_core::types::{Incarnation, Member, WriteSeq};
use std::collections::VecDeque;

/// A member, between two steps.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) me: Member,
    /// What it was after its last step; none before its first.
    pub(super) before: Option<Status>,
    /// The writes that it was not told to be durable.
    pending: VecDeque<WriteSeq>,
    /// How many of them the crash that it is in has lost.
    lost: usize,
    /// Whether its host crashed before it handed out the last of them.
    withheld: bool,
    /// Set once it has started again, until its first step.
    pub(super) restarted: Option<Restarted>,
}

/// How a member started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Restarted {
    /// From what its disk holds: so many of the writes under way.
    With(usize),
    /// From an empty disk, in a later life: so many disks were lost.
    Wiped(u64),
}

impl Tracked {
    pub(super) fn new(me: Member) -> Self {
        Self { me, before: None, pending: VecDeque::new(), lost: 0, withheld: false, restarted: None }
    }

    /// It has crashed, and its disk has lost so many of the writes that it was handed.
    pub(super) fn crashes(&mut self, lost: u64) {
        self.lost = usize::try_from(lost).unwrap_or(usize::MAX);
    }

    /// It starts again. It may have started before, and crashed before its first step.
    pub(super) fn restarts(&mut self, incarnation: Incarnation) {
        let lost = self.lost.saturating_add(usize::from(self.withheld));
        let kept = self.pending.len().saturating_sub(lost);
        (self.lost, self.withheld) = (0, false);
        self.pending.clear();
        let wiped = incarnation.0 - self.me.incarnation.0;
        self.me.incarnation = incarnation;
        self.restarted = Some(match self.restarted {
            Some(Restarted::Wiped(before)) => Restarted::Wiped(before + wiped),
            _ if wiped > 0 => Restarted::Wiped(wiped),
            Some(Restarted::With(before)) => Restarted::With(before),
            None => Restarted::With(kept),
        });
    }

    /// How many writes are durable by what it is told.
    pub(super) fn persisted(&mut self, seq: WriteSeq) -> usize {
        let count = self.pending.iter().take_while(|pending| **pending <= seq).count();
        self.pending.drain(..count);
        count
    }

    /// It has taken a step.
    pub(super) fn steps(&mut self, after: &Status, actions: &[Action], left_out: &[Action]) {
        self.before = Some(*after);
        self.restarted = None;
        self.withheld = write_of(left_out).is_some();
        self.pending.extend(write_of(actions).or(write_of(left_out)).map(|write| write.seq));
    }
}

/// The write of a step.
pub(super) fn write_of(actions: &[Action]) -> Option<&Write> {
    actions.iter().find_map(|action| match action {
        Action::Persist(write) => Some(write),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::types::NodeId;

    /// What is told of a member whose disk has lost so many of three writes whenever it crashed, and which
    /// was then so many times without its disk.
    fn told(crashes: &[(u64, u64)]) -> Option<Restarted> {
        let mut member = Tracked::new(Member::from(NodeId::new(1).expect("not zero")));
        member.pending.extend((1..=3).map(WriteSeq::new));
        for &(lost, wiped) in crashes {
            member.crashes(lost);
            let incarnation = member.me.incarnation.0 + wiped;
            member.restarts(Incarnation(incarnation));
        }
        member.restarted
    }

    #[test]
    fn a_restart_before_the_first_step_takes_nothing_back() {
        assert_eq!(told(&[(1, 0)]), Some(Restarted::With(2)));
        assert_eq!(told(&[(1, 0), (0, 0)]), Some(Restarted::With(2)), "what it kept then");
        assert_eq!(told(&[(0, 1), (0, 0)]), Some(Restarted::Wiped(1)), "it was wiped before");
        assert_eq!(told(&[(1, 0), (0, 2), (0, 1)]), Some(Restarted::Wiped(3)), "each disk is lost once");
    }
}
