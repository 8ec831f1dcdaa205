//! Where the log of a full replica stands on its disk: what may be lost there so that a restart must know of
//! it.

use kontiki_core::wal::{FileName, Operation, Slot};
use std::collections::VecDeque;
use std::ops::Range;

/// The headers of a segment, in front of its first batch.
const SEGMENT_HEADERS: u64 = 2 * 4_096;

const SECTOR: usize = 512;
/// How many long batches are kept.
const KEPT_LONG: usize = 8;

/// The batches that a disk has been given.
#[derive(Default, Debug)]
pub(crate) struct Written {
    /// Whether a write that takes entries back was handed out, and no batch has been written since.
    takes_back: bool,
    /// Where the batches stand that took entries back.
    taking_back: Vec<Place>,
    /// Where the latest batches stand that fill more than two sectors, the oldest first.
    long: VecDeque<Place>,
    last: Option<Last>,
    /// The one before it.
    before_last: Option<Place>,
    /// Whether a batch was lost of which the vote alone tells.
    only_the_vote_tells: bool,
    /// The copy of the vote that was written last in this life: the latest ballot may stand in no other.
    latest_vote: Option<Slot>,
    /// Whether that was damaged since.
    vote_spoiled: bool,
    /// Whether a batch was lost of which only its segment tells, and not what was in it.
    nothing_says_what: bool,
    /// Whether what is being written was damaged: nothing says that it was not finished.
    unfinished_hit: bool,
    /// Whether the first batch of the next segment is to be damaged, and when.
    spoils_first: Option<When>,
}

/// When the first batch of a segment is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum When {
    /// As soon as it is durable: its segment alone tells of it then.
    AtOnce,
    /// When the member has marked it as its last batch: the vote must tell of it then.
    AtRest,
}

/// A file and bytes of it.
pub(crate) type Place = (FileName, Range<u64>);

/// The last batch.
#[derive(Debug)]
struct Last {
    place: Place,
    /// Whether it is the first of its segment. No segment is without that.
    is_first: bool,
    /// The copies of the vote that were written after it, and tell of it.
    told_by: Vec<Slot>,
    /// Whether these copies were damaged.
    untold: bool,
    is_synced: bool,
    durable: bool,
    /// Whether power failed before it was durable: what the disk has of it, it has for good.
    is_cut: bool,
}

impl Written {
    /// The kernel has handed out a write that takes entries back.
    pub(crate) fn takes_back(&mut self) {
        self.takes_back = true;
    }

    /// The disk of the log has carried out one of these operations; or all of them.
    pub(crate) fn carried_out(&mut self, operations: &[Operation], done: usize) {
        if let Some(place) = done.checked_sub(1).and_then(|last| batch(&operations[last])) {
            if let Some(long) = filled(&operations[done - 1]) {
                if self.long.len() == KEPT_LONG {
                    self.long.pop_front();
                }
                self.long.push_back(long);
            }
            let is_first = matches!(operations[done - 1], Operation::Write { file: FileName::Spare(_), .. });
            if std::mem::take(&mut self.takes_back) {
                self.taking_back.push(place.clone());
            }
            self.before_last = self.last.take().map(|last| last.place);
            self.last = Some(Last {
                place,
                is_first,
                told_by: Vec::new(),
                untold: false,
                is_synced: false,
                durable: false,
                is_cut: false,
            });
        }
        let is_sync = |operation: &Operation| matches!(operation, Operation::Sync(_));
        if let Some(last) = &mut self.last {
            last.is_synced |= done.checked_sub(1).is_some_and(|at| is_sync(&operations[at]));
        }
        if done < operations.len() {
            return;
        }
        self.unfinished_hit = false;
        let vote = operations.iter().rev().find_map(|operation| match operation {
            Operation::Write { file: FileName::Vote(slot), .. } => Some(*slot),
            _ => None,
        });
        if vote.is_some() {
            (self.latest_vote, self.vote_spoiled) = (vote, false);
        }
        if let Some(last) = &mut self.last {
            last.durable = true;
            last.untold &= vote.is_none();
            last.told_by.extend(vote.filter(|slot| !last.told_by.contains(slot)));
        }
    }

