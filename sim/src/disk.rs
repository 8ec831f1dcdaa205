//! A member's disk: writes become durable in order, one sync at a time, and a crash loses what was not
//! synced.

use crate::ledger::{Chain, Links};
use crate::part::Stamp;
use crate::scenario::DiskSpec;
use crate::stream::Stream;
use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::membership::Membership;
use kontiki_core::types::{Index, LogId, WriteSeq};
use std::collections::VecDeque;

/// The disk of a kernel alone: it holds what the writes say.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) model: DiskModel,
    pub(crate) times: SyncTimes,
    /// The last write that the sync under way covers, and when that sync began.
    syncing: Option<(WriteSeq, u64)>,
}

/// What a disk holds, as the writes that its member hands out tell it.
#[derive(Debug)]
pub(crate) struct DiskModel {
    /// What a restart would find.
    pub(crate) durable: Durable,
    /// The prefix hashes of `durable.entries`.
    pub(crate) chain: Chain,
    /// Writes that a crash may lose, in order.
    unsynced: VecDeque<Unsynced>,
    /// Through which entry the member was told that it is durable, and when, in the order of both.
    reported: Vec<(Index, Stamp)>,
}

/// What is found on a disk that cannot be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Unreconciled {
    pub(crate) detail: String,
    pub(crate) lost: Option<Box<Lost>>,
}

/// The first entry that was reported as durable and is not found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Lost {
    pub(crate) entry: Entry,
    /// When it was reported.
    pub(crate) since: Option<Stamp>,
    /// What is found in its place.
    pub(crate) found: Option<Entry>,
}

/// How long the syncs of a disk take.
#[derive(Debug)]
pub(crate) struct SyncTimes {
    spec: DiskSpec,
    /// How long a sync takes at least, for good.
    slow_us: u64,
    stream: Stream,
    stalled_until: u64,
    /// When the last of the syncs that have begun will be done.
    busy_until: u64,
}

/// What a sync has brought.
#[derive(Debug)]
pub(crate) struct Synced {
    /// The last durable write.
    pub(crate) seq: WriteSeq,
    /// How long the sync took.
    pub(crate) took: u64,
    /// When the next sync, of all that has come meanwhile, will be done.
    pub(crate) next: Option<u64>,
}

#[derive(Debug)]
struct Unsynced {
    write: Write,
    links: Links,
}

impl Disk {
    pub(crate) fn new(model: DiskModel, times: SyncTimes) -> Self {
        Self { model, times, syncing: None }
    }

    /// Takes a write. Returns when the sync that it started will be done; none where one is under way.
    pub(crate) fn write(&mut self, now: u64, write: Write, links: Links) -> Option<u64> {
        self.model.note(write, links);
        self.start_sync(now)
    }

    /// Takes a write of a host that waits for it.
    pub(crate) fn write_and_wait(&mut self, write: Write, links: Links) {
        let seq = write.seq;
        self.model.note(write, links);
        self.model.report(seq);
    }

    /// The sync under way is done.
    pub(crate) fn synced(&mut self, now: u64) -> Synced {
        let (seq, since) = self.syncing.take().expect("a sync is under way");
        self.model.report(seq);
        Synced { seq, took: now - since, next: self.start_sync(now) }
    }

    /// Loses all but a prefix of what was not synced, as much as chance will have it. Returns how many writes
    /// were lost.
    pub(crate) fn crash(&mut self) -> u64 {
        let unsynced = self.model.unsynced.len() as u64;
        let kept = self.times.stream.below(unsynced + 1);
        (0..kept).for_each(|_| self.model.make_durable());
        self.model.unsynced.clear();
        self.syncing = None;
        unsynced - kept
    }

    /// Everything on it is gone.
    pub(crate) fn wipe(&mut self) {
        self.model.wipe();
        self.syncing = None;
    }

    fn start_sync(&mut self, now: u64) -> Option<u64> {
        if self.syncing.is_some() {
            return None;
        }
        self.syncing = Some((self.model.unsynced.back()?.write.seq, now));
        Some(self.times.sync_done(now))
    }
}

