//! The reference state machine: a map of byte strings, in memory.
//!
//! The simulator, the adapter and the examples use it, and it is small enough to be read as an example
//! itself.
//!
//! ```
//! use kontiki_core::kv::{Command, Kv, Query, Reply};
//! use kontiki_core::machine::StateMachine;
//! use kontiki_core::types::LogId;
//!
//! let mut kv = Kv::default();
//! let mut run = |index, command: Command<'_>| kv.apply(LogId::new(1, index), &command.encode());
//! let reply = run(1, Command::Put { key: b"colour", value: b"red" });
//! assert_eq!(Reply::decode(&reply), Ok(Reply::Written));
//! let swap = Command::CompareAndSwap { key: b"colour", expected: Some(b"blue"), value: b"green" };
//! assert_eq!(Reply::decode(&run(2, swap)), Ok(Reply::Differs { actual: Some(b"red".to_vec()) }));
//!
//! let reply = kv.query(&Query::Scan { from: b"c", to: Some(b"d"), limit: 10 }.encode());
//! let found = vec![(b"colour".to_vec(), b"red".to_vec())];
//! assert_eq!(Reply::decode(&reply), Ok(Reply::Found { entries: found, more: false }));
//! ```

use crate::bytes::Reader;
use crate::digest::fingerprint;
use crate::machine::bytes::Items;
use crate::machine::{BadSnapshot, Restore, SnapshotReader, StateMachine};
use crate::types::LogId;
use alloc::collections::{BTreeMap, btree_map};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

mod codec;

pub use codec::{Command, Malformed, Query, Reply};

/// The longest key, in bytes.
pub const MAX_KEY: usize = 4 << 10;

/// The longest value, in bytes.
pub const MAX_VALUE: usize = 16 << 20;

/// A scan ends after so many bytes of keys and values, whatever its limit; with one entry at least.
pub const MAX_SCAN: usize = 1 << 20;

/// A map of keys to values.
///
/// A [`snapshot`](StateMachine::snapshot) shares all keys and values, but copies the map of pointers to them:
/// about 50 ns an entry, during which nothing is applied. That is right for a reference and for a million
/// entries; a larger state wants a map that shares its structure too.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Kv {
    entries: BTreeMap<Arc<[u8]>, Arc<[u8]>>,
    /// The sum of the fingerprints of all entries, so that it follows each change at the cost of the change.
    digest: u64,
}

impl Kv {
    /// The value of a key.
    pub fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.entries.get(key).map(|value| &**value)
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All keys and values, by rising key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(key, value)| (&**key, &**value))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.digest = self.digest.wrapping_add(fingerprint(&[key, value]));
        // One search, for a key that is new as for one that is there.
        if let Some(old) = self.entries.insert(key.into(), value.into()) {
            self.digest = self.digest.wrapping_sub(fingerprint(&[key, &old]));
        }
    }

    fn delete(&mut self, key: &[u8]) -> bool {
        let Some(value) = self.entries.remove(key) else {
            return false;
        };
        self.digest = self.digest.wrapping_sub(fingerprint(&[key, &value]));
        true
    }

    fn carry_out(&mut self, command: Command<'_>) -> Reply {
        if !fits(command.key(), command.value().unwrap_or_default()) {
            return Reply::TooLong;
        }
        match command {
            Command::Put { key, value } => {
                self.put(key, value);
                Reply::Written
            }
            Command::Delete { key } => Reply::Deleted { existed: self.delete(key) },
            Command::CompareAndSwap { key, expected, value } => match self.value(key) {
                actual if actual == expected => {
                    self.put(key, value);
                    Reply::Written
                }
                actual => Reply::Differs { actual: actual.map(Vec::from) },
            },
        }
    }

    fn answer(&self, query: Query<'_>) -> Reply {
        match query {
            Query::Get { key } => Reply::Value(self.value(key).map(Vec::from)),
            Query::Scan { from, to, limit } => self.scan(from, to, limit),
        }
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, limit: u32) -> Reply {
        // A map panics where a range ends before it begins; here that is a range with nothing in it.
        if to.is_some_and(|to| to <= from) {
            return Reply::Found { entries: Vec::new(), more: false };
        }
        let end = to.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for (key, value) in self.entries.range::<[u8], _>((Bound::Included(from), end)) {
            bytes += key.len() + value.len();
            if entries.len() as u64 >= u64::from(limit) || bytes > MAX_SCAN && !entries.is_empty() {
                return Reply::Found { entries, more: true };
            }
            entries.push((key.to_vec(), value.to_vec()));
        }
        Reply::Found { entries, more: false }
    }
}

