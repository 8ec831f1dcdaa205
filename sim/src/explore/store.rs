//! Which states have been seen, and how each was reached first.

use super::bounds::Transition;

/// The states in the order in which they were found, by fingerprint: 20 to 30 bytes each.
///
/// A table of positions with open addressing: it is never walked in its own order.
#[derive(Debug)]
pub(super) struct Store {
    fingerprints: Vec<u64>,
    /// How each was reached: from which state, by what.
    reached: Vec<(u32, Transition)>,
    /// Positions in `fingerprints`, plus one; zero where there is none. Its length is a power of two.
    table: Vec<u32>,
}

impl Store {
    /// A store that holds the first state.
    pub(super) fn new(first: u64) -> Self {
        let mut store = Self { fingerprints: Vec::new(), reached: Vec::new(), table: vec![0; 1 << 10] };
        store.insert(first, 0, Transition::Timeout(0));
        store
    }

    pub(super) fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Takes in a state that is new. Returns its number.
    pub(super) fn insert(&mut self, fingerprint: u64, from: u32, by: Transition) -> Option<u32> {
        let slot = self.slot(fingerprint);
        if self.table[slot] != 0 {
            return None;
        }
        let number = self.fingerprints.len() as u32;
        self.fingerprints.push(fingerprint);
        self.reached.push((from, by));
        self.table[slot] = number + 1;
        if self.fingerprints.len() * 2 > self.table.len() {
            self.grow();
        }
        Some(number)
    }

    /// The transitions that lead from the first state to this one.
    pub(super) fn path(&self, mut state: u32) -> Vec<Transition> {
        let mut path = Vec::new();
        while state != 0 {
            let (from, by) = self.reached[state as usize];
            path.push(by);
            state = from;
        }
        path.reverse();
        path
    }

    fn slot(&self, fingerprint: u64) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = fingerprint as usize & mask;
        while let Some(position) = self.table[slot].checked_sub(1)
            && self.fingerprints[position as usize] != fingerprint
        {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        self.table = vec![0; self.table.len() * 2];
        for position in 0..self.fingerprints.len() {
            let slot = self.slot(self.fingerprints[position]);
            self.table[slot] = position as u32 + 1;
        }
    }
}