impl SyncTimes {
    pub(crate) fn new(seed: u64, member: u64, spec: DiskSpec, slow_us: u64) -> Self {
        Self { spec, slow_us, stream: Stream::named(seed, "disk", member), stalled_until: 0, busy_until: 0 }
    }

    /// From now on, what is drawn is drawn from the streams of another seed.
    pub(crate) fn reseed(&mut self, seed: u64, member: u64) {
        self.stream = Stream::named(seed, "disk", member);
    }

    /// The disk after the chaos: at times quicker than the network, at times slower, and as slow as it is for
    /// good. Returns until when it has to do with what began before.
    pub(crate) fn heal(&mut self) -> u64 {
        self.spec = DiskSpec { sync_min_us: 50, sync_max_us: 20_000, tail: 0, tail_max_us: 20_000 };
        self.stalled_until = 0;
        self.busy_until
    }

    /// Takes writes and finishes none, for good.
    pub(crate) fn die(&mut self) {
        self.stalled_until = u64::MAX / 2;
    }

    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = self.stalled_until.max(until);
    }

    /// When a sync that begins now will be done.
    pub(crate) fn sync_done(&mut self, now: u64) -> u64 {
        let done = self.draw_sync() + now.max(self.stalled_until);
        self.busy_until = self.busy_until.max(done);
        done
    }

    /// How long a sync takes.
    fn draw_sync(&mut self) -> u64 {
        let tail = self.stream.chance(self.spec.tail);
        let (low, high) = if tail {
            (self.spec.sync_max_us, self.spec.tail_max_us)
        } else {
            (self.spec.sync_min_us, self.spec.sync_max_us)
        };
        let ordinary = self.stream.skewed(low.max(1), high.max(1));
        let slow = if self.slow_us > 0 { self.stream.between(self.slow_us, self.slow_us * 5 / 4) } else { 0 };
        ordinary.max(slow) * 1_000
    }
}

impl DiskModel {
    pub(crate) fn new(durable: Durable) -> Self {
        Self { durable, chain: Chain::new(), unsynced: VecDeque::new(), reported: Vec::new() }
    }

    /// A write was handed to the disk.
    pub(crate) fn note(&mut self, write: Write, links: Links) {
        self.unsynced.push_back(Unsynced { write, links });
    }

    /// The memberships among what may be durable or lost.
    pub(crate) fn unsynced_memberships(&self) -> impl Iterator<Item = &Membership> {
        let appended = self.unsynced.iter().flat_map(|unsynced| unsynced.write.append.iter());
        appended.filter_map(|entry| match &entry.body {
            EntryBody::Config(membership) => Some(&**membership),
            _ => None,
        })
    }

    /// Everything through this write is durable.
    pub(crate) fn report(&mut self, seq: WriteSeq) {
        while self.unsynced.front().is_some_and(|unsynced| unsynced.write.seq <= seq) {
            self.make_durable();
        }
    }

    /// The member has been told how far its log is durable now.
    pub(crate) fn reported_at(&mut self, now: Stamp) {
        let last = self.durable.last().index;
        // What was cut is no longer durable, and written anew later.
        while self.reported.pop_if(|(through, _)| *through > last).is_some() {}
        if self.reported.last().is_none_or(|(through, _)| *through < last) {
            self.reported.push((last, now));
        }
    }

    /// Whether nothing is lost on the disk: an entry that is to be cut is lost until that is durable, and a
    /// snapshot until another is.
    pub(crate) fn is_whole(&self) -> bool {
        self.has_snapshot() && self.durable.lost().is_empty()
    }

    /// Whether the snapshot on which the log rests is there, by what is durable.
    pub(crate) fn has_snapshot(&self) -> bool {
        !self.durable.snapshot_lost
    }

