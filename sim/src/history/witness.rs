//! All registers at once, where the cluster says in which order everything took effect.
//!
//! The order is that of the log: the write of an entry, then the reads that were served as of its index, then
//! the next entry. It is verified, not trusted: that every operation returned what it must have in this
//! order; that the log holds the effect of each write at most once and of refused ones never; and that no
//! operation comes behind one that was invoked after it had returned. A history that passes is linearizable,
//! and its log shows how.
//!
//! What was drawn up so has only to be gone through: after sorting, once over the log and once over the
//! operations.

pub use super::operation::Committed;

use super::operation::{Call, End, Operation, Recorded, Value};
use super::record::History;
use super::violation::{Reason, Violation};
use std::collections::{BTreeMap, VecDeque};

/// Whether everything happened in the order of the log.
///
/// `log` is every write that was committed, in ascending order of distinct indexes; entries that write
/// nothing are left out. An operation that returned must have its [`index`](super::Operation::index). Which
/// entries unknown writes became is found from their keys and values; where those repeat, in the way that
/// allows most.
pub fn check(history: &History, log: impl IntoIterator<Item = Committed>) -> Result<(), Violation> {
    let log: Vec<_> = log.into_iter().collect();
    assert!(log.windows(2).all(|pair| pair[0].index < pair[1].index), "a log ascends");
    let mut operations: Vec<_> = history.recorded().collect();
    operations.sort_by_key(|recorded| recorded.operation.invoked);

    let mut owners = vec![None; log.len()];
    let mut placed = Vec::new();
    for recorded in operations.iter().filter(|recorded| recorded.operation.returned().is_some()) {
        let Some(index) = recorded.operation.index else {
            return Err(violation(Reason::Unplaced, [recorded]));
        };
        if let Call::Write(value) = recorded.operation.call {
            let entry = Committed { index, key: recorded.operation.key, value };
            let at = log.binary_search_by_key(&index, |entry| entry.index).ok();
            let Some(at) = at.filter(|&at| log[at] == entry) else {
                let found = at.map(|at| log[at]);
                return Err(violation(Reason::NotInLog { index, found }, [recorded]));
            };
            if let Some(other) = owners[at].replace(recorded) {
                return Err(violation(Reason::OneEntryForTwo { index }, [recorded, other]));
            }
        }
        placed.push(Placed { recorded, index });
    }
    let unowned = log.iter().zip(owners).filter(|(_, owner)| owner.is_none()).map(|(entry, _)| entry);
    placed.extend(unknown_writes(&operations, unowned)?);
    reads_find_what_was_written(&placed, &log)?;
    order_is_that_of_time(placed)
}

/// An operation and the index at which it took effect.
#[derive(Clone, Copy)]
struct Placed<'a> {
    recorded: &'a Recorded,
    index: u64,
}

/// Assigns the entries that no client has been answered for to pending writes. The first of equal entries
/// goes to the first of equal writes: a write that was invoked later has more operations before it.
fn unknown_writes<'a, 'b>(
    operations: &'a [Recorded],
    entries: impl Iterator<Item = &'b Committed>,
) -> Result<Vec<Placed<'a>>, Violation> {
    let mut unknown: BTreeMap<(u64, Value), VecDeque<&Recorded>> = BTreeMap::new();
    for recorded in operations {
        if let Operation { key, call: Call::Write(value), ended: End::Unknown, .. } = recorded.operation {
            unknown.entry((key, value)).or_default().push_back(recorded);
        }
    }
    let place = |&Committed { index, key, value }: &Committed| {
        if let Some(recorded) = unknown.get_mut(&(key, value)).and_then(VecDeque::pop_front) {
            return Ok(Placed { recorded, index });
        }
        let is_it = |it: &Operation| it.key == key && it.call == Call::Write(value);
        let writes: Vec<_> = operations.iter().filter(|recorded| is_it(&recorded.operation)).collect();
        let reason = match &writes[..] {
            [] => Reason::StrangerInLog { index },
            all if all.iter().all(|write| write.operation.is_refused()) => Reason::RefusedInLog { index },
            _ => Reason::TwiceInLog { index },
        };
        Err(Violation::new(key, reason, writes))
    };
    entries.map(place).collect()
}

