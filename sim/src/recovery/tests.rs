//! What the enumeration says of itself.

use super::disk::{BLOCK, SECTOR, torn};
use super::frame::{Frame, Tier};
use super::history::{Act, Border, Shape, recover};
use super::oracle::{Broken, Case, Held, describe, is_cut_short, survives};
use super::plan::Plan;
use super::shapes::shapes;
use super::trial::Bench;
use kontiki_core::durable::Durable;
use kontiki_core::wal::RecoverError;
use std::collections::BTreeSet;

fn plain(acts: &[Act]) -> Shape {
    Shape { acts: acts.to_vec(), border: Border::None, marked: false }
}

#[test]
fn a_sample_of_each_tier_holds() {
    for tier in Tier::ALL {
        let plan = Plan::of(vec![plain(&[Act::Append, Act::Vote, Act::Overwrite])], &[tier]);
        let every = (plan.count() / 400).max(1);
        let tally = plan.run(0..plan.count(), every);
        assert_eq!(tally.failures, []);
        let (reported, refused) = (tally.count(Held::Reported) > 0, tally.count(Held::Refused) > 0);
        assert_eq!((reported, refused), (tier != Tier::Crash, tier != Tier::Crash), "{tier:?}: {tally:?}");
        let ended = tally.held.values().sum::<u64>();
        assert_eq!((ended, tally.cases), (tally.cases, plan.count().div_ceil(every)));
    }
}

#[test]
fn a_case_is_told_with_its_verdict_and_all_of_the_log() {
    let plan = Plan::of(vec![plain(&[Act::Append, Act::Vote, Act::Overwrite])], &[Tier::Crash]);
    let told = plan.explain(0).expect("there is a first case");
    assert!(told.holds && told.text.contains("\nheld: "), "{}", told.text);
    assert_eq!(plan.explain(plan.count()), None);
    let history = plain(&[Act::Append, Act::Append, Act::Append]).play();
    let mut log = history.moments[0].states[0].clone();
    let before = describe(&log);
    log.committed = log.committed.next();
    assert_ne!(describe(&log), before, "how far it is committed is told");
    let before = describe(&log);
    log.snapshot_lost = log.snapshot.is_some();
    assert_ne!(describe(&log), before, "the snapshot is told: {before}");
}

#[test]
fn parts_of_the_cases_are_together_the_whole() {
    let plan = Plan::of(vec![plain(&[Act::Append, Act::Empty, Act::Append])], &[Tier::Crash, Tier::Two]);
    let (all, every) = (plan.count(), plan.count() / 400);
    let whole = plan.run(0..all, every);
    let mut parts = plan.run(0..all / 3, every);
    parts.add(plan.run(all / 3..all, every));
    assert_eq!(parts, whole);
}

#[test]
fn every_case_of_a_moment_is_another_disk() {
    let history = plain(&[Act::Append, Act::Append, Act::VoteAndAppend]).play();
    let last = history.moments.len() - 1;
    let frame = Frame::new(&history, last, Tier::Two).expect("it is in the window");
    let one = (0..frame.count()).map(|number| frame.case(number)).take_while(|case| case.len() < 2);
    let mut seen = BTreeSet::new();
    for case in one {
        let pieces: Vec<_> = case
            .iter()
            .flat_map(|(_, choice)| &choice.pieces)
            .map(|piece| (piece.file, piece.at, piece.bytes.clone(), piece.unreadable.clone()))
            .collect();
        assert!(seen.insert(pieces), "twice the same");
    }
    assert!(seen.len() > 300, "{} ways to damage one block", seen.len());
}

#[test]
fn an_unsynced_batch_has_every_mix_of_its_sectors() {
    let history = plain(&[Act::Append, Act::Append, Act::Append]).play();
    let at =
        history.moments.iter().rposition(|moment| moment.words.starts_with("append: write log")).unwrap();
    let frame = Frame::new(&history, at, Tier::Crash).unwrap();
    assert_eq!(frame.count(), 3_u64.pow(8), "not written, as written and torn, for each of eight sectors");
    let mark =
        history.moments.iter().rposition(|moment| moment.words.starts_with("mark: write vote")).unwrap();
    let frame = Frame::new(&history, mark, Tier::Crash).unwrap();
    assert_eq!(frame.count(), 3_u64.pow(4), "only the first sector of each half differs from the one before");
}

#[test]
fn the_shapes_have_every_pair_of_acts_and_every_border() {
    let shapes = shapes();
    let pairs: BTreeSet<_> = shapes.iter().map(|shape| format!("{:?}", &shape.acts[1..])).collect();
    assert!(pairs.len() >= 36);
    let borders: BTreeSet<_> = shapes.iter().map(|shape| format!("{:?}", shape.border)).collect();
    assert_eq!(borders.len(), 6);
    for shape in shapes.iter().filter(|shape| matches!(shape.border, Border::Full(_))) {
        let history = shape.play();
        let segments = history.batches.iter().map(|batch| batch.file).collect::<BTreeSet<_>>();
        assert_eq!(segments.len(), 2, "{shape} begins one segment: {:?}", history.batches);
    }
}

