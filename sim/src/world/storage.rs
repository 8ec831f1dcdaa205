//! What disks do to full replicas: within an atlas that leaves most members with everything.

use super::{Happening, World};
use crate::application::Application;
use crate::check::{Checked, Violated, durable_log};
use crate::host::full_replica::{Damage, FullReplica, Outage};
use crate::host::written::{Place, When};
use crate::host::{Host, MemberBody};
use crate::report::{FaultKind, Mark};
use crate::scenario::{Decay, Fault, Rotten, Target, TimedFault};
use crate::storage::Rot;
use crate::stream::Stream;
use kontiki_core::event::Event;
use kontiki_core::log::Log;
use kontiki_core::raft::Raft;
use kontiki_core::types::Index;
use kontiki_core::wal::{Disk as _, FileName, Slot};
use std::ops::Range;

/// A sector, and a block of them.
const SECTOR: u64 = 512;
const BLOCK: u64 = 4_096;
/// The fields of a batch's header that tell of the batch before are in its first bytes.
const HEADER_FIELDS: u64 = 26;
/// Where among them its own number is, and the number through which all batches are durable.
const OWN_NUMBER: usize = 2;
const NUMBER_BEFORE: usize = 18;
/// Each copy of the vote stands in its file four times: in two blocks, and in both halves of each.
const HALF: u64 = BLOCK / 2;

/// Which bit of a sector flips. Most of a sector is payload, or nothing: so every other bit is one of its
/// first 32 bytes, where a header has its magic number, its version and its lengths.
fn in_the_fields(drawn: u64) -> u64 {
    if drawn >> 63 == 0 { drawn } else { drawn % (32 * 8) }
}

