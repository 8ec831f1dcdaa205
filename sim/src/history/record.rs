//! A history, and the registers in it.

use super::operation::{Call, End, Malformed, Operation, OperationId, Recorded, Value};
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
