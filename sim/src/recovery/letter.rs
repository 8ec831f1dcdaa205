//! What a disk can make of a block that it has once held.

use super::disk::{BLOCK, SECTOR, torn};

/// One way to damage a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Letter {
    Blank,
    /// From this sector on.
    BlankFrom(usize),
    /// Up to this sector, which stays.
    BlankUpTo(usize),
    /// This sector is cut short, and those behind it are blank.
    Torn(usize),
    /// What the block held before the last write to it.
    Older,
    /// A bit flips in a header or a body, in the first, the last or a middle sector.
    Flipped(usize),
    /// A bit flips in the checksum of a sector.
    Checksum(usize),
    /// A bit flips in the first sector, and one in the last.
    BothEnds,
    /// A bit flips in each sector but the first and the last.
    Body,
    Unreadable,
    UnreadableSector(usize),
    /// What belongs into another of the blocks.
    Misdirected,
}

use Letter::{
    Blank, BlankFrom, BlankUpTo, Body, BothEnds, Checksum, Flipped, Misdirected, Older, Torn, Unreadable,
    UnreadableSector,
};

/// Every way.
pub(super) const FINE: &[Letter] = &[
    Blank,
    BlankFrom(1),
    BlankFrom(2),
    BlankFrom(3),
    BlankFrom(4),
    BlankFrom(5),
    BlankFrom(6),
    BlankFrom(7),
    BlankUpTo(1),
    BlankUpTo(2),
    BlankUpTo(3),
    BlankUpTo(4),
    BlankUpTo(5),
    BlankUpTo(6),
    BlankUpTo(7),
    Torn(0),
    Torn(1),
    Torn(2),
    Torn(3),
    Torn(4),
    Torn(5),
    Torn(6),
    Torn(7),
    Older,
    Flipped(0),
    Flipped(1),
    Flipped(4),
    Flipped(7),
    Checksum(0),
    Checksum(1),
    Checksum(7),
    BothEnds,
    Body,
    Unreadable,
    UnreadableSector(0),
    UnreadableSector(7),
    Misdirected,
];

/// A few, of which each leaves something else to tell of the block.
pub(super) const COARSE: &[Letter] =
    &[Blank, BlankFrom(1), BlankFrom(4), BlankUpTo(7), BothEnds, Body, Unreadable, Misdirected];

/// For two blocks that hold the same.
pub(super) const WHOLE: &[Letter] = &[Blank, Older, Unreadable];

/// A damaged block, and which of its sectors cannot be read.
pub(super) type Damaged = (Vec<u8>, Vec<usize>);

impl Letter {
    /// What it makes of a block. `older` is what the block held before, and `others` what belongs elsewhere.
    pub(super) fn of(self, block: &[u8], older: &[u8], others: &[&[u8]]) -> Vec<Damaged> {
        let mut bytes = block.to_vec();
        let mut unreadable = Vec::new();
        match self {
            Blank => bytes.fill(0),
            BlankFrom(sector) => bytes[sector * SECTOR..].fill(0),
            BlankUpTo(sector) => bytes[..sector * SECTOR].fill(0),
            Torn(sector) => {
                let cut = torn(&[0; SECTOR], &block[sector * SECTOR..][..SECTOR]);
                bytes[sector * SECTOR..].fill(0);
                bytes[sector * SECTOR..][..SECTOR].copy_from_slice(&cut);
            }
            Older => bytes.copy_from_slice(older),
            Flipped(sector) => bytes[sector * SECTOR + 40] ^= 0x10,
            Checksum(sector) => bytes[sector * SECTOR + 508] ^= 1,
            BothEnds => [0, 7].into_iter().for_each(|sector| bytes[sector * SECTOR + 40] ^= 0x10),
            Body => (1..7).for_each(|sector| bytes[sector * SECTOR + 40] ^= 0x10),
            Unreadable => unreadable.extend(0..BLOCK / SECTOR),
            UnreadableSector(sector) => unreadable.push(sector),
            Misdirected => return others.iter().map(|other| (other.to_vec(), Vec::new())).collect(),
        }
        vec![(bytes, unreadable)]
    }

    pub(super) fn words(self) -> String {
        match self {
            Blank => "blank".to_owned(),
            BlankFrom(sector) => format!("blank from its sector {sector} on"),
            BlankUpTo(sector) => format!("blank up to its sector {sector}"),
            Torn(sector) => format!("torn in its sector {sector}"),
            Older => "as it was before the last write to it".to_owned(),
            Flipped(sector) => format!("a bit of its sector {sector} has flipped"),
            Checksum(sector) => format!("a bit of the checksum of its sector {sector} has flipped"),
            BothEnds => "a bit of its first sector and one of its last have flipped".to_owned(),
            Body => "a bit of each sector between its first and its last has flipped".to_owned(),
            Unreadable => "unreadable".to_owned(),
            UnreadableSector(sector) => format!("its sector {sector} is unreadable"),
            Misdirected => "what belongs into another block".to_owned(),
        }
    }
}
