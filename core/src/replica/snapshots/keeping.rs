//! The snapshots in the directory. Decides which are kept: those that the log may rest on after a crash,
//! those that a member is fetching, and a few more.

use crate::replica::common::ReplicaCommon;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::{Job, Jobs, SnapshotJob};
use crate::replica::snapshots::files::{file, partial};
use crate::types::LogId;
use crate::wal::{FileName, Found, Operation, SnapshotHeader};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Kept {
    /// The whole files, with their headers once they were read.
    whole: BTreeMap<LogId, Option<SnapshotHeader>>,
    /// Files that are damaged or were never whole, by the last entry. They are removed once the log rests on
    /// a later snapshot.
    leftovers: Vec<(LogId, FileName)>,
}

/// The snapshots that other pieces of the replica use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::replica) struct InUse {
    /// The one that the log on the disk rests on.
    pub(in crate::replica) rests_on: LogId,
    /// The one that the state machine is restored from, now or next.
    pub(in crate::replica) restores: Option<LogId>,
}

impl Kept {
    pub(super) fn new(found: &Found) -> Self {
        let bad = found.bad_snapshots.iter().map(|last| (*last, file(*last)));
        let leftovers = bad.chain(found.partial_snapshots.iter().map(|last| (*last, partial(*last))));
        Self { whole: found.snapshots.iter().map(|id| (*id, None)).collect(), leftovers: leftovers.collect() }
    }

    /// Whether there is a whole file of this snapshot.
    pub(super) fn contains(&self, last: LogId) -> bool {
        self.whole.contains_key(&last)
    }

    /// The header of a whole file, if it was read.
    pub(super) fn header(&self, last: LogId) -> Option<&SnapshotHeader> {
        self.whole.get(&last)?.as_ref()
    }

    /// The header of a whole file was read.
    pub(super) fn on_header(&mut self, last: LogId, header: SnapshotHeader) {
        self.whole.insert(last, Some(header));
    }

    /// A file is whole and durable.
    pub(super) fn add(&mut self, last: LogId, header: Option<SnapshotHeader>) {
        self.whole.insert(last, header);
        self.leftovers.retain(|(leftover, _)| *leftover != last);
    }

    /// The file of this snapshot is damaged.
    pub(super) fn on_damaged(&mut self, last: LogId) {
        self.whole.remove(&last);
        self.leftovers.push((last, file(last)));
    }

    /// A file of this snapshot is taken or fetched, in the place of one that was never whole, or on from it.
    pub(super) fn on_begun(&mut self, last: LogId) {
        self.leftovers.retain(|(_, file)| *file != partial(last));
    }

    /// A fetch of this snapshot was given up.
    pub(super) fn on_given_up(&mut self, last: LogId) {
        self.leftovers.push((last, partial(last)));
    }

    /// Removes the files of snapshots that nothing needs any more: no other piece, and no member that
    /// `is_sent` one.
    pub(super) fn remove_old(
        &mut self,
        common: &mut ReplicaCommon,
        in_use: InUse,
        is_sent: impl Fn(LogId, &ReplicaCommon) -> bool,
        out: &mut Vec<Output>,
    ) {
        let InUse { rests_on, restores } = in_use;
        // What is damaged or was never whole: nothing can need it once the log on the disk rests on something
        // later.
        let left_over = self.leftovers.extract_if(.., |(last, _)| *last < rests_on);
        let mut removed: Vec<FileName> = left_over.map(|(_, file)| file).collect();
        let keep = common.options.keep_snapshots;
        // A crash may take the log back to whatever it rests on by the last write that is durable; what is
        // newer than that is rested on soon.
        let is_needed = |last: &LogId| *last >= rests_on || Some(*last) == restores || is_sent(*last, common);
        let surplus = self.whole.len().saturating_sub(keep);
        let old: Vec<LogId> =
            self.whole.keys().take(surplus).filter(|last| !is_needed(last)).copied().collect();
        for last in old {
            self.whole.remove(&last);
            removed.push(file(last));
        }
        remove_files(&mut common.jobs, removed, out);
    }
}

/// Removes files, durably: all of them with one sync.
pub(super) fn remove_files(
    jobs: &mut Jobs,
    files: impl IntoIterator<Item = FileName>,
    out: &mut Vec<Output>,
) {
    let mut operations: Vec<_> = files.into_iter().map(Operation::Remove).collect();
    if !operations.is_empty() {
        operations.push(Operation::SyncDirectory);
        jobs.start(Job::Snapshot(SnapshotJob::Remove), Lane::Bulk, operations, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a slow disk each sync holds up whatever else reads or writes in bulk.
    #[test]
    fn files_are_removed_together_with_one_sync_and_nothing_is_done_where_there_are_none() {
        let (mut jobs, mut out) = (Jobs::default(), Vec::new());
        remove_files(&mut jobs, [], &mut out);
        assert!(jobs.is_empty() && out.is_empty());
        let files = [LogId::new(1, 4), LogId::new(2, 9)].map(file);
        remove_files(&mut jobs, files, &mut out);
        let [Output::Disk(job)] = &out[..] else { panic!("one job: {out:?}") };
        let [one, other] = files.map(Operation::Remove);
        assert_eq!(job.operations, [one, other, Operation::SyncDirectory]);
    }
}
