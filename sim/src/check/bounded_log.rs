//! Bounded Log: when a snapshot was taken, the log keeps no more bytes behind it than `retained_bytes`. A
//! leader that has offered a snapshot in its term may keep more: what the follower will need that fetches it.

use super::{Check, Finding, Observation};
use kontiki_core::action::Action;
use kontiki_core::event::Event;
use kontiki_core::message::Body;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, Term};
use std::collections::{BTreeMap, VecDeque};

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
    /// The size of each entry after the log's base, in the order of their indices: the last that was written
    /// there.
    sizes: VecDeque<(Index, u64)>,
    /// The term in which it has last offered a snapshot.
    offered: Option<Term>,
}

impl Written {
    /// An entry of this size is written.
    fn add(&mut self, index: Index, size: u64) {
        let place = match self.sizes.back() {
            Some((last, _)) if *last >= index => self.sizes.partition_point(|(other, _)| *other < index),
            _ => self.sizes.len(),
        };
        match self.sizes.get_mut(place) {
            Some((other, known)) if *other == index => *known = size,
            _ => self.sizes.insert(place, (index, size)),
        }
    }

    /// The log begins after this entry.
    fn begin_after(&mut self, base: Index) {
        self.sizes.drain(..self.sizes.partition_point(|(index, _)| *index <= base));
    }

    /// How many bytes of entries there are through this one.
    fn kept(&self, last: Index) -> u64 {
        self.sizes.iter().take_while(|(index, _)| *index <= last).map(|(_, size)| size).sum()
    }
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
                        written.add(entry.id.index, entry.size());
                    }
                    let Some(rebase) = &write.rebase else { continue };
                    written.begin_after(rebase.base.index);
                    // A step in which it steps down takes the snapshot first.
                    let may_hold =
                        step.before.role == RoleKind::Leader && written.offered == Some(step.before.term);
                    let last = rebase.snapshot.last.index;
                    let kept = written.kept(last);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries that are written again, and repaired ones, take the places of those before them.
    #[test]
    fn what_is_written_last_at_an_index_counts() {
        let mut written = Written::default();
        for (index, size) in [(1, 10), (2, 20), (4, 40), (2, 2), (3, 30), (4, 4)] {
            written.add(Index::new(index), size);
        }
        let sizes = [(1, 10), (2, 2), (3, 30), (4, 4)].map(|(index, size)| (Index::new(index), size));
        assert_eq!(written.sizes, sizes);
        assert_eq!([0, 1, 3, 9].map(|last| written.kept(Index::new(last))), [0, 10, 42, 46]);
        written.begin_after(Index::new(2));
        assert!(written.sizes.iter().eq(&sizes[2..]), "{written:?}");
        written.begin_after(Index::new(9));
        assert_eq!(written.kept(Index::MAX), 0);
    }
}