    /// The entries that the member has handed out: those that are durable, and those that are not yet.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> + Clone {
        let unsynced = self.unsynced.iter().flat_map(|unsynced| unsynced.write.append.iter());
        self.durable.entries.iter().chain(unsynced)
    }

    /// The first entry that was reported as durable and is not found. Entries may be lost where the disk is
    /// known to be `damaged`, and cut by a write that was not reported yet.
    fn lost(&self, found: &Durable, damaged: bool) -> Option<Lost> {
        let skipped = found.skipped_through().index;
        let said_lost =
            |index| found.lost().iter().any(|(after, through)| after.index < index && index <= through.index);
        let at = |id: LogId| {
            let is_lost = id.index <= skipped && said_lost(id.index);
            let skipped_entry = is_lost.then_some(Entry { id, body: EntryBody::Lost });
            let position = |index: Index| usize::try_from(index - skipped).ok()?.checked_sub(1);
            let kept = || found.entries.get(position(id.index)?).cloned();
            skipped_entry.or_else(|| (id.index > skipped).then(kept).flatten())
        };
        let is_found = |entry: &Entry| {
            let is_old = entry.id.index <= found.base.index || entry.body == EntryBody::Lost;
            let is_left_out = entry.id.index <= skipped && !said_lost(entry.id.index);
            is_old || is_left_out || at(entry.id).is_some_and(|found| is_same(entry, &found, damaged))
        };
        let cut = self.unsynced.iter().filter_map(|unsynced| unsynced.write.truncate_after).min();
        let stays = |entry: &&Entry| cut.is_none_or(|after| entry.id.index <= after);
        let entry = self.durable.entries.iter().take_while(stays).find(|entry| !is_found(entry))?;
        let when = self.reported.iter().find(|(through, _)| *through >= entry.id.index);
        Some(Lost { entry: entry.clone(), since: when.map(|(_, at)| *at), found: at(entry.id) })
    }

    /// A full replica has found this on its disk: everything that it had said to be durable, and of what it
    /// had handed out beyond that the first so many writes. Entries may be lost where the disk is known to be
    /// `damaged`; or found again, in a batch that was void until the segment was damaged that went on before
    /// it.
    pub(crate) fn reconcile(&mut self, found: &Durable, damaged: bool) -> Result<(), Unreconciled> {
        let mut owed = None;
        let mut differences = Vec::new();
        while let Some(difference) = differs(&self.durable, found, damaged) {
            differences.push(difference);
            let (expected, lost) =
                owed.get_or_insert_with(|| (describe(&self.durable), self.lost(found, damaged)));
            if self.unsynced.is_empty() {
                let (first, last) = (&differences[0], &differences[differences.len() - 1]);
                let found = describe(found);
                let detail = format!(
                    "{first} than was acknowledged, {last} than was handed out; acknowledged was {expected}, found is {found}"
                );
                return Err(Unreconciled { detail, lost: lost.take().map(Box::new) });
            }
            self.make_durable();
        }
        self.unsynced.clear();
        self.durable.committed = found.committed;
        self.durable.starts = found.starts;
        self.durable.snapshot_lost = found.snapshot_lost;
        for (after, through) in found.lost() {
            let base = self.durable.base.index;
            let lost = (after.index - base) as usize..(through.index - base) as usize;
            self.durable.entries[lost].iter_mut().for_each(|entry| entry.body = EntryBody::Lost);
        }
        let skipped = found.skipped_through().index - self.durable.base.index;
        for (entry, found) in self.durable.entries[skipped as usize..].iter_mut().zip(&found.entries) {
            entry.body.clone_from(&found.body);
        }
        Ok(())
    }

    /// Everything is gone.
    pub(crate) fn wipe(&mut self) {
        *self = Self::new(Durable::default());
    }

    fn make_durable(&mut self) {
        let Some(Unsynced { write, links }) = self.unsynced.pop_front() else {
            return;
        };
        self.durable.write(&write);
        if let Some(after) = write.truncate_after {
            self.chain.truncate(after.get() as usize);
        }
        if let Some(installed) = links.installed {
            self.chain = installed;
        }
        self.chain.extend(links.appended);
    }
}

