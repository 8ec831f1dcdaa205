//! Sectors: the smallest pieces of the log, each checked for itself.
//!
//! ```text
//!   0..2      1 + where in the data the first record begins that begins in this sector; zero: none does
//!   2..507    data
//!   507..511  CRC-32C over the salt, the file's number, the sector's number, the kind, and bytes 0..507
//!   511       the kind, which is never zero
//! ```
//!
//! A file is full of zeros before it is written, and each sector is written once. So what an unfinished write
//! leaves in a sector, the first of its bytes and zeros behind them, ends with a zero; and what was once
//! written whole and has changed since, does not.

use crate::crc32c::CRC32;

pub(super) const SECTOR: usize = 512;
/// How many bytes of a sector carry something.
pub(super) const DATA: usize = 505;
pub(super) const BLOCK: usize = 4096;
pub(super) const SECTORS_PER_BLOCK: u32 = 8;

pub(super) const FIRST: usize = 2;
const CHECKSUM_AT: usize = FIRST + DATA;
const KIND_AT: usize = SECTOR - 1;

/// What a sector is for. Each of these bytes has more than one bit set, so that no single flipped bit makes
/// it zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    /// A segment's header.
    Segment = b'S',
    /// The header of a batch, at its beginning.
    First = b'F',
    /// The records of a batch.
    Body = b'R',
    /// The header of a batch once more, at its end.
    Last = b'L',
    /// A copy of the vote.
    Vote = b'V',
}

impl Kind {
    const ALL: [Self; 5] = [Self::Segment, Self::First, Self::Body, Self::Last, Self::Vote];

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// What the sectors of one file are sealed with, so that those of another file, or of an earlier one of the
/// same name, are not taken for its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seal {
    pub(super) salt: u64,
    pub(super) file: u64,
}

/// A sector as it was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sector<'a> {
    /// It is what was written here.
    Valid { kind: Kind, data: &'a [u8], first: Option<usize>, checksum: u32 },
    /// Zeros: never written, as far as one can see.
    Blank,
    /// Possibly the beginning of what should have been written.
    Torn,
    /// Written once, and not the same any more.
    Damaged,
}

impl Seal {
    /// Finishes a sector whose data is in its place. Returns its checksum.
    pub(super) fn close(self, sector: &mut [u8], number: u32, kind: Kind) -> u32 {
        let checksum = self.checksum(&sector[..CHECKSUM_AT], number, kind as u8);
        sector[CHECKSUM_AT..KIND_AT].copy_from_slice(&checksum.to_le_bytes());
        sector[KIND_AT] = kind as u8;
        checksum
    }

    /// Checks a sector. One that the file ends before is blank.
    pub(super) fn open(self, sector: &[u8], number: u32) -> Sector<'_> {
        let Some(([first_low, first_high, payload @ ..], [c0, c1, c2, c3, kind])) = sector
            .split_first_chunk::<CHECKSUM_AT>()
            .and_then(|(head, tail)| Some((head, <&[u8; SECTOR - CHECKSUM_AT]>::try_from(tail).ok()?)))
        else {
            return unfinished(sector);
        };
        if *kind == 0 {
            return if self.may_be_cut(sector, number) { unfinished(sector) } else { Sector::Damaged };
        }
        let checksum = u32::from_le_bytes([*c0, *c1, *c2, *c3]);
        let first = u16::from_le_bytes([*first_low, *first_high]);
        let first = usize::from(first).checked_sub(1);
        match Kind::of(*kind) {
            Some(known)
                if first.is_none_or(|first| first < DATA)
                    && checksum == self.checksum(&sector[..CHECKSUM_AT], number, *kind) =>
            {
                Sector::Valid { kind: known, data: payload, first, checksum }
            }
            _ => Sector::Damaged,
        }
    }

    /// Whether a sector without its last byte can be the beginning of what should have been written. Where
    /// its checksum has begun, it is that of some kind.
    fn may_be_cut(self, sector: &[u8], number: u32) -> bool {
        let end = sector.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let begun = &sector[CHECKSUM_AT..end.max(CHECKSUM_AT)];
        begun.is_empty()
            || Kind::ALL.into_iter().any(|kind| {
                let checksum = self.checksum(&sector[..CHECKSUM_AT], number, kind as u8);
                checksum.to_le_bytes().starts_with(begun)
            })
    }

    fn checksum(self, bytes: &[u8], number: u32, kind: u8) -> u32 {
        let mut prefix = [0; 21];
        prefix[..8].copy_from_slice(&self.salt.to_le_bytes());
        prefix[8..16].copy_from_slice(&self.file.to_le_bytes());
        prefix[16..20].copy_from_slice(&number.to_le_bytes());
        prefix[20] = kind;
        let mut digest = CRC32.digest();
        digest.update(&prefix);
        digest.update(bytes);
        digest.finalize()
    }
}