    /// The member starts again, in a segment of its own.
    pub(crate) fn starts(&mut self) {
        let (taking_back, long) = (std::mem::take(&mut self.taking_back), std::mem::take(&mut self.long));
        *self = Self { taking_back, long, ..Self::default() };
    }

    /// The last batch, to be damaged: only where it is durable, and something else tells of it.
    pub(crate) fn lose_last(&mut self) -> Option<Place> {
        let last = self.last.take_if(|last| last.durable && (last.is_first || !last.told_by.is_empty()))?;
        self.only_the_vote_tells |= !last.told_by.is_empty();
        self.nothing_says_what |= last.told_by.is_empty();
        Some(last.place)
    }

    /// The next segment's first batch is to be damaged.
    pub(crate) fn spoil_first(&mut self, when: When) {
        self.spoils_first = Some(when);
    }

    /// Whether that batch is to be damaged as soon as it is durable.
    pub(crate) fn spoils_at_once(&self) -> bool {
        self.spoils_first == Some(When::AtOnce)
    }

    /// That batch, as soon as it is durable: its segment alone tells of it then.
    pub(crate) fn lose_first(&mut self) -> Option<Place> {
        let bare = |last: &Last| last.is_first && last.durable && last.told_by.is_empty();
        let is_there = self.last.as_ref().is_some_and(bare);
        self.spoils_first.take_if(|when| *when == When::AtOnce && is_there)?;
        self.lose_last()
    }

    /// Whether that batch is to be damaged when its member is at rest.
    pub(crate) fn spoils_at_rest(&self) -> bool {
        self.spoils_first == Some(When::AtRest)
    }

    /// That batch, when its member is at rest: it has marked it, or the mark is missing.
    pub(crate) fn lose_first_at_rest(&mut self) -> Option<Place> {
        let marked = |last: &Last| last.is_first && last.durable && !last.untold;
        let is_there = self.last.as_ref().is_some_and(marked);
        self.spoils_first.take_if(|when| *when == When::AtRest && is_there)?;
        self.only_the_vote_tells = true;
        self.last.take().map(|last| last.place)
    }

    /// The batch before the last, to be damaged; and the last one, which tells of it: it must not be blank,
    /// or it was never there.
    pub(crate) fn lose_before_last(&mut self) -> Option<(Place, Place)> {
        let before = self.before_last.take_if(|_| self.last.as_ref().is_some_and(|last| last.durable))?;
        let last = self.last.take()?;
        self.only_the_vote_tells |= !last.told_by.is_empty();
        Some((before, last.place))
    }

    /// A place is damaged. What stands there tells of nothing else from now on, which must stay, then.
    pub(crate) fn is_hit(&mut self, file: FileName, hit: &Range<u64>) {
        let touches = |(name, place): &Place| *name == file && place.start < hit.end && hit.start < place.end;
        if let Some(last) = self.last.take_if(|last| touches(&last.place)) {
            self.before_last = None;
            self.unfinished_hit = !last.durable;
        }
        self.before_last.take_if(|place| touches(place));
    }

    /// Power fails.
    pub(crate) fn power_fails(&mut self) {
        if let Some(last) = &mut self.last {
            last.is_cut = !last.durable;
        }
    }

    /// The last batch, where power failed before a sync of it: anything of it may have landed, or nothing.
    pub(crate) fn cut_before_the_sync(&self) -> Option<&Place> {
        self.last.as_ref().filter(|last| last.is_cut && !last.is_synced).map(|last| &last.place)
    }

    /// The last batch, where power failed before it was durable.
    pub(crate) fn cut_short(&self) -> Option<&Place> {
        self.last.as_ref().filter(|last| last.is_cut).map(|last| &last.place)
    }

    /// The batch before one that was cut short, to be damaged where the disk has something of that: nothing
    /// is written behind a batch before that is durable.
    pub(crate) fn lose_before_cut(&mut self) -> Option<Place> {
        self.last.take_if(|last| last.is_cut)?;
        self.before_last.take()
    }