/// Every read found the last write to its register at or before its index.
fn reads_find_what_was_written(placed: &[Placed<'_>], log: &[Committed]) -> Result<(), Violation> {
    let mut reads: Vec<_> = placed.iter().filter(|it| !it.recorded.operation.is_write()).collect();
    reads.sort_by_key(|read| read.index);
    let mut registers = BTreeMap::new();
    let mut log = log.iter().peekable();
    for Placed { recorded, index } in reads {
        while let Some(entry) = log.next_if(|entry| entry.index <= *index) {
            registers.insert(entry.key, entry.value);
        }
        let held = registers.get(&recorded.operation.key).copied();
        if recorded.operation.value() != held {
            return Err(violation(Reason::NotAsOfIndex { held }, [*recorded]));
        }
    }
    Ok(())
}

/// No operation comes behind one that was invoked after it had returned. A read as of an index comes behind
/// the write there; two reads as of one index may come in either order.
fn order_is_that_of_time(mut placed: Vec<Placed<'_>>) -> Result<(), Violation> {
    placed.sort_by_key(|it| it.recorded.operation.returned());
    let mut returned =
        placed.clone().into_iter().filter(|it| it.recorded.operation.returned().is_some()).peekable();
    placed.sort_by_key(|it| it.recorded.operation.invoked);
    let mut last: Option<Placed<'_>> = None;
    for later in placed {
        while let Some(earlier) =
            returned.next_if(|it| it.recorded.operation.precedes(&later.recorded.operation))
        {
            if last.is_none_or(|last| last.index < earlier.index) {
                last = Some(earlier);
            }
        }
        let Some(earlier) = last else { continue };
        let follows = match later.recorded.operation.is_write() {
            true => earlier.index < later.index,
            false => earlier.index <= later.index,
        };
        if !follows {
            let (index, earlier, later) = (later.index, earlier.recorded, later.recorded);
            let reason = Reason::OutOfOrder { earlier: earlier.id, later: later.id, index };
            return Err(violation(reason, [later, earlier]));
        }
    }
    Ok(())
}

/// A violation of the register of the first of these operations.
fn violation<const N: usize>(reason: Reason, operations: [&Recorded; N]) -> Violation {
    Violation::new(operations[0].operation.key, reason, operations)
}

#[cfg(test)]
mod tests {
    use super::super::examples::history;
    use super::super::operation::OperationId;
    use super::*;

    /// The first of `log` is at index 1.
    fn verify(picture: &str, log: &[(u64, u64)]) -> Result<(), Reason> {
        let log = log.iter().zip(1..);
        let log = log.map(|(&(key, value), index)| Committed { index, key, value: Value(value) });
        check(&history(picture), log).map_err(|violation| violation.reason)
    }

    fn out_of_order(earlier: usize, later: usize, index: u64) -> Result<(), Reason> {
        Err(Reason::OutOfOrder { earlier: OperationId(earlier), later: OperationId(later), index })
    }

    #[test]
    fn an_order_that_explains_everything() {
        let picture = "
            A |r#0--|  |w1#1--|     |w2@2#2-------|   |r1#3--|
            B    |w9-----x       |r@2#1--|  |r2@2#2--|
            C          |w3@2---?    |r1#2--|             |r3@2#3--|
        ";
        assert_eq!(verify(picture, &[(1, 1), (2, 2), (2, 3)]), Ok(()));
    }

    #[test]
    fn a_write_is_in_the_log_where_it_was_said_to_be_and_nowhere_else() {
        let not_in_log = |index, found: Option<(u64, u64)>| {
            let found = found.map(|(key, value)| Committed { index, key, value: Value(value) });
            Err(Reason::NotInLog { index, found })
        };
        assert_eq!(verify("A |w1#1--|", &[(1, 1)]), Ok(()));
        assert_eq!(verify("A |w1#1--|", &[]), not_in_log(1, None));
        assert_eq!(verify("A |w1#1--|", &[(1, 2)]), not_in_log(1, Some((1, 2))));
        assert_eq!(verify("A |w1#1--|", &[(2, 1)]), not_in_log(1, Some((2, 1))));
        assert_eq!(verify("A |w1#1--|", &[(1, 1), (1, 1)]), Err(Reason::TwiceInLog { index: 2 }));
        assert_eq!(verify("A |w1#1--| |w1#1--|", &[(1, 1)]), Err(Reason::OneEntryForTwo { index: 1 }));
        assert_eq!(verify("A |w1--|", &[(1, 1)]), Err(Reason::Unplaced));
    }

    #[test]
    fn an_unanswered_write_may_be_in_the_log_and_a_refused_one_may_not() {
        assert_eq!(verify("A |w1--x", &[]), Ok(()));
        assert_eq!(verify("A |w1--x", &[(1, 1)]), Err(Reason::RefusedInLog { index: 1 }));
        assert_eq!(verify("A |w1--?", &[]), Ok(()));
        assert_eq!(verify("A |w1--?", &[(1, 1)]), Ok(()));
        assert_eq!(verify("A |w1--?", &[(1, 1), (1, 1)]), Err(Reason::TwiceInLog { index: 2 }));
        assert_eq!(verify("A |w1--?", &[(1, 7)]), Err(Reason::StrangerInLog { index: 1 }));
    }

    #[test]
    fn a_read_finds_what_the_log_holds_as_of_its_index() {
        let log = &[(1, 1), (2, 5), (1, 2)];
        let read = |read: &str| {
            let picture =
                format!("A |w1#1-------------|\nB |w5@2#2-----------|\nC |w2#3-------------|\nD {read}");
            verify(&picture, log)
        };
        let held = |held: Option<u64>| Err(Reason::NotAsOfIndex { held: held.map(Value) });
        assert_eq!(read("|r#0----|"), Ok(()));
        assert_eq!(read("|r1#2---|"), Ok(()));
        assert_eq!(read("|r2#9---|"), Ok(()));
        assert_eq!(read("|r@3#3--|"), Ok(()));
        assert_eq!(read("|r#1----|"), held(Some(1)));
        assert_eq!(read("|r1#3---|"), held(Some(2)));
        assert_eq!(read("|r2#0---|"), held(None));
    }

    #[test]
    fn a_stale_read_is_out_of_order_however_well_it_agrees_with_the_log() {
        let log = &[(1, 1), (1, 2)];
        assert_eq!(verify("A |w1#1--| |w2#2--| |r2#2--|", log), Ok(()));
        assert_eq!(verify("A |w1#1--| |w2#2--| |r1#1--|", log), out_of_order(1, 2, 1));
        let inversion = "
            A |w1#1--| |w2#2----------------|
            B              |r2#2--|
            C                       |r1#1--|
        ";
        assert_eq!(verify(inversion, log), out_of_order(2, 3, 1));
    }

    #[test]
    fn a_write_comes_behind_all_that_returned_before_it_was_invoked() {
        assert_eq!(verify("A |w1#2--|  |w2#1--|", &[(1, 2), (1, 1)]), out_of_order(0, 1, 1));
        assert_eq!(verify("A |r1#1--|  |w1#1--|", &[(1, 1)]), out_of_order(0, 1, 1));
        assert_eq!(verify("A |r1#1--|  |w1--?", &[(1, 1)]), out_of_order(0, 1, 1));
        // The keys differ, and one order holds for all.
        assert_eq!(verify("A |w1@1#2--|  |w2@2#1--|", &[(2, 2), (1, 1)]), out_of_order(0, 1, 1));
    }

    #[test]
    fn of_equal_unknown_writes_the_later_took_effect_later() {
        let picture = "
            A |w1--?     |r1#1--|
            B                       |w1--?  |r1#2--|
        ";
        assert_eq!(verify(picture, &[(1, 1), (1, 1)]), Ok(()));
    }
}
