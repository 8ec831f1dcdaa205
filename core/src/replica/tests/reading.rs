//! Reading in a member's log.

use crate::action;
use crate::config;
use crate::log::{Entry, EntryBody};
use crate::replica::tests::group::{Group, small};
use crate::replica::{Answer, Ask, Halt, Input, Lane, LogPage, LogRange, ReplicaOptions, ReplicaRefusal};
use crate::types::Index;
use crate::wal::{Damage, FileName};
use alloc::vec::Vec;

/// A member that has most of its log on the disk alone.
fn group(options: &ReplicaOptions) -> Group {
    let config = config::Options { max_cached_bytes: 256, retained_entries: 4, ..Default::default() };
    let mut group = Group::with(1, &config, options);
    let leader = group.elect();
    group.fill(leader, 0..40, 20);
    assert!(group.replica(1).raft().log().evicted() >= Index::new(30), "most has left memory");
    group
}

fn ask(range: LogRange) -> Ask {
    Ask::Entries { range, max_bytes: 1 << 20 }
}

fn read(group: &mut Group, range: LogRange) -> LogPage {
    match group.asked(1, ask(range)) {
        Answer::Entries(page) => page,
        other => panic!("{range:?}: {other}"),
    }
}

fn indexes(page: &LogPage) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.id.index.get()).collect()
}

#[test]
fn entries_are_read_from_memory_and_from_the_disk() {
    let mut group = group(&small());
    let last = group.replica(1).status().last.index;
    let (mut range, mut all) = (LogRange::Between(Index::ZERO, Index::MAX), Vec::new());
    loop {
        let page = read(&mut group, range);
        assert_eq!(page.through, last);
        all.extend(indexes(&page));
        let Some(rest) = page.rest() else { break };
        range = rest;
    }
    assert_eq!(all, (1..=last.get()).collect::<Vec<_>>());
    assert_eq!(indexes(&read(&mut group, LogRange::First(3))), [1, 2, 3]);
    assert_eq!(indexes(&read(&mut group, LogRange::Last(2))), [last.get() - 1, last.get()]);
    let page = read(&mut group, LogRange::Between(Index::new(4), Index::new(5)));
    let [Entry { body: EntryBody::Data(_), .. }] = &page.entries[..] else { panic!("{page:?}") };
}

#[test]
fn a_page_is_empty_only_at_the_end_of_the_log_and_where_nothing_was_asked_for() {
    let mut group = group(&small());
    let last = group.replica(1).status().last.index;
    for (after, through) in
        [(last, Index::MAX), (last + 5, Index::MAX), (Index::new(3), Index::new(3)), (last, Index::ZERO)]
    {
        let page = read(&mut group, LogRange::Between(after, through));
        assert_eq!((page.entries.len(), page.after, page.through), (0, after, after));
        assert_eq!(page.rest(), None);
    }
}

#[test]
fn a_page_has_no_more_entries_and_bytes_than_the_options_allow() {
    let options = ReplicaOptions { max_page_entries: 3, max_page_bytes: 200, ..small() };
    let mut group = group(&options);
    let last = group.replica(1).status().last.index;
    for range in [LogRange::First(10), LogRange::Last(10), LogRange::Between(Index::new(9), last)] {
        let page = read(&mut group, range);
        let bytes: u64 = page.entries.iter().map(Entry::size).sum();
        assert!((1..=3).contains(&page.entries.len()) && bytes <= 200, "{page:?}");
        assert!(page.rest().is_some());
    }
    let page = group.asked(1, Ask::Entries { range: LogRange::First(10), max_bytes: 0 });
    let Answer::Entries(page) = page else { panic!("{page}") };
    assert_eq!(indexes(&page), [1], "one at least");
}

#[test]
fn what_is_compacted_is_refused_with_the_first_entry_that_is_there() {
    let mut group = group(&small());
    assert!(matches!(group.asked(1, Ask::Snapshot), Answer::Snapshot(_)));
    group.run(200);
    let first = group.replica(1).raft().log().base().next();
    assert!(first > Index::new(30), "the log begins with {first}");
    let compacted = Answer::Refused(ReplicaRefusal::Compacted { first });
    assert_eq!(group.asked(1, ask(LogRange::Between(Index::ZERO, Index::MAX))), compacted);
    assert_eq!(read(&mut group, LogRange::First(1)).entries[0].id.index, first);
    assert_eq!(read(&mut group, LogRange::Last(1_000)).entries[0].id.index, first);
}

#[test]
fn what_the_disk_has_damaged_is_refused_and_the_member_goes_on() {
    let mut group = group(&small());
    let mut damaged = Vec::new();
    for (file, bytes) in &mut group.host(1).disk.files {
        if matches!(file, FileName::Segment(_)) {
            bytes.fill(0xee);
            damaged.push(*file);
        }
    }
    let answer = group.asked(1, ask(LogRange::Between(Index::new(4), Index::new(9))));
    let Answer::Refused(refusal) = answer else { panic!("{answer}") };
    let ReplicaRefusal::Unreadable { index, damage: Some(Damage(file)) } = &refusal else {
        panic!("{refusal}")
    };
    assert!(*index == Index::new(5) && damaged.contains(file));
    assert!(refusal.is_retryable(), "another member has it");
    assert_eq!(group.host(1).halted, None);
    assert!(matches!(group.put(1, "x", "1"), Answer::Applied { .. }));
}

#[test]
fn pages_are_read_from_the_disk_one_at_a_time_and_each_request_is_answered_once() {
    let mut group = group(&small());
    group.host(1).lane_stands = Some(Lane::Bulk);
    let asked: Vec<_> = (0..5).map(|_| group.ask(1, ask(LogRange::First(2)))).collect();
    group.settle();
    assert_eq!(group.replica(1).waiting(), 5);
    assert_eq!(group.jobs(1, Lane::Bulk), 1);
    group.host(1).lane_stands = None;
    group.run(10);
    for request in asked {
        let Some(Answer::Entries(page)) = group.answer(1, request) else { panic!("not answered") };
        assert_eq!(indexes(&page), [1, 2]);
    }
    assert_eq!(group.replica(1).waiting(), 0);
}

#[test]
fn a_member_that_stops_refuses_what_waits_for_the_disk() {
    let mut group = group(&small());
    group.host(1).lane_stands = Some(Lane::Bulk);
    let asked: Vec<_> = (0..2).map(|_| group.ask(1, ask(LogRange::First(2)))).collect();
    group.settle();
    group.input(1, Input::Shutdown);
    group.settle();
    let stopped = Answer::Refused(ReplicaRefusal::Raft(action::Refusal::Stopped));
    for request in asked {
        assert_eq!(group.answer(1, request), Some(stopped.clone()));
    }
    group.host(1).lane_stands = None;
    group.run(200);
    assert_eq!(group.host(1).halted, Some(Halt::Stopped));
}
