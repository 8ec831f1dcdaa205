//! The simulator's checks that a trial is watched by: those that need to know nothing of the past.

use super::super::alone::{Before, holds, may_halt};
use super::super::violation::Violation;
use crate::check::bounded_memory::{self, BoundedMemory};
use crate::check::bounded_work::{BoundedWork, Limits};
use crate::check::one_election_at_a_time::OneElectionAtATime;
use crate::check::paused_flow::PausedFlow;
use crate::check::voters_only::VotersOnly;
use crate::check::{Check, Observation};
use kontiki_core::action::Action;
use kontiki_core::config::Options;
use kontiki_core::event::Event;
use kontiki_core::log::Log;
use kontiki_core::raft::Raft;
use kontiki_core::time::Instant;
use kontiki_core::types::Index;

/// The checks.
#[derive(Debug)]
pub(super) struct Judge {
    paused_flow: PausedFlow,
    bounded_memory: BoundedMemory,
    bounded_work: BoundedWork,
}

impl Judge {
    /// Of so many members with these settings.
    pub(super) fn of(members: usize, options: &Options) -> Self {
        let number = members as u64;
        let mut judge = Self {
            paused_flow: PausedFlow::default(),
            bounded_memory: BoundedMemory::default(),
            bounded_work: BoundedWork::default(),
        };
        judge.bounded_memory.limited_to(number, options);
        judge.bounded_work.limited_to(Limits::of(number, 1, options));
        // What each has when the trial begins it may have.
        (0..members).for_each(|member| judge.bounded_memory.restarted(member));
        judge
    }

    /// Looks at the step of a member: what it was before, what it is now, and what it does.
    pub(super) fn judge(
        &mut self,
        now: Instant,
        before: &Before,
        raft: &Raft,
        event: &Event,
        actions: &[Action],
    ) -> Result<(), Violation> {
        let after = raft.status();
        let step = before.step((raft, &after), (event, actions), now, &[]);
        for action in actions {
            if let Action::Halt(halt) = action {
                may_halt(step.me, *halt)?;
            }
        }
        has_what_is_applied(&step, raft.log())?;
        holds(&mut self.paused_flow, &step)?;
        holds(&mut self.bounded_work, &step)?;
        holds(&mut OneElectionAtATime, &step)?;
        holds(&mut VotersOnly, &step)?;
        let is_whole = raft.log().held() == raft.log().last().index;
        let within = self.bounded_memory.holds(step.member, &raft.held(), is_whole);
        let detail = |what| format!("member {} holds {what}", after.id);
        within.map_err(|what| Violation::new(bounded_memory::NAME, detail(what)))
    }

    /// Something happens.
    pub(super) fn happens(&mut self, now: Instant) -> Result<(), Violation> {
        let happens = self.bounded_work.happens(now.as_nanos());
        happens.map_err(|detail| Violation::new(BoundedWork::NAME, detail))
    }
}

/// Contract: entries that are to be applied are in memory, for the host to read.
fn has_what_is_applied(step: &Observation<'_>, log: &Log) -> Result<(), Violation> {
    let mut applied = match *step.event {
        Event::Applied(through) => through,
        _ => step.before.applied,
    };
    for action in step.actions {
        match action {
            Action::Restore(snapshot) => applied = snapshot.last.index,
            Action::Apply { through } => {
                let read = log.entries(applied, *through).count() as u64;
                if read != through.get().saturating_sub(applied.get()) {
                    let (id, read) = (step.after.id, Index::new(applied.get() + read));
                    let detail = format!(
                        "member {id} is to apply entries through {through}, and can read those through {read}"
                    );
                    return Err(Violation::new("Contract", detail));
                }
                applied = *through;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explore::bounds::Bounds;
    use crate::explore::host::Host;
    use kontiki_core::action::Violation as Halt;
    use kontiki_core::types::WriteSeq;

    fn judged(action: Action) -> Result<(), &'static str> {
        let raft = Host::of(&Bounds::default(), 0).raft;
        let mut judge = Judge::of(3, raft.config().options());
        let judged = judge.judge(Instant::ZERO, &Before::of(&raft), &raft, &Event::Wake, &[action]);
        judged.map_err(|violation| violation.property)
    }

    #[test]
    fn what_a_host_cannot_read_it_is_not_to_apply() {
        assert_eq!(judged(Action::Apply { through: Index::ZERO }), Ok(()));
        assert_eq!(judged(Action::Apply { through: Index::new(1) }), Err("Contract"));
    }

    #[test]
    fn a_member_that_halts_is_seen() {
        assert_eq!(judged(Action::Halt(Halt::UnknownWrite(WriteSeq::new(1)))), Err("Halt"));
    }

    #[test]
    fn a_group_that_is_never_done_at_one_instant_is_seen() {
        let mut judge = Judge::of(3, &Options::default());
        let happened = (0..1_000_000).find_map(|_| judge.happens(Instant::ZERO).err());
        assert_eq!(happened.map(|violation| violation.property), Some("Bounded Work"));
    }
}
