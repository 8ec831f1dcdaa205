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
mod violation;

pub use operation::{Call, End, Malformed, Operation, OperationId, Recorded, Value};
pub use violation::{Reason, Violation};

use search::OutOfBudget;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Operations on a store of registers, in the order in which they were recorded. At first every register
/// holds nothing.
///
/// To record costs the same however long the history is. Histories of several recorders that share a clock
/// are put together, in any order, by `History::try_from`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<Operation>")]
pub struct History(Vec<Operation>);

impl History {
    /// A process asks for something. Until its end is recorded, if ever, the operation's end is
    /// [`End::Unknown`].
    pub fn invoke(&mut self, process: u64, key: u64, call: Call, at: u64) -> OperationId {
        self.0.push(Operation { process, key, call, invoked: at, ended: End::Unknown, index: None });
        OperationId(self.0.len() - 1)
    }

    /// The process is told that its write took effect.
    pub fn wrote(&mut self, id: OperationId, at: u64) {
        assert!(self.0[id.0].is_write(), "only a write can have written");
        self.end(id, End::Returned { at, read: None });
    }

    /// The process is told what it wanted to read, which may be nothing.
    pub fn read(&mut self, id: OperationId, at: u64, read: Option<Value>) {
        assert!(!self.0[id.0].is_write(), "only a read can have read");
        self.end(id, End::Returned { at, read });
    }

    /// The process is told that its operation had no effect and never will.
    pub fn refused(&mut self, id: OperationId, at: u64) {
        self.end(id, End::Refused { at });
    }

    /// The cluster says where in its log the operation took effect; see [`Operation::index`].
    pub fn took_effect(&mut self, id: OperationId, index: u64) {
        self.0[id.0].index = Some(index);
    }

    fn end(&mut self, id: OperationId, end: End) {
        let operation = &mut self.0[id.0];
        assert_eq!(operation.ended, End::Unknown, "an operation ends once");
        operation.ended = end;
        assert!(!operation.ends_too_early(), "an operation ends after it is invoked");
    }

    /// What was recorded.
    pub fn operations(&self) -> &[Operation] {
        &self.0
    }

    /// What was recorded, with the names that violations use.
    pub fn recorded(&self) -> impl Iterator<Item = Recorded> {
        self.0.iter().enumerate().map(|(id, &operation)| Recorded { id: OperationId(id), operation })
    }

    /// The history of each key by itself, in the order of the keys.
    pub fn registers(&self) -> impl Iterator<Item = Register> + use<> {
        let mut registers: BTreeMap<u64, Vec<Recorded>> = BTreeMap::new();
        for recorded in self.recorded() {
            registers.entry(recorded.operation.key).or_default().push(recorded);
        }
        registers.into_iter().map(|(key, mut operations)| {
            operations.sort_by_key(|recorded| recorded.operation.invoked);
            Register { key, operations }
        })
    }
}

impl TryFrom<Vec<Operation>> for History {
    type Error = Malformed;

    fn try_from(operations: Vec<Operation>) -> Result<Self, Malformed> {
        let history = Self(operations);
        let malformed = history.recorded().find_map(|recorded| Malformed::of(&recorded));
        malformed.map_or(Ok(history), Err)
    }
}

/// The operations on one key, in the order of their invocations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Register {
    key: u64,
    operations: Vec<Recorded>,
}

impl Register {
    /// The key.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The operations.
    pub fn operations(&self) -> &[Recorded] {
        &self.operations
    }
}

/// What is true of a register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none, and this is why.
    NotLinearizable(Violation),
}

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
