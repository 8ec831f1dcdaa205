//! Judges what stands behind the last readable batch of a segment: an unfinished write or damage.

use crate::wal::disk::{Disk, DiskError};
use crate::wal::header::BatchHeader;
use crate::wal::recovery::segments::SegmentFile;
use crate::wal::recovery::window::Window;
use crate::wal::sector::{SECTOR, SECTORS_PER_BLOCK, Seal, Sector, first_sector};

/// How the readable batches of a segment end.
pub(super) enum End {
    /// Nothing was written behind them.
    Clean,
    /// An unfinished write stands behind them. It was never acknowledged.
    Torn,
    /// A batch that was acknowledged stood behind them.
    Lost,
}

/// Judges the end of a segment of which no batch can be read from the block `at` on, behind the batch
/// `number`. The copies of the vote name `named` batches behind that.
pub(super) fn judge<D: Disk>(
    disk: &mut D,
    segment: &SegmentFile,
    window: &mut Window,
    at: u32,
    (number, named): (u64, u64),
) -> Result<End, DiskError> {
    // An acknowledged batch has no blank sector, and an unfinished write leaves no damaged one.
    let (blank, damaged) = window.faults(disk, at)?;
    let (hidden, end) = match blank == 0 && damaged > 0 {
        true => hidden(disk, segment, window, at)?,
        false => (0, at),
    };
    let mut is_more = hidden > named;
    // Where a sector is blank, a write may have been lost, with another one behind it. Each batch takes at
    // least one block.
    let behind = at.saturating_add(u32::try_from(named.max(1)).unwrap_or(u32::MAX)).max(end);
    let seal = window.seal;
    for block in at.saturating_add(1)..segment.blocks {
        is_more |= block >= behind && was_written(disk, window, block)?;
        let told = number + named + 1..=number + u64::from(block - at);
        let bytes = window.block(disk, block)?;
        is_more |= torn_headers(bytes, seal, block).any(|durable| told.contains(&durable));
    }
    if is_more {
        return Ok(End::Lost);
    }
    Ok(if blank < SECTORS_PER_BLOCK { End::Torn } else { End::Clean })
}

/// Whether anything was ever written behind a batch that ends at this block: one sector that is not blank
/// tells of it, be it valid, torn or damaged. If so the batch was durable, because nothing is written behind
/// it before.
pub(super) fn is_followed<D: Disk>(
    disk: &mut D,
    segment: &SegmentFile,
    window: &mut Window,
    end: u32,
) -> Result<bool, DiskError> {
    for block in end..segment.blocks {
        if window.faults(disk, block)?.0 < SECTORS_PER_BLOCK {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether this block was once written as a whole and is damaged now.
fn was_written<D: Disk>(disk: &mut D, window: &mut Window, block: u32) -> Result<bool, DiskError> {
    let (blank, damaged) = window.faults(disk, block)?;
    Ok(blank == 0 && damaged > 0)
}

/// What the torn headers of a block, at its beginning or end, say: through which batch all were durable when
/// they were written. A batch behind one that is gone tells so of it, though its own write was cut short.
fn torn_headers(block: &[u8], seal: Seal, number: u32) -> impl Iterator<Item = u64> {
    let places = [0, SECTORS_PER_BLOCK - 1].into_iter();
    places.filter_map(move |place| {
        let sector = &block[place as usize * SECTOR..][..SECTOR];
        let is_torn = seal.open(sector, first_sector(number) + place) == Sector::Torn;
        BatchHeader::beginning(sector).filter(|_| is_torn)
    })
}

/// Returns how many batches may once have been durable in the blocks from `at` on, where no header can be
/// read: the one that began there, and one for every block that may be the first of another. Only the
/// vote can say what was in them. Also returns the end of these blocks: the first block with a blank
/// sector.
fn hidden<D: Disk>(
    disk: &mut D,
    segment: &SegmentFile,
    window: &mut Window,
    at: u32,
) -> Result<(u64, u32), DiskError> {
    let (mut count, mut ended) = (0, false);
    for block in at..segment.blocks {
        let bytes = window.batch(disk, block, 1)?;
        let open = |sector: u32| {
            window.seal.open(&bytes[sector as usize * SECTOR..][..SECTOR], first_sector(block) + sector)
        };
        if (0..SECTORS_PER_BLOCK).any(|sector| open(sector) == Sector::Blank) {
            return Ok((count, block));
        }
        // A batch ends at the end of a block. A valid sector without a header belongs to the middle of a
        // batch.
        let begins = ended && open(0) == Sector::Damaged;
        count += u64::from(block == at || begins);
        ended = !matches!(open(SECTORS_PER_BLOCK - 1), Sector::Valid { .. });
    }
    Ok((count, segment.blocks))
}