/// What a sector is that no write has finished.
fn unfinished(sector: &[u8]) -> Sector<'_> {
    if sector == &[0; SECTOR][..sector.len()] { Sector::Blank } else { Sector::Torn }
}

/// The bytes of a sector that carry something.
pub(super) fn data(sector: &mut [u8]) -> &mut [u8] {
    &mut sector[FIRST..CHECKSUM_AT]
}

/// Notes that a record begins in a sector, `at` this place of its data, where it is the first.
pub(super) fn note_record(sector: &mut [u8], at: usize) {
    if sector[..FIRST] == [0; FIRST] {
        let first = u16::try_from(at + 1).expect("a place in a sector");
        sector[..FIRST].copy_from_slice(&first.to_le_bytes());
    }
}

/// The number of the first sector of a block.
pub(super) fn first_sector(block: u32) -> u32 {
    block * SECTORS_PER_BLOCK
}

/// Where a block begins in its file.
pub(super) fn block_at(block: u32) -> u64 {
    u64::from(block) * BLOCK as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal { salt: 5, file: 7 };

    fn sealed() -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        data(&mut sector)[..5].copy_from_slice(b"hello");
        note_record(&mut sector, 3);
        note_record(&mut sector, 4);
        SEAL.close(&mut sector, 9, Kind::Body);
        sector
    }

    #[test]
    fn a_sector_is_read_back_where_it_was_written_and_nowhere_else() {
        let sector = sealed();
        let Sector::Valid { kind, data, first, .. } = SEAL.open(&sector, 9) else { panic!("not valid") };
        assert_eq!((kind, first, &data[..5]), (Kind::Body, Some(3), &b"hello"[..]));
        assert_eq!(SEAL.open(&sector, 8), Sector::Damaged);
        assert_eq!(Seal { file: 8, ..SEAL }.open(&sector, 9), Sector::Damaged);
        assert_eq!(Seal { salt: 8, ..SEAL }.open(&sector, 9), Sector::Damaged);
    }

    #[test]
    fn every_flipped_bit_is_damage_and_every_cut_is_not() {
        for bit in 0..SECTOR * 8 {
            let mut sector = sealed();
            sector[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SEAL.open(&sector, 9), Sector::Damaged, "bit {bit}");
        }
        for length in 0..SECTOR {
            let mut sector = sealed();
            sector[length..].fill(0);
            let expected = if length == 0 { Sector::Blank } else { Sector::Torn };
            assert_eq!(SEAL.open(&sector, 9), expected, "{length} bytes");
            assert!(!matches!(SEAL.open(&sealed()[..length], 9), Sector::Valid { .. } | Sector::Damaged));
        }
    }

    /// One in 256 ends in zero.
    #[test]
    fn garbage_that_ends_in_zero_is_damage() {
        for end in CHECKSUM_AT + 1..SECTOR {
            for changed in [0, 300, CHECKSUM_AT] {
                let mut sector = sealed();
                sector[end..].fill(0);
                assert_ne!(sector[CHECKSUM_AT..end], [0; SECTOR][CHECKSUM_AT..end], "a poor example");
                sector[changed] ^= 0xa5;
                assert_eq!(SEAL.open(&sector, 9), Sector::Damaged, "{end} bytes, {changed}");
            }
        }
    }
}
