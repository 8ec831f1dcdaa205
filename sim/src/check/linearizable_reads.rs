//! Linearizable Reads: a member that serves a read has applied all that the cluster had committed when the read
//! was invoked; and the answers to all clients, taken together, are those that a single store could have given,
//! both in the order of the log and judged without it.

use crate::history::witness::{self, Committed};
use crate::history::{History, Verdict, Violation, check};
use kontiki_core::types::{Index, NodeId};

/// The name of the property.
pub const NAME: &str = "Linearizable Reads";

/// How many states the search may remember; the simulator's clients write each value once, and never need it.
const BUDGET: u64 = 1_000_000;

/// A member whose state machine holds everything through `applied` lets a client read that asked when the
/// group had committed everything through `committed`.
pub fn served(member: NodeId, applied: Index, committed: Index) -> Result<(), String> {
    if applied >= committed {
        return Ok(());
    }
    Err(format!(
        "member {member} serves a read as of {applied} that was asked for when {committed} was committed"
    ))
}

/// A run is over. Returns how many keys could not be decided.
pub fn over(history: &History, log: impl Iterator<Item = Committed>) -> Result<usize, Violation> {
    witness::check(history, log)?;
    match check(history, BUDGET) {
        Verdict::Linearizable => Ok(0),
        Verdict::Violated(violation) => Err(violation),
        Verdict::Unknown { keys } => Ok(keys.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Call, Value};

    #[test]
    fn a_read_as_of_less_than_was_committed_is_seen() {
        let id = NodeId::new(1).unwrap();
        assert_eq!(served(id, Index::new(5), Index::new(5)), Ok(()));
        assert!(served(id, Index::new(4), Index::new(5)).is_err());
    }

    #[test]
    fn a_history_is_checked_by_itself_and_against_the_log() {
        let mut history = History::default();
        let write = history.invoke(1, 7, Call::Write(Value(3)), 1);
        history.wrote(write, 2);
        history.took_effect(write, 5);
        let log = |value| [Committed { index: 5, key: 7, value: Value(value) }].into_iter();
        assert_eq!(over(&history, log(3)), Ok(0));
        assert!(over(&history, log(4)).is_err(), "the log says otherwise");
        let read = history.invoke(2, 7, Call::Read, 3);
        history.read(read, 4, None);
        history.took_effect(read, 4);
        assert!(over(&history, log(3)).is_err(), "the read is stale");
    }
}