fn fits(key: &[u8], value: &[u8]) -> bool {
    key.len() <= MAX_KEY && value.len() <= MAX_VALUE
}

impl StateMachine for Kv {
    type Snapshot = KvSnapshot;
    type Restore = KvRestore;

    fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
        let reply = match Command::decode(command) {
            Ok(command) => self.carry_out(command),
            Err(Malformed) => Reply::Malformed,
        };
        reply.encode()
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        let reply = match Query::decode(query) {
            Ok(query) => self.answer(query),
            Err(Malformed) => Reply::Malformed,
        };
        reply.encode()
    }

    fn snapshot(&self) -> KvSnapshot {
        KvSnapshot { entries: self.entries.clone().into_iter() }
    }

    fn restore(&self) -> KvRestore {
        KvRestore::default()
    }

    fn digest(&self) -> u64 {
        self.digest
    }
}

/// The state of a [`Kv`] at one moment, to be read as a snapshot. Its bytes are the entries by rising key,
/// each the key and the value behind their lengths (4, little-endian).
#[derive(Debug)]
pub struct KvSnapshot {
    entries: btree_map::IntoIter<Arc<[u8]>, Arc<[u8]>>,
}

impl SnapshotReader for KvSnapshot {
    fn read(&mut self, enough: usize, out: &mut Vec<u8>) {
        let goal = out.len().saturating_add(enough.max(1));
        while out.len() < goal
            && let Some((key, value)) = self.entries.next()
        {
            codec::put_entry(&key, &value, out);
        }
    }
}

/// A [`Kv`] that is being built from a snapshot. Besides the map it holds one entry that is not yet whole.
#[derive(Default, Debug)]
pub struct KvRestore {
    items: Items,
    kv: Kv,
}

impl Restore for KvRestore {
    type State = Kv;

    fn write(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        let Self { items, kv } = self;
        items.feed(bytes, |reader| {
            let Some((key, value)) = read_entry(reader)? else {
                return Ok(None);
            };
            if kv.entries.last_key_value().is_some_and(|(last, _)| **last >= *key) {
                return Err(BadSnapshot::new("its keys do not rise"));
            }
            kv.put(key, value);
            Ok(Some(()))
        })
    }

    fn finish(self) -> Result<Kv, BadSnapshot> {
        match self.items.is_empty() {
            true => Ok(self.kv),
            false => Err(BadSnapshot::new("it ends in the middle of an entry")),
        }
    }
}

/// A key and its value.
type Entry<'a> = (&'a [u8], &'a [u8]);

/// An entry, if it is whole; one that is too long is refused before it is waited for.
fn read_entry<'a>(reader: &mut Reader<'a>) -> Result<Option<Entry<'a>>, BadSnapshot> {
    let Some(key) = read_string(MAX_KEY, reader)? else {
        return Ok(None);
    };
    let value = read_string(MAX_VALUE, reader)?;
    Ok(value.map(|value| (key, value)))
}

