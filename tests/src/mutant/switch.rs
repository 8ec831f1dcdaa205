//! Which mutant is on. This module is part of the copy of `core` that `cargo mutate` makes, and of nothing
//! else. Each function does what stood in its place, unless one of the mutants of that place is on: those are
//! numbered from `first`.
//!
//! `KONTIKI_MUTANT` is the number of the mutant that is on. Where it is `record`, none is on, and the first
//! time that a mutant would make a difference its number becomes a line of the file `KONTIKI_MUTANT_REACHED`.

extern crate std;

use core::ops::{Add, AddAssign, Div, Mul, Rem, Sub, SubAssign};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::sync::Mutex;

/// No mutant is on: they are numbered from 1.
const NONE: u32 = 0;
/// None is on, and those that would make a difference are recorded.
const RECORD: u32 = u32::MAX - 1;
/// The environment has not been read yet.
const UNREAD: u32 = u32::MAX;

static CHOSEN: AtomicU32 = AtomicU32::new(UNREAD);
/// The mutants that are recorded already. There are fewer than this has room for.
static KNOWN: [AtomicBool; 1 << 14] = [const { AtomicBool::new(false) }; 1 << 14];
static REACHED: Mutex<Option<File>> = Mutex::new(None);

#[inline]
fn chosen() -> u32 {
    match CHOSEN.load(Ordering::Relaxed) {
        UNREAD => read(),
        chosen => chosen,
    }
}

#[cold]
fn read() -> u32 {
    let chosen = match std::env::var("KONTIKI_MUTANT") {
        Ok(text) if text == "record" => RECORD,
        Ok(text) => text.parse().expect("KONTIKI_MUTANT is the number of a mutant"),
        Err(_) => NONE,
    };
    if chosen == RECORD {
        let path =
            std::env::var_os("KONTIKI_MUTANT_REACHED").expect("a file for the mutants that are reached");
        let file = OpenOptions::new().create(true).append(true).open(path).expect("the file can be written");
        REACHED.lock().expect("no thread has panicked with it").get_or_insert(file);
    }
    CHOSEN.store(chosen, Ordering::Relaxed);
    chosen
}

/// Notes that a mutant would make a difference here.
fn reached(mutant: u32) {
    let known = &KNOWN[mutant as usize];
    if !known.load(Ordering::Relaxed) && !known.swap(true, Ordering::Relaxed) {
        let mut file = REACHED.lock().expect("no thread has panicked with it");
        let file = file.as_mut().expect("it was opened when the environment was read");
        file.write_all(std::format!("{mutant}\n").as_bytes()).expect("the file can be written");
    }
}

/// What stands there, or what the mutant that is on makes of it.
#[inline]
fn pick<const MUTANTS: usize>(first: u32, plain: bool, mutated: impl FnOnce() -> [bool; MUTANTS]) -> bool {
    let chosen = chosen();
    if chosen == NONE {
        return plain;
    }
    let is_here = chosen.checked_sub(first).is_some_and(|number| (number as usize) < MUTANTS);
    if chosen == RECORD {
        for (mutant, value) in (first..).zip(mutated()) {
            if value != plain {
                reached(mutant);
            }
        }
    } else if is_here {
        return mutated()[(chosen - first) as usize];
    }
    plain
}

/// Whether this mutant is on, which always makes a difference.
#[inline]
pub fn on(mutant: u32) -> bool {
    let chosen = chosen();
    if chosen == RECORD {
        reached(mutant);
    }
    chosen == mutant
}

#[inline]
pub fn keep(mutant: u32) -> bool {
    !on(mutant)
}

/// An operand of `&&`, which a mutant makes true.
#[inline]
pub fn clause(first: u32, plain: bool) -> bool {
    pick(first, plain, || [true])
}

/// An operand of `||`, which a mutant makes false.
#[inline]
pub fn alternative(first: u32, plain: bool) -> bool {
    pick(first, plain, || [false])
}

#[inline]
pub fn condition(first: u32, plain: bool) -> bool {
    pick(first, plain, || [true, false])
}

#[inline]
pub fn not(first: u32, operand: bool) -> bool {
    pick(first, !operand, || [operand])
}

#[inline]
pub fn less<A: PartialOrd<B> + ?Sized, B: ?Sized>(first: u32, a: &A, b: &B) -> bool {
    pick(first, a < b, || [a == b, a > b, a <= b])
}

#[inline]
pub fn greater<A: PartialOrd<B> + ?Sized, B: ?Sized>(first: u32, a: &A, b: &B) -> bool {
    pick(first, a > b, || [a == b, a < b, a >= b])
}

#[inline]
pub fn at_most<A: PartialOrd<B> + ?Sized, B: ?Sized>(first: u32, a: &A, b: &B) -> bool {
    pick(first, a <= b, || [a > b, a < b])
}

#[inline]
pub fn at_least<A: PartialOrd<B> + ?Sized, B: ?Sized>(first: u32, a: &A, b: &B) -> bool {
    pick(first, a >= b, || [a < b, a > b])
}

#[inline]
pub fn equal<A: PartialEq<B> + ?Sized, B: ?Sized>(first: u32, a: &A, b: &B) -> bool {
    pick(first, a == b, || [a != b])
}

#[inline]
pub fn unequal<A: PartialEq<B> + ?Sized, B: ?Sized>(first: u32, a: &A, b: &B) -> bool {
    pick(first, a != b, || [a == b])
}

/// The greater of both, or only the left, or only the right.
#[inline]
pub fn greatest<T: Ord>(first: u32, a: T, b: T) -> T {
    let right = b >= a;
    let picked = if right { [b > a, false] } else { [false, true] };
    one_of(first, a, b, right, picked)
}

