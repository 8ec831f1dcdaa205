//! One file: what reads show of it, and the way back from there to what is on the medium.

use crate::storage::content::Content;
use crate::stream::Stream;
use std::ops::Range;

/// A file. It shows every write at once, and remembers what each has covered, so that those which never
/// reached the medium can be taken back: no write and no crash copies more than what was written.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct File {
    /// What reads show.
    shown: Content,
    /// What the medium does not have, the oldest first.
    pending: Vec<Pending>,
    /// What cannot be read any more.
    unreadable: Vec<Range<usize>>,
}

/// A write that the medium does not have.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Pending {
    order: u64,
    at: usize,
    /// What was there before the write; while the file is rewound, what was written.
    other: Content,
    /// How long the file was before it.
    length_before: usize,
    state: WriteState,
}

/// What will become of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WriteState {
    /// The next sync makes it durable; until then a crash may.
    Waiting,
    /// The disk said that it was written. It never will be.
    Lost,
    /// A sync that covered it has failed: it will never be written.
    Dropped,
}

/// A write that waits for a sync.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) order: u64,
    pub(super) at: usize,
    pub(super) length: usize,
}

/// How much of a write a crash leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Landed {
    /// These bytes of it.
    pub(super) parts: Vec<Range<usize>>,
    /// Whether the file is as long as the whole write has made it.
    pub(super) grown: bool,
}

impl File {
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    pub(super) fn read(&self, at: u64, into: &mut [u8]) -> Result<usize, Range<usize>> {
        let at = usize::try_from(at).unwrap_or(usize::MAX).min(self.len());
        let length = into.len().min(self.len() - at);
        if let Some(bad) = self.unreadable.iter().find(|bad| bad.start < at + length && at < bad.end) {
            return Err(bad.clone());
        }
        self.shown.read(at, &mut into[..length]);
        Ok(length)
    }

    pub(super) fn write(&mut self, order: u64, at: usize, written: &[u8], state: WriteState) {
        let end = at + written.len();
        let length_before = self.len();
        let other = self.shown.copy(at, written.len());
        self.shown.write(at, written);
        self.pending.push(Pending { order, at, other, length_before, state });
        self.unreadable.retain(|bad| bad.start < at || end < bad.end);
    }

    /// Everything that waits is on the medium now.
    pub(super) fn sync(&mut self) {
        if self.pending.iter().all(|pending| pending.state == WriteState::Waiting) {
            return self.pending.clear();
        }
        let shown = self.shown.clone();
        self.rewind();
        let mut missing = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            let length = pending.other.len();
            match pending.state {
                WriteState::Waiting => self.shown.write(pending.at, pending.other.kept_mut(0..length)),
                // Its blocks are there, and its bytes are not.
                WriteState::Lost => self.shown.grow(pending.at + length),
                WriteState::Dropped => {}
            }
            if pending.state != WriteState::Waiting {
                missing.push(pending);
            }
        }
        let medium = std::mem::replace(&mut self.shown, shown);
        for pending in &mut missing {
            pending.other = medium.copy(pending.at, pending.other.len());
            pending.length_before = self.len();
        }
        // The oldest is taken back last, and with it whatever length the medium does not have.
        if let Some(oldest) = missing.first_mut() {
            oldest.length_before = medium.len();
        }
        self.pending = missing;
    }

    /// A sync has failed: what waited was dropped, though reads go on showing it.
    pub(super) fn drop_waiting(&mut self) {
        for pending in &mut self.pending {
            pending.state = WriteState::Dropped;
        }
    }

    /// What waits for a sync, the oldest first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = Waiting> {
        let waiting = self.pending.iter().filter(|pending| pending.state == WriteState::Waiting);
        waiting.map(|pending| Waiting { order: pending.order, at: pending.at, length: pending.other.len() })
    }

    /// Only the medium is left, and what of the writes that waited has landed on it.
    pub(super) fn crash(&mut self, mut landed: impl FnMut(u64) -> Landed) {
        self.rewind();
        for mut pending in std::mem::take(&mut self.pending) {
            if pending.state != WriteState::Waiting {
                continue;
            }
            let Landed { parts, grown } = landed(pending.order);
            for part in parts {
                self.shown.write(pending.at + part.start, pending.other.kept_mut(part));
            }
            if grown {
                self.shown.grow(pending.at + pending.other.len());
            }
        }
    }

    /// The medium changes by itself. Reads show it, but where a write that the medium does not have is in the
    /// way.
    pub(super) fn rot(&mut self, range: Range<usize>, mut change: impl FnMut(usize, u8) -> u8) {
        for position in range.start..range.end.min(self.len()) {
            let covers =
                |pending: &&mut Pending| (pending.at..pending.at + pending.other.len()).contains(&position);
            // The oldest write over this byte remembers the medium's.
            match self.pending.iter_mut().find(covers) {
                Some(pending) => pending.other.change(position - pending.at, |byte| change(position, byte)),
                None => self.shown.change(position, |byte| change(position, byte)),
            }
        }
    }

    pub(super) fn make_unreadable(&mut self, range: Range<usize>) {
        self.unreadable.push(range);
    }

    /// Returns whether something could not be read until now.
    pub(super) fn make_readable(&mut self) -> bool {
        !std::mem::take(&mut self.unreadable).is_empty()
    }

    /// Takes every pending write back, the youngest first: `shown` is what the medium has, and each write
    /// holds its own bytes.
    fn rewind(&mut self) {
        for pending in self.pending.iter_mut().rev() {
            self.shown.swap(pending.at, &mut pending.other);
            self.shown.truncate(pending.length_before);
        }
    }
}

impl Landed {
    pub(super) fn nothing() -> Self {
        Self { parts: Vec::new(), grown: false }
    }
}

/// The bytes of a write of `length` at `at` that a crash leaves: a prefix, or some of its sectors, one of
/// them torn.
pub(super) fn tear(chance: &mut Stream, at: u64, length: u64) -> Vec<Range<u64>> {
    if length == 0 {
        return Vec::new();
    }
    if chance.coin() {
        return std::iter::once(0..chance.below(length + 1)).collect();
    }
    let sectors = at / SECTOR..(at + length).div_ceil(SECTOR);
    let within = |sector: u64| {
        let start = (sector * SECTOR).max(at) - at;
        start..((sector + 1) * SECTOR).min(at + length) - at
    };
    let torn = chance.between(sectors.start, sectors.end - 1);
    let mut parts = Vec::new();
    for sector in sectors {
        let whole = within(sector);
        if sector == torn {
            parts.push(whole.start..chance.between(whole.start, whole.end));
        } else if chance.coin() {
            parts.push(whole);
        }
    }
    parts
}

/// What a disk writes whole, if it writes it at all; and even that is torn now and then.
pub(super) const SECTOR: u64 = 512;
