//! What a check looks at, and what a check is.

use super::Finding;
use crate::ledger::Link;
use crate::part::Stamp;
use kontiki_core::action::Action;
use kontiki_core::durable::Durable;
use kontiki_core::event::Event;
use kontiki_core::membership::Membership;
use kontiki_core::status::Status;
use kontiki_core::time::Instant;
use kontiki_core::types::{Index, Member};

/// One step of one member, as the checks see it.
#[derive(Clone, Copy)]
pub struct Observation<'a> {
    /// The member, counted from zero.
    pub member: usize,
    /// When it takes the step.
    pub now: Stamp,
    /// The same by its own clock.
    pub local: Instant,
    /// What it was told.
    pub event: &'a Event,
    /// What came of it, as far as it was carried out.
    pub actions: &'a [Action],
    /// The member before the step.
    pub before: &'a Status,
    /// The member after the step.
    pub after: &'a Status,
    /// The member's log after the step.
    pub chain: &'a [Link],
    /// How many entries at the end of `chain` were written in this step.
    pub appended: usize,
    /// Through where nothing is lost of its log, after the step.
    pub held: Index,
    /// The membership in force in this member, after the step.
    pub membership: &'a Membership,
    /// The same before the step.
    pub membership_before: &'a Membership,
    /// Who the member is: its host knows, whatever its kernel believes.
    pub me: Member,
    /// The log on the disk of each member, up or down; of one that was wiped since, the log that it lost.
    pub durable: &'a dyn Fn(Member) -> Option<&'a [Link]>,
}

/// A member that starts with what its disk holds.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    /// The member, counted from zero.
    pub position: usize,
    /// Who it is.
    pub member: Member,
    /// What its disk holds.
    pub durable: &'a Durable,
    /// The membership in force in it.
    pub membership: &'a Membership,
    /// Its log.
    pub chain: &'a [Link],
}

impl std::fmt::Debug for Observation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { event, actions, before, after, .. } = self;
        f.debug_struct("Observation")
            .field("event", event)
            .field("actions", actions)
            .field("before", before)
            .field("after", after)
            .finish_non_exhaustive()
    }
}

/// A property that can be checked one step at a time.
pub trait Check {
    /// Its name.
    const NAME: &'static str;

    /// Looks at one step.
    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding>;
}
