//! The addresses that a host knows, in memory and as a file. [`formation::AddressBook`] decides which address
//! counts.

use kontiki_core::replica::formation::{self, Address, Source};
use kontiki_core::types::NodeId;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fs, io};

/// A host's address book, shared by all its groups and connections.
#[derive(Debug)]
pub(crate) struct AddressBook(Mutex<formation::AddressBook>);

impl AddressBook {
    pub(crate) fn new(id: NodeId) -> Self {
        Self(Mutex::new(formation::AddressBook::new(id)))
    }

    /// Reads the file that an earlier run has written. An unreadable file counts as empty: addresses are
    /// hints.
    pub(crate) fn load(&self, directory: &Path) {
        let Ok(text) = fs::read(directory.join(NAME)) else { return };
        let known: Vec<(NodeId, Address)> = serde_json::from_slice(&text).unwrap_or_default();
        self.with(|book| {
            for (id, address) in known {
                book.note(id, address, Source::Remembered);
            }
        });
    }

    /// Writes the file for a later run. It need not be durable: addresses are hints.
    pub(crate) fn store(&self, directory: &Path) -> io::Result<()> {
        let new = directory.join(NEW);
        fs::write(&new, serde_json::to_vec_pretty(&self.with(|book| book.known()))?)?;
        fs::rename(new, directory.join(NAME))
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut formation::AddressBook) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const NAME: &str = "addresses.json";
const NEW: &str = "addresses.new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_life_knows_them() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let [me, id] = [1, 2].map(|id| NodeId::new(id).expect("not zero"));
        let book = AddressBook::new(me);
        for (text, stamp) in [("a:1", 7), ("b:1", 8)] {
            let address = Address { text: text.to_owned(), stamp };
            book.with(|book| assert!(book.note(id, address, Source::Announced)));
        }
        book.store(directory.path())?;
        let later = AddressBook::new(me);
        later.load(directory.path());
        assert_eq!(later.with(|book| book.candidates(id)), ["b:1", "a:1"]);
        fs::write(directory.path().join(NAME), b"garbage")?;
        AddressBook::new(me).load(directory.path());
        Ok(())
    }
}
