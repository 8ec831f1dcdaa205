//! What users demand of their own state machines.

use kontiki_core::types::{LogId, NodeId};

/// A property of a replicated state machine, which a run is shown to from its beginning to its end. Each run
/// has one of its own, so it may remember what it saw. An error says what was seen instead.
///
/// For a property of single states, [`Test::invariant`](super::Test::invariant) takes a closure.
#[expect(unused_variables, reason = "a property looks at what it wants to")]
pub trait Property<M> {
    /// The state machine of a member has applied the entry at `at`, or was restored from a snapshot through
    /// it. A member that has restarted applies earlier entries once more: remember what was seen by `at`, not
    /// by member.
    fn applied(&mut self, member: NodeId, at: LogId, state: &M) -> Result<(), String> {
        Ok(())
    }

    /// Two members have applied the same entries.
    fn met(&mut self, one: (NodeId, &M), other: (NodeId, &M)) -> Result<(), String> {
        Ok(())
    }

    /// A client got this answer to its command or query.
    fn answered(&mut self, asked: &[u8], answer: &[u8]) -> Result<(), String> {
        Ok(())
    }

    /// The run is over, the members agree, and these are the states of those that are up.
    fn ended(&mut self, states: &[(NodeId, &M)]) -> Result<(), String> {
        Ok(())
    }
}

/// A property of every single state.
pub(super) struct Invariant<F>(pub(super) F);

impl<M, F: Fn(&M) -> bool> Property<M> for Invariant<F> {
    fn applied(&mut self, member: NodeId, at: LogId, state: &M) -> Result<(), String> {
        let holds = (self.0)(state);
        holds
            .then_some(())
            .ok_or_else(|| format!("does not hold in the state of member {member} after entry {at}"))
    }
}

/// A property of two states that came of the same entries.
pub(super) struct Agreement<F>(pub(super) F);

impl<M, F: Fn(&M, &M) -> bool> Property<M> for Agreement<F> {
    fn met(&mut self, one: (NodeId, &M), other: (NodeId, &M)) -> Result<(), String> {
        let holds = (self.0)(one.1, other.1);
        holds.then_some(()).ok_or_else(|| format!("does not hold between members {} and {}", one.0, other.0))
    }
}

/// A property of every answer.
pub(super) struct OfAnswers<F>(pub(super) F);

impl<M, F: Fn(&[u8], &[u8]) -> bool> Property<M> for OfAnswers<F> {
    fn answered(&mut self, asked: &[u8], answer: &[u8]) -> Result<(), String> {
        let holds = (self.0)(asked, answer);
        holds.then_some(()).ok_or_else(|| "does not hold".to_owned())
    }
}

/// A property of the state in the end.
pub(super) struct AtEnd<F>(pub(super) F);

impl<M, F: Fn(&M) -> bool> Property<M> for AtEnd<F> {
    fn ended(&mut self, states: &[(NodeId, &M)]) -> Result<(), String> {
        match states.iter().find(|(_, state)| !(self.0)(state)) {
            None => Ok(()),
            Some((member, _)) => Err(format!("does not hold in the last state of member {member}")),
        }
    }
}
