//! Our own log, as a store that the kit can ask: over whatever disk.

use super::store::{LogStore, StoreError};
use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::log::Snapshot;
use kontiki_core::membership::Membership;
use kontiki_core::types::{ClusterId, Identity, NodeId, WriteSeq};
use kontiki_core::wal::{
    Disk, DiskError, Operation, RecoverError, SnapshotWriter, Wal, WalOpenError, WalOptions,
};

/// The log of a member, and the disk that it is on. It does with them what a host does, one thing after the
/// other.
#[derive(Debug)]
pub(super) struct WalStore<D> {
    wal: Wal,
    disk: D,
    last: WriteSeq,
    /// Set once the disk has failed: what it holds is for a new start to find out.
    failed: Option<DiskError>,
}

impl<D: Disk> WalStore<D> {
    pub(super) fn open(mut disk: D) -> Result<(Self, Durable), StoreError> {
        let ids = (1..=3).filter_map(NodeId::new);
        let begin = Durable::bootstrap(Membership::of(ids).expect("three members are a group"));
        let member = NodeId::new(1).expect("not zero");
        let options = WalOptions { segment_bytes: SEGMENT_BYTES, ..WalOptions::default() };
        let recovery = Wal::open(&mut disk, Identity::new(ClusterId(7), member), options, &begin)?;
        let store = Self { wal: recovery.wal, disk, last: WriteSeq::ZERO, failed: None };
        Ok((store, recovery.durable))
    }

    fn perform(&mut self, operations: &[Operation]) -> Result<(), DiskError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        operations.iter().try_for_each(|operation| operation.perform(&mut self.disk).map(|_| ()))
    }

    /// A job of the log. No error in it is ever survived.
    fn job(&mut self, operations: &[Operation]) -> Result<(), StoreError> {
        let done = self.perform(operations);
        if let Err(error) = &done {
            self.failed = Some(error.clone());
        } else {
            self.last = self.wal.completed();
        }
        Ok(done?)
    }

    fn upkeep(&mut self) -> Result<(), StoreError> {
        while let Some(operations) = self.wal.upkeep() {
            let done = self.perform(&operations);
            self.wal.upkeep_done(done.as_ref().copied());
            match done {
                Ok(()) => {}
                Err(DiskError::Full) => break,
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }
}

impl<D: Disk> LogStore for WalStore<D> {
    fn write(&mut self, write: &Write) -> Result<(), StoreError> {
        self.wal.submit(write.clone());
        Ok(())
    }

    fn sync(&mut self) -> Result<WriteSeq, StoreError> {
        while !self.wal.is_idle() {
            self.upkeep()?;
            match self.wal.next_job() {
                Some(operations) => self.job(&operations)?,
                None => return Err(StoreError::Full),
            }
        }
        Ok(self.last)
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        self.upkeep()?;
        while let Some(operations) = self.wal.mark() {
            self.job(&operations)?;
        }
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &Snapshot, bytes: &[u8]) -> Result<(), StoreError> {
        let mut writer = SnapshotWriter::new(snapshot.clone(), CHUNK_BYTES);
        for piece in bytes.chunks(1_000) {
            let operations = writer.push(piece);
            self.perform(&operations)?;
        }
        let operations = writer.finish();
        Ok(self.perform(&operations)?)
    }
}

impl From<WalOpenError> for StoreError {
    fn from(error: WalOpenError) -> Self {
        match error {
            WalOpenError::Disk(error) | WalOpenError::Recover(RecoverError::Disk(error)) => error.into(),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// The smallest that there is, so that the log rolls over often.
const SEGMENT_BYTES: u64 = 64 << 10;
const CHUNK_BYTES: u32 = 2_048;
