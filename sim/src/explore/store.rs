//! Which states have been seen, and how each was reached first.

use super::bounds::Transition;

/// The states in the order in which they were found: 23 to 33 bytes each.
#[derive(Debug)]
pub(super) struct Store {
    /// How each was reached: from which state, by what.
    reached: Vec<(u32, Transition)>,
    /// Their fingerprints, and zero where there is none: a set with open addressing, which is never walked in
    /// its own order. Its length is a power of two.
    table: Vec<u64>,
}

impl Store {
    /// A store that holds the first state.
    pub(super) fn new(first: u64) -> Self {
        let mut store = Self { reached: Vec::new(), table: vec![0; 1 << 10] };
        store.insert(first, 0, Transition::Timeout(0));
        store
    }

    /// A store that holds these states.
    pub(super) fn of(reached: Vec<(u32, Transition)>, fingerprints: Vec<u64>) -> Self {
        let slots = (reached.len() * 4 / 3 + 1).next_power_of_two().max(1 << 10);
        let mut store = Self { reached, table: vec![0; slots] };
        for fingerprint in fingerprints {
            let slot = store.slot(fingerprint);
            store.table[slot] = not_zero(fingerprint);
        }
        store
    }

    /// How each state was reached, in the order of their numbers.
    pub(super) fn reached(&self) -> &[(u32, Transition)] {
        &self.reached
    }

    /// The fingerprints of all states, in no order that means anything.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.table.iter().copied().filter(|fingerprint| *fingerprint != 0)
    }

    pub(super) fn len(&self) -> usize {
        self.reached.len()
    }

    pub(super) fn contains(&self, fingerprint: u64) -> bool {
        self.table[self.slot(fingerprint)] != 0
    }

    /// Takes in a state that is new. Returns its number.
    pub(super) fn insert(&mut self, fingerprint: u64, from: u32, by: Transition) -> Option<u32> {
        let slot = self.slot(fingerprint);
        if self.table[slot] != 0 {
            return None;
        }
        let number = self.reached.len() as u32;
        self.reached.push((from, by));
        self.table[slot] = not_zero(fingerprint);
        if self.reached.len() * 4 > self.table.len() * 3 {
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

    /// Where a fingerprint is, or would be.
    fn slot(&self, fingerprint: u64) -> usize {
        let fingerprint = not_zero(fingerprint);
        let mask = self.table.len() - 1;
        let mut slot = fingerprint as usize & mask;
        while self.table[slot] != 0 && self.table[slot] != fingerprint {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let larger = vec![0; self.table.len() * 2];
        for fingerprint in core::mem::replace(&mut self.table, larger) {
            if fingerprint != 0 {
                let slot = self.slot(fingerprint);
                self.table[slot] = fingerprint;
            }
        }
    }
}

/// A fingerprint of zero counts as one of one, since zero says that there is none.
fn not_zero(fingerprint: u64) -> u64 {
    fingerprint.max(1)
}
