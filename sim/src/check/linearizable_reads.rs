//! Linearizable Reads: a member that serves a read has applied all that the cluster had committed when the
//! read was invoked; and the answers to all clients, taken together, are those that a single store could have
//! given, both in the order of the log and judged without it.

use super::Finding;
use super::state_machine_safety::StateMachineSafety;
use crate::history::witness::{self, Committed};
use crate::history::{History, Verdict, Violation, check};
use crate::part::{Involvement, Part, Stamp};
use kontiki_core::types::{Index, NodeId};

/// The name of the property.
pub const NAME: &str = "Linearizable Reads";

/// How many states the search may remember; the simulator's clients write each value once, and never need it.
const BUDGET: u64 = 1_000_000;

/// A member whose state machine holds everything through `applied` lets a client read that asked when the
/// group had committed everything through `committed`, of which `log` says who committed it.
pub fn served(
    member: NodeId,
    applied: Index,
    committed: Index,
    now: Stamp,
    log: &StateMachineSafety,
) -> Result<(), Finding> {
    if applied >= committed {
        return Ok(());
    }
    let detail = format!(
        "member {member} serves a read as of {applied} that was asked for when {committed} was committed"
    );
    let serves = Part::of(member, now, Involvement::Serves(applied));
    Err(Finding::new(detail, log.committed_by(committed).into_iter().chain([serves])))
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
    use super::super::testing::{chain, id, show, status};
    use super::*;
    use crate::history::{Call, Value};
    use kontiki_core::status::RoleKind::Leader;

    #[test]
    fn a_read_as_of_less_than_was_committed_is_seen() {
        let (log, now) = (StateMachineSafety::default(), Stamp::default());
        assert_eq!(served(id(1), Index::new(5), Index::new(5), now, &log), Ok(()));
        assert!(served(id(1), Index::new(4), Index::new(5), now, &log).is_err());
    }

    #[test]
    fn a_stale_read_names_the_commit_that_it_misses() {
        let (mut log, entries) = (StateMachineSafety::default(), chain(&[(1, "a"), (1, "b")]));
        let leads = |committed| status(2, Leader, 1, committed);
        show(&mut log, &leads(0), &leads(1), &entries).expect("the first commit");
        show(&mut log, &leads(1), &leads(2), &entries).expect("the second");
        let now = Stamp { step: 9, at: 4_000_000 };
        let seen = served(id(3), Index::new(1), Index::new(2), now, &log).expect_err("it is stale");
        let parts: Vec<_> = seen.parts.iter().map(ToString::to_string).collect();
        let commits = "member 2 knows 2:1 to be committed, since step 0 (0.000 ms)";
        assert_eq!(parts, [commits, "member 3 serves a read as of 1, at step 9 (4.000 ms)"]);
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
