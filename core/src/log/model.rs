//! The log against the plainest one there could be: a vector, searched from end to end.

use super::*;
use alloc::vec;
use proptest::collection::vec as any_vec;
use proptest::prelude::*;

/// A log as a vector, and what the disk was told as another.
#[derive(Clone)]
struct Model {
    base: LogId,
    entries: Vec<Entry>,
    told: Vec<Entry>,
    /// How much of what the disk was told was not taken back since.
    written: u64,
    cut: bool,
    durable: u64,
    committed: u64,
    applying: u64,
}

/// Something done to a log; the numbers are taken as parts of whatever there is.
#[derive(Clone, Debug)]
enum Deed {
    Append {
        rise: u64,
        size: usize,
    },
    /// Takes over, after some entry, `same` of our own again and then `other` of a term this much later.
    Adopt {
        after: u64,
        same: u64,
        rise: u64,
        other: u64,
    },
    Commit(u64),
    TakeUnwritten,
    Durable(u64),
    TakeApplicable,
    Slice {
        after: u64,
        last: u64,
        max: u64,
    },
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        3 => (0..2_u64, 0..40_usize).prop_map(|(rise, size)| Deed::Append { rise, size }),
        5 => (any::<u64>(), 0..4_u64, 0..3_u64, 0..4_u64)
            .prop_map(|(after, same, rise, other)| Deed::Adopt { after, same, rise, other }),
        1 => any::<u64>().prop_map(Deed::Commit),
        3 => Just(Deed::TakeUnwritten),
        2 => any::<u64>().prop_map(Deed::Durable),
        1 => Just(Deed::TakeApplicable),
        2 => (any::<u64>(), any::<u64>(), 0..200_u64)
            .prop_map(|(after, last, max)| Deed::Slice { after, last, max }),
    ]
}

/// A log behind a snapshot of everything through `base`.
fn restored(base: LogId, entries: Vec<Entry>) -> Log {
    let membership = Membership::of([crate::types::NodeId::new(1).unwrap()]).unwrap();
    let snapshot = Some(Snapshot { last: base, configured: LogId::ZERO, membership: membership.into() });
    let skipped = Skipped::default();
    let (committed, applied) = (base.index, base.index);
    let stored =
        Stored { snapshot, snapshot_lost: false, base, skipped, entries, committed, applied, trimmed: false };
    Log::restore(stored, 100)
}

impl Model {
    fn new(base: LogId) -> Self {
        let start = base.index.get();
        Self {
            base,
            entries: vec![],
            told: vec![],
            written: start,
            cut: false,
            durable: start,
            committed: start,
            applying: start,
        }
    }

    fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// Any index from the base to the last.
    fn some_index(&self, number: u64) -> u64 {
        self.base.index.get() + number % (self.entries.len() as u64 + 1)
    }

    fn position(&self, index: u64) -> usize {
        (index - self.base.index.get()) as usize
    }

    fn id_at(&self, index: u64) -> LogId {
        let before = self.position(index).checked_sub(1);
        before.map_or(self.base, |position| self.entries[position].id)
    }

    fn last_at_most(&self, index: Index, term: Term) -> LogId {
        let fits = |entry: &&Entry| entry.id.index <= index && entry.id.term <= term;
        self.entries.iter().rev().find(fits).map_or(self.base, |entry| entry.id)
    }

    /// What a leader would send to this log: `None` where no leader could, for terms never fall.
    fn slice(&self, after: u64, same: u64, rise: u64, other: u64) -> LogSlice {
        let position = self.position(after);
        let mut entries: Vec<_> = self.entries[position..].iter().take(same as usize).cloned().collect();
        let mut id = entries.last().map_or(self.id_at(after), |entry| entry.id);
        for _ in 0..other {
            id = LogId::new(id.term.get() + rise, id.index.get() + 1);
            entries.push(Entry { id, body: EntryBody::Blank });
        }
        LogSlice::new(self.id_at(after), entries.into_iter().collect())
            .expect("indexes rise and terms do not fall")
    }