/// Whether an entry is what was expected: it may be lost where the disk is known to be `damaged`.
fn is_same(expected: &Entry, found: &Entry, damaged: bool) -> bool {
    let is_lost = expected.body == EntryBody::Lost || found.body == EntryBody::Lost;
    expected == found || (expected.id == found.id && is_lost && damaged)
}

/// What is different from what was expected on a disk.
fn differs(expected: &Durable, found: &Durable, damaged: bool) -> Option<String> {
    let through = found.skipped_through().index;
    let skipped = expected.entries.iter().find(|entry| entry.id.index == through);
    let reaches =
        through == expected.base.index || skipped.is_some_and(|entry| entry.id == found.skipped_through());
    let kept = expected.entries.iter().filter(|entry| entry.id.index > through);
    let same = |(expected, found): (&Entry, &Entry)| is_same(expected, found, damaged);
    // What was lost before is lost until the disk has it again, or the log begins behind it. A crash may have
    // lost the write that says so.
    let known = |(after, through): &(LogId, LogId)| {
        let run = expected.entries.iter().filter(|entry| *after < entry.id && entry.id <= *through);
        run.clone().count() as u64 == through.index - after.index
            && run.clone().all(|entry| entry.body == EntryBody::Lost)
    };
    let checks = [
        (expected.ballot == found.ballot, "another ballot"),
        (expected.base == found.base, "another base"),
        (expected.snapshot == found.snapshot, "another snapshot"),
        (expected.last() == found.last(), "another end"),
        (reaches, "a gap after what was left out"),
        (kept.clone().count() == found.entries.len() && kept.zip(&found.entries).all(same), "other entries"),
        (damaged || found.lost().iter().all(known), "entries lost that were not"),
        (found.committed <= expected.committed, "a later commit index"),
        (damaged || !found.snapshot_lost, "a lost snapshot"),
    ];
    checks.into_iter().find(|(holds, _)| !holds).map(|(_, what)| what.to_owned())
}

