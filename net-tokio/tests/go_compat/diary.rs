//! A state machine that records the commands it applies, so that commands applied twice, or in another order,
//! are noticed.

use kontiki_core::kv::{Kv, KvRestore, KvSnapshot};
use kontiki_core::machine::{BadSnapshot, Restore, StateMachine};
use kontiki_core::types::LogId;
use std::sync::{Arc, Mutex, PoisonError};

/// The commands applied, in order, since the machine was made.
type Page = Arc<Mutex<Vec<(LogId, Vec<u8>)>>>;

/// The records of a member's machines. Each start has its own, which a machine that is still ending cannot
/// write to.
#[derive(Clone, Default)]
pub(crate) struct Diary(Arc<Mutex<Page>>);

impl Diary {
    pub(crate) fn machine(&self) -> Noted {
        let page = Page::default();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&page);
        Noted { kv: Kv::default(), page }
    }

    /// Returns the commands that the latest machine has applied.
    pub(crate) fn read(&self) -> Vec<(LogId, Vec<u8>)> {
        let page = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        page.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The machine.
pub(crate) struct Noted {
    kv: Kv,
    page: Page,
}

impl StateMachine for Noted {
    type Snapshot = KvSnapshot;
    type Restore = Restored;

    fn apply(&mut self, at: LogId, command: &[u8]) -> Vec<u8> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner).push((at, command.to_vec()));
        self.kv.apply(at, command)
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        self.kv.query(query)
    }

    fn snapshot(&self) -> KvSnapshot {
        self.kv.snapshot()
    }

    fn restore(&self) -> Restored {
        Restored { kv: self.kv.restore(), page: Arc::clone(&self.page) }
    }

    fn digest(&self) -> u64 {
        self.kv.digest()
    }
}

/// A machine restored from a snapshot: the commands in the snapshot are not recorded again.
pub(crate) struct Restored {
    kv: KvRestore,
    page: Page,
}

impl Restore for Restored {
    type State = Noted;

    fn write(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        self.kv.write(bytes)
    }

    fn finish(self) -> Result<Noted, BadSnapshot> {
        Ok(Noted { kv: self.kv.finish()?, page: self.page })
    }
}
