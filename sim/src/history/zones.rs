//! Registers whose written values all differ: decided from when each value was first and last known of.
//!
//! Then it is known which write each read found (a *read mapping*), and the problem, NP-complete in general,
//! takes O(n log n): P. B. Gibbons and E. Korach, "Testing Shared Memories", SIAM J. Comput. 26(4), 1997, on
//! linearizability with a read mapping. Here is why.
//!
//! **What is left out.** A refused operation has no effect, and an unknown read told nothing. An unknown
//! write that no read found can be taken out of any order, for what follows it at once is no read. One that
//! some read found did take effect; it only has no return.
//!
//! **Clusters.** The write of a value and the reads that found it form its cluster, and in any order that
//! explains the history they stand together, the write first, since no other write may come between. The
//! reads that found nothing are the cluster of a write before all time. Let f be when the first operation of
//! a cluster returned, and s when the last was invoked. Cluster C must come before D if some operation of C
//! returned before one of D was invoked, that is, if f(C) < s(D).
//!
//! **An order of clusters is enough.** If no read returned before its write was invoked, the write followed
//! by its reads as they were invoked is a good order within a cluster. So all that is needed is an order of
//! the clusters with C before D wherever f(C) < s(D): the relation must have no cycle.
//!
//! **Where there is a cycle there is one of two clusters.** Take any, and in it C with the least f, with B
//! before C and A before B: f(A) < s(B) and f(B) < s(C). If A is C, the cycle has two. Otherwise f(C) ≤ f(A)
//! < s(B) says that C comes before B too, and C and B are a cycle of two.
//!
//! **Zones.** So we look for two clusters with f(C) < s(D) and f(D) < s(C). A cluster with f < s has a
//! *forward zone* from f to s, through all of which its value was there; others have a *backward zone* from s
//! to f, at some moment of which it was. Two forward zones must not overlap; no backward zone may lie within
//! a forward one; two backward zones never conflict, as s(C) ≤ f(C) < s(D) ≤ f(D) < s(C) is impossible.

use super::operation::{Call, End, OperationId, Recorded, Value};
use super::record::Register;
use super::violation::{Decision, Reason, Violation};
use std::collections::BTreeMap;
use thiserror::Error;

/// Zones cannot decide: the same value was written twice, so that it is not known which write a read found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{one} and {other} both write {value}")]
pub struct EqualValues {
    /// The value.
    pub value: Value,
    /// A write of it.
    pub one: OperationId,
    /// Another.
    pub other: OperationId,
}

/// Whether a register is linearizable, where the values written to it differ.
///
/// A read of a value that no client has written yet is found even where values are equal.
pub fn decide(register: &Register) -> Result<Decision, EqualValues> {
    let mut known: BTreeMap<Option<Value>, Known<'_>> = BTreeMap::new();
    for recorded in register.operations() {
        let operation = &recorded.operation;
        let known = known.entry(operation.value()).or_default();
        match (operation.call, operation.ended) {
            (Call::Write(_), End::Refused { .. }) => known.refused.push(recorded),
            (Call::Write(_), End::Returned { .. } | End::Unknown) => known.writes.push(recorded),
            (Call::Read, End::Returned { .. }) => known.reads.push(recorded),
            (Call::Read, End::Refused { .. } | End::Unknown) => {}
        }
    }

    if let Some((reason, operations)) = known.values().find_map(Known::contradiction) {
        return Ok(Decision::NotLinearizable(Violation::new(register.key(), reason, operations)));
    }
    for (value, known) in &known {
        if let (&Some(value), [one, other, ..]) = (value, &known.writes[..]) {
            return Err(EqualValues { value, one: one.id, other: other.id });
        }
    }
    let clusters: Vec<_> = known.values().filter_map(Known::cluster).collect();
    Ok(match conflict(&clusters) {
        Some((one, other)) => Decision::NotLinearizable(one.contradicts(&other, register.key())),
        None => Decision::Linearizable,
    })
}

