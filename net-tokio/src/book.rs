//! Where members are to be reached: hints, gathered from whoever says so.
//!
//! An address decides nothing. Whoever is dialled says who it is, and is left alone where it is somebody else; so a wrong hint costs an
//! attempt, and the next one mends it. What a member says of itself replaces what others said of it, unless it is older.

use crate::transport::Address;
use kontiki_core::types::NodeId;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

/// The addresses that a host knows.
#[derive(Debug, Default)]
pub(crate) struct Book {
    known: Mutex<BTreeMap<NodeId, Address>>,
    changes: AtomicU64,
}

impl Book {
    /// Reads what an earlier life has written. A file that cannot be read is as good as none: these are hints.
    pub(crate) fn load(&self, directory: &Path) {
        let Ok(text) = fs::read(directory.join(NAME)) else { return };
        let known: Vec<(NodeId, Address)> = serde_json::from_slice(&text).unwrap_or_default();
        for (id, address) in known {
            self.note(id, address);
        }
    }

    /// Writes everything for a later life. It need not be durable: these are hints.
    pub(crate) fn store(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join(NEW);
        fs::write(&new, serde_json::to_vec_pretty(&self.all())?)?;
        fs::rename(new, directory.join(NAME))
    }

    /// How often something has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// Where a member is to be reached.
    pub(crate) fn find(&self, id: NodeId) -> Option<String> {
        self.read(|known| known.get(&id).map(|address| address.text.clone()))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(NodeId, Address)> {
        self.read(|known| known.iter().map(|(id, address)| (*id, address.clone())).collect())
    }

    /// Takes note of a hint. Whether it is news.
    pub(crate) fn note(&self, id: NodeId, address: Address) -> bool {
        if address.text.is_empty() || address.text.len() > MAX_ADDRESS {
            return false;
        }
        self.read(|known| {
            let is_news = match known.get(&id) {
                Some(old) => address.stamp > old.stamp,
                None => known.len() < MAX_ADDRESSES,
            };
            if is_news {
                known.insert(id, address);
                self.changes.fetch_add(1, Ordering::Relaxed);
            }
            is_news
        })
    }

    fn read<T>(&self, read: impl FnOnce(&mut BTreeMap<NodeId, Address>) -> T) -> T {
        read(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const NAME: &str = "addresses.json";
const NEW: &str = "addresses.new";
/// How many addresses are kept.
const MAX_ADDRESSES: usize = 256;
/// The longest address that is kept, in bytes.
const MAX_ADDRESS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_last_counts() {
        let book = Book::default();
        let id = NodeId::new(1).expect("not zero");
        let note = |text: &str, stamp| book.note(id, Address { text: text.to_owned(), stamp });
        assert!(note("a:1", 0), "an operator's word is better than none");
        assert!(!note("b:1", 0), "and stays until the member speaks for itself");
        assert!(note("c:1", 7));
        assert!(!note("d:1", 6), "older");
        assert!(!note(&"x".repeat(MAX_ADDRESS + 1), 8), "absurd");
        assert_eq!(book.find(id).as_deref(), Some("c:1"));
    }

    #[test]
    fn a_later_life_knows_them() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let (book, id) = (Book::default(), NodeId::new(1).expect("not zero"));
        book.note(id, Address { text: "a:1".to_owned(), stamp: 7 });
        book.store(directory.path())?;
        let later = Book::default();
        later.load(directory.path());
        assert_eq!((later.all(), later.changes()), (book.all(), 1));
        fs::write(directory.path().join(NAME), b"garbage")?;
        Book::default().load(directory.path());
        Ok(())
    }

    #[test]
    fn strangers_cannot_fill_it_without_end() {
        let book = Book::default();
        for number in 1..=2 * MAX_ADDRESSES as u64 {
            let id = NodeId::new(number).expect("not zero");
            let taken = book.note(id, Address { text: "a:1".to_owned(), stamp: 1 });
            assert_eq!(taken, number <= MAX_ADDRESSES as u64);
        }
    }
}
