//! The three roles of a member (paper §5.1), each with only the state that it alone needs.
//!
//! A role's handlers act on [`Common`](crate::common::Common) and *return* what the member should become;
//! only `Raft::become_` changes the role.

pub(crate) mod candidate;
pub(crate) mod follower;
pub(crate) mod leader;
pub(crate) mod voter;

use crate::action::Violation;
use crate::types::Member;
use alloc::boxed::Box;

/// What a handler wants its member to become.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// What it is.
    Stay,
    /// A follower in the term it is in, of the leader where one is known.
    Follow(Option<Member>),
    /// Somebody who wants to lead.
    Campaign(Phase),
    /// The leader of the term it is in.
    Lead,
    /// Nothing any more: its host stops it.
    Stop,
    /// Nothing any more. Boxed, since every step returns a `Next` and it should stay small.
    Halt(Box<Violation>),
}

impl Next {
    pub(crate) fn halt(violation: Violation) -> Self {
        Self::Halt(Box::new(violation))
    }
}

/// How far a campaign has got.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Phase {
    /// Asking whether an election could be won, in the term before it.
    PreVote,
    /// Asking for votes, in a new term.
    Vote {
        /// Whether the leader has bidden it to.
        transfer: bool,
    },
}
