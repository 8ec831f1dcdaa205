//! The files of a directory, by kind.

use crate::types::LogId;
use crate::wal::disk::{FileName, Slot};
use alloc::vec::Vec;

/// The files of the directory.
#[derive(Default)]
pub(super) struct Files {
    pub(super) segments: Vec<(u64, u64)>,
    pub(super) spares: Vec<u64>,
    pub(super) slots: Vec<Slot>,
    pub(super) snapshots: Vec<(LogId, u64)>,
    pub(super) partials: Vec<LogId>,
}

impl Files {
    pub(super) fn add(&mut self, file: FileName, length: u64) {
        match file {
            FileName::Segment(number) if number < u64::MAX / 2 => self.segments.push((number, length)),
            FileName::Spare(number) => self.spares.push(number),
            FileName::Vote(slot) => self.slots.push(slot),
            FileName::Snapshot { term, index } => self.snapshots.push((LogId::new(term, index), length)),
            FileName::Partial { term, index } => self.partials.push(LogId::new(term, index)),
            FileName::Segment(_) => {}
        }
    }
}