/// What the oracle would say, had recovery answered this of a disk with these damaged blocks.
#[test]
fn the_oracle_notices_what_is_absent_and_what_is_refused() {
    let history = plain(&[Act::Append, Act::Append, Act::Append]).play();
    let at = history.moments.len() - 1;
    let frame = Frame::new(&history, at, Tier::Two).unwrap();
    let mut disk = frame.base.clone();
    let case = |damages| Case { history: &history, at, frame: &frame, disk: &frame.base, damages };
    let right = recover(&mut disk);
    assert!(case(0).judge(&right).is_ok());
    let mut short = right.clone().unwrap();
    short.durable.entries.pop();
    let broken = |damages, answer| case(damages).judge(&answer).unwrap_err().0;
    assert_eq!(broken(0, Ok(short.clone())), Broken::DurableLog);
    assert_eq!(broken(1, Ok(short)), Broken::DurableLog, "the copies of the vote tell of it");
    assert_eq!(broken(0, Err(RecoverError::VoteLost)), Broken::FalseAlarm);
    assert_eq!(broken(1, Err(RecoverError::VoteLost)), Broken::Restart);
    assert!(case(3).judge(&Err(RecoverError::VoteLost)).is_ok(), "two blocks may be too much");
    let states = &history.moments[at].states;
    let mut voted = right.unwrap().durable;
    assert!(survives(&voted, states, false));
    voted.ballot = Default::default();
    assert!(!survives(&voted, states, true), "the vote is forgotten");
}

#[test]
fn a_sector_is_cut_short_where_it_begins_as_the_new_one_and_ends_as_the_old() {
    let (old, new) = ([1_u8; SECTOR], [2_u8; SECTOR]);
    let after = |cut: usize| [&new[..cut], &old[cut..]].concat();
    for cut in [0, 1, SECTOR / 2, SECTOR - 1, SECTOR] {
        assert!(is_cut_short(&after(cut), &old, &new), "after {cut} bytes");
    }
    assert!(
        is_cut_short(&torn(&old, &new), &old, &new)
            && is_cut_short(&torn(&[0; SECTOR], &new), &[0; SECTOR], &new)
    );
    let mut flipped = after(SECTOR / 2);
    flipped[SECTOR - 2] ^= 4;
    assert!(!is_cut_short(&flipped, &old, &new));
    assert!(!is_cut_short(&[&old[..8], &new[8..]].concat(), &old, &new), "the end is not written first");
}

#[test]
fn a_batch_that_nothing_tells_of_may_be_absent_and_one_that_something_tells_of_may_not() {
    let history = plain(&[Act::Append, Act::Append, Act::Append]).play();
    let unmarked =
        history.moments.iter().rposition(|moment| moment.words.starts_with("append: sync")).unwrap();
    let judged = |at: usize| {
        let frame = Frame::new(&history, at, Tier::Two).unwrap();
        let batch = history.batches.last().unwrap();
        let bit = frame.blocks.iter().position(|block| *block == (batch.file, batch.blocks.start)).unwrap();
        let mut disk = frame.base.clone();
        disk.files[batch.file].shown[batch.blocks.start * BLOCK..][..8 * SECTOR].fill(0);
        let mut answer = recover(&mut frame.base.clone()).unwrap();
        answer.durable.entries.pop();
        let case = Case { history: &history, at, frame: &frame, disk: &disk, damages: 1 << bit };
        case.judge(&Ok(answer)).is_ok()
    };
    assert!(judged(unmarked), "the disk is as before the batch");
    assert!(!judged(history.moments.len() - 1), "the copies of the vote name it");
}

#[test]
fn a_log_that_begins_at_an_earlier_base_must_have_all_that_the_later_one_covers() {
    let history = plain(&[Act::Append, Act::Snapshot, Act::Snapshot]).play();
    let at = history.moments.len() - 1;
    let frame = Frame::new(&history, at, Tier::Two).unwrap();
    let right = recover(&mut frame.base.clone()).unwrap();
    let is_earlier = |state: &&Durable| state.base < right.durable.base && !state.entries.is_empty();
    let states = || history.moments.iter().rev().flat_map(|moment| &moment.states);
    let earlier = states().find(is_earlier).expect("the snapshot has moved the base").clone();
    let mut old = right.clone();
    let follow = right.durable.entries.iter().cloned();
    (old.durable.base, old.durable.snapshot) = (earlier.base, earlier.snapshot.clone());
    old.durable.entries = earlier.entries.iter().cloned().chain(follow).collect();
    old.durable.entries.dedup_by_key(|entry| entry.id);
    let case = |damages| Case { history: &history, at, frame: &frame, disk: &frame.base, damages };
    assert!(case(1).judge(&Ok(old.clone())).is_ok());
    let broken = |damages, answer| case(damages).judge(&Ok(answer)).unwrap_err().0;
    assert_eq!(broken(0, old.clone()), Broken::DurableLog, "no disk is damaged");
    old.durable.entries.pop();
    assert_eq!(broken(1, old), Broken::DurableLog, "an entry is absent");
}

/// What recovery has read it must read again.
#[test]
fn another_answer_for_the_same_disk_is_noticed() {
    let history = plain(&[Act::Append, Act::Append, Act::Append]).play();
    let frame = Frame::new(&history, history.moments.len() - 1, Tier::Two).unwrap();
    let mut bench = Bench::new(&history, history.moments.len() - 1, Tier::Two, &frame);
    let mut recovery = recover(&mut frame.base.clone()).unwrap();
    assert!(bench.again(&recovery).is_ok());
    assert!(bench.cut(&frame.base, &recovery, 0, "").is_ok());
    recovery.durable.entries.pop();
    assert_eq!(bench.again(&recovery).unwrap_err().broken, Broken::SameAgain);
}
