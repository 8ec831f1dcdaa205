//! What will happen, in the order of (time, sequence).

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// A queue of what will happen. What is due at the same time happens in the order in which it was scheduled.
///
/// The heap holds keys alone: what will happen stays where it is while they are put in order.
pub(crate) struct Queue<T> {
    keys: BinaryHeap<Reverse<Key>>,
    /// What happens, at the places that keys name. Free places are `None`.
    places: Vec<Option<T>>,
    free: Vec<usize>,
    sequence: u64,
}

/// In the order of time, and of the sequence in which it was scheduled. The place decides nothing.
#[derive(PartialEq, Eq)]
struct Key {
    at: u64,
    sequence: u64,
    place: usize,
}

impl Key {
    /// Both as one number: keys are compared without a branch, which nothing could predict.
    fn order(&self) -> u128 {
        u128::from(self.at) << 64 | u128::from(self.sequence)
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { keys: BinaryHeap::new(), places: Vec::new(), free: Vec::new(), sequence: 0 }
    }
}

impl<T> Queue<T> {
    /// This happens at this time.
    pub(crate) fn push(&mut self, at: u64, what: T) {
        self.sequence += 1;
        let place = self.free.pop().unwrap_or(self.places.len());
        match self.places.get_mut(place) {
            Some(free) => *free = Some(what),
            None => self.places.push(Some(what)),
        }
        self.keys.push(Reverse(Key { at, sequence: self.sequence, place }));
    }

    /// What happens next, and when.
    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse(Key { at, place, .. }) = self.keys.pop()?;
        let what = self.places[place].take().expect("each key has what it names");
        self.free.push(place);
        Some((at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_at_the_same_time_happens_in_the_order_in_which_it_was_scheduled() {
        let mut queue = Queue::default();
        for (at, what) in [(5, "d"), (1, "a"), (5, "e"), (3, "b")] {
            queue.push(at, what);
        }
        assert_eq!(queue.pop(), Some((1, "a")));
        // Takes the place of the first.
        queue.push(3, "c");
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [(3, "b"), (3, "c"), (5, "d"), (5, "e")]);
    }

    #[test]
    fn much_that_is_due_at_the_same_time_keeps_its_order() {
        let mut queue = Queue::default();
        for number in 0..100 {
            queue.push(number % 2, number);
        }
        let popped: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, number)| number).collect();
        let scheduled: Vec<_> = (0..100).step_by(2).chain((1..100).step_by(2)).collect();
        assert_eq!(popped, scheduled);
    }

    #[test]
    fn places_are_used_again() {
        let mut queue = Queue::default();
        for at in 0..100 {
            queue.push(at, at);
            queue.push(at + 1_000, at);
            assert_eq!(queue.pop(), Some((at, at)));
        }
        assert_eq!(queue.places.len(), 101);
    }
}
