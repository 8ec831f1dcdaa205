//! Somebody who sees every step of the kernel inside a replica.

use crate::action::Action;
use crate::event::Event;
use crate::raft::Raft;
use crate::status::Status;
use crate::time::Instant;
use alloc::vec::Vec;

/// Sees every step of the kernel inside a replica: where the simulator's checks hang. `()` watches nothing,
/// and costs nothing.
pub trait Watch {
    /// Whether anything is watched; where not, nothing is copied for it.
    const WATCHES: bool = true;

    /// The kernel, which is still `before`, is about to take `event`: what is known even of a step that it
    /// does not survive.
    fn begins(&mut self, now: Instant, event: &Event, before: &Raft) {
        let _ = (now, event, before);
    }

    /// The kernel took `event` and answered with `actions`; `before` is what it was, `raft` what it is.
    fn step(&mut self, now: Instant, event: &Event, actions: &[Action], before: &Status, raft: &Raft);
}

impl Watch for () {
    const WATCHES: bool = false;

    fn step(&mut self, _: Instant, _: &Event, _: &[Action], _: &Status, _: &Raft) {}
}

/// One step of the kernel, copied for somebody who watches only where somebody does.
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
