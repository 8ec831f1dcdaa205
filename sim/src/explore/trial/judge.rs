//! The simulator's checks that a trial is watched by: those that need to know nothing of the past.

use super::super::violation::Violation;
use crate::check::bounded_memory::{self, BoundedMemory};
use crate::check::bounded_work::{BoundedWork, Limits};
use crate::check::one_election_at_a_time::OneElectionAtATime;
use crate::check::paused_flow::PausedFlow;
use crate::check::voters_only::VotersOnly;
use crate::check::{Check, Observation};
use crate::part::Stamp;
use kontiki_core::action::{self, Action};
use kontiki_core::config::Options;
use kontiki_core::event::Event;
use kontiki_core::log::Log;
use kontiki_core::membership::Membership;
use kontiki_core::raft::Raft;
use kontiki_core::status::Status;
use kontiki_core::time::Instant;
use kontiki_core::types::{Incarnation, Index};

/// The checks.
#[derive(Debug)]
pub(super) struct Judge {
    paused_flow: PausedFlow,
    bounded_memory: BoundedMemory,
    bounded_work: BoundedWork,
}

/// What a member was before a step.
pub(super) struct Before {
    pub(super) status: Status,
    membership: Membership,
}

impl Before {
    pub(super) fn of(raft: &Raft) -> Self {
        Self { status: raft.status(), membership: raft.membership().clone() }
    }
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
        (member, now): (usize, Instant),
        before: &Before,
        raft: &Raft,
        event: &Event,
        actions: &[Action],
    ) -> Result<(), Violation> {
        let step = Observation {
            member,
            now: Stamp { step: 0, at: now.as_nanos() },
            local: now,
            event,
            actions,
            before: &before.status,
            after: &raft.status(),
            chain: &[],
            appended: 0,
            held: raft.log().held(),
            membership: raft.membership(),
            membership_before: &before.membership,
            me: raft.config().identity().member,
            durable: &|_| None,
        };
        halts(&step)?;
        has_what_is_applied(&step, raft.log())?;
        observed(&mut self.paused_flow, &step)?;
        observed(&mut self.bounded_work, &step)?;
        observed(&mut OneElectionAtATime, &step)?;
        observed(&mut VotersOnly, &step)?;
        let (member, of) = (step.after.id, step.member);
        let is_whole = raft.log().held() == raft.log().last().index;
        let within = self.bounded_memory.holds(of, &raft.held(), is_whole);
        within.map_err(|what| Violation::new(bounded_memory::NAME, format!("member {member} holds {what}")))
    }

    /// Something happens.
    pub(super) fn happens(&mut self, now: Instant) -> Result<(), Violation> {
        let happens = self.bounded_work.happens(now.as_nanos());
        happens.map_err(|detail| Violation::new(BoundedWork::NAME, detail))
    }
}

fn observed<C: Check>(check: &mut C, step: &Observation<'_>) -> Result<(), Violation> {
    check.observe(step).map_err(|seen| Violation::new(C::NAME, seen.detail))
}

/// Contract: entries that are to be applied are in memory, for the host to read.
fn has_what_is_applied(step: &Observation<'_>, log: &Log) -> Result<(), Violation> {
    let mut applied = step.before.applied;
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

/// Halt: a member that was wiped may, since its group knows it in an earlier incarnation.
fn halts(step: &Observation<'_>) -> Result<(), Violation> {
    for action in step.actions {
        match action {
            Action::Halt(action::Violation::StaleIncarnation { .. })
                if step.me.incarnation > Incarnation::default() => {}
            Action::Halt(violation) => return Err(Violation::new("Halt", violation.to_string())),
            _ => {}
        }
    }
    Ok(())
}