    /// The last batch, to be damaged, where the vote tells of it: and which copies of that do.
    pub(crate) fn lose_told(&mut self) -> Option<(Place, Vec<Slot>)> {
        let told_by =
            self.last.as_ref().map(|last| last.told_by.clone()).filter(|slots| !slots.is_empty())?;
        self.lose_last().map(|place| (place, told_by))
    }

    /// Copies of the vote are to be damaged. Whether they may be; and what they told of must not be lost
    /// after that.
    pub(crate) fn spoil_vote(&mut self) -> bool {
        if let Some(last) = &mut self.last {
            last.told_by.clear();
            last.untold = true;
        }
        !self.only_the_vote_tells && !std::mem::replace(&mut self.vote_spoiled, true)
    }

    /// Whether this copy of the vote is up to date: of such a one some must stay.
    pub(crate) fn has_latest_vote(&self, slot: Slot) -> bool {
        self.latest_vote.is_none_or(|latest| latest == slot)
    }

    /// Whether a batch was lost of which may be known that it was there, but not what it held.
    pub(crate) fn nothing_says_what(&self) -> bool {
        self.nothing_says_what || self.unfinished_hit
    }

    /// The latest batches that fill more than two sectors, without what is blank behind them.
    pub(crate) fn long(&self) -> &VecDeque<Place> {
        &self.long
    }

    /// The batches that took entries back, wherever they are still there.
    pub(crate) fn taking_back(&self) -> &[Place] {
        &self.taking_back
    }
}

/// The sectors of a batch that hold something, where they are more than two.
fn filled(operation: &Operation) -> Option<Place> {
    let Operation::Write { file: file @ FileName::Segment(_), at, bytes } = operation else { return None };
    let is_blank = |sector: &&[u8]| sector.iter().all(|byte| *byte == 0);
    let blank = bytes.chunks(SECTOR).rev().take_while(is_blank).count();
    let filled = bytes.len().div_ceil(SECTOR) - blank;
    (filled > 2).then(|| (*file, *at..*at + (filled * SECTOR) as u64))
}

