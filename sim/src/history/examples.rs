//! Histories as pictures, known to be right or wrong, and what both black-box checks say of them.
//!
//! Each line is a process, and time runs to the right. `|w1--|` is a write of 1, `|r1--|` a read that found
//! 1, `|r--|` one that found nothing. What ends with `x` was refused, with `?` is unknown. `@2` names another
//! key than key 1, `#5` the index at which the operation took effect.

use super::operation::{Call, End, Operation, Value};
use super::violation::Reason;
use super::{Decision, History, OperationId, Verdict, check, search, zones};

/// The history that a picture shows.
pub(super) fn history(picture: &str) -> History {
    let mut operations = Vec::new();
    for line in picture.lines().filter(|line| !line.trim().is_empty()) {
        let name = line.trim().as_bytes()[0];
        let mut from = 0;
        while let Some(start) = line[from..].find('|').map(|at| from + at) {
            let end = start + 1 + line[start + 1..].find(['|', '?', 'x']).expect("every operation ends");
            operations.push(operation(u64::from(name - b'A') + 1, &line[start..=end], start as u64));
            from = end + 1;
        }
    }
    History::try_from(operations).expect("operations end to the right of where they begin")
}

/// The operation that `|w1@2#5--|` shows.
fn operation(process: u64, picture: &str, invoked: u64) -> Operation {
    let number = |sign: char| {
        let digits = picture.split_once(sign)?.1;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let at = invoked + picture.len() as u64 - 1;
    let (call, read) = match number('w').map(Value) {
        Some(value) => (Call::Write(value), None),
        None => (Call::Read, number('r').map(Value)),
    };
    let ended = match &picture[picture.len() - 1..] {
        "|" => End::Returned { at, read },
        "x" => End::Refused { at },
        _ => End::Unknown,
    };
    Operation { process, key: number('@').unwrap_or(1), call, invoked, ended, index: number('#') }
}

/// Both checks find an order for every key.
fn fine(picture: &str) {
    let history = history(picture);
    assert_eq!(check(&history, 0), Verdict::Linearizable, "{picture}");
    for register in history.registers() {
        assert_eq!(search::decide(&register, 1_000), Ok(Decision::Linearizable), "{picture}");
    }
}

/// Both checks find that there is no order, and the zones say why.
fn wrong(picture: &str) -> Reason {
    let history = history(picture);
    let searched = history.registers().any(|register| {
        let decision = search::decide(&register, 1_000).expect("a small history");
        assert!(zones::decide(&register).is_ok(), "its values differ");
        matches!(decision, Decision::NotLinearizable(_))
    });
    assert!(searched, "the search finds an order:\n{picture}");
    match check(&history, 0) {
        Verdict::Violated(violation) => violation.reason,
        verdict => panic!("{verdict:?}:\n{picture}"),
    }
}

fn id(position: usize) -> OperationId {
    OperationId(position)
}

#[test]
fn one_after_another() {
    fine(
        "
        A |r--|      |r1--|       |r2--|
        B      |w1--|      |w2--|
        ",
    );
}

#[test]
fn concurrent_reads_may_go_either_way_but_not_there_and_back() {
    fine(
        "
        A     |w1-----------|
        B  |r--|  |r--|  |r1--|
        C       |r1-----|
        ",
    );
    let new_then_old = wrong(
        "
        A |w1---------------------|
        B     |r1--|
        C             |r--|
        ",
    );
    assert_eq!(new_then_old, Reason::Vanished { there: id(1), gone: id(2) });
    let inversion = wrong(
        "
        A |w1--|
        B         |w2------------------|
        C             |r2--|
        D                     |r1--|
        ",
    );
    let (one, other) = (Value(1), Value(2));
    let (there, back) = ((id(0), id(2)), (id(2), id(3)));
    assert_eq!(inversion, Reason::Interleaved { one, other, there, back });
}

#[test]
fn a_stale_read() {
    let reason = wrong(
        "
        A |w1--|  |w2--|
        B                 |r1--|
        ",
    );
    let (one, other) = (Value(1), Value(2));
    let (there, back) = ((id(0), id(1)), (id(1), id(2)));
    assert_eq!(reason, Reason::Interleaved { one, other, there, back });
}

#[test]
fn a_session_that_does_not_see_its_own_write() {
    let reason = wrong("A |w1--|   |r--|");
    assert_eq!(reason, Reason::Vanished { there: id(0), gone: id(1) });
}

#[test]
fn a_lost_update() {
    let reason = wrong(
        "
        A |w1--|         |r1--|    |r1--|
        B         |w2--|
        ",
    );
    assert!(matches!(reason, Reason::Interleaved { one: Value(1), other: Value(2), .. }));
}

#[test]
fn a_read_of_what_was_never_written_or_not_yet() {
    assert_eq!(wrong("A |w1--|  |r9--|"), Reason::Unwritten);
    assert_eq!(wrong("A |r1--|  |w1--|"), Reason::Future { read: id(0), write: id(1) });
    fine(
        "
        A |r1--|
        B    |w1--|
        ",
    );
}

#[test]
fn a_refused_write_is_never_read() {
    fine("A |w1--|  |w2--x  |r1--|");
    let reason = wrong(
        "
        A |w1--|  |w2--------x
        B            |r2--|
        ",
    );
    assert_eq!(reason, Reason::Refused);
    fine("A |w1--x  |r--|  |w1--|  |r1--|");
}

#[test]
fn an_unknown_write_takes_effect_late_or_never_but_once() {
    fine("A |w1--|  |w2--?  |r1--|  |r1--|");
    fine("A |w1--|  |w2--?  |r1--|  |r2--|");
    fine(
        "
        A |w1--?
        B          |w2--|   |r2--|   |r1--|
        ",
    );
    let twice = wrong(
        "
        A |w1--?
        B          |r1--|   |w2--|   |r1--|
        ",
    );
    let (one, other) = (Value(1), Value(2));
    let (there, back) = ((id(1), id(2)), (id(2), id(3)));
    assert_eq!(twice, Reason::Interleaved { one, other, there, back });
    let before_it_was_asked = wrong(
        "
        A            |w1--?
        B  |r1--|
        ",
    );
    assert_eq!(before_it_was_asked, Reason::Future { read: id(1), write: id(0) });
}

#[test]
fn reads_that_told_nothing_say_nothing() {
    fine("A |r--?  |r--x  |w1--|  |r--?  |r--x");
}

#[test]
fn a_value_that_shows_while_another_is_certainly_there() {
    // 2 is written and read within a time in which 1 was there all along.
    let reason = wrong(
        "
        A |w1--|                   |r1--|
        B         |w2-------|
        C            |r2--|
        ",
    );
    let (one, other) = (Value(1), Value(2));
    let (there, back) = ((id(0), id(3)), (id(3), id(1)));
    assert_eq!(reason, Reason::Interleaved { one, other, there, back });
}

#[test]
fn a_register_that_changes_without_a_write() {
    let reason = wrong(
        "
        A |w1--|  |r1--|
        B |w2--|          |r2--|
        ",
    );
    let (one, other) = (Value(1), Value(2));
    let (there, back) = ((id(0), id(3)), (id(2), id(1)));
    assert_eq!(reason, Reason::Interleaved { one, other, there, back });
}

#[test]
fn what_touches_overlaps() {
    let at = |invoked, returned, call, read| {
        let ended = End::Returned { at: returned, read };
        Operation { process: 1, key: 1, call, invoked, ended, index: None }
    };
    let verdict = |read| {
        let operations = vec![at(0, 10, Call::Write(Value(1)), None), read];
        check(&History::try_from(operations).expect("well formed"), 0)
    };
    assert_eq!(verdict(at(10, 20, Call::Read, None)), Verdict::Linearizable);
    assert!(matches!(verdict(at(11, 20, Call::Read, None)), Verdict::Violated(_)));
}

#[test]
fn keys_are_independent() {
    fine(
        "
        A |w1@1--|  |w2@2--|
        B                      |r1@1--|  |r2@2--|  |r@3--|
        ",
    );
    let reason = wrong(
        "
        A |w1@1--|  |w1@2--|
        B                      |r1@1--|  |r@2--|
        ",
    );
    assert_eq!(reason, Reason::Vanished { there: id(1), gone: id(3) });
}

#[test]
fn equal_values_are_left_to_the_search_and_a_search_that_runs_out_does_not_pass() {
    let equal = history(
        "
        A |w1--|           |w1--|
        B         |w2--|            |r1--|
        ",
    );
    let register = equal.registers().next().expect("there is one key");
    let undecided = zones::decide(&register).expect_err("1 is written twice");
    assert_eq!(undecided, zones::EqualValues { value: Value(1), one: id(0), other: id(1) });
    assert_eq!(check(&equal, 100), Verdict::Linearizable);
    assert_eq!(check(&equal, 0), Verdict::Unknown { keys: vec![1] });

    let stale = history(
        "
        A |w1--|  |w1--|
        B                  |w2--|   |r1--|
        ",
    );
    let Verdict::Violated(violation) = check(&stale, 100) else { panic!("the read is stale") };
    assert_eq!(violation.reason, Reason::NoOrder { placed: 3, of: 4, value: Some(Value(2)) });
    assert_eq!(violation.operations.len(), 1, "the read");

    // One key in doubt does not hide what is wrong with another.
    let both = history(
        "
        A |w1--|           |w1--|
        B         |w2--|            |r1--|   |r8@2--|
        ",
    );
    assert!(matches!(check(&both, 0), Verdict::Violated(violation) if violation.key == 2));
}

#[test]
fn a_search_that_would_take_forever_says_unknown() {
    // Any of the writes may be the last, but not one and then another.
    let mut history = History::default();
    let writes: Vec<_> = (0..24).map(|n| history.invoke(n, 1, Call::Write(Value(n / 2)), n)).collect();
    for (write, at) in writes.into_iter().zip(100..) {
        history.wrote(write, at);
    }
    for (at, value) in [(200, 1), (210, 2)] {
        let read = history.invoke(99, 1, Call::Read, at);
        history.read(read, at + 1, Some(Value(value)));
    }
    assert_eq!(check(&history, 5_000), Verdict::Unknown { keys: vec![1] });
}

#[test]
fn a_violation_tells_who_did_what_when() {
    let history = history(
        "
A |w1--|  |w2--|
B                 |r1--|
        ",
    );
    let Verdict::Violated(violation) = check(&history, 0) else { panic!("the read is stale") };
    assert_eq!(
        violation.to_string(),
        "key 1: 1 comes before 2, for #0 returned before #1 was invoked, and 2 before 1, for #1 returned before #2 was \
         invoked; neither is written twice\n  \
         #0 process 1 writes 1 to key 1 [2..7]\n  \
         #1 process 1 writes 2 to key 1 [10..15]\n  \
         #2 process 2 reads 1 from key 1 [18..23]"
    );
}
