//! On small histories drawn at random, every check agrees with the definition.
//!
//! A history is drawn from an order that explains it, and then a few things in it are changed. The draws are
//! the same in every run; `PROPTEST_CASES=100000 cargo test -p kontiki-sim agree` makes more.

use super::operation::{Call, End, Operation, Value};
use super::witness::{self, Committed};
use super::{Decision, History, Register, search, zones};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{RngSeed, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// One operation of an order: whether it writes, how long after the one before it takes effect, how much
/// sooner it is invoked and how much later it returns, and what the client is told.
type Draft = (bool, u64, u64, u64, Fate);

#[derive(Clone, Copy, Debug)]
enum Fate {
    Returns,
    IsRefused,
    IsUnknownAndDone,
    IsUnknownAndNotDone,
}

/// Something to change in an operation.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// It found what another knows of.
    Finds(Index),
    /// It found a value that no client wrote.
    FindsStranger,
    /// All of it was so much later.
    Later(u64),
    /// It took effect there.
    Index(u64),
}

fn draft() -> impl Strategy<Value = Draft> {
    let fate = prop_oneof![
        7 => Just(Fate::Returns),
        1 => Just(Fate::IsRefused),
        1 => Just(Fate::IsUnknownAndDone),
        1 => Just(Fate::IsUnknownAndNotDone),
    ];
    (prop::bool::weighted(0.4), 0..6_u64, 0..5_u64, 0..5_u64, fate)
}

fn change() -> impl Strategy<Value = (Index, Change)> {
    let change = prop_oneof![
        12 => any::<Index>().prop_map(Change::Finds),
        1 => Just(Change::FindsStranger),
        4 => (1..20_u64).prop_map(Change::Later),
        2 => (0..6_u64).prop_map(Change::Index),
    ];
    (any::<Index>(), change)
}

/// What clients see of an order, and its log.
fn play(drafts: &[Draft], values: u64) -> (Vec<Operation>, Vec<Committed>) {
    let (mut operations, mut log, mut now) = (Vec::new(), Vec::<Committed>::new(), 10);
    for (&(writes, gap, before, after, fate), n) in drafts.iter().zip(0..) {
        now += gap;
        let call = if writes { Call::Write(Value(n * 5 % 11 % values)) } else { Call::Read };
        if let (Call::Write(value), Fate::Returns | Fate::IsUnknownAndDone) = (call, fate) {
            log.push(Committed { index: log.len() as u64 + 1, key: 1, value });
        }
        let found = log.last().map(|entry| entry.value).filter(|_| !writes);
        let ended = match fate {
            Fate::Returns => End::Returned { at: now + after, read: found },
            Fate::IsRefused => End::Refused { at: now + after },
            Fate::IsUnknownAndDone | Fate::IsUnknownAndNotDone => End::Unknown,
        };
        let index = Some(log.len() as u64);
        operations.push(Operation { process: n, key: 1, call, invoked: now - before, ended, index });
    }
    (operations, log)
}

fn apply(change: Change, which: Index, operations: &mut [Operation]) {
    let found = match change {
        Change::Finds(other) => other.get(operations).value(),
        _ => Some(Value(99)),
    };
    let operation = which.get_mut(operations);
    match (change, &mut operation.ended) {
        (Change::Finds(_) | Change::FindsStranger, End::Returned { read, .. })
            if operation.call == Call::Read =>
        {
            *read = found;
        }
        (Change::Finds(_) | Change::FindsStranger, _) => {}
        (Change::Later(by), ended) => {
            operation.invoked += by;
            if let End::Returned { at, .. } | End::Refused { at } = ended {
                *at += by;
            }
        }
        (Change::Index(index), _) => operation.index = Some(index),
    }
}

/// The definition: some order of all that returned, and of some that are unknown, explains everything.
fn explained(operations: &[Operation], value: Option<Value>) -> bool {
    let is_next = |next: &Operation| {
        let fits = next.is_write() || next.value() == value;
        fits && !operations.iter().any(|other| other.precedes(next))
    };
    operations.iter().all(|operation| operation.returned().is_none())
        || operations.iter().enumerate().filter(|(_, next)| is_next(next)).any(|(at, next)| {
            let rest = [&operations[..at], &operations[at + 1..]].concat();
            explained(&rest, next.value())
        })
}

