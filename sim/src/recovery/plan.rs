//! The numbers of the cases: each has one, and they go on from history to history.

use super::frame::{Frame, Tier};
use super::history::{History, Shape};
use super::oracle::{Broken, Held};
use super::shapes::shapes;
use super::trial::{Bench, Wrong, said};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;

/// All cases, in the order of their numbers.
#[derive(Clone, Debug)]
pub struct Plan {
    shapes: Vec<Shape>,
    /// Where the cases of each moment and tier begin.
    frames: Vec<Slot>,
    count: u64,
}

/// The cases of one tier at one moment of a history.
#[derive(Clone, Copy, Debug)]
struct Slot {
    shape: usize,
    at: usize,
    tier: Tier,
    first: u64,
    count: u64,
}

/// What became of some cases.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// How many were tried.
    pub cases: u64,
    /// How often recovery ran.
    pub recoveries: u64,
    /// How many ended well, by how.
    pub held: BTreeMap<Held, u64>,
    /// In how many a promise was broken, by the promise.
    pub failed: BTreeMap<Broken, u64>,
    /// The first of them.
    pub failures: Vec<Failure>,
}

/// A case that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Its number.
    pub case: u64,
    /// The promise.
    pub broken: Broken,
    /// What was expected.
    pub expected: String,
    /// What recovery has answered.
    pub answer: String,
}

/// A case, told in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// What was written, what the disk made of it, what recovery has answered, and how that was judged.
    pub text: String,
    /// Whether every promise was kept.
    pub holds: bool,
}

/// How many failures of a tally are kept.
const KEPT: usize = 20;

impl Tally {
    /// Adds what became of other cases.
    pub fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.recoveries += other.recoveries;
        for (held, count) in other.held {
            *self.held.entry(held).or_default() += count;
        }
        for (broken, count) in other.failed {
            *self.failed.entry(broken).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.failures.sort_by_key(|failure| failure.case);
        self.failures.truncate(KEPT);
    }

    /// How many cases ended well in this way.
    pub fn count(&self, held: Held) -> u64 {
        self.held.get(&held).copied().unwrap_or_default()
    }

    /// How many cases failed.
    pub fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    fn note(&mut self, case: u64, held: Result<Held, Wrong>) {
        match held {
            Ok(held) => *self.held.entry(held).or_default() += 1,
            Err(Wrong { broken, expected, answer }) => {
                *self.failed.entry(broken).or_default() += 1;
                if self.failures.len() < KEPT {
                    self.failures.push(Failure { case, broken, expected, answer });
                }
            }
        }
    }
}

impl Plan {
    /// All cases of these tiers.
    pub fn new(tiers: &[Tier]) -> Self {
        Self::of(shapes(), tiers)
    }

    pub(super) fn of(shapes: Vec<Shape>, tiers: &[Tier]) -> Self {
        let mut plan = Self { shapes, frames: Vec::new(), count: 0 };
        for number in 0..plan.shapes.len() {
            let history = plan.shapes[number].play();
            for at in 0..history.moments.len() {
                for tier in Tier::ALL.into_iter().filter(|tier| tiers.contains(tier)) {
                    let count = Frame::new(&history, at, tier).map_or(0, |frame| frame.count());
                    plan.frames.push(Slot { shape: number, at, tier, first: plan.count, count });
                    plan.count += count;
                }
            }
        }
        plan
    }

    /// How many cases there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many histories they are of.
    pub fn histories(&self) -> usize {
        self.shapes.len()
    }

    /// How many cases of each tier there are.
    pub fn by_tier(&self) -> Vec<(Tier, u64)> {
        let count = |tier| self.frames.iter().filter(|slot| slot.tier == tier).map(|slot| slot.count).sum();
        Tier::ALL.into_iter().map(|tier| (tier, count(tier))).filter(|(_, count)| *count > 0).collect()
    }

    /// Tries the cases of a range whose numbers are multiples of `every`.
    pub fn run(&self, cases: Range<u64>, every: u64) -> Tally {
        let mut tally = Tally::default();
        let end = cases.end.min(self.count);
        let begin = self.frames.partition_point(|slot| slot.first + slot.count <= cases.start);
        let mut played: Option<(usize, History)> = None;
        for slot in self.frames[begin..].iter().take_while(|slot| slot.first < end) {
            let from = slot.first.max(cases.start).next_multiple_of(every);
            let to = end.min(slot.first + slot.count);
            if from >= to {
                continue;
            }
            if played.as_ref().is_none_or(|(shape, _)| *shape != slot.shape) {
                played = Some((slot.shape, self.shapes[slot.shape].play()));
            }
            let Some((_, history)) = &played else { continue };
            let Some(frame) = Frame::new(history, slot.at, slot.tier) else { continue };
            let mut bench = Bench::new(history, slot.at, slot.tier, &frame);
            for case in (from..to).step_by(usize::try_from(every).unwrap_or(usize::MAX)) {
                let outcome = bench.case(case - slot.first);
                tally.cases += 1;
                tally.recoveries += outcome.recoveries;
                tally.note(case, outcome.held);
            }
        }
        tally
    }

    /// Tells a case in words: what was written, what was synced, what the disk made of it, what recovery has
    /// answered, and what was expected. None where there is no such case.
    pub fn explain(&self, case: u64) -> Option<Explanation> {
        let at = self.frames.partition_point(|slot| slot.first + slot.count <= case);
        let slot = self.frames.get(at)?;
        let shape = &self.shapes[slot.shape];
        let history = shape.play();
        let frame = Frame::new(&history, slot.at, slot.tier)?;
        let mut text = format!("case {case}, tier {}, history: {shape}\n\nwritten:\n", slot.tier.name());
        for moment in &history.moments[..=slot.at] {
            let _ = writeln!(text, "  {}", moment.words);
        }
        let _ = writeln!(text, "\nthen power fails, and the disk has made of this:");
        let chosen = frame.case(case - slot.first);
        let changed: Vec<_> = chosen.iter().filter(|(_, choice)| !choice.words.is_empty()).collect();
        if changed.is_empty() {
            text += "  nothing is left of what was not synced, and nothing is damaged\n";
        }
        for (place, choice) in changed {
            let _ = writeln!(text, "  {}: {}", place.words, choice.words);
        }
        let mut bench = Bench::new(&history, slot.at, slot.tier, &frame);
        let held = bench.case(case - slot.first).held;
        let holds = held.is_ok();
        match held {
            Ok(held) => {
                let _ = writeln!(text, "\nrecovery answers:\n  {}", said(&bench.answer(case - slot.first)));
                let _ = writeln!(text, "\nheld: {}", held.words());
            }
            Err(Wrong { broken, expected, answer }) => {
                let _ = writeln!(text, "\nFAILED  {}", broken.name());
                let _ = writeln!(text, "  expected: {expected}\n  answered: {answer}");
            }
        }
        Some(Explanation { text, holds })
    }
}
