//! What simulated members replicate: registers, and a hash of all of them.

use crate::hash::StableHasher;
use std::collections::BTreeMap;

/// The state machine.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Store {
    registers: BTreeMap<u64, u64>,
    digest: u64,
}

/// A write to one register, as it travels through the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Put {
    pub(crate) key: u64,
    pub(crate) value: u64,
}

impl Put {
    /// The write as a payload of at least `size` bytes.
    pub(crate) fn encode(self, size: usize) -> Vec<u8> {
        let mut bytes = [self.key, self.value].map(u64::to_le_bytes).concat();
        bytes.resize(bytes.len().max(size), 0x2e);
        bytes
    }

    /// What a payload writes.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let (key, rest) = payload.split_first_chunk()?;
        let (value, _) = rest.split_first_chunk()?;
        Some(Self { key: u64::from_le_bytes(*key), value: u64::from_le_bytes(*value) })
    }
}

impl Store {
    pub(crate) fn put(&mut self, Put { key, value }: Put) {
        let hash = |value| StableHasher::combine(key, value);
        let old = self.registers.insert(key, value);
        self.digest = self.digest.wrapping_sub(old.map_or(0, hash)).wrapping_add(hash(value));
    }

    /// What the register holds whose number the query is, as bytes; none where it holds nothing.
    pub(crate) fn query(&self, query: &[u8]) -> Vec<u8> {
        let key = query.first_chunk().map(|key| u64::from_le_bytes(*key));
        let value = key.and_then(|key| self.registers.get(&key));
        value.map_or(Vec::new(), |value| value.to_le_bytes().to_vec())
    }

    /// Equal states have equal digests, however they came about.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_the_state_and_not_the_way_to_it() {
        let put = |store: &mut Store, key, value| store.put(Put { key, value });
        let (mut one, mut other) = (Store::default(), Store::default());
        put(&mut one, 1, 5);
        put(&mut one, 2, 6);
        put(&mut one, 1, 7);
        put(&mut other, 1, 7);
        assert_ne!(one.digest(), other.digest());
        put(&mut other, 2, 6);
        assert_eq!(one.digest(), other.digest());
        let held = |key: u64| one.query(&key.to_le_bytes());
        assert_eq!((held(1), held(3)), (7_u64.to_le_bytes().to_vec(), vec![]));
    }

    #[test]
    fn a_write_travels_as_a_payload() {
        let put = Put { key: 3, value: 9 };
        assert_eq!(Put::decode(&put.encode(40)), Some(put));
        assert_eq!(Put::decode(b"short"), None);
    }
}