fn read_string<'a>(max: usize, reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, BadSnapshot> {
    let mut ahead = *reader;
    if ahead.u32().is_some_and(|length| length as usize > max) {
        return Err(BadSnapshot::new("a key or a value is longer than any can be"));
    }
    Ok(reader.string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn run(kv: &mut Kv, command: Command<'_>) -> Reply {
        let reply = kv.apply(LogId::ZERO, &command.encode());
        let recomputed =
            kv.iter().fold(0_u64, |sum, (key, value)| sum.wrapping_add(fingerprint(&[key, value])));
        assert_eq!(kv.digest(), recomputed, "after {command:?}");
        Reply::decode(&reply).unwrap()
    }

    fn ask(kv: &Kv, query: Query<'_>) -> Reply {
        Reply::decode(&kv.query(&query.encode())).unwrap()
    }

    #[test]
    fn commands_do_what_they_say() {
        let mut kv = Kv::default();
        let swap = |expected, value| Command::CompareAndSwap { key: b"k", expected, value };
        assert_eq!(run(&mut kv, Command::Delete { key: b"k" }), Reply::Deleted { existed: false });
        assert_eq!(run(&mut kv, swap(Some(b"a"), b"b")), Reply::Differs { actual: None });
        assert_eq!(run(&mut kv, swap(None, b"a")), Reply::Written);
        assert_eq!(run(&mut kv, swap(None, b"b")), Reply::Differs { actual: Some(b"a".to_vec()) });
        assert_eq!(run(&mut kv, swap(Some(b"a"), b"b")), Reply::Written);
        assert_eq!(ask(&kv, Query::Get { key: b"k" }), Reply::Value(Some(b"b".to_vec())));
        assert_eq!(run(&mut kv, Command::Put { key: b"k", value: b"c" }), Reply::Written);
        assert_eq!(kv.value(b"k"), Some(&b"c"[..]));
        assert_eq!(run(&mut kv, Command::Delete { key: b"k" }), Reply::Deleted { existed: true });
        assert_eq!(ask(&kv, Query::Get { key: b"k" }), Reply::Value(None));
        assert_eq!((kv.len(), kv.digest()), (0, Kv::default().digest()));
    }

    #[test]
    fn a_scan_keeps_to_its_range_and_its_limit() {
        let mut kv = Kv::default();
        for key in [b"a", b"b", b"c", b"d"] {
            run(&mut kv, Command::Put { key, value: b"" });
        }
        let scan = |from: &'static [u8], to, limit| match ask(&kv, Query::Scan { from, to, limit }) {
            Reply::Found { entries, more } => (entries.into_iter().flat_map(|(key, _)| key).collect(), more),
            other => panic!("{other:?}"),
        };
        assert_eq!(scan(b"", None, 9), (b"abcd".to_vec(), false));
        assert_eq!(scan(b"b", Some(b"d"), 9), (b"bc".to_vec(), false), "the end is not in it");
        assert_eq!(scan(b"b", None, 3), (b"bcd".to_vec(), false));
        assert_eq!(scan(b"b", None, 2), (b"bc".to_vec(), true));
        assert_eq!(scan(b"b", None, 0), (vec![], true));
        assert_eq!(scan(b"c", Some(b"b"), 9), (vec![], false), "an end before the beginning");
        assert_eq!(scan(b"c", Some(b"c"), 9), (vec![], false));
    }

    #[test]
    fn a_scan_ends_when_it_is_long_and_never_with_nothing() {
        let mut kv = Kv::default();
        let value = vec![0; MAX_SCAN / 2];
        for key in [b"a", b"b", b"c"] {
            run(&mut kv, Command::Put { key, value: &value });
        }
        run(&mut kv, Command::Put { key: b"d", value: &vec![0; 2 * MAX_SCAN] });
        let found = |from| match ask(&kv, Query::Scan { from, to: None, limit: 9 }) {
            Reply::Found { entries, more } => (entries.len(), more),
            other => panic!("{other:?}"),
        };
        assert_eq!((found(b"a"), found(b"d")), ((1, true), (1, false)));
    }

    #[test]
    fn keys_and_values_that_are_too_long_and_garbage_change_nothing() {
        let mut kv = Kv::default();
        let long = vec![0; MAX_KEY + 1];
        assert_eq!(run(&mut kv, Command::Put { key: &long, value: b"" }), Reply::TooLong);
        assert_eq!(run(&mut kv, Command::Put { key: b"", value: &vec![0; MAX_VALUE + 1] }), Reply::TooLong);
        assert_eq!(run(&mut kv, Command::Put { key: &long[1..], value: b"" }), Reply::Written);
        assert_eq!(Reply::decode(&kv.apply(LogId::ZERO, b"garbage")), Ok(Reply::Malformed));
        assert_eq!(Reply::decode(&kv.query(b"")), Ok(Reply::Malformed));
        assert_eq!(kv.len(), 1);
    }

    #[test]
    fn a_snapshot_with_falling_keys_or_long_ones_or_a_piece_of_an_entry_is_refused() {
        let read = |pieces: &[&[u8]]| {
            let mut restore = Kv::default().restore();
            pieces.iter().try_for_each(|piece| restore.write(piece))?;
            restore.finish()
        };
        let (a, b) = (b"\x01\0\0\0a\0\0\0\0", b"\x01\0\0\0b\0\0\0\0");
        assert_eq!(read(&[a, b]).map(|kv| kv.len()), Ok(2));
        assert!(read(&[b, a]).is_err() && read(&[a, a]).is_err());
        assert!(read(&[a, &b[..3]]).is_err());
        assert!(read(&[&[0xff; 4]]).is_err(), "refused before it is waited for");
    }
}
