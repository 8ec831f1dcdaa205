//! Why a history cannot be: the operations that contradict one another, and in what.

use super::operation::{Committed, OperationId, Recorded, Value};
use std::fmt;
use thiserror::Error;

/// A history that no store could have, or not the one that has this log.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("key {key}: {reason}{}", Lines(operations))]
pub struct Violation {
    /// The register.
    pub key: u64,
    /// What is wrong.
    pub reason: Reason,
    /// The operations that it is about, in the order of their invocations.
    pub operations: Vec<Recorded>,
}

/// What is wrong. The operations it names are among those of the [`Violation`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A read returned a value that no client wrote.
    Unwritten,
    /// A read found what a refused operation would have written.
    Refused,
    /// A read found what was asked to be written only after it had returned.
    Future {
        /// The read.
        read: OperationId,
        /// The first write of what it found.
        write: OperationId,
    },
    /// A read found nothing in a register that certainly held something.
    Vanished {
        /// The operation that had returned, and knew of a value.
        there: OperationId,
        /// The read that found nothing.
        gone: OperationId,
    },
    /// Each of two values comes before the other: an operation that knows of `one` returned before one that
    /// knows of `other` was invoked, and one that knows of `other` before one that knows of `one`.
    Interleaved {
        /// A value.
        one: Value,
        /// Another.
        other: Value,
        /// Why `one` comes first.
        there: (OperationId, OperationId),
        /// Why `other` comes first.
        back: (OperationId, OperationId),
    },
    /// All orders were tried.
    NoOrder {
        /// How many operations the longest of them places.
        placed: usize,
        /// How many there are to place.
        of: usize,
        /// What the register then holds. The reads that could come next have all found something else.
        value: Option<Value>,
    },
    /// An operation returned without a recorded log index at which it took effect.
    Unplaced,
    /// A write returned and is not where it was said to be in the log.
    NotInLog {
        /// Where it was said to be.
        index: u64,
        /// What is there.
        found: Option<Committed>,
    },
    /// Two writes returned, and one entry is said to be both.
    OneEntryForTwo {
        /// The entry's index.
        index: u64,
    },
    /// The log holds the write of an operation that was refused.
    RefusedInLog {
        /// Where.
        index: u64,
    },
    /// The log holds once more what was written once.
    TwiceInLog {
        /// Where.
        index: u64,
    },
    /// The log holds a write that no operation asked for.
    StrangerInLog {
        /// Where.
        index: u64,
    },
    /// A read found something else than the log held as of its index.
    NotAsOfIndex {
        /// What the log held.
        held: Option<Value>,
    },
    /// An operation took effect behind one that was invoked when it had already returned.
    OutOfOrder {
        /// The operation that returned first.
        earlier: OperationId,
        /// The one that was invoked afterwards.
        later: OperationId,
        /// Where the log has `later`.
        index: u64,
    },
}

/// What is true of a register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// There is an order that explains everything.
    Linearizable,
    /// There is none, and this is why.
    NotLinearizable(Violation),
}

impl Violation {
    /// Takes each operation once and puts them in order.
    pub(super) fn new<'a>(
        key: u64,
        reason: Reason,
        operations: impl IntoIterator<Item = &'a Recorded>,
    ) -> Self {
        let mut operations: Vec<_> = operations.into_iter().copied().collect();
        operations.sort_by_key(|recorded| (recorded.operation.invoked, recorded.id));
        operations.dedup_by_key(|recorded| recorded.id);
        Self { key, reason, operations }
    }
}

/// Operations, each in a line of its own.
struct Lines<'a>(&'a [Recorded]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|recorded| write!(f, "\n  {recorded}"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritten => f.write_str("a read returned a value that no client wrote"),
            Self::Refused => f.write_str("a read found what a refused operation would have written"),
            Self::Future { read, write } => {
                write!(f, "{read} found what {write} writes, and had returned before that was invoked")
            }
            Self::Vanished { there, gone } => write!(
                f,
                "a value was there before {gone} was invoked, for {there} had returned; yet {gone} found \
                 nothing"
            ),
            Self::Interleaved { one, other, there: (a, b), back: (c, d) } => write!(
                f,
                "{one} comes before {other}, for {a} returned before {b} was invoked, and {other} before {one}, for \
                 {c} returned before {d} was invoked; neither is written twice"
            ),
            Self::NoOrder { placed, of, value } => write!(
                f,
                "no order explains all {of} operations; one gets as far as {placed}, with {} in the register, which \
                 is not what these reads found",
                Shown(*value)
            ),
            Self::Unplaced => f.write_str("an operation returned without the index at which it took effect"),
            Self::NotInLog { index, found: None } => {
                write!(f, "a write returned for index {index}, where the log has no write")
            }
            Self::NotInLog { index, found: Some(Committed { key, value, .. }) } => {
                write!(f, "a write returned for index {index}, where the log writes {value} to key {key}")
            }
            Self::OneEntryForTwo { index } => {
                write!(f, "two writes returned for index {index}, and an entry is the effect of one")
            }
            Self::RefusedInLog { index } => {
                write!(f, "a write was refused and is in the log at index {index}")
            }
            Self::TwiceInLog { index } => {
                write!(f, "a write took effect already, and once more at index {index}")
            }
            Self::StrangerInLog { index } => {
                write!(f, "the log holds a write at index {index} that no client asked for")
            }
            Self::NotAsOfIndex { held } => {
                write!(f, "a read was served as of an index where the log has {}", Shown(*held))
            }
            Self::OutOfOrder { earlier, later, index } => write!(
                f,
                "{earlier} returned before {later} was invoked, and yet the log has {later} before it, at index {index}"
            ),
        }
    }
}

/// What a register holds, in words.
struct Shown(Option<Value>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}
