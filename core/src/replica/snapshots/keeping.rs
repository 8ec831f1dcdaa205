//! Which snapshots stay: whatever a crash may take the log back to, whatever somebody is fetching, and a few more.

use crate::replica::Replica;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::Job;
use crate::replica::snapshots::{SnapshotJob, file};
use crate::types::LogId;
use crate::wal::Operation;
use alloc::vec::Vec;

impl Replica {
    /// Removes the files of snapshots that nothing needs any more.
    pub(super) fn remove_old(&mut self, out: &mut Vec<Output>) {
        if self.snapshots.removing || self.snapshots.files.len() <= self.options.keep_snapshots {
            return;
        }
        // A crash may take the log back to whatever it rests on by the last write that is durable; what is newer than that is rested on soon.
        let rests_on = self.log.rests_on;
        let patience = self.sending_patience();
        let restoring = self.applying.restores();
        let is_needed = |last: &LogId| {
            *last >= rests_on
                || Some(*last) == restoring
                || self.snapshots.sending.is_sent(*last, self.now, patience)
        };
        let surplus = self.snapshots.files.len() - self.options.keep_snapshots;
        let old: Vec<LogId> =
            self.snapshots.files.keys().take(surplus).filter(|last| !is_needed(last)).copied().collect();
        if old.is_empty() {
            return;
        }
        for last in &old {
            self.snapshots.files.remove(last);
        }
        self.remove_files(old.into_iter().map(|last| Operation::Remove(file(last))).collect(), out);
    }

    /// Removes files, durably.
    pub(super) fn remove_files(&mut self, mut operations: Vec<Operation>, out: &mut Vec<Output>) {
        operations.push(Operation::SyncDirectory);
        self.snapshots.removing = true;
        self.start(Job::Snapshot(SnapshotJob::Remove), Lane::Bulk, operations, out);
    }
}
