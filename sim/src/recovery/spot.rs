//! The places whose damage is tried: the last batches, the headers of segments, and the copies of the vote.

use super::disk::{BLOCK, Platter, SECTOR, is_read};
use super::history::{History, Moment};
use super::letter::Letter;
use super::piece::{Choice, Piece};
use kontiki_core::wal::FileName;

/// How many of the last batches are damaged.
const BATCHES: usize = 3;

/// Of a batch of more blocks than this only the first and the last one are damaged.
const LONG: usize = 2;

/// One block, or two that hold the same.
pub(super) struct Spot {
    pub(super) words: String,
    /// Each by the number of its file, and its own.
    pub(super) blocks: Vec<(usize, usize)>,
}

/// The places that can be damaged at a moment: those that are durable, and that nothing is being written to.
/// The two copies of a header and of a vote are one place where they are damaged `whole`.
pub(super) fn spots(history: &History, at: usize, whole: bool) -> Vec<Spot> {
    let moment = &history.moments[at];
    let mut spots = batches(history, at);
    let mut segments: Vec<_> = named(moment, |name| matches!(name, FileName::Segment(_))).collect();
    segments.sort_unstable();
    let in_window = |file: usize| spots.iter().any(|spot| spot.blocks[0].0 == file);
    let last = segments.last().map(|(_, file)| *file);
    let headers: Vec<_> = match whole {
        true => last.into_iter().collect(),
        false => segments
            .iter()
            .map(|(_, file)| *file)
            .filter(|file| Some(*file) == last || in_window(*file))
            .collect(),
    };
    let mut pair = |words: String, file: usize, blocks: [usize; 2]| {
        let blocks = blocks.map(|block| (file, block));
        if !blocks.iter().all(|block| is_at_rest(moment, *block)) {
            return;
        }
        if whole {
            spots.push(Spot { words, blocks: blocks.to_vec() });
        } else {
            let one = |block: (usize, usize)| Spot {
                words: format!("{words}, block {}", block.1),
                blocks: vec![block],
            };
            spots.extend(blocks.map(one));
        }
    };
    for file in headers {
        let name = segments.iter().find(|(_, it)| *it == file).map(|(name, _)| name.to_string());
        pair(format!("the header of {}", name.unwrap_or_default()), file, [0, 1]);
    }
    let mut votes: Vec<_> = named(moment, |name| matches!(name, FileName::Vote(_))).collect();
    votes.sort_unstable();
    for (name, file) in votes {
        pair(name.to_string(), file, [0, 2]);
    }
    spots
}

fn named(moment: &Moment, is: impl Fn(&FileName) -> bool) -> impl Iterator<Item = (FileName, usize)> {
    moment.disk.durable_names.iter().copied().filter(move |(name, _)| is(name))
}

fn batches(history: &History, at: usize) -> Vec<Spot> {
    let moment = &history.moments[at];
    let written = &history.batches[..moment.batches];
    let durable = |batch: &&super::history::Batch| {
        batch.durable_at.is_some_and(|durable| durable <= at) && is_read(&moment.disk, batch.file)
    };
    let last = written.iter().rev().filter(durable).take(BATCHES);
    let spot = |batch: &super::history::Batch| {
        let words = batch.words.clone();
        let file = batch.file;
        // The headers of a long one, with what is beside them.
        let mut blocks: Vec<usize> = batch.blocks.clone().collect();
        if blocks.len() > LONG {
            blocks = vec![batch.blocks.start, batch.blocks.end - 1];
        }
        blocks
            .into_iter()
            .map(move |block| Spot { words: format!("{words}, block {block}"), blocks: vec![(file, block)] })
    };
    last.flat_map(spot).filter(|spot| is_at_rest(moment, spot.blocks[0])).collect()
}

fn is_at_rest(moment: &Moment, (file, block): (usize, usize)) -> bool {
    let file = &moment.disk.files[file];
    let range = block * BLOCK..(block + 1) * BLOCK;
    match (file.durable.get(range.clone()), file.shown.get(range)) {
        (Some(durable), Some(shown)) => durable == shown && durable.iter().any(|byte| *byte != 0),
        _ => false,
    }
}

impl Spot {
    /// What a letter makes of it, and of which of its blocks: of the first one, and of both.
    pub(super) fn choices(
        &self,
        base: &Platter,
        earlier: &[Moment],
        others: &[&[u8]],
        letter: Letter,
    ) -> Vec<(Choice, u64)> {
        let mut all = Vec::new();
        let before = |block: &(usize, usize)| match letter {
            Letter::Older => older(base, earlier, *block),
            _ => vec![0; BLOCK],
        };
        for count in 1..=self.blocks.len() {
            let damaged: Vec<_> = self.blocks[..count]
                .iter()
                .map(|block| letter.of(content(base, *block), &before(block), others))
                .collect();
            let ways = damaged.iter().map(Vec::len).min().unwrap_or(0);
            for way in 0..ways {
                let pieces = self.blocks.iter().zip(&damaged).map(|((file, block), ways)| {
                    let (bytes, unreadable) = ways[way].clone();
                    let unreadable =
                        unreadable.into_iter().map(|sector| block * BLOCK / SECTOR + sector).collect();
                    Piece { file: *file, at: block * BLOCK, bytes, unreadable }
                });
                let mut words = letter.words();
                if ways > 1 {
                    words += &format!(" ({way})");
                }
                if count > 1 {
                    words += ", and its other block as well";
                }
                let choice = Choice { pieces: pieces.collect(), words, ..Choice::default() };
                all.push((choice, (1 << count) - 1));
            }
        }
        all
    }
}

fn content(disk: &Platter, (file, block): (usize, usize)) -> &[u8] {
    &disk.files[file].shown[block * BLOCK..][..BLOCK]
}

/// What a block held before what it holds now.
fn older(base: &Platter, earlier: &[Moment], (file, block): (usize, usize)) -> Vec<u8> {
    let now = content(base, (file, block));
    let at = |moment: &Moment| {
        let durable = &moment.disk.files.get(file)?.durable;
        durable.get(block * BLOCK..(block + 1) * BLOCK).map(<[u8]>::to_vec)
    };
    let before = earlier.iter().rev().filter_map(at).find(|before| before != now);
    before.unwrap_or_else(|| vec![0; BLOCK])
}
