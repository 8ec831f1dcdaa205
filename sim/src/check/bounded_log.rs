//! Bounded Log: when a snapshot was taken, the log keeps no more bytes behind it than `retained_bytes`. A
//! leader that has offered a snapshot in its term may keep more: what the follower will need that fetches it.

use super::{Check, Finding, Observation};
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::Body;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, Term};
use std::collections::BTreeMap;

/// What each member has written, and what it may keep.
#[derive(Default, Debug)]
pub struct BoundedLog {
    /// None where no limit is known: then everything is within it.
    limit: Option<u64>,
    members: BTreeMap<usize, Written>,
}

/// What one member has written.
#[derive(Default, Debug)]
struct Written {
    /// The size of each entry after the log's base, by its index: the last that was written there.
    sizes: BTreeMap<Index, u64>,
    /// The term in which it has last offered a snapshot.
    offered: Option<Term>,
}

impl BoundedLog {
    /// Logs keep at most so many bytes behind a snapshot.
    pub fn limited_to(&mut self, retained_bytes: u64) {
        self.limit = Some(retained_bytes);
    }
}

impl Check for BoundedLog {
    const NAME: &'static str = "Bounded Log";

    fn observe(&mut self, step: &Observation<'_>) -> Result<(), Finding> {
        let written = self.members.entry(step.member).or_default();
        for action in step.actions {
            match action {
                Action::Send(message) if matches!(message.body, Body::OfferSnapshot { .. }) => {
                    written.offered = Some(message.term);
                }
                Action::Persist(write) => {
                    for entry in write.append.iter().chain(write.repaired.iter()) {
                        written.sizes.insert(entry.id.index, entry.size());
                    }
                    let Some(rebase) = &write.rebase else { continue };
                    written.sizes = written.sizes.split_off(&rebase.base.index.next());
                    // A step in which it steps down takes the snapshot first.
                    let may_hold =
                        step.before.role == RoleKind::Leader && written.offered == Some(step.before.term);
                    let last = rebase.snapshot.last.index;
                    let kept: u64 = written.sizes.range(..=last).map(|(_, size)| size).sum();
                    let taken = matches!(step.event, Event::SnapshotTaken(_));
                    if taken && !may_hold && self.limit.is_some_and(|limit| kept > limit) {
                        return Err(format!(
                            "member {} keeps {kept} bytes of entries behind its snapshot of everything through {last}, after {}",
                            step.after.id, rebase.base
                        ).into());
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
