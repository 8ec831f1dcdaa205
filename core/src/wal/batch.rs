//! Batches: what one sync makes durable.
//!
//! A batch begins with a block and lies in one segment. Its first sector is its header, its last one is its
//! header again, and its records are spread over those between, which are all written, so that a blank sector
//! in a batch is one that was not.

use crate::wal::codec::{Record, Sink};
use crate::wal::header::{BatchHeader, Link, digest};
use crate::wal::sector::{
    BLOCK, DATA, Kind, SECTOR, SECTORS_PER_BLOCK, Seal, Sector, data, first_sector, note_record,
};
use alloc::vec::Vec;

/// How many blocks a batch with so many bytes of records takes.
pub(super) fn blocks_for(records: u64) -> u64 {
    (records.div_ceil(DATA as u64) + 2).div_ceil(u64::from(SECTORS_PER_BLOCK))
}

/// Writes a batch to the blocks that it will take, the first of which has this number; what the header says
/// of its length and its records is filled in. Returns the batch, for the next one to follow, and the sector
/// where each record begins.
pub(super) fn encode(
    header: &mut BatchHeader,
    records: &[Record],
    seal: Seal,
    block: u32,
    bytes: &mut [u8],
) -> (Link, Vec<u32>) {
    let first = first_sector(block);
    let mut body = Body { bytes: &mut bytes[SECTOR..], at: 0 };
    let mut begins = Vec::with_capacity(records.len());
    for record in records {
        begins.push(first + 1 + body.begin());
        record.encode(&mut body);
    }
    let last = bytes.len() / SECTOR - 1;
    let middle = bytes.chunks_exact_mut(SECTOR).zip(first..).take(last).skip(1);
    let checksums = middle.map(|(sector, number)| seal.close(sector, number, Kind::Body));
    header.body = digest(checksums);
    header.blocks = u32::try_from(bytes.len() / BLOCK).expect("a segment has less than 2^29 blocks");
    let encoded = header.encode();
    for (at, kind) in [(0, Kind::First), (last, Kind::Last)] {
        let sector = &mut bytes[at * SECTOR..][..SECTOR];
        data(sector)[..encoded.len()].copy_from_slice(&encoded);
        seal.close(sector, first + u32::try_from(at).expect("as above"), kind);
    }
    (header.link(), begins)
}

/// Spreads what it is given over the data of sectors.
struct Body<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Body<'_> {
    /// A record begins here: in this sector.
    fn begin(&mut self) -> u32 {
        let sector = self.at / DATA;
        note_record(&mut self.bytes[sector * SECTOR..], self.at % DATA);
        u32::try_from(sector).expect("a segment has less than 2^32 sectors")
    }
}

impl Sink for Body<'_> {
    fn put(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = &mut data(&mut self.bytes[self.at / DATA * SECTOR..][..SECTOR])[self.at % DATA..];
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            self.at += now.len();
            bytes = later;
        }
    }
}

/// A batch as it was read, or any run of sectors.
#[derive(Default, Debug)]
pub(super) struct Sectors {
    /// The records that can be read, each with the sector where it begins.
    pub(super) records: Vec<(Record, u32)>,
    /// Sectors that are not what was written there, and were once.
    pub(super) damaged: u64,
    /// Sectors that were perhaps never written.
    pub(super) unwritten: u64,
    /// The checksum of the checksums of those that hold records.
    pub(super) body: u32,
}

/// Reads sectors, the first of which has this number.
pub(super) fn read(bytes: &[u8], seal: Seal, first: u32) -> Sectors {
    let mut sectors = Sectors::default();
    let mut run = Run::default();
    let mut checksums = Vec::with_capacity(bytes.len() / SECTOR);
    for (sector, number) in bytes.chunks(SECTOR).zip(first..) {
        match seal.open(sector, number) {
            Sector::Valid { kind: Kind::Body, data, first, checksum } => {
                checksums.push(checksum);
                run.push(data, first, number);
                continue;
            }
            Sector::Valid { .. } => {}
            Sector::Damaged => sectors.damaged += 1,
            Sector::Blank | Sector::Torn => sectors.unwritten += 1,
        }
        run.finish(&mut sectors.records);
    }
    run.finish(&mut sectors.records);
    sectors.body = digest(checksums.into_iter());
    sectors
}

