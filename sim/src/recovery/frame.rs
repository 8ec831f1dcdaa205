//! One moment of a history, and everything that a disk can have made of it.

use super::disk::{BLOCK, Platter, SECTOR, is_read, reachable, sector_of, torn};
use super::history::{History, Moment};
use super::letter::{self, Letter};
use super::piece::{Choice, Piece};
use super::spot::spots;
use kontiki_core::wal::FileName;

/// What is combined with what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Tier {
    /// Power fails: every mix of the sectors that no sync has covered, as written, not written and torn, and
    /// of the changes of names.
    Crash,
    /// Power fails while recovery writes, after each of its operations; with one damaged block, or none.
    Twice,
    /// Any two blocks are damaged, each in every way.
    Two,
    /// All blocks at once are damaged, each in a few ways.
    All,
}

impl Tier {
    pub(super) const ALL: [Self; 4] = [Self::Crash, Self::Twice, Self::Two, Self::All];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Twice => "twice",
            Self::Two => "two",
            Self::All => "all",
        }
    }
}

/// A place, and what can be made of it; the first choice leaves it as it is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) words: String,
    pub(super) choices: Vec<Choice>,
}

/// How the damaged places are combined.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mix {
    /// At most so many of them at once: one or two.
    AtMost(usize),
    /// All of them at once.
    Product,
}

/// A moment, and all cases of one tier at that moment.
pub(super) struct Frame {
    /// The disk as a power failure leaves it that keeps nothing of what was not synced.
    pub(super) base: Platter,
    free: Vec<Place>,
    places: Vec<Place>,
    mix: Mix,
    /// The blocks that can be damaged: the bit of each is its position.
    pub(super) blocks: Vec<(usize, usize)>,
}

impl Frame {
    /// Nothing where the tier does not apply to that moment.
    pub(super) fn new(history: &History, at: usize, tier: Tier) -> Option<Self> {
        let moment = &history.moments[at];
        if tier != Tier::Crash && !moment.in_window {
            return None;
        }
        let mut base = moment.disk.clone();
        base.lose_unsynced();
        for (file, before) in base.files.iter_mut().zip(&moment.disk.files) {
            // A length that is left without its contents is zeros.
            file.shown.resize(file.shown.len().max(before.shown.len()), 0);
        }
        let mut frame =
            Self { base, free: Vec::new(), places: Vec::new(), mix: Mix::AtMost(1), blocks: Vec::new() };
        frame.free_names(moment);
        frame.free_contents(moment, tier == Tier::Crash);
        let (mix, letters) = match tier {
            Tier::Crash => return Some(frame),
            Tier::Twice => (Mix::AtMost(1), letter::COARSE),
            Tier::Two => (Mix::AtMost(2), letter::FINE),
            Tier::All => (Mix::Product, letter::COARSE),
        };
        frame.mix = mix;
        frame.damage(history, at, letters, mix == Mix::Product);
        Some(frame)
    }

    /// How many cases there are.
    pub(super) fn count(&self) -> u64 {
        let free: u64 = self.free.iter().map(Place::count).product();
        free * self.damaged_count()
    }

    fn damaged_count(&self) -> u64 {
        let others = || self.places.iter().map(|place| place.count() - 1);
        match self.mix {
            Mix::Product => self.places.iter().map(Place::count).product(),
            Mix::AtMost(most) => {
                let one: u64 = others().sum();
                // Half of all ordered pairs, without those of a place with itself.
                let pairs = (one * one - others().map(|count| count * count).sum::<u64>()) / 2;
                1 + one + if most > 1 { pairs } else { 0 }
            }
        }
    }

    /// The places, and what the disk made of each, in the case of this number.
    pub(super) fn case(&self, mut number: u64) -> Vec<(&Place, &Choice)> {
        let mut chosen = Vec::with_capacity(self.free.len() + self.places.len());
        chosen.extend(digits(&self.free, &mut number));
        match self.mix {
            Mix::Product => chosen.extend(digits(&self.places, &mut number)),
            Mix::AtMost(_) if number == 0 => {}
            Mix::AtMost(_) => self.few(number - 1, &mut chosen),
        }
        chosen
    }

