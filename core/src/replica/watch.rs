//! Observes every step of the kernel inside a replica.

use crate::action::Action;
use crate::event::Event;
use crate::raft::Raft;
use crate::status::Status;
use crate::time::Instant;
use alloc::vec::Vec;

/// Observes every step of the kernel inside a replica; the simulator's checks use it. `()` observes nothing
/// and costs nothing.
pub trait Watch {
    /// Whether steps are observed; if not, nothing is copied for it.
    const WATCHES: bool = true;

    /// The kernel, in the state `before`, is about to handle `event`. Called even for a step that panics.
    fn begins(&mut self, now: Instant, event: &Event, before: &Raft) {
        let _ = (now, event, before);
    }

    /// The kernel has handled `event` with `actions`; `before` is its status before the step, `raft` the
    /// kernel after it.
    fn step(&mut self, now: Instant, event: &Event, actions: &[Action], before: &Status, raft: &Raft);
}

impl Watch for () {
    const WATCHES: bool = false;

    fn step(&mut self, _: Instant, _: &Event, _: &[Action], _: &Status, _: &Raft) {}
}

/// Does one step of the kernel. Copies are made only if the step is observed.
pub(super) fn watched_step<W: Watch>(
    raft: &mut Raft,
    now: Instant,
    event: Event,
    actions: &mut Vec<Action>,
    watch: &mut W,
) {
    if !W::WATCHES {
        return raft.step_into(now, event, actions);
    }
    watch.begins(now, &event, raft);
    let (before, copy) = (raft.status(), event.clone());
    raft.step_into(now, event, actions);
    watch.step(now, &copy, actions, &before, raft);
}
