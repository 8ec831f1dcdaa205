//! What clients asked of a store of registers and what they were told, and whether one store could have told
//! it.
//!
//! A [`History`] knows nothing of Raft nor of the simulator: its times are readings of one clock, its keys
//! and values are numbers. So it can be recorded of real clusters, stored, and checked here.
//!
//! A history is *linearizable* (Herlihy and Wing, "Linearizability", ACM TOPLAS 1990) if every operation can
//! be given one moment between its invocation and its return, such that reads find what was last written
//! before them. There are two ways to know:
//!
//! - [`check`] sees the history alone. Keys are independent of one another (linearizability is *local*,
//!   theorem 1 there). Where the values written to a key differ, [`zones`] decide; where they repeat, a
//!   [`search`] with a budget.
//! - [`witness::check`] is told in which order the cluster believes it all happened, its log, and verifies
//!   that, all keys at once. It is more severe: it also wants the log to hold what was acknowledged, once,
//!   and nothing else.
//!
//! An operation that returned before another was invoked comes before it. If the two happened in the same
//! nanosecond they may have overlapped, and either order will do.
//!
//! # Example
//!
//! A write returns, and later a read does not find it:
//!
//! ```
//! use kontiki_sim::history::{Call, History, Value, Verdict, check};
//!
//! let mut history = History::default();
//! let (alice, bob, key) = (1, 2, 7);
//! let write = history.invoke(alice, key, Call::Write(Value(10)), 0);
//! history.wrote(write, 20);
//! let read = history.invoke(bob, key, Call::Read, 30);
//! history.read(read, 40, None);
//!
//! let Verdict::Violated(violation) = check(&history, 10_000) else { panic!("the read is stale") };
//! assert_eq!(
//!     violation.to_string(),
//!     "key 7: a value was there before #1 was invoked, for #0 had returned; yet #1 found nothing\n  \
//!      #0 process 1 writes 10 to key 7 [0..20]\n  \
//!      #1 process 2 reads nothing from key 7 [30..40]"
//! );
//! ```

pub mod search;
pub mod witness;
pub mod zones;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod examples;
mod operation;
mod record;
mod violation;

pub use operation::{Call, End, Malformed, Operation, OperationId, Recorded, Value};
pub use record::{History, Register};
pub use violation::{Decision, Reason, Violation};

use search::OutOfBudget;

/// What is known of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Every register is linearizable.
    Linearizable,
    /// One register is not: that of the lowest key, among those decided.
    Violated(Violation),
    /// Nothing wrong was found, and the search ran out of its budget for these keys. This is no pass.
    Unknown {
        /// The keys, in their order.
        keys: Vec<u64>,
    },
}

/// Whether a history is linearizable, by what the clients saw alone.
///
/// A register whose written values all differ is decided in any case, in O(n log n). For others `budget` is
/// how many states the [`search`] may remember, for each key anew: more than there are writes, or it cannot
/// find any order. A state takes some hundred bytes.
pub fn check(history: &History, budget: u64) -> Verdict {
    let mut keys = Vec::new();
    for register in history.registers() {
        match zones::decide(&register).or_else(|_equal| search::decide(&register, budget)) {
            Ok(Decision::Linearizable) => {}
            Ok(Decision::NotLinearizable(violation)) => return Verdict::Violated(violation),
            Err(OutOfBudget) => keys.push(register.key()),
        }
    }
    if keys.is_empty() { Verdict::Linearizable } else { Verdict::Unknown { keys } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_was_stored_is_the_same_and_one_that_cannot_be_is_not_taken() {
        let mut history = History::default();
        let write = history.invoke(1, 7, Call::Write(Value(10)), 0);
        history.wrote(write, 20);
        history.took_effect(write, 3);
        let read = history.invoke(2, 7, Call::Read, 30);
        history.read(read, 40, Some(Value(10)));
        let refused = history.invoke(3, 7, Call::Read, 50);
        history.refused(refused, 60);
        history.invoke(4, 7, Call::Write(Value(11)), 70);

        let text = serde_json::to_string(&history).expect("plain data");
        assert_eq!(serde_json::from_str::<History>(&text).expect("just written"), history);
        let backwards = text.replace(r#""invoked":30"#, r#""invoked":41"#);
        let error = serde_json::from_str::<History>(&backwards).expect_err("it ends before it begins");
        assert!(error.to_string().contains("#1 process 2 reads 10 from key 7 [41..40]"), "{error}");
        let reads = text.replacen(r#""read":null"#, r#""read":10"#, 1);
        let error = serde_json::from_str::<History>(&reads).expect_err("a write reads");
        assert!(error.to_string().contains("#0 process 1 writes 10 to key 7 [0..20] at index 3"), "{error}");
    }

    #[test]
    #[should_panic(expected = "an operation ends once")]
    fn an_operation_that_returned_cannot_be_refused() {
        let mut history = History::default();
        let read = history.invoke(1, 7, Call::Read, 0);
        history.read(read, 20, None);
        history.refused(read, 30);
    }
}
