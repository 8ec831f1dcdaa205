//! What a disk does wrong: all of it asked for, one call each, and counted.

use super::armed::{Armed, Call, Wrong};
use super::file::WriteState;
use super::{SimDisk, position};
use crate::stream::Stream;
use kontiki_core::wal::{DiskError, FileName};
use std::ops::Range;

/// How bytes on the medium change by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rot {
    /// One bit is another, the so-manieth of the range; beyond its end, counted from its beginning again.
    FlipBit(u64),
    /// All are zero.
    Zero,
    /// They are anything, drawn from this seed.
    Noise(u64),
}

impl SimDisk {
    /// The next call of this kind, of this file or of any, fails with [`DiskError::Failed`]. What that leaves
    /// behind:
    /// - of a write, the first half, as if only that had been written;
    /// - of a sync, nothing that it should have covered, ever: reads go on showing it, later syncs return
    ///   `Ok`, and the next crash takes it. So does Linux, which marks pages clean whose writing failed
    ///   (Rebello et al., ATC'20);
    /// - of a sync of the directory, likewise;
    /// - of any other call, nothing.
    pub fn fail_next(&mut self, call: Call, file: Option<FileName>) {
        self.armed.push(Armed { call, file, wrong: Wrong::Fail });
    }

    /// [`fail_next`](Self::fail_next) for the sync of this file, or of any.
    pub fn fail_next_sync(&mut self, file: Option<FileName>) {
        self.fail_next(Call::Sync, file);
    }

    /// The next write to this file, or to any, is acknowledged, shown by reads and synced, and never reaches
    /// the medium.
    pub fn lose_next_write(&mut self, file: Option<FileName>) {
        self.armed.push(Armed { call: Call::Write, file, wrong: Wrong::Lose });
    }

    /// The next write to this file, or to any, is acknowledged, shown by reads and synced, and lands
    /// elsewhere on the medium: `at` so many bytes of file `to`, as far as that reaches. The right place
    /// keeps what it had.
    pub fn misdirect_next_write(&mut self, file: Option<FileName>, to: FileName, at: u64) {
        self.armed.push(Armed { call: Call::Write, file, wrong: Wrong::Misdirect { to, at } });
    }

    /// Takes back what was armed and has not happened.
    pub fn disarm(&mut self) {
        self.armed.clear();
    }

    /// Whether something was armed that has not happened.
    pub fn is_armed(&self) -> bool {
        !self.armed.is_empty()
    }

    /// These bytes of a file change on the medium. Reads see it, but for what was written and is not on the
    /// medium yet.
    pub fn rot(&mut self, file: FileName, range: Range<u64>, how: Rot) -> Result<(), DiskError> {
        let range = position(range.start)?..position(range.end)?;
        let bits = (range.len() as u64 * 8).max(1);
        let mut noise = Stream::named(if let Rot::Noise(seed) = how { seed } else { 0 }, "rot", 0);
        let first = range.start;
        self.file(file)?.rot(range, |at, byte| match how {
            Rot::FlipBit(bit) if (bit % bits) / 8 == (at - first) as u64 => byte ^ (1 << (bit % 8)),
            Rot::FlipBit(_) => byte,
            Rot::Zero => 0,
            Rot::Noise(_) => noise.number() as u8,
        });
        self.counters.rotten += 1;
        Ok(())
    }

    /// Bytes that were meant for another place land here, on the medium. Reads see it, as they see what
    /// [rots](Self::rot).
    pub fn overwrite(&mut self, file: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let at = position(at)?;
        self.file(file)?.rot(at..at.saturating_add(bytes.len()), |position, _| bytes[position - at]);
        self.counters.misdirected_writes += 1;
        Ok(())
    }

    /// Reads of these bytes fail, until all of them are written again, or [can be
    /// read](Self::make_readable).
    pub fn make_unreadable(&mut self, file: FileName, range: Range<u64>) -> Result<(), DiskError> {
        let range = position(range.start)?..position(range.end)?;
        self.file(file)?.make_unreadable(range);
        Ok(())
    }

    /// What could not be read can be, as it was: a drive tries again, and its cable is mended. Returns
    /// whether there was something.
    pub fn make_readable(&mut self) -> bool {
        let mut again = false;
        for file in self.files.values_mut() {
            again |= file.make_readable();
        }
        again
    }

    /// Fails if this call was to fail.
    pub(super) fn fails(&mut self, call: Call, file: Option<FileName>) -> Result<(), DiskError> {
        let Some(_) = self.disarm_one(call, file, |wrong| *wrong == Wrong::Fail) else {
            return Ok(());
        };
        match call {
            Call::Sync | Call::SyncDirectory => self.counters.failed_syncs += 1,
            _ => self.counters.failed_calls += 1,
        }
        let of = file.map_or_else(String::new, |file| format!(" of {file}"));
        Err(DiskError::Failed(format!("the {call:?}{of} was made to fail")))
    }

    /// What becomes of a write that is acknowledged.
    pub(super) fn lie(&mut self, file: FileName, bytes: &[u8]) -> WriteState {
        match self.disarm_one(Call::Write, Some(file), |wrong| *wrong != Wrong::Fail) {
            Some(Wrong::Misdirect { to, at }) => {
                self.counters.misdirected_writes += 1;
                if let (Ok(other), Ok(at)) = (self.file(to), position(at)) {
                    other.rot(at..at.saturating_add(bytes.len()), |position, _| bytes[position - at]);
                }
                WriteState::Lost
            }
            Some(_) => {
                self.counters.lost_writes += 1;
                WriteState::Lost
            }
            None => WriteState::Waiting,
        }
    }

    fn disarm_one(
        &mut self,
        call: Call,
        file: Option<FileName>,
        is: impl Fn(&Wrong) -> bool,
    ) -> Option<Wrong> {
        let hit = |armed: &Armed| {
            armed.call == call && (armed.file.is_none() || armed.file == file) && is(&armed.wrong)
        };
        let position = self.armed.iter().position(hit)?;
        Some(self.armed.remove(position).wrong)
    }
}