fn describe(durable: &Durable) -> String {
    let Durable { ballot, base, committed, snapshot, .. } = durable;
    let last = durable.last();
    let lost: Vec<_> =
        durable.lost().iter().map(|(after, through)| format!("({after}..{through}]")).collect();
    let snapshot = snapshot.as_ref().map(|snapshot| snapshot.last);
    format!("{ballot:?} {base}..{last} committed {committed} on {snapshot:?} lost {lost:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::log::Entries;
    use kontiki_core::types::{Ballot, Index, Term};

    fn write(seq: u64) -> Write {
        Write {
            seq: WriteSeq::new(seq),
            ballot: Ballot::new(Term::new(seq), None),
            starts: 1,
            truncate_after: None,
            rebase: None,
            repaired: Entries::EMPTY,
            append: Entries::EMPTY,
            committed: Index::ZERO,
        }
    }

    fn disk(member: u64) -> Disk {
        let spec = DiskSpec { sync_min_us: 10, sync_max_us: 20, tail: 0, tail_max_us: 20 };
        Disk::new(DiskModel::new(Durable::default()), SyncTimes::new(1, member, spec, 0))
    }

    #[test]
    fn one_sync_covers_all_that_came_before_it_started() {
        let mut disk = disk(1);
        let done = disk.write(0, write(1), Links::default()).expect("the first write starts a sync");
        assert_eq!(disk.write(1, write(2), Links::default()), None);
        assert_eq!(disk.write(2, write(3), Links::default()), None);
        let first = disk.synced(done);
        assert_eq!((first.seq, disk.model.durable.ballot.term()), (WriteSeq::new(1), Term::new(1)));
        assert_eq!(disk.synced(first.next.expect("two writes wait")).seq, WriteSeq::new(3));
    }

    #[test]
    fn a_disk_that_is_slow_for_good_is_slow_when_it_has_healed() {
        let spec = DiskSpec { sync_min_us: 10, sync_max_us: 20, tail: 0, tail_max_us: 20 };
        let mut times = SyncTimes::new(1, 1, spec, 60_000);
        times.heal();
        for _ in 0..20 {
            assert!((60_000_000..=75_000_000).contains(&times.sync_done(0)));
        }
    }

    /// Also where it lies in what is not in memory: what was lost before is no news, and what was not is.
    #[test]
    fn only_what_was_not_lost_before_is_news() {
        let log = |lost: &[u64]| {
            let entry = |index| {
                let body = if lost.contains(&index) { EntryBody::Lost } else { EntryBody::Blank };
                Entry { id: LogId::new(1, index), body }
            };
            Durable { entries: (1..=4).map(entry).collect(), committed: Index::new(4), ..Durable::default() }
        };
        for max_bytes in [0, u64::MAX] {
            let found = |lost: &[u64]| {
                let mut found = log(lost);
                found.skip(max_bytes);
                found
            };
            assert_eq!(differs(&log(&[2, 3]), &found(&[2, 3]), false), None);
            assert!(differs(&log(&[2]), &found(&[2, 3]), false).is_some());
            assert_eq!(differs(&log(&[2]), &found(&[2, 3]), true), None);
        }
    }

    /// It stood in a void batch as well, and what made that void is damaged now.
    #[test]
    fn what_is_lost_is_so_until_something_else_is_durable() {
        let lost = Entry { id: LogId::new(1, 1), body: EntryBody::Lost };
        assert!(DiskModel::new(Durable::default()).is_whole());
        assert!(!DiskModel::new(Durable { entries: vec![lost], ..Durable::default() }).is_whole());
        assert!(!DiskModel::new(Durable { snapshot_lost: true, ..Durable::default() }).is_whole());
    }

    #[test]
    fn what_was_lost_may_be_found_again_where_more_is_damaged() {
        let entry = |body| Entry { id: LogId::new(1, 1), body };
        let log = |body| Durable { entries: vec![entry(body)], ..Durable::default() };
        let (lost, found) = (log(EntryBody::Lost), log(EntryBody::Blank));
        assert!(differs(&lost, &found, false).is_some());
        let mut model = DiskModel::new(lost);
        assert_eq!(model.reconcile(&found, true), Ok(()));
        assert_eq!(model.durable.entries, found.entries, "it is owed from now on");
    }

    #[test]
    fn a_crash_keeps_a_prefix_and_every_prefix_is_kept_by_some_crash() {
        let mut kept = std::collections::BTreeSet::new();
        for member in 0..100 {
            let mut disk = disk(member);
            for seq in 1..=3 {
                disk.write(0, write(seq), Links::default());
            }
            let lost = disk.crash();
            assert_eq!(lost + disk.model.durable.ballot.term().get(), 3);
            kept.insert(lost);
        }
        assert_eq!(kept.len(), 4);
    }

    #[test]
    fn names_the_first_entry_that_is_gone_and_when_it_was_reported() {
        let entry = |index, body| Entry { id: LogId::new(1, index), body };
        let log = |last| Durable {
            entries: (1..=last).map(|index| entry(index, EntryBody::Blank)).collect(),
            ..Durable::default()
        };
        let lost = |found: &Durable, damaged| {
            let mut model = DiskModel::new(log(1));
            for (last, step) in [(2, 5), (3, 8)] {
                model.durable = log(last);
                model.reported_at(Stamp { step, at: step });
            }
            let lost = *model.reconcile(found, damaged).expect_err("it is gone").lost.expect("an entry");
            (lost.entry.id.index.get(), lost.since.map(|at| at.step), lost.found)
        };
        assert_eq!(lost(&log(2), false), (3, Some(8), None));
        let mut rotten = log(3);
        rotten.entries[1].body = EntryBody::Lost;
        assert_eq!(lost(&rotten, false), (2, Some(5), Some(entry(2, EntryBody::Lost))));
        rotten.entries.truncate(2);
        assert_eq!(lost(&rotten, true), (3, Some(8), None), "entry 2 may be lost");
    }
}
