//! Decides which snapshots are kept: those that the log may rest on after a crash, those that a member is
//! fetching, and a few more.

use crate::replica::Replica;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::{Job, SnapshotJob};
use crate::replica::snapshots::files::{file, partial};
use crate::types::LogId;
use crate::wal::{FileName, Operation};
use alloc::vec;
use alloc::vec::Vec;

impl Replica {
    /// Removes the files of snapshots that nothing needs any more.
    pub(super) fn remove_old(&mut self, out: &mut Vec<Output>) {
        self.remove_leftovers(out);
        if self.snapshots.files.len() <= self.options.keep_snapshots {
            return;
        }
        // A crash may take the log back to whatever it rests on by the last write that is durable; what is
        // newer than that is rested on soon.
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
        old.into_iter().for_each(|last| self.remove_file(file(last), out));
    }

    /// Removes what is damaged or was never whole, once the log on the disk rests on something later: then
    /// nothing can need it.
    fn remove_leftovers(&mut self, out: &mut Vec<Output>) {
        let rests_on = self.log.rests_on;
        if let Some(last) = self.snapshots.given_up_before(rests_on) {
            self.snapshots.leftovers.push((last, partial(last)));
        }
        let (old, later) = self.snapshots.leftovers.drain(..).partition(|(last, _)| *last < rests_on);
        self.snapshots.leftovers = later;
        let old: Vec<(LogId, FileName)> = old;
        old.into_iter().for_each(|(_, file)| self.remove_file(file, out));
    }

    /// Removes a file, durably.
    pub(super) fn remove_file(&mut self, file: FileName, out: &mut Vec<Output>) {
        let operations = vec![Operation::Remove(file), Operation::SyncDirectory];
        self.start(Job::Snapshot(SnapshotJob::Remove), Lane::Bulk, operations, out);
    }
}
