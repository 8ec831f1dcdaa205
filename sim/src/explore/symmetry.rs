//! Members that differ in nothing but their names.
//!
//! Give the members of a group one another's names, and nothing is different that matters: what could happen
//! can happen still, to the others. So of states that are equal but for names one is enough. That is true of
//! the protocol; of the kernel it is seen, not believed: each step is taken by all members that may be
//! renamed to one another, and must come to the same but for the names ([`Steps`](super::steps::Steps)).

use super::bounds::{Bounds, MAX_MEMBERS, id};
use kontiki_core::message::Message;
use kontiki_core::types::{Member, NodeId};

/// New names for all members: the one at place `i` goes to place `self.0[i]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Renaming([u8; MAX_MEMBERS]);

impl Renaming {
    const NONE: Self = Self([0, 1, 2, 3, 4]);

    pub(super) fn place(&self, place: usize) -> usize {
        self.0[place].into()
    }

    pub(super) fn id(&self, old: NodeId) -> NodeId {
        id(self.place(old.get() as usize - 1))
    }

    pub(super) fn member(&self, old: Member) -> Member {
        Member { id: self.id(old.id), ..old }
    }

    /// No message names any member but these two, or one of those that all renamings leave in their places.
    pub(super) fn message(&self, message: &Message) -> Message {
        Message { from: self.member(message.from), to: self.member(message.to), ..message.clone() }
    }

    /// What it does after this other one.
    fn after(&self, first: &Self) -> Self {
        Self(first.0.map(|place| self.0[usize::from(place)]))
    }
}

/// All renamings that the bounds do not notice. The first changes nothing.
#[derive(Debug)]
pub(super) struct Symmetry {
    renamings: Vec<Renaming>,
    /// Which of them does what the one does after the other: `composed[one][other]`.
    composed: Vec<Vec<usize>>,
}

impl Symmetry {
    /// That of members which are all different.
    pub(super) fn none() -> Self {
        Self::of(|place, other| place == other)
    }

    /// Of members that begin alike. Where the membership changes, the last member is the one that comes and
    /// goes, and the one before it where they are swapped; where leaders hand over, they choose by names
    /// among those that are equally good. A leader that is removed does so too.
    pub(super) fn within(bounds: &Bounds) -> Self {
        if bounds.transfers > 0 || (bounds.wipes > 0 && bounds.changes > 0) {
            return Self::none();
        }
        let changing = match (bounds.changes, bounds.swap) {
            (0, _) => 0,
            (_, false) => 1,
            (_, true) => 2,
        };
        // What is left of the members after a place: the last ones have no like.
        let after = |place: u8| bounds.members.checked_sub(place + 1).filter(|after| *after < changing);
        let kind = |place: u8| (place < bounds.members, bounds.kind(place.into()), after(place));
        Self::of(|place, other| place == other || (kind(place) == kind(other) && place < bounds.members))
    }

    /// Where a member may take another's place as told.
    fn of(may_become: impl Fn(u8, u8) -> bool) -> Self {
        let mut renamings = vec![Renaming::NONE];
        // By swaps of neighbours in place, until nothing new comes.
        let mut at = 0;
        while let Some(renaming) = renamings.get(at).copied() {
            for (one, other) in (0..MAX_MEMBERS).flat_map(|one| (0..one).map(move |other| (one, other))) {
                let mut swapped = renaming;
                swapped.0.swap(one, other);
                if may_become(one as u8, other as u8) && !renamings.contains(&swapped) {
                    renamings.push(swapped);
                }
            }
            at += 1;
        }
        let place =
            |it: Renaming| renamings.iter().position(|known| *known == it).expect("a group is closed");
        let composed = renamings.iter().map(|one| renamings.iter().map(|it| place(one.after(it))).collect());
        let composed = composed.collect();
        Self { renamings, composed }
    }

    pub(super) fn renamings(&self) -> &[Renaming] {
        &self.renamings
    }

    /// The place of the renaming that does what `one` does after `other`.
    pub(super) fn composed(&self, one: usize, other: usize) -> usize {
        self.composed[one][other]
    }
}
