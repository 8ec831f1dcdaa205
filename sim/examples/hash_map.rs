//! A state machine that is not deterministic: `cargo run -p kontiki-sim --example hash_map` finds it.
//!
//! A cache of four keys makes room by dropping the first key of a `HashSet`, which is another one on each
//! member. With `--sorted` it drops the least key, and every seed holds.
#![expect(clippy::disallowed_types, reason = "the order of a HashSet is the mistake to be found")]

use kontiki_core::machine::{BadSnapshot, BufferedRestore, BufferedSnapshot, StateMachine, fingerprint};
use kontiki_core::types::LogId;
use kontiki_sim::stream::Stream;
use kontiki_sim::test::{Test, Workload};
use std::collections::HashSet;

/// The keys in the cache, and whether it drops the least of them.
#[derive(Clone, Default)]
pub(crate) struct Cache {
    keys: HashSet<u8>,
    is_sorted: bool,
}

impl Cache {
    fn bytes(&self) -> Vec<u8> {
        let mut keys: Vec<_> = self.keys.iter().copied().collect();
        keys.sort_unstable();
        keys.push(self.is_sorted.into());
        keys
    }
}

impl StateMachine for Cache {
    type Snapshot = BufferedSnapshot;
    type Restore = BufferedRestore<Self>;

    fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
        if self.keys.len() == 4 {
            let victim = if self.is_sorted { self.keys.iter().min() } else { self.keys.iter().next() };
            let victim = *victim.expect("there are four");
            self.keys.remove(&victim);
        }
        self.keys.extend(command.first());
        Vec::new()
    }

    fn query(&self, _query: &[u8]) -> Vec<u8> {
        self.bytes()
    }

    fn snapshot(&self) -> BufferedSnapshot {
        BufferedSnapshot::new(self.bytes())
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| {
            let (is_sorted, keys) = bytes.split_last().ok_or_else(|| BadSnapshot::new("it is empty"))?;
            Ok(Cache { keys: keys.iter().copied().collect(), is_sorted: *is_sorted == 1 })
        })
    }

    fn digest(&self) -> u64 {
        fingerprint(&[&self.bytes()])
    }
}

/// Any key.
#[derive(Clone)]
pub(crate) struct Keys;

impl Workload for Keys {
    fn command(&mut self, _client: u64, stream: &mut Stream) -> Vec<u8> {
        vec![stream.below(100) as u8]
    }

    fn query(&mut self, _client: u64, _stream: &mut Stream) -> Option<Vec<u8>> {
        Some(Vec::new())
    }

    fn describe(&self, command: &[u8]) -> String {
        format!("key {}", command[0])
    }
}

/// The test, of a cache that drops the least key or the first of a `HashSet`.
pub(crate) fn test(is_sorted: bool) -> Test<Cache, Keys> {
    Test::new(Cache { keys: HashSet::new(), is_sorted }).workload(Keys).seeds(0..40)
}

fn main() {
    test(std::env::args().any(|argument| argument == "--sorted")).check();
}