    /// One damaged place, or two.
    fn few<'a>(&'a self, mut number: u64, chosen: &mut Vec<(&'a Place, &'a Choice)>) {
        let others = |place: &Place| place.count() - 1;
        for place in &self.places {
            if number < others(place) {
                return chosen.push((place, place.choice(number + 1)));
            }
            number -= others(place);
        }
        for (at, first) in self.places.iter().enumerate() {
            for second in &self.places[at + 1..] {
                let pairs = others(first) * others(second);
                if number < pairs {
                    chosen.push((first, first.choice(number % others(first) + 1)));
                    return chosen.push((second, second.choice(number / others(first) + 1)));
                }
                number -= pairs;
            }
        }
    }

    /// Which changes of names are left, and which new files have no length.
    fn free_names(&mut self, moment: &Moment) {
        let choices: Vec<_> = reachable(&moment.disk)
            .into_iter()
            .map(|(names, left)| Choice {
                names: Some(names),
                words: format!("{left} of {} changes of names are left", moment.disk.pending.len()),
                ..Choice::default()
            })
            .collect();
        if choices.len() > 1 {
            self.free.push(Place { words: "the directory".to_owned(), choices });
        }
        for (file, it) in moment.disk.files.iter().enumerate() {
            if it.durable.is_empty() && !it.shown.is_empty() && is_read(&moment.disk, file) {
                let empty = Choice {
                    empty: Some(file),
                    words: "not even its length is left".to_owned(),
                    ..Choice::default()
                };
                let words = name(&moment.disk, file);
                self.free.push(Place { words, choices: vec![Choice::default(), empty] });
            }
        }
    }

    fn free_contents(&mut self, moment: &Moment, fine: bool) {
        for (file, it) in moment.disk.files.iter().enumerate() {
            let old = &self.base.files[file].shown;
            let differs = |sector: &usize| sector_of(old, *sector) != sector_of(&it.shown, *sector);
            let sectors: Vec<usize> = (0..it.shown.len() / SECTOR).filter(differs).collect();
            if sectors.is_empty() || !is_read(&moment.disk, file) {
                continue;
            }
            let words = name(&moment.disk, file);
            if !fine {
                self.free.push(coarse_mix(&words, file, old, &it.shown, &sectors));
                continue;
            }
            for group in groups(&sectors, is_vote(moment, file)) {
                self.free.push(fine_mix(&words, file, old, &it.shown, &group));
            }
        }
    }

    fn damage(&mut self, history: &History, at: usize, letters: &[Letter], whole: bool) {
        let spots = spots(history, at, whole);
        self.blocks = spots.iter().flat_map(|spot| spot.blocks.clone()).collect();
        let mut bit = 0;
        for spot in &spots {
            let others: Vec<&[u8]> = self
                .blocks
                .iter()
                .filter(|other| !spot.blocks.contains(other))
                .map(|(file, block)| &self.base.files[*file].shown[block * BLOCK..][..BLOCK])
                .collect();
            let mut place = Place { words: spot.words.clone(), choices: vec![Choice::default()] };
            let letters = if spot.blocks.len() > 1 { letter::WHOLE } else { letters };
            for letter in letters {
                for (choice, blocks) in spot.choices(&self.base, &history.moments[..at], &others, *letter) {
                    place.add(Choice { damages: blocks << bit, ..choice }, &self.base);
                }
            }
            bit += spot.blocks.len();
            self.places.push(place);
        }
        debug_assert!(bit <= 64);
    }
}

impl Place {
    fn count(&self) -> u64 {
        self.choices.len() as u64
    }

    fn choice(&self, number: u64) -> &Choice {
        &self.choices[number as usize]
    }

    /// Adds a choice, unless it is the same as another one, or changes nothing.
    fn add(&mut self, choice: Choice, base: &Platter) {
        let same = |piece: &Piece| {
            let now = &base.files[piece.file].shown[piece.at..][..piece.bytes.len()];
            piece.unreadable.is_empty() && now == piece.bytes
        };
        let like = |other: &Choice| {
            other.pieces.len() == choice.pieces.len()
                && other.pieces.iter().zip(&choice.pieces).all(|(a, b)| {
                    (a.file, a.at, &a.bytes, &a.unreadable) == (b.file, b.at, &b.bytes, &b.unreadable)
                })
        };
        if !choice.pieces.iter().all(same) && !self.choices.iter().any(like) {
            self.choices.push(choice);
        }
    }
}