impl<A: Application> World<'_, A> {
    /// The host of a kernel alone says whether its disk is full.
    pub(super) fn tell_space(&mut self, member: usize) -> Checked {
        match &self.hosts[member].body {
            MemberBody::KernelOnly(kernel_only) if kernel_only.running.is_some() => {
                let full = kernel_only.full;
                if full {
                    self.counters.mark(Mark::NoRoom);
                }
                self.tell(member, Event::DiskFull(full))
            }
            _ => Ok(()),
        }
    }

    /// A disk damages something. A member that is damaged beyond repair has lost its memory, so the others
    /// must be able to do without it.
    pub(super) fn spoil(&mut self, member: usize, damage: impl FnOnce(&mut Self, usize)) {
        if matches!(self.hosts[member].body, MemberBody::FullReplica(_)) && self.may_wipe(member) {
            damage(self, member);
        }
    }

    /// A full replica, and the stream by which its disk is damaged.
    fn full(&mut self, member: usize) -> Option<(&mut FullReplica<A::Machine>, &mut Stream)> {
        let Host { body, stream, .. } = &mut self.hosts[member];
        match body {
            MemberBody::FullReplica(full) => Some((full, stream)),
            MemberBody::KernelOnly(_) => None,
        }
    }

    /// Damages a place of a member's disk. Returns whether there was something to damage.
    fn damage(&mut self, member: usize, (file, range): Place, how: Rot) -> bool {
        self.full(member).is_some_and(|(full, _)| full.storage.rot(file, range, how).is_ok())
    }

    /// The pieces of a member's log, and how far each is written.
    fn written(&mut self, member: usize) -> Vec<(FileName, u64)> {
        let Some((FullReplica { storage, .. }, _)) = self.full(member) else { return Vec::new() };
        let files = storage.list().unwrap_or_default();
        let mut segments: Vec<_> =
            files.into_iter().filter(|(name, _)| matches!(name, FileName::Segment(_))).collect();
        segments.sort_unstable();
        for (name, length) in &mut segments {
            let mut bytes = vec![0; *length as usize];
            let _ = storage.read(*name, 0, &mut bytes);
            let last = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            *length = last.next_multiple_of(BLOCK);
        }
        segments
    }

    /// A place of the log, of so many bytes; what was written last is `spared`.
    fn place(&mut self, member: usize, align: u64, spared: u64) -> Option<(FileName, Range<u64>)> {
        let segments = self.written(member);
        let newest = segments.last()?.0;
        let places: Vec<_> = segments
            .into_iter()
            .map(|(name, end)| (name, if name == newest { end.saturating_sub(spared) } else { end }))
            .filter(|(_, end)| *end >= align)
            .collect();
        let stream = &mut self.hosts[member].stream;
        let total: u64 = places.iter().map(|(_, end)| end / align).sum();
        let mut chosen = if total > 0 { stream.below(total) } else { return None };
        for (name, end) in places {
            if chosen < end / align {
                return Some((name, chosen * align..(chosen + 1) * align));
            }
            chosen -= end / align;
        }
        None
    }

    /// Loses a write that was acknowledged: the first of the next segment, once that is marked; one that
    /// truncated entries; one of the last two where another write is evidence of it; or an earlier one. The
    /// loss of any other write leaves no evidence on the disk, and no implementation could detect it.
    pub(super) fn lose_write(&mut self, member: usize) {
        let place = match self.hosts[member].stream.below(3) {
            0 => self.taking_back(member),
            1 if self.hosts[member].stream.coin() => {
                if let Some((full, _)) = self.full(member) {
                    full.written.spoil_first(When::AtRest);
                }
                return;
            }
            1 => {
                let last = self.one_of_the_last(member, true);
                if last.is_some() {
                    self.may_lose_power_at_once(member);
                }
                last
            }
            _ => None,
        };
        if let Some(place) = place.or_else(|| self.place(member, BLOCK, 8 * BLOCK))
            && self.damage(member, place, Rot::Zero)
        {
            self.damaged(member, FaultKind::LostWrite);
        }
    }

    /// Half the time the power fails at once: each write that is still made tells more of what was lost.
    fn may_lose_power_at_once(&mut self, member: usize) {
        let mut stream = Stream::named(self.scenario.seed, "power after a lost write", self.now);
        if stream.coin() {
            let target = Target::Member(self.hosts[member].id);
            let for_us = stream.skewed(1, 50_000);
            self.strike(member, for_us, Fault::Crash { member: target, after_actions: 0 });
        }
    }

    /// A member was killed. Half the time power fails soon after it has started again: what it has read then
    /// was not on the disk.
    pub(super) fn may_lose_power_later(&mut self, member: usize) {
        let mut stream = Stream::named(self.scenario.seed, "power after a kill", self.now);
        let fails = self.stage.is_none() && stream.coin();
        if let MemberBody::FullReplica(full) = &mut self.hosts[member].body {
            full.power_fails_after = fails.then(|| stream.skewed(1, 64) as u32 - 1);
        }
    }

    /// It has started again.
    pub(super) fn lose_power_later(&mut self, member: usize) {
        if let Some(after_actions) = self.full(member).and_then(|(full, _)| full.power_fails_after.take()) {
            let stream = Stream::named(self.scenario.seed, "power after a start", self.now);
            self.lose_power(member, after_actions, stream);
        }
    }

    /// A start would find what the last one has not. Once in so many times power fails soon, after so many
    /// actions at most.
    pub(super) fn may_lose_power(&mut self, member: usize, once_in: u64, longest: u64) {
        let mut stream = Stream::named(self.scenario.seed, "power after a snapshot", self.now);
        if stream.below(once_in) == 0 {
            let after_actions = stream.skewed(1, longest) as u32 - 1;
            self.lose_power(member, after_actions, stream);
        }
    }

    fn lose_power(&mut self, member: usize, after_actions: u32, mut stream: Stream) {
        if self.stage.is_some() {
            return;
        }
        if let Some((full, _)) = self.full(member) {
            full.next_outage = Some(Outage::Power);
            let target = Target::Member(self.hosts[member].id);
            self.strike(member, stream.skewed(1, 200_000), Fault::Crash { member: target, after_actions });
        }
    }

    /// A crash has cut a write of this member short: the batch before it may be damaged, where disks are.
    pub(super) fn may_rot_before_a_cut_write(&mut self, member: usize) {
        let is_rot = |timed: &TimedFault| matches!(timed.fault, Fault::Rot { .. });
        if self.stage.is_some() || !self.scenario.faults.iter().any(is_rot) {
            return;
        }
        let is_cut = self.has_cut_write(member);
        let mut stream = Stream::named(self.scenario.seed, "rot before a cut write", self.now);
        if is_cut && stream.below(8) > 0 {
            let target = Target::Member(self.hosts[member].id);
            self.strike(member, 1, Fault::Rot { member: target, what: Rotten::Tail, how: Decay::Blank });
        }
    }

    /// The last batch, or the one before it, where something else tells of it. It may be lost `whole`.
    fn one_of_the_last(&mut self, member: usize, whole: bool) -> Option<Place> {
        match self.hosts[member].stream.coin() {
            true => self.the_last(member).or_else(|| self.one_before_the_last(member, whole)),
            false => self.one_before_the_last(member, whole).or_else(|| self.the_last(member)),
        }
    }

    fn the_last(&mut self, member: usize) -> Option<Place> {
        self.full(member)?.0.written.lose_last()
    }

    /// The batch before the last. Half the time the last one shows no more than that something was there: it
    /// turns to garbage; or, where the other is lost whole, all but its header turns to zeros, as where a
    /// write was cut short. The header says after which batch it goes on.
    fn one_before_the_last(&mut self, member: usize, whole: bool) -> Option<Place> {
        let (FullReplica { written, storage, .. }, stream) = self.full(member)?;
        let (before, (file, last)) = written.lose_before_last()?;
        if stream.coin() {
            let noise = stream.number();
            let (spared, how) =
                if noise % 2 == 0 || !whole { (0, Rot::Noise(noise)) } else { (SECTOR, Rot::Zero) };
            if storage.rot(file, last.start + spared..last.end, how).is_ok() {
                self.damaged(member, FaultKind::RotLog);
            }
        }
        Some(before)
    }

    /// Whether a loss of power has cut a write of a member short, and has left something of it.
    fn has_cut_write(&mut self, member: usize) -> bool {
        let Some((FullReplica { written, storage, .. }, _)) = self.full(member) else { return false };
        let Some((file, range)) = written.cut_short().cloned() else { return false };
        let mut left = vec![0; (range.end - range.start) as usize];
        storage.read(file, range.start, &mut left).is_ok() && left.iter().any(|byte| *byte != 0)
    }

    /// The batch before one whose write was cut short.
    fn one_before_a_cut_write(&mut self, member: usize) -> Option<Place> {
        let is_cut = self.has_cut_write(member);
        self.full(member).filter(|_| is_cut)?.0.written.lose_before_cut()
    }

    /// Now and then the whole batch before one whose write was cut short is lost, and of that no more is left
    /// than a beginning of its header, which tells of the batch before. Returns whether it was so.
    fn lose_before_a_torn_header(&mut self, member: usize) -> bool {
        let mut stream = Stream::named(self.scenario.seed, "before a torn header", self.now);
        if stream.below(3) > 0 || !self.has_cut_write(member) {
            return false;
        }
        let Some((FullReplica { written, storage, .. }, _)) = self.full(member) else { return false };
        let Some((file, cut)) = written.cut_before_the_sync().cloned() else { return false };
        let mut header = [0; HEADER_FIELDS as usize];
        let is_read = storage.read(file, cut.start, &mut header).is_ok();
        // The crash may have left less of it than these.
        let field = |at: usize| header[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let is_there =
            is_read && field(OWN_NUMBER).and_then(|own| own.checked_sub(1)) == field(NUMBER_BEFORE);
        let left = cut.start + stream.between(HEADER_FIELDS, SECTOR - 1);
        if !is_there || storage.rot(file, left..cut.end, Rot::Zero).is_err() {
            return false;
        }
        let Some(before) = written.lose_before_cut() else { return false };
        let is_lost = self.damage(member, before, Rot::Zero);
        if is_lost {
            // What the header tells of is not what was in the batch: two places are damaged.
            self.damaged(member, FaultKind::RotLog);
            self.damaged(member, FaultKind::LostWrite);
        }
        is_lost
    }

    /// A batch that took entries back; not one of the last.
    fn taking_back(&mut self, member: usize) -> Option<Place> {
        let written = self.written(member);
        let newest = written.last()?.0;
        let is_there = |(file, range): &&Place| {
            let spared = if *file == newest { 8 * BLOCK } else { 0 };
            written.iter().any(|(name, end)| name == file && range.end + spared <= *end)
        };
        let (full, stream) = self.full(member)?;
        let places: Vec<_> = full.written.taking_back().iter().filter(is_there).cloned().collect();
        (!places.is_empty()).then(|| stream.pick(&places).clone())
    }

    /// A write got to the place of another: anywhere, or to the right place of the wrong file.
    pub(super) fn misdirect_write(&mut self, member: usize) {
        let (Some((from, taken)), Some((mut to, mut hit))) =
            (self.place(member, BLOCK, 0), self.place(member, BLOCK, 0))
        else {
            return;
        };
        if self.hosts[member].stream.coin() {
            let reaches = |(name, end): &(FileName, u64)| *name != from && taken.end <= *end;
            let others: Vec<_> = self.written(member).into_iter().filter(reaches).collect();
            if !others.is_empty() {
                (to, hit) = (self.hosts[member].stream.pick(&others).0, taken.clone());
            }
        }
        let mut bytes = vec![0; BLOCK as usize];
        let Some((FullReplica { storage, written, .. }, _)) = self.full(member) else { return };
        // Blank ones are what a lost write leaves, which has its own rules.
        if (from, taken.start) != (to, hit.start)
            && storage.read(from, taken.start, &mut bytes).is_ok()
            && bytes.iter().any(|byte| *byte != 0)
            && storage.overwrite(to, hit.start, &bytes).is_ok()
        {
            written.is_hit(to, &hit);
            self.damaged(member, FaultKind::MisdirectedWrite);
        }
    }

    pub(super) fn rot(&mut self, member: usize, what: Rotten, how: Decay) {
        self.rot_once(member, what, how);
        // A snapshot and what it covers: half of the time both are damaged when the member starts.
        if what == Rotten::Snapshot && self.hosts[member].stream.coin() {
            self.rot_once(member, Rotten::Log, how);
        }
    }

    fn rot_once(&mut self, member: usize, what: Rotten, how: Decay) {
        if (what, how) == (Rotten::Tail, Decay::Blank) && self.lose_before_a_torn_header(member) {
            return;
        }
        let place = match what {
            Rotten::Log if how == Decay::Blank => self.place(member, SECTOR, 8 * BLOCK),
            Rotten::Log => self.inside_a_batch(member).or_else(|| self.place(member, SECTOR, 0)),
            Rotten::Tail if how == Decay::Blank => {
                let before = self.one_before_a_cut_write(member);
                let last = before.or_else(|| self.one_of_the_last(member, false));
                if last.is_none()
                    && let Some((FullReplica { written, .. }, stream)) = self.full(member)
                {
                    written.spoil_first(if stream.coin() { When::AtOnce } else { When::AtRest });
                }
                last.map(|batch| self.sector_of(member, batch))
            }
            Rotten::Tail => {
                let last = self.written(member).into_iter().rfind(|(_, end)| *end > BLOCK);
                last.map(|(name, end)| {
                    let sector = self.hosts[member].stream.below(8) + 1;
                    (name, end - sector * SECTOR..end - (sector - 1) * SECTOR)
                })
            }
            Rotten::Vote => {
                let places = [0, HALF, 2 * BLOCK, 2 * BLOCK + HALF];
                let copies = [Slot::A, Slot::B].into_iter().flat_map(|slot| places.map(|at| (slot, at)));
                self.vote_place(member, &copies.collect::<Vec<_>>())
            }
            Rotten::Snapshot => self.snapshot_place(member),
        };
        let Some((file, range)) = place else { return };
        // A sector that ends in zero looks like one that was cut short.
        let mut ending = Stream::named(self.scenario.seed, "garbage that ends in zero", self.now);
        let ends_in_zero = how == Decay::Garbage && ending.coin();
        let Some((full, stream)) = self.full(member) else { return };
        full.written.is_hit(file, &range);
        if how == Decay::Unreadable {
            if full.storage.make_unreadable(file, range).is_ok() {
                self.counters.fault(FaultKind::Rot);
                self.damaged(member, FaultKind::Unreadable);
                self.may_read_again_later(member);
            }
            return;
        }
        let decay = match how {
            Decay::Bit => Rot::FlipBit(in_the_fields(stream.number())),
            Decay::Blank => Rot::Zero,
            Decay::Garbage | Decay::Unreadable => Rot::Noise(stream.number()),
        };
        let last = range.end - 1..range.end;
        if full.storage.rot(file, range, decay).is_ok() {
            if ends_in_zero {
                let _ = full.storage.rot(file, last, Rot::Zero);
            }
            self.counters.fault(FaultKind::Rot);
            self.damaged(
                member,
                match what {
                    Rotten::Log | Rotten::Tail => FaultKind::RotLog,
                    Rotten::Vote => FaultKind::RotVote,
                    Rotten::Snapshot => FaultKind::RotSnapshot,
                },
            );
        }
    }

    /// What cannot be read can be read again after a while, half of the time. Half the time the power fails
    /// soon, so that the member starts without it.
    fn may_read_again_later(&mut self, member: usize) {
        let mut stream = Stream::named(self.scenario.seed, "reads again", self.now);
        if stream.coin() {
            let after_us = stream.between(1_000, 5_000_000);
            self.schedule(self.now + after_us * 1_000, Happening::ReadsAgain { member });
        }
        self.may_lose_power(member, 2, 64);
    }

    /// Returns whether there was something that it could not read.
    pub(super) fn reads_again(&mut self, member: usize) -> bool {
        let again = self.full(member).is_some_and(|(full, _)| full.storage.make_readable());
        if again {
            self.counters.mark(Mark::ReadsAgain);
            let id = self.hosts[member].id;
            self.trace_about(id, || format!("the disk of member {id} reads again what it could not read"));
        }
        again
    }

    /// Half of the time a sector of a long batch, where there is one: entries of the same batch stand before
    /// and behind it.
    fn inside_a_batch(&mut self, member: usize) -> Option<Place> {
        let (full, stream) = self.full(member)?;
        let long = full.written.long();
        let chosen = (!long.is_empty() && stream.coin()).then(|| stream.below(long.len() as u64) as usize)?;
        let batch = long[chosen].clone();
        Some(self.sector_of(member, batch))
    }

    fn sector_of(&mut self, member: usize, (file, range): Place) -> Place {
        let count = (range.end - range.start) / SECTOR;
        let sector = range.start / SECTOR + self.hosts[member].stream.below(count);
        (file, sector * SECTOR..(sector + 1) * SECTOR)
    }

    /// Where the first batch of a segment is to be damaged and has just become durable: it is, and power
    /// fails soon.
    pub(super) fn spoil_first_batch(&mut self, member: usize) {
        let wanted = self.full(member).is_some_and(|(full, _)| full.written.spoils_at_once());
        // Once the world heals, nothing is damaged any more.
        if !wanted || self.stage.is_some() || !self.may_wipe(member) {
            return;
        }
        let Some(batch) = self.full(member).and_then(|(full, _)| full.written.lose_first()) else { return };
        let sector = self.sector_of(member, batch);
        self.lose_and_fail(member, sector);
    }

    /// Where the first batch of a segment is to be damaged and its member is at rest: all of it is lost, and
    /// power fails soon.
    pub(super) fn spoil_marked_batch(&mut self, member: usize) {
        let wanted = self.full(member).is_some_and(|(full, _)| full.written.spoils_at_rest());
        if !wanted || self.stage.is_some() || !self.may_wipe(member) {
            return;
        }
        if let Some(batch) = self.full(member).and_then(|(full, _)| full.written.lose_first_at_rest()) {
            self.lose_and_fail(member, batch);
        }
    }

    fn lose_and_fail(&mut self, member: usize, place: Place) {
        if self.damage(member, place, Rot::Zero) {
            let host = &mut self.hosts[member];
            host.down += 1;
            host.crash_after = Some(host.stream.below(4) as u32);
            let pause = host.stream.between(1_000, 100_000) * 1_000;
            self.schedule(self.now + pause, Happening::LetUp { member });
            self.damaged(member, FaultKind::RotLog);
        }
    }

    /// One of the `copies` of the vote; now and then all but one are lost, and with them the last batch, of
    /// which that one tells. The one that is left has the latest ballot.
    fn vote_place(&mut self, member: usize, copies: &[(Slot, u64)]) -> Option<Place> {
        let (FullReplica { written, storage, .. }, stream) = self.full(member)?;
        let told = if stream.below(4) == 0 { written.lose_told() } else { None };
        if told.is_none() && !written.spoil_vote() {
            return None;
        }
        let tells = |slot: &Slot| {
            told.as_ref().is_none_or(|(_, told_by)| told_by.contains(slot)) && written.has_latest_vote(*slot)
        };
        let may_stay: Vec<_> = copies.iter().filter(|(slot, _)| tells(slot)).collect();
        let spared = **stream.pick(&may_stay);
        let others = copies.iter().filter(|copy| **copy != spared);
        let mut places: Vec<_> =
            others.map(|(slot, at)| (FileName::Vote(*slot), *at..*at + SECTOR)).collect();
        let place = places.remove(stream.below(places.len() as u64) as usize);
        if told.is_some() || stream.coin() {
            for (file, range) in places.into_iter().chain(told.map(|(place, _)| place)) {
                storage.rot(file, range, Rot::Zero).ok()?;
            }
        }
        Some(place)
    }

    fn snapshot_place(&mut self, member: usize) -> Option<(FileName, Range<u64>)> {
        let (full, stream) = self.full(member)?;
        let files = full.storage.list().unwrap_or_default();
        let mut snapshots: Vec<_> = files
            .into_iter()
            .filter(|(name, length)| matches!(name, FileName::Snapshot { .. }) && *length > 0)
            .collect();
        snapshots.sort_unstable();
        let (name, length) = if snapshots.is_empty() { return None } else { *stream.pick(&snapshots) };
        let at = stream.below(length);
        Some((name, at..(at + SECTOR).min(length)))
    }

    /// A disk has damaged what may have been acknowledged.
    fn damaged(&mut self, member: usize, kind: FaultKind) {
        self.counters.fault(kind);
        let at = self.stamp();
        let Host { body, id, life, .. } = &mut self.hosts[member];
        let MemberBody::FullReplica(full) = body else { return };
        full.spoiled = true;
        let times = match kind {
            FaultKind::MisdirectedWrite => 2,
            _ => 1,
        };
        let before = full.damaged.map_or(0, |damage| damage.times);
        full.damaged = Some(Damage { life: *life, times: before + times, at, by: kind });
        let id = *id;
        self.trace_about(id, || format!("the disk of member {id} is damaged: {}", kind.name()));
    }

    /// A member that has started since its disk was damaged knows all of the damage; once its log is whole
    /// again, on its disk too, nothing of it is left. Until then what it writes must not say so.
    pub(super) fn note_recovery(&mut self, member: usize, raft: &Raft) -> Checked {
        let Host { body: MemberBody::FullReplica(full), life, id, .. } = &mut self.hosts[member] else {
            return Ok(());
        };
        let log = raft.log();
        if !log.is_whole() && full.model.has_snapshot() && lacks_snapshot(log) {
            let what = format!(
                "member {id} lacks the snapshot on which its log rests, and has written that it is there"
            );
            return Err(Violated::new(durable_log::NAME, what));
        }
        let is_known = full.damaged.is_some_and(|damage| damage.life < *life);
        if is_known && log.is_whole() && full.model.is_whole() {
            full.damaged = None;
            self.counters.mark(Mark::Repaired);
            // What was filled again from others may come back beside it, and the member may find both.
            let mut stream = Stream::named(self.scenario.seed, "reads again beside its repair", self.now);
            if stream.coin() && self.reads_again(member) {
                self.may_lose_power(member, 2, 64);
            }
        }
        Ok(())
    }
}

/// Whether nothing of a log counts, since the snapshot on which it rests is lost.
fn lacks_snapshot(log: &Log) -> bool {
    let rests_on = log.snapshot().map_or(Index::ZERO, |snapshot| snapshot.last.index);
    rests_on > Index::ZERO && log.held() == Index::ZERO
}