/// The lesser of both, or only the left, or only the right.
#[inline]
pub fn least<T: Ord>(first: u32, a: T, b: T) -> T {
    let right = b < a;
    let picked = if right { [true, false] } else { [false, a != b] };
    one_of(first, a, b, right, picked)
}

/// The right one or the left, and whether only the left, and only the right, make a difference.
#[inline]
fn one_of<T>(first: u32, a: T, b: T, right: bool, [left_differs, right_differs]: [bool; 2]) -> T {
    let left_only = pick(first, false, || [left_differs]);
    let right_only = pick(first + 1, false, || [right_differs]);
    if right_only || (right && !left_only) { b } else { a }
}

#[inline]
pub fn plus<A: Add<B, Output = C> + Sub<B, Output = C>, B, C>(mutant: u32, a: A, b: B) -> C {
    if on(mutant) { a - b } else { a + b }
}

#[inline]
pub fn left_of_sum<A: Add<B, Output = A>, B>(mutant: u32, a: A, b: B) -> A {
    if on(mutant) { a } else { a + b }
}

#[inline]
pub fn minus<A: Add<B, Output = C> + Sub<B, Output = C>, B, C>(mutant: u32, a: A, b: B) -> C {
    if on(mutant) { a + b } else { a - b }
}

#[inline]
pub fn times<A: Mul<B, Output = C> + Div<B, Output = C>, B, C>(mutant: u32, a: A, b: B) -> C {
    if on(mutant) { a / b } else { a * b }
}

#[inline]
pub fn divided<A: Mul<B, Output = C> + Div<B, Output = C>, B, C>(mutant: u32, a: A, b: B) -> C {
    if on(mutant) { a * b } else { a / b }
}

#[inline]
pub fn remainder<A: Rem<B, Output = C> + Div<B, Output = C>, B, C>(mutant: u32, a: A, b: B) -> C {
    if on(mutant) { a / b } else { a % b }
}

#[inline]
pub fn add<A: AddAssign<B> + SubAssign<B>, B>(mutant: u32, place: &mut A, by: B) {
    if on(mutant) {
        *place -= by;
    } else {
        *place += by;
    }
}

#[inline]
pub fn subtract<A: AddAssign<B> + SubAssign<B>, B>(mutant: u32, place: &mut A, by: B) {
    if on(mutant) {
        *place += by;
    } else {
        *place -= by;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test for all: which mutant is on holds for the process.
    #[test]
    fn each_function_does_what_stood_there_unless_its_mutant_is_on() {
        let all = |on: u32| {
            CHOSEN.store(on, Ordering::Relaxed);
            let (mut more, mut fewer) = (5, 5);
            add(60, &mut more, 2);
            subtract(61, &mut fewer, 2);
            let numbers =
                [plus(50, 6, 3), minus(51, 6, 3), times(52, 6, 3), divided(53, 6, 3), remainder(54, 7, 4)];
            let extremes = [greatest(40, 1, 2), greatest(42, 2, 1), least(44, 1, 2), least(46, 2, 1)];
            let orders = [less(1, &1, &1), less(1, &1, &2), greater(4, &1, &1), greater(4, &2, &1)];
            let weak = [at_most(7, &1, &1), at_most(7, &1, &2), at_least(9, &1, &1), at_least(9, &2, &1)];
            let equals = [equal(11, &1, &1), unequal(12, &1, &1)];
            let logic = [
                clause(13, false),
                alternative(14, true),
                condition(15, false),
                condition(17, true),
                not(19, true),
            ];
            (more, fewer, numbers, extremes, orders, weak, equals, logic, keep(20))
        };
        let plain = all(NONE);
        let extremes = [2, 2, 1, 1];
        let (orders, weak) = ([false, true, false, true], [true; 4]);
        let logic = [false, true, false, true, false];
        assert_eq!(plain, (7, 3, [9, 3, 18, 2, 3], extremes, orders, weak, [true, false], logic, true));
        assert_eq!(all(99), plain, "that is no mutant of these");
        assert_eq!([all(60).0, all(61).1], [3, 7]);
        let numbers = [50, 51, 52, 53, 54].map(|on: u32| all(on).2[on as usize - 50]);
        assert_eq!(numbers, [3, 9, 2, 18, 1]);
        CHOSEN.store(55, Ordering::Relaxed);
        assert_eq!([left_of_sum(55, 6, 3), left_of_sum(56, 6, 3)], [6, 9]);
        // Only the left side, only the right side; of 1 and 2, and of 2 and 1.
        assert_eq!([all(40).3[0], all(41).3[0], all(42).3[1], all(43).3[1]], [1, 2, 2, 1]);
        assert_eq!([all(44).3[2], all(45).3[2], all(46).3[3], all(47).3[3]], [1, 2, 2, 1]);
        assert_eq!(
            [1, 2, 3].map(|on| all(on).4[..2].to_vec()),
            [[true, false], [false, false], [true, true]]
        );
        assert_eq!(
            [4, 5, 6].map(|on| all(on).4[2..].to_vec()),
            [[true, false], [false, false], [true, true]]
        );
        assert_eq!([7, 8].map(|on| all(on).5[..2].to_vec()), [[false, false], [false, true]]);
        assert_eq!([9, 10].map(|on| all(on).5[2..].to_vec()), [[false, false], [false, true]]);
        assert_eq!([all(11).6, all(12).6], [[false, false], [true, true]]);
        assert_eq!(
            [all(13).7[0], all(14).7[1], all(15).7[2], all(18).7[3], all(19).7[4]],
            [true, false, true, false, true]
        );
        assert_eq!([all(16).7[2], all(17).7[3], all(20).8], [false, true, false]);
    }
}
