//! The log, read for clients: what is in memory at once, what is on the disk by a job, one at a time.

use crate::log::{Entries, Entry, Log};
use crate::replica::answer::{Answer, ReplicaRefusal};
use crate::replica::common::ReplicaCommon;
use crate::replica::io::{Lane, Output};
use crate::replica::jobs::Job;
use crate::replica::page::{LogPage, LogRange};
use crate::types::{Index, RequestId};
use crate::wal::Extent;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Requests for pages, in the order in which they came.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Reading {
    waiting: VecDeque<Wanted>,
    /// Whether the first of them waits for the disk.
    from_disk: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Wanted {
    request: RequestId,
    range: LogRange,
    max_bytes: u64,
}

/// Where a page is to be had.
enum Page {
    Here(LogPage),
    OnDisk { after: Index, through: Index, extent: Extent },
}

impl Reading {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn take_waiting(&mut self) -> impl Iterator<Item = RequestId> {
        core::mem::take(&mut self.waiting).into_iter().map(|wanted| wanted.request)
    }

    pub(super) fn ask(
        &mut self,
        common: &ReplicaCommon,
        request: RequestId,
        range: LogRange,
        max_bytes: u64,
    ) {
        let max_bytes = max_bytes.min(common.options.max_page_bytes);
        self.waiting.push_back(Wanted { request, range, max_bytes });
    }

    /// Answers whatever asks for entries, up to the first request that waits for the disk.
    pub(super) fn read_log(&mut self, common: &mut ReplicaCommon, out: &mut Vec<Output>) {
        while !self.from_disk
            && let Some(wanted) = self.waiting.front()
        {
            match find_page(common, wanted) {
                Ok(Page::Here(page)) => self.answer(Answer::Entries(page), out),
                Ok(Page::OnDisk { after, through, extent }) => {
                    self.from_disk = true;
                    let read = extent.read();
                    let job = Job::Page { after, through, extent };
                    common.jobs.start(job, Lane::Bulk, alloc::vec![read], out);
                }
                Err(refusal) => self.answer(Answer::Refused(refusal), out),
            }
        }
    }

    /// What a page consists of has been read.
    pub(super) fn on_page_read(
        &mut self,
        common: &ReplicaCommon,
        (after, through, extent): (Index, Index, &Extent),
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        self.from_disk = false;
        let log = common.raft.log();
        let answer = match common.wal.entries(extent, bytes).map(|entries| still_in(log, entries)) {
            // They have been written elsewhere meanwhile, or have left the log: it is looked for anew.
            Ok(entries) if entries.is_empty() => return,
            Ok(entries) => {
                let through = through.min(log.last().index);
                Answer::Entries(LogPage { after, through, entries, committed: log.committed() })
            }
            Err(damage) => {
                Answer::Refused(ReplicaRefusal::Unreadable { index: after.next(), damage: Some(damage) })
            }
        };
        self.answer(answer, out);
    }

    /// Answers the first request for entries. None waits for a page any more where the member ends.
    fn answer(&mut self, answer: Answer, out: &mut Vec<Output>) {
        if let Some(Wanted { request, .. }) = self.waiting.pop_front() {
            out.push(Output::Answer { request, answer });
        }
    }
}

fn find_page(
    common: &ReplicaCommon,
    &Wanted { range, max_bytes, .. }: &Wanted,
) -> Result<Page, ReplicaRefusal> {
    let log = common.raft.log();
    let (after, through) = bounds(range, log)?;
    let page_end = plus(after, common.options.max_page_entries).min(through);
    if after >= log.evicted() || after >= page_end {
        let entries = log.fitting(after, page_end, max_bytes);
        return Ok(Page::Here(LogPage { after, through, entries, committed: log.committed() }));
    }
    let extent = common.wal.locate(after, page_end, max_bytes);
    let extent = extent.ok_or(ReplicaRefusal::Unreadable { index: after.next(), damage: None })?;
    Ok(Page::OnDisk { after, through, extent })
}

/// The first of these entries, up to one that has left the log since. The disk holds it until the write is
/// done that takes it out. The log still knows of the last that has left, which is its base.
fn still_in(log: &Log, entries: Entries) -> Entries {
    let is_gone = |entry: &Entry| entry.id.index <= log.base() || !log.contains(entry.id);
    match entries.iter().position(is_gone) {
        Some(gone) => entries.iter().take(gone).cloned().collect(),
        None => entries,
    }
}

/// After which index a range begins in this log, and through which it goes.
fn bounds(range: LogRange, log: &Log) -> Result<(Index, Index), ReplicaRefusal> {
    let (base, last) = (log.base(), log.last().index);
    let (after, through) = match range {
        LogRange::First(count) => (base, plus(base, count)),
        LogRange::Last(count) => (Index::new(last.get().saturating_sub(count)).max(base), last),
        LogRange::Between(after, through) => (after, through),
    };
    if after < base {
        return Err(ReplicaRefusal::Compacted { first: base.next() });
    }
    Ok((after, through.min(last).max(after)))
}

fn plus(index: Index, count: u64) -> Index {
    Index::new(index.get().saturating_add(count).min(Index::MAX.get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Options};
    use crate::durable::Durable;
    use crate::log::{EntryBody, Snapshot};
    use crate::membership::Membership;
    use crate::raft::Raft;
    use crate::time::Instant;
    use crate::types::{Ballot, ClusterId, Identity, LogId, NodeId, Term};
    use alloc::sync::Arc;

    fn entries(terms: &[u64]) -> Entries {
        let entry = |(&term, index)| Entry { id: LogId::new(term, index), body: EntryBody::Blank };
        terms.iter().zip(1..).map(entry).collect()
    }

    /// A follower replaces entries while the disk still holds the former ones.
    #[test]
    fn a_page_ends_before_an_entry_that_has_left_the_log() {
        let id = NodeId::new(1).unwrap();
        let config = Config::new(Identity::new(ClusterId(7), id), Options::default()).unwrap();
        let ballot = Ballot::new(Term::new(2), None);
        let durable = Durable { ballot, entries: entries(&[1, 1, 2]).to_vec(), ..Durable::default() };
        let raft = Raft::restore(config, durable, Instant::ZERO).unwrap();
        let log = raft.log();
        assert_eq!(still_in(log, entries(&[1, 1])), entries(&[1, 1]));
        assert_eq!(still_in(log, entries(&[1, 1, 1, 1])), entries(&[1, 1]), "another entry, and none");
        assert_eq!(still_in(log, entries(&[2])), Entries::EMPTY);
    }

    /// A log is compacted while a page of it is read.
    #[test]
    fn what_the_log_rests_on_has_left_it() {
        let id = NodeId::new(1).unwrap();
        let config = Config::new(Identity::new(ClusterId(7), id), Options::default()).unwrap();
        let (base, all) = (LogId::new(1, 2), entries(&[1, 1, 1]));
        let membership = Arc::new(Membership::of([id]).unwrap());
        let durable = Durable {
            ballot: Ballot::new(Term::new(1), None),
            snapshot: Some(Snapshot { last: base, configured: LogId::ZERO, membership }),
            base,
            entries: all[2..].to_vec(),
            committed: base.index,
            ..Durable::default()
        };
        let raft = Raft::restore(config, durable, Instant::ZERO).unwrap();
        assert_eq!(still_in(raft.log(), all[1..].iter().cloned().collect()), Entries::EMPTY);
        assert_eq!(still_in(raft.log(), all[2..].iter().cloned().collect()).len(), 1);
    }
}
