//! A log store, as the kit asks it.

use kontiki_core::action::Write;
use kontiki_core::log::Snapshot;
use kontiki_core::types::WriteSeq;
use kontiki_core::wal::DiskError;
use thiserror::Error;

/// A log store, as the kit asks it. All its calls wait until they are done.
pub trait LogStore {
    /// Takes a write, in the order of their numbers. It need not be durable yet.
    ///
    /// [`StoreError::Full`] says that it was not taken; the kit comes with it again once there is space.
    fn write(&mut self, write: &Write) -> Result<(), StoreError>;

    /// Makes durable what was taken, and says through which write everything is.
    ///
    /// [`StoreError::Full`] says that what was taken waits for space; the kit asks again once there is some.
    fn sync(&mut self) -> Result<WriteSeq, StoreError>;

    /// There is nothing to do for a while: whatever is done in the background is done now. Afterwards, damage
    /// to what was acknowledged must be noticed.
    fn idle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Stores a snapshot, durably: the log is about to rest on it. For a store that keeps them; one that does
    /// not leaves it alone.
    fn snapshot(&mut self, _snapshot: &Snapshot, _bytes: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StoreError {
    /// There is no space left. Nothing is lost, and it goes on when there is some.
    #[error("the disk is full")]
    Full,
    /// Anything else. The store is of no use any more, and is opened anew.
    #[error("{0}")]
    Failed(String),
}

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Full => Self::Full,
            error => Self::Failed(error.to_string()),
        }
    }
}