    fn adopt(&mut self, slice: &LogSlice) -> Result<Index, Contradiction> {
        for entry in slice.entries().iter() {
            let position = self.position(entry.id.index.get()) - 1;
            match self.entries.get(position).map(|own| own.id) {
                Some(own) if own == entry.id => continue,
                Some(own) if own.index.get() <= self.committed => {
                    return Err(Contradiction { ours: own, theirs: entry.id });
                }
                Some(own) => {
                    let before = own.index.get() - 1;
                    self.entries.truncate(position);
                    self.cut |= before < self.written;
                    self.written = self.written.min(before);
                    self.durable = self.durable.min(before);
                }
                None => {}
            }
            self.entries.push(entry.clone());
        }
        Ok(slice.last().index)
    }

    /// The longest run after `after` through `last` that fits, or one entry.
    fn run(&self, after: u64, last: u64, max: u64) -> &[Entry] {
        let rest = &self.entries[self.position(after)..self.position(last)];
        let fits = |count: &usize| rest[..*count].iter().map(Entry::size).sum::<u64>() <= max;
        let count = (0..=rest.len()).rev().find(fits).unwrap_or(0).max(1).min(rest.len());
        &rest[..count]
    }

    /// Does the same to both, and compares what they answer.
    fn compare(&mut self, log: &mut Log, deed: &Deed) {
        match *deed {
            Deed::Append { rise, size } => {
                let term = Term::new(self.last().term.get() + rise);
                let body = EntryBody::Data(crate::types::Payload::from(&vec![7; size][..]));
                let id = log.append(term, body.clone());
                assert_eq!(id, LogId { term, index: self.last().index.next() });
                self.entries.push(Entry { id, body });
            }
            Deed::Adopt { after, same, rise, other } => {
                let slice = self.slice(self.some_index(after), same, rise, other);
                let committed = log.committed();
                assert_eq!(log.adopt(&slice, committed), self.adopt(&slice));
            }
            Deed::Commit(number) => {
                let index = self.some_index(number);
                log.commit_to(Index::new(index));
                self.committed = self.committed.max(index);
            }
            Deed::TakeUnwritten => {
                assert_eq!(log.has_unwritten(), self.cut || self.written < self.last().index.get());
                let Unwritten { truncate_after, append, .. } = log.take_unwritten(WriteSeq::new(1));
                if let Some(after) = truncate_after {
                    self.told.truncate(self.position(after.get()));
                }
                self.told.extend(append.iter().cloned());
                assert_eq!(self.told, self.entries, "what the disk was told is the log");
                (self.cut, self.written) = (false, self.last().index.get());
            }
            Deed::Durable(number) => {
                let start = self.base.index.get();
                let index = start + number % (self.written - start + 1);
                log.durable_to(Index::new(index));
                self.durable = self.durable.max(index);
            }
            Deed::TakeApplicable => {
                let through = self.committed.min(self.durable);
                let expected = (through > self.applying).then_some(Applicable::Apply(Index::new(through)));
                assert_eq!(log.take_applicable(), expected);
                self.applying = self.applying.max(through);
                log.applied_to(Index::new(self.applying));
            }
            Deed::Slice { after, last, max } => {
                let after = self.some_index(after);
                // Mostly through the end.
                let last = if last % 2 == 0 { self.last().index.get() } else { self.some_index(last) };
                let last = last.max(after);
                let run = self.run(after, last, max);
                let (slice, size) = log.slice(self.id_at(after), Index::new(last), max);
                let sent = slice.entries();
                assert_eq!((slice.prev(), &sent[..]), (self.id_at(after), &run[..sent.len()]));
                assert_eq!(size, sent.iter().map(Entry::size).sum::<u64>());
                assert!(sent.len() == run.len() || size > max / 2, "{sent} where {max} bytes fit: {run:?}");
            }
        }
        self.look(log);
    }