fn is_linearizable(operations: &[Operation]) -> bool {
    let may_have_been = |it: &&Operation| it.returned().is_some() || it.is_write() && !it.is_refused();
    explained(&operations.iter().filter(may_have_been).copied().collect::<Vec<_>>(), None)
}

fn searched(register: &Register) -> bool {
    search::decide(register, 100_000).expect("a small history") == Decision::Linearizable
}

/// A history that was drawn.
struct Drawn {
    history: History,
    /// The log of the order that it was drawn from.
    log: Vec<Committed>,
    /// Whether nothing was changed.
    unchanged: bool,
    /// Whether the definition holds.
    linearizable: bool,
}

/// Draws histories whose writes have values less than `values`, large ones before small ones and after. The
/// property says whether each is right; many must be, and many not.
fn agree(values: u64, property: impl Fn(&Drawn) -> bool) {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 8_000;
    }
    config.rng_seed = RngSeed::Fixed(1);
    let (right, wrong) = (Cell::new(0), Cell::new(0));
    let drawn =
        TestRunner::new(config).run(&(vec(draft(), 2..9), vec(change(), 0..9)), |(drafts, changes)| {
            let (mut operations, log) = play(&drafts, values);
            for (which, change) in &changes {
                apply(*change, *which, &mut operations);
            }
            let (unchanged, linearizable) = (changes.is_empty(), is_linearizable(&operations));
            let history = History::try_from(operations).expect("well formed");
            let drawn = Drawn { history, log, unchanged, linearizable };
            let counter = if property(&drawn) { &right } else { &wrong };
            counter.set(counter.get() + 1);
            Ok(())
        });
    drawn.unwrap_or_else(|failure| panic!("{failure}"));
    let (right, wrong) = (right.get(), wrong.get());
    assert!(right.min(wrong) > (right + wrong) / 10, "{right} right, {wrong} wrong");
}

#[test]
fn zones_and_search_agree_with_the_definition_where_values_differ() {
    let reasons = RefCell::new(BTreeMap::<String, u32>::new());
    agree(u64::MAX, |drawn| {
        assert!(drawn.linearizable || !drawn.unchanged, "it was drawn from an order");
        for register in drawn.history.registers() {
            let zones = zones::decide(&register).expect("all values differ");
            assert_eq!(zones == Decision::Linearizable, drawn.linearizable, "zones: {zones:?}");
            assert_eq!(searched(&register), drawn.linearizable, "search");
            if let Decision::NotLinearizable(violation) = zones {
                let name = format!("{:?}", violation.reason).chars().take_while(|c| *c != ' ').collect();
                *reasons.borrow_mut().entry(name).or_default() += 1;
            }
        }
        drawn.linearizable
    });
    let reasons = reasons.into_inner();
    let names: Vec<_> = reasons.keys().map(String::as_str).collect();
    assert_eq!(names, ["Future", "Interleaved", "Refused", "Unwritten", "Vanished"], "every reason occurs");
    let total: u32 = reasons.values().sum();
    assert!(reasons.values().all(|&times| times > total / 50), "{reasons:?}");
}

#[test]
fn search_agrees_with_the_definition_where_values_repeat() {
    agree(2, |drawn| {
        for register in drawn.history.registers() {
            assert_eq!(searched(&register), drawn.linearizable);
        }
        drawn.linearizable
    });
}

#[test]
fn what_a_witness_vouches_for_agrees_with_the_definition() {
    for values in [u64::MAX, 2] {
        agree(values, |drawn| {
            let vouched = witness::check(&drawn.history, drawn.log.iter().copied());
            assert!(vouched.is_ok() || !drawn.unchanged, "{vouched:?}");
            assert!(vouched.is_err() || drawn.linearizable, "the witness lets it pass");
            vouched.is_ok()
        });
    }
}