/// The records that can be read from sectors, the first of which has this number. Sectors behind those in a
/// row that hold the last one that is asked for are not looked at.
pub(super) fn records(bytes: &[u8], seal: Seal, first: u32) -> impl Iterator<Item = Record> {
    let mut sectors = bytes.chunks(SECTOR).zip(first..);
    let mut run = Run::default();
    let next_run = move || {
        for (sector, number) in sectors.by_ref() {
            match seal.open(sector, number) {
                Sector::Valid { kind: Kind::Body, data, first, .. } => run.push(data, first, number),
                _ if run.begins.is_some() => break,
                _ => {}
            }
        }
        let is_any = run.begins.is_some();
        let mut records = Vec::new();
        run.finish(&mut records);
        is_any.then_some(records)
    };
    core::iter::from_fn(next_run).flatten().map(|(record, _)| record)
}

/// Sectors of records in a row.
#[derive(Default, Debug)]
struct Run {
    /// What they hold, from the first record that begins in one of them.
    bytes: Vec<u8>,
    /// The number of the first sector, and how many bytes of it are left out.
    begins: Option<(u32, usize)>,
}

impl Run {
    fn push(&mut self, data: &[u8], first: Option<usize>, number: u32) {
        if self.begins.is_some() {
            self.bytes.extend_from_slice(data);
        } else if let Some(first) = first {
            self.begins = Some((number, first));
            self.bytes.extend_from_slice(&data[first..]);
        }
    }

    fn finish(&mut self, records: &mut Vec<(Record, u32)>) {
        if let Some((number, skipped)) = self.begins.take() {
            let mut at = 0;
            while let Some((record, length)) = Record::decode(&self.bytes[at..]) {
                let sector = u32::try_from((at + skipped) / DATA).expect("sectors are numbered by u32");
                records.push((record, number + sector));
                at += length;
            }
        }
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Entry, EntryBody};
    use crate::types::{LogId, Payload};
    use alloc::vec;

    const SEAL: Seal = Seal { salt: 5, file: 7 };
    const FIRST: u32 = 16;

    /// Sectors with entries of this many bytes, from the first index on.
    fn sectors(entries: &[usize]) -> Vec<u8> {
        let mut bytes = vec![0; 32 * SECTOR];
        let mut body = Body { bytes: &mut bytes, at: 0 };
        for (size, index) in entries.iter().zip(1..) {
            body.begin();
            let content = EntryBody::Data(Payload::from(&*vec![index as u8; *size]));
            Record::Append(Entry { id: LogId::new(1, index), body: content }).encode(&mut body);
        }
        let taken = body.at.div_ceil(DATA) * SECTOR;
        bytes.truncate(taken);
        for (sector, number) in bytes.chunks_exact_mut(SECTOR).zip(FIRST..) {
            SEAL.close(sector, number, Kind::Body);
        }
        bytes
    }

    fn indices(records: impl Iterator<Item = Record>) -> Vec<u64> {
        let index = |record| match record {
            Record::Append(entry) => entry.id.index.get(),
            other => panic!("{other:?}"),
        };
        records.map(index).collect()
    }

    /// Whatever sectors are damaged, or blank.
    #[test]
    fn the_records_of_sectors_are_those_that_a_reading_finds() {
        let whole = sectors(&[10, 700, 20, 30, 1_500, 40, 600]);
        let count = whole.len() / SECTOR;
        assert_eq!(indices(records(&whole, SEAL, FIRST)), [1, 2, 3, 4, 5, 6, 7]);
        let mut sizes = Vec::new();
        for damaged in 0..1u32 << count {
            let mut bytes = whole.clone();
            for (sector, number) in bytes.chunks_exact_mut(SECTOR).zip(0..) {
                match damaged >> number & 1 {
                    1 if number % 2 == 0 => sector.fill(0),
                    1 => sector[9] ^= 1,
                    _ => {}
                }
            }
            let read = read(&bytes, SEAL, FIRST).records.into_iter().map(|(record, _)| record);
            let read = indices(read);
            assert_eq!(indices(records(&bytes, SEAL, FIRST)), read, "{damaged:b}");
            sizes.push(read.len());
        }
        sizes.sort_unstable();
        sizes.dedup();
        assert!(sizes.len() > 5 && sizes[0] == 0, "{sizes:?}");
    }

    #[test]
    fn the_last_record_that_is_asked_for_may_be_followed_by_anything() {
        let mut bytes = sectors(&[10, 700, 20]);
        assert_eq!(indices(records(&bytes, SEAL, FIRST).take(2)), [1, 2]);
        bytes[SECTOR + 9] ^= 1;
        assert_eq!(
            indices(records(&bytes, SEAL, FIRST)),
            [1],
            "the rest of the second is gone, and the third"
        );
    }
}