/// The operations that know of one value, as they were invoked.
#[derive(Default)]
struct Known<'a> {
    writes: Vec<&'a Recorded>,
    refused: Vec<&'a Recorded>,
    reads: Vec<&'a Recorded>,
}

impl<'a> Known<'a> {
    /// A read that no write can account for.
    fn contradiction(&self) -> Option<(Reason, Vec<&'a Recorded>)> {
        let read = *self.reads.iter().min_by_key(|read| read.operation.returned())?;
        read.operation.value()?;
        match (self.writes.first(), self.refused.first()) {
            (Some(write), _) if read.operation.precedes(&write.operation) => {
                Some((Reason::Future { read: read.id, write: write.id }, vec![read, write]))
            }
            (Some(_), _) => None,
            (None, Some(write)) => Some((Reason::Refused, vec![read, write])),
            (None, None) => Some((Reason::Unwritten, vec![read])),
        }
    }

    /// What they say of the value, unless it is only that it was to be written and perhaps never was.
    fn cluster(&self) -> Option<Cluster<'a>> {
        let all = || self.writes.iter().chain(&self.reads).copied();
        let returned = all().filter(|recorded| recorded.operation.returned().is_some());
        let first = returned.min_by_key(|recorded| recorded.operation.returned())?;
        let last = all().max_by_key(|recorded| recorded.operation.invoked)?;
        let write = self.writes.first().copied();
        Some(Cluster { write, first: write.map(|_| first), last })
    }
}

/// A write and the reads that found what it wrote.
#[derive(Clone, Copy)]
struct Cluster<'a> {
    /// None stands for a write of nothing, before all time.
    write: Option<&'a Recorded>,
    /// What returned first; f is when. None with `write`.
    first: Option<&'a Recorded>,
    /// What was invoked last; s is when.
    last: &'a Recorded,
}

impl Cluster<'_> {
    /// f, where none is before all time.
    fn first_return(&self) -> Option<u64> {
        self.first?.operation.returned()
    }

    /// Whether it must come before the other; of itself, whether its zone is a forward one.
    fn precedes(&self, other: &Self) -> bool {
        self.first_return() < Some(other.last.operation.invoked)
    }

    /// Says how it precedes the other and the other precedes it, given that its f is the lesser.
    fn contradicts(&self, other: &Self, key: u64) -> Violation {
        let (Some(value), Some(back)) = (other.last.operation.value(), other.first) else {
            unreachable!("only one cluster has no write, and no f is less than that one's");
        };
        let reason = match (self.last.operation.value(), self.first) {
            (Some(one), Some(there)) => Reason::Interleaved {
                one,
                other: value,
                there: (there.id, other.last.id),
                back: (back.id, self.last.id),
            },
            _ => Reason::Vanished { there: back.id, gone: self.last.id },
        };
        let involved = [self.write, self.first, Some(self.last), other.write, other.first, Some(other.last)];
        Violation::new(key, reason, involved.into_iter().flatten())
    }
}

/// Two clusters each of which precedes the other, the one with the lesser f first.
fn conflict<'a>(clusters: &[Cluster<'a>]) -> Option<(Cluster<'a>, Cluster<'a>)> {
    let (mut forward, backward): (Vec<_>, Vec<_>) =
        clusters.iter().partition::<Vec<_>, _>(|cluster| cluster.precedes(cluster));
    forward.sort_by_key(Cluster::first_return);
    let overlapping = forward.windows(2).find(|pair| pair[1].precedes(&pair[0]));
    if let Some(pair) = overlapping {
        return Some((pair[0], pair[1]));
    }
    // They are apart, so of all that begin before a backward zone ends, the last reaches furthest.
    backward.into_iter().find_map(|inner| {
        let before = forward.partition_point(|outer| outer.precedes(&inner));
        let outer = forward[before.checked_sub(1)?];
        inner.precedes(&outer).then_some((outer, inner))
    })
}