    /// Everything that can be asked of a log, at every index and around it.
    fn look(&self, log: &Log) {
        log.check();
        let cursors = [log.durable(), log.committed(), log.applying()].map(Index::get);
        assert_eq!(cursors, [self.durable, self.committed, self.applying]);
        assert_eq!((log.base(), log.last()), (self.base.index, self.last()));
        let (first, last) = (self.base.index.get(), self.last().index.get());
        assert!(log.entries(log.base(), log.last().index).eq(&self.entries));
        for index in first.saturating_sub(1)..=last + 2 {
            let known = (first..=last).contains(&index).then(|| self.id_at(index));
            let index = Index::new(index);
            assert_eq!(log.term(index), known.map(|id| id.term));
            let entry = self.entries.iter().find(|entry| entry.id.index == index);
            assert_eq!(log.get(index), entry);
            for term in (0..=self.last().term.get() + 1).map(Term::new) {
                assert_eq!(log.contains(LogId { term, index }), known == Some(LogId { term, index }));
                assert_eq!(log.conflict_hint(LogId { term, index }), self.last_at_most(index, term));
                assert_eq!(log.last_shared(LogId { term, index }), self.last_at_most(index, term));
            }
        }
        let waiting = &self.entries[self.position(self.committed)..];
        assert_eq!(log.uncommitted_size(), waiting.iter().map(Entry::size).sum::<u64>());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    /// The draws are the same in every run, and a failure prints the smallest that fails.
    #[test]
    fn a_log_does_what_a_vector_would(
        base in prop_oneof![Just(LogId::ZERO), Just(LogId::new(2, 5))],
        deeds in any_vec(deed(), 0..40),
    ) {
        let mut log = restored(base, vec![]);
        let mut model = Model::new(base);
        for deed in &deeds {
            model.compare(&mut log, deed);
        }
    }

    /// Two logs whose entries of one term are the same, as Log Matching has it, agree after at most one round
    /// trip for each term of either; and where they then agree, nothing before differs.
    #[test]
    fn the_hints_of_any_two_logs_lead_to_where_they_agree(
        shared in any_vec(0..2_u64, 0..6),
        ours in any_vec(0..2_u64, 0..8),
        theirs in any_vec(0..2_u64, 0..8),
    ) {
        let grow = |rises: &[u64], terms: &mut Vec<u64>, first: u64, step: u64| {
            let mut term = first;
            for rise in rises {
                term += rise * step;
                terms.push(term);
            }
            term
        };
        let mut common = vec![];
        let top = grow(&shared, &mut common, 1, 1);
        let (mut leader, mut follower) = (common.clone(), common.clone());
        // Odd terms belong to one and even ones to the other, so that no term has two leaders.
        let base = top + 2 - top % 2;
        grow(&ours, &mut leader, base + 2, 2);
        grow(&theirs, &mut follower, base + 1, 2);
        let log = |terms: &[u64]| {
            let entry = |(&term, index)| Entry { id: LogId::new(term, index), body: EntryBody::Blank };
            let entries = terms.iter().zip(1..).map(entry).collect();
            restored(LogId::ZERO, entries)
        };
        let (leader, follower) = (log(&leader), log(&follower));
        let mut prev = leader.last();
        let mut trips = 0;
        while !follower.contains(prev) {
            let next = leader.last_shared(follower.conflict_hint(prev));
            prop_assert!(next.index < prev.index, "each trip leads back: {:?} after {:?}", next, prev);
            (prev, trips) = (next, trips + 1);
        }
        let terms = |rises: &[u64]| 1 + rises.iter().sum::<u64>();
        prop_assert!(trips <= terms(&ours) + 1, "{} round trips", trips);
        let agreed = (common.len() as u64).min(leader.last().index.get());
        let possible = prev.index.get() == agreed;
        prop_assert!(possible, "they agree through {}, and were led to {:?}", agreed, prev);
    }
}
