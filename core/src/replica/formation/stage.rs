//! The stages of a formation, each with its own state.

use crate::replica::formation::io::{Place, QuestionId};
use crate::replica::formation::record::Who;
use crate::time::Nanos;
use crate::types::NodeId;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// How long to wait before a question is asked again.
pub const RETRY: Nanos = Nanos::new(100_000_000);
/// How long a peer may take to identify itself.
pub const PATIENCE: Nanos = Nanos::new(1_000_000_000);
/// How long a leader may take to add a member until the next one is asked. To be asked again does no harm.
pub const ADDING: Nanos = Nanos::new(30_000_000_000);
/// How long to wait where an operator has to do something first, and between vain attempts to find others.
pub const PAUSE: Nanos = Nanos::new(5_000_000_000);

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// It has not taken its first step.
    Fresh,
    Founding(Founding),
    /// It asks the member to join by for the name of its group.
    Seeking {
        open: Option<QuestionId>,
    },
    /// Its record is being written; this follows.
    Storing(Box<Stage>),
    Joining(Joining),
    /// It asks the member to join by where the others are.
    Locating {
        open: Option<QuestionId>,
        pause: Nanos,
    },
    /// There is nothing to do, as long as the member hears of a leader.
    Settled,
    /// It has long heard of no leader, and introduces itself to one known address after the other: a leader
    /// may have lost sight of it, or it of its leader.
    Introducing {
        open: Option<QuestionId>,
        turn: usize,
    },
    Failed,
}

/// One round of questions to all first members.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Founding {
    pub(super) open: BTreeMap<QuestionId, String>,
    pub(super) heard: Vec<Heard>,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Heard {
    pub(super) question: QuestionId,
    pub(super) address: String,
    pub(super) who: Who,
}

impl Founding {
    /// Whether no round is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Who answers at this address.
    pub(super) fn at(&self, address: &str) -> Option<NodeId> {
        self.heard.iter().find(|heard| heard.address == address).map(|heard| heard.who.member.id)
    }

    /// What member `id` says, wherever it has answered.
    pub(super) fn of(&self, id: NodeId) -> Option<&Heard> {
        self.heard.iter().find(|heard| heard.who.member.id == id)
    }
}

/// Asking to be added.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Joining {
    /// What was asked last, and where.
    pub(super) open: Option<(QuestionId, String)>,
    /// Where the leader is, as the last answer said.
    pub(super) leader: Option<String>,
    pub(super) redirects: u8,
    /// Whom to ask where no leader is known: one after the other.
    pub(super) turn: usize,
    /// Whether it has introduced itself since it last asked to be added.
    pub(super) was_found: bool,
}

impl Joining {
    /// Whether time is waited for.
    pub(super) fn waits(&self, place: Option<Place>) -> bool {
        self.open.is_none() && place.is_some()
    }
}
