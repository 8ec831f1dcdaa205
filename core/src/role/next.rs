//! What a handler's member becomes.

use crate::action::Violation;
use crate::types::Member;
use alloc::boxed::Box;

/// What a handler wants its member to become.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Keeps its role.
    Stay,
    /// A follower in its present term, of this leader where one is known.
    Follow(Option<Member>),
    /// A candidate, in this phase.
    Campaign(Phase),
    /// The leader of its present term.
    Lead,
    /// Takes no further part: its host stops it.
    Stop,
    /// Takes no further part: something impossible was seen. Boxed, since every step returns a `Next` and it
    /// should stay small.
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
