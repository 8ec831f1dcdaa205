//! Entries for followers that lag behind the entries in memory, read back from the disk.

use crate::event::{EntriesLoaded, Event};
use crate::log::Entries;
use crate::replica::answer::Halt;
use crate::replica::common::ReplicaCommon;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::Job;
use crate::types::{Index, LogId, NodeId};
use crate::wal::Extent;
use alloc::vec::Vec;

/// The kernel asks for the entries of this follower, from the one after `after` on.
pub(super) fn load(
    common: &mut ReplicaCommon,
    (to, after): (NodeId, LogId),
    through: Index,
    max_bytes: u64,
    out: &mut Vec<Output>,
) {
    match common.wal.locate(after.index, through, max_bytes) {
        Some(extent) => {
            let read = extent.read();
            common.jobs.start(Job::Load { to, after, extent }, Lane::Bulk, alloc::vec![read], out);
        }
        None => loaded(common, (to, after), Entries::EMPTY),
    }
}

/// They have been read.
pub(super) fn on_read(
    common: &mut ReplicaCommon,
    follower: (NodeId, LogId),
    extent: &Extent,
    bytes: &[u8],
) -> Result<(), Halt> {
    let entries = common.wal.entries(extent, bytes).map_err(Halt::Damaged)?;
    loaded(common, follower, entries);
    Ok(())
}

fn loaded(common: &mut ReplicaCommon, (to, after): (NodeId, LogId), entries: Entries) {
    common.events.push_back(Event::EntriesLoaded(EntriesLoaded { to, after, entries }));
}