/// Where a batch is written.
fn batch(operation: &Operation) -> Option<Place> {
    let Operation::Write { file, at, bytes } = operation else { return None };
    let range = *at..*at + bytes.len() as u64;
    match *file {
        FileName::Segment(_) => Some((*file, range)),
        // It will be called a segment by the end of the job.
        FileName::Spare(number) => {
            Some((FileName::Segment(number), range.start + SEGMENT_HEADERS..range.end))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileName = FileName::Segment(3);

    fn write(file: FileName, at: u64) -> Operation {
        Operation::Write { file, at, bytes: vec![1; 4_096 * 3].into() }
    }

    fn carry_out(written: &mut Written, operations: &[Operation]) {
        (1..=operations.len()).for_each(|done| written.carried_out(operations, done));
    }

    #[test]
    fn the_last_batch_may_be_lost_where_the_vote_or_a_new_segment_tells_of_it() {
        let mut written = Written::default();
        carry_out(&mut written, &[write(FILE, 4_096), Operation::Sync(FILE)]);
        assert_eq!(written.lose_last(), None, "no other write is evidence of it");
        let told = [write(FILE, 8_192), Operation::Sync(FILE), write(FileName::Vote(Slot::A), 0)];
        written.carried_out(&told, 1);
        assert_eq!(written.lose_last(), None, "it is not durable yet");
        carry_out(&mut written, &told);
        assert_eq!(written.lose_told(), Some(((FILE, 8_192..20_480), vec![Slot::A])));
        assert!(!written.spoil_vote(), "nothing else tells of it any more");
        written.starts();
        assert!(written.spoil_vote(), "a segment tells of it");
        carry_out(&mut written, &[write(FileName::Spare(4), 0), Operation::Sync(FileName::Spare(4))]);
        assert_eq!(written.lose_told(), None, "the vote does not know of it");
        assert!(!written.nothing_says_what());
        assert_eq!(written.lose_last(), Some((FileName::Segment(4), 8_192..12_288)), "without the headers");
        assert!(written.nothing_says_what(), "its segment says that it was, and no more");
    }

    #[test]
    fn of_the_batch_before_the_last_the_last_one_tells_and_must_stay() {
        let mut written = Written::default();
        let [first, second] = [4_096, 16_384].map(|at| [write(FILE, at), Operation::Sync(FILE)]);
        carry_out(&mut written, &first);
        assert_eq!(written.lose_before_last(), None, "there is none");
        written.carried_out(&second, 1);
        assert_eq!(written.lose_before_last(), None, "what would tell of it is not durable yet");
        written.carried_out(&second, 2);
        let both = ((FILE, 4_096..16_384), (FILE, 16_384..28_672));
        assert_eq!(written.lose_before_last(), Some(both));
        let told = [Operation::Sync(FILE), write(FileName::Vote(Slot::A), 0)];
        carry_out(&mut written, &told);
        assert_eq!((written.lose_last(), written.lose_before_last()), (None, None), "it must stay");
    }

    #[test]
    fn what_was_damaged_tells_of_no_other_batch() {
        let two = || {
            let mut written = Written::default();
            for at in [4_096, 16_384] {
                carry_out(&mut written, &[write(FILE, at), Operation::Sync(FILE)]);
            }
            written
        };
        let lost = |hit: Place| {
            let mut written = two();
            written.is_hit(hit.0, &hit.1);
            written.lose_before_last().is_some()
        };
        assert!(lost((FILE, 28_672..32_768)) && lost((FileName::Segment(9), 0..32_768)), "it is elsewhere");
        assert!(!lost((FILE, 28_160..32_768)), "the last one tells of nothing");
        assert!(!lost((FILE, 0..4_608)), "it is damaged already");
    }

    #[test]
    fn nothing_says_that_a_damaged_batch_was_not_finished() {
        let mut written = Written::default();
        let batch = [write(FILE, 4_096), Operation::Sync(FILE)];
        written.carried_out(&batch, 1);
        written.is_hit(FILE, &(4_096..4_608));
        assert!(written.nothing_says_what());
        written.carried_out(&batch, 2);
        assert!(!written.nothing_says_what(), "it is finished");
        carry_out(&mut written, &batch);
        written.is_hit(FILE, &(4_096..4_608));
        assert!(!written.nothing_says_what(), "it was");
    }

    #[test]
    fn of_the_batch_before_one_that_was_cut_short_that_one_tells() {
        let mut written = Written::default();
        let [first, second] = [4_096, 16_384].map(|at| [write(FILE, at), Operation::Sync(FILE)]);
        carry_out(&mut written, &first);
        written.power_fails();
        assert_eq!(written.cut_short(), None, "it is durable");
        written.carried_out(&second, 1);
        assert_eq!(written.cut_short(), None, "what was written may be lost yet");
        assert_eq!(written.lose_before_cut(), None);
        written.power_fails();
        assert_eq!(written.cut_short(), Some(&(FILE, 16_384..28_672)));
        assert_eq!(written.lose_before_cut(), Some((FILE, 4_096..16_384)));
        assert_eq!(written.lose_before_cut(), None, "once");
    }

    #[test]
    fn the_first_batch_of_the_next_segment_is_lost_once_it_is_durable() {
        let mut written = Written::default();
        let spare = FileName::Spare(4);
        let first = [write(spare, 0), Operation::Sync(spare), Operation::Rename { from: spare, to: FILE }];
        carry_out(&mut written, &first);
        assert_eq!(written.lose_first(), None, "it was not asked for");
        written.spoil_first(When::AtOnce);
        carry_out(&mut written, &[write(FILE, 4_096), Operation::Sync(FILE)]);
        assert_eq!(written.lose_first(), None, "it is not the first of its segment");
        written.carried_out(&first, 2);
        assert_eq!(written.lose_first(), None, "it is not durable yet");
        carry_out(&mut written, &first);
        assert_eq!(written.lose_first(), Some((FileName::Segment(4), 8_192..12_288)));
        carry_out(&mut written, &first);
        assert_eq!(written.lose_first(), None, "once");
    }

    #[test]
    fn the_first_batch_of_a_segment_is_lost_at_rest_and_is_no_excuse() {
        let mut written = Written::default();
        let spare = FileName::Spare(4);
        let first = [write(spare, 0), Operation::Sync(spare), Operation::Rename { from: spare, to: FILE }];
        written.spoil_first(When::AtRest);
        carry_out(&mut written, &first);
        assert_eq!(written.lose_first(), None, "it waits for the mark");
        assert_eq!(written.lose_first_at_rest(), Some((FileName::Segment(4), 8_192..12_288)));
        assert!(!written.nothing_says_what() && !written.spoil_vote(), "the vote must tell of it");
        assert_eq!(written.lose_first_at_rest(), None, "once");
    }

    #[test]
    fn what_a_damaged_vote_told_of_must_stay() {
        let mut written = Written::default();
        let told = [write(FILE, 0), Operation::Sync(FILE), write(FileName::Vote(Slot::A), 0)];
        carry_out(&mut written, &told);
        assert!(written.spoil_vote());
        assert_eq!(written.lose_last(), None);
        carry_out(&mut written, &told);
        assert_eq!(written.lose_last(), Some((FILE, 0..12_288)), "it is written again");
    }

    #[test]
    fn long_batches_are_known_without_what_is_blank_behind_them() {
        let mut written = Written::default();
        let filled = |at, bytes: usize| Operation::Write {
            file: FILE,
            at,
            bytes: [vec![1; bytes], vec![0; 4_096 - bytes]].concat().into(),
        };
        carry_out(&mut written, &[filled(0, 1_024), filled(4_096, 1_025), filled(8_192, 4_096)]);
        let long: Vec<_> = written.long().iter().cloned().collect();
        assert_eq!(long, [(FILE, 4_096..4_096 + 3 * 512), (FILE, 8_192..12_288)]);
        written.starts();
        carry_out(&mut written, &vec![filled(12_288, 2_000); KEPT_LONG - 1]);
        assert_eq!(written.long().len(), KEPT_LONG);
        assert_eq!(written.long()[0].1.start, 8_192, "the oldest make way");
    }

    #[test]
    fn a_ballot_alone_stands_in_the_latest_copy_of_the_vote() {
        let mut written = Written::default();
        assert!(written.has_latest_vote(Slot::A) && written.has_latest_vote(Slot::B));
        let copy = |slot| [write(FileName::Vote(slot), 0), Operation::Sync(FileName::Vote(slot))];
        carry_out(&mut written, &[write(FILE, 0), Operation::Sync(FILE)]);
        carry_out(&mut written, &copy(Slot::A));
        written.carried_out(&copy(Slot::B), 1);
        assert!(written.has_latest_vote(Slot::A) && !written.has_latest_vote(Slot::B), "it is not durable");
        carry_out(&mut written, &copy(Slot::B));
        assert!(written.has_latest_vote(Slot::B) && !written.has_latest_vote(Slot::A));
        assert!(written.spoil_vote());
        assert!(!written.spoil_vote(), "what is left of it must stay");
        carry_out(&mut written, &copy(Slot::A));
        assert_eq!(
            written.lose_told(),
            Some(((FILE, 0..12_288), vec![Slot::A])),
            "and not by what is damaged"
        );
    }

    #[test]
    fn the_batch_that_takes_entries_back_is_the_next_one_written() {
        let mut written = Written::default();
        carry_out(&mut written, &[write(FILE, 0), Operation::Sync(FILE)]);
        written.takes_back();
        carry_out(&mut written, &[write(FILE, 12_288), Operation::Sync(FILE)]);
        carry_out(&mut written, &[write(FILE, 24_576), Operation::Sync(FILE)]);
        assert_eq!(written.taking_back(), [(FILE, 12_288..24_576)]);
    }
}