/// Takes a digit of each place from the end of a number.
fn digits<'a>(places: &'a [Place], number: &mut u64) -> Vec<(&'a Place, &'a Choice)> {
    let digit = |place: &'a Place| {
        let choice = place.choice(*number % place.count());
        *number /= place.count();
        (place, choice)
    };
    places.iter().map(digit).collect()
}

fn is_vote(moment: &Moment, file: usize) -> bool {
    moment.disk.names.iter().any(|(name, it)| *it == file && matches!(name, FileName::Vote(_)))
}

fn name(disk: &Platter, file: usize) -> String {
    let named = disk.names.iter().find(|(_, it)| *it == file);
    named.map_or_else(|| format!("file {file}"), |(name, _)| name.to_string())
}

/// Sectors whose fate is decided together. A copy of the vote has four sectors of which the first says all
/// but the snapshot's members. Of a long write the first and the last sector are alone, and the others in six
/// runs.
fn groups(sectors: &[usize], is_vote: bool) -> Vec<Vec<usize>> {
    if is_vote {
        let together = |a: &usize, b: &usize| a / 4 == b / 4 && !a.is_multiple_of(4);
        return sectors.chunk_by(together).map(<[usize]>::to_vec).collect();
    }
    if sectors.len() <= 8 {
        return sectors.iter().map(|sector| vec![*sector]).collect();
    }
    let (first, last) = (sectors[0], sectors[sectors.len() - 1]);
    let middle = &sectors[1..sectors.len() - 1];
    let runs = middle.chunks(middle.len().div_ceil(6)).map(<[usize]>::to_vec);
    [vec![first]].into_iter().chain(runs).chain([vec![last]]).collect()
}

/// Each way in which a group of sectors can be left: as they were, as written, and with the last one torn.
fn fine_mix(words: &str, file: usize, old: &[u8], new: &[u8], group: &[usize]) -> Place {
    let (first, last) = (group[0], group[group.len() - 1]);
    let piece =
        |sector: usize, bytes: Vec<u8>| Piece { file, at: sector * SECTOR, bytes, unreadable: vec![] };
    let written = |sectors: &[usize]| -> Vec<Piece> {
        sectors.iter().map(|sector| piece(*sector, sector_of(new, *sector).to_vec())).collect()
    };
    let as_written = Choice { pieces: written(group), words: "as written".to_owned(), ..Choice::default() };
    let torn_bytes = torn(sector_of(old, last), sector_of(new, last));
    let mut choices = vec![Choice { words: "not written".to_owned(), ..Choice::default() }, as_written];
    if torn_bytes != sector_of(old, last) && torn_bytes != sector_of(new, last) {
        let mut pieces = written(&group[..group.len() - 1]);
        pieces.push(piece(last, torn_bytes));
        choices.push(Choice { pieces, words: "torn".to_owned(), ..Choice::default() });
    }
    let which = if first == last { format!("sector {first}") } else { format!("sectors {first} to {last}") };
    Place { words: format!("{words}, {which}"), choices }
}

/// What no sync has covered: nothing of it, all of it, or the first half of each block.
fn coarse_mix(words: &str, file: usize, old: &[u8], new: &[u8], sectors: &[usize]) -> Place {
    let pieces = |kept: &dyn Fn(usize) -> bool| -> Vec<Piece> {
        let kept = sectors.iter().filter(|sector| kept(**sector));
        let piece = |sector: &usize| {
            let bytes = sector_of(new, *sector).to_vec();
            Piece { file, at: sector * SECTOR, bytes, unreadable: vec![] }
        };
        kept.map(piece).collect()
    };
    let choice = |pieces, words: &str| Choice { pieces, words: words.to_owned(), ..Choice::default() };
    let half = BLOCK / SECTOR / 2;
    let mut choices = vec![
        choice(Vec::new(), "not written"),
        choice(pieces(&|_| true), "as written"),
        choice(pieces(&|sector| sector % (2 * half) < half), "of each block the first half is written"),
    ];
    choices.dedup_by_key(|choice| choice.pieces.len());
    debug_assert!(sector_of(old, sectors[0]) != sector_of(new, sectors[0]));
    Place { words: format!("{words}, the last write"), choices }
}
