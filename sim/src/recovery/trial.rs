//! One case, tried out on the production code.

use super::disk::{Overlay, Platter};
use super::frame::{Frame, Place, Tier};
use super::history::{History, Moment, recover};
use super::oracle::{Answer, Broken, Case, Held, describe, survives};
use super::piece::Choice;
use kontiki_core::durable::Durable;
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::wal::{Operation, RecoverError, Recovery};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wrong {
    pub(super) broken: Broken,
    pub(super) expected: String,
    pub(super) answer: String,
}

/// How a case went, and how often recovery was asked.
pub(super) struct Outcome {
    pub(super) held: Result<Held, Wrong>,
    pub(super) recoveries: u64,
}

/// A disk on which one case after the other is tried.
pub(super) struct Bench<'a> {
    history: &'a History,
    at: usize,
    tier: Tier,
    frame: &'a Frame,
    disk: Platter,
    recoveries: u64,
}

impl<'a> Bench<'a> {
    pub(super) fn new(history: &'a History, at: usize, tier: Tier, frame: &'a Frame) -> Self {
        Self { history, at, tier, frame, disk: frame.base.clone(), recoveries: 0 }
    }

    /// Tries the case of this number.
    pub(super) fn case(&mut self, number: u64) -> Outcome {
        let chosen = self.frame.case(number);
        self.put(&chosen);
        let before = self.recoveries;
        let held = match catch_unwind(AssertUnwindSafe(|| self.attempt(&chosen))) {
            Ok(held) => held,
            Err(panic) => {
                let said = panic.downcast_ref::<String>().map(String::as_str);
                let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
                let expected = "an answer".to_owned();
                Err(Wrong { broken: Broken::Panic, expected, answer: format!("a panic: {said}") })
            }
        };
        self.take_back(&chosen);
        Outcome { held, recoveries: self.recoveries - before }
    }

    /// What recovery answers in the case of this number.
    pub(super) fn answer(&mut self, number: u64) -> Answer {
        let chosen = self.frame.case(number);
        self.put(&chosen);
        let answer = self.ask();
        self.take_back(&chosen);
        answer
    }

    /// Puts the case onto the disk.
    fn put(&mut self, chosen: &[(&Place, &Choice)]) {
        for (_, choice) in chosen {
            if let Some(names) = &choice.names {
                self.disk.names.clone_from(names);
            }
            for piece in &choice.pieces {
                let file = &mut self.disk.files[piece.file];
                file.shown[piece.at..piece.at + piece.bytes.len()].copy_from_slice(&piece.bytes);
                file.unreadable.extend(&piece.unreadable);
            }
        }
        for file in chosen.iter().filter_map(|(_, choice)| choice.empty) {
            self.disk.files[file].shown.clear();
        }
    }

    fn take_back(&mut self, chosen: &[(&Place, &Choice)]) {
        let base = &self.frame.base;
        self.disk.names.clone_from(&base.names);
        for file in chosen.iter().filter_map(|(_, choice)| choice.empty) {
            self.disk.files[file].shown.clone_from(&base.files[file].shown);
        }
        for piece in chosen.iter().flat_map(|(_, choice)| &choice.pieces) {
            let range = piece.at..piece.at + piece.bytes.len();
            let (file, was) = (&mut self.disk.files[piece.file], &base.files[piece.file]);
            file.shown[range.clone()].copy_from_slice(&was.shown[range]);
            file.unreadable.clear();
        }
    }

    fn moment(&self) -> &'a Moment {
        &self.history.moments[self.at]
    }

    fn ask(&mut self) -> Answer {
        self.recoveries += 1;
        recover(&mut self.disk)
    }

    fn attempt(&mut self, chosen: &[(&Place, &Choice)]) -> Result<Held, Wrong> {
        let damages = chosen.iter().map(|(_, choice)| choice.damages).sum();
        let answer = self.ask();
        let Self { history, at, frame, ref disk, .. } = *self;
        let judged = Case { history, at, frame, disk, damages }.judge(&answer);
        let held = judged.map_err(|(broken, expected)| Wrong { broken, expected, answer: said(&answer) })?;
        let Ok(recovery) = answer else { return Ok(held) };
        self.again(&recovery)?;
        self.read_again(&recovery)?;
        if self.tier == Tier::Twice {
            let mut power = self.disk.clone();
            power.keep_unsynced();
            self.cut(&power, &recovery, damages, "power fails, and fails again")?;
            // The process alone has ended: what was not synced is read, and is not durable.
            let is_untouched =
                chosen.iter().all(|(_, choice)| choice.damages == 0 && choice.pieces.is_empty());
            if is_untouched {
                let mut killed = self.moment().disk.clone();
                self.recoveries += 1;
                let answer = recover(&mut killed);
                let Ok(recovery) = answer else {
                    let expected = "a start, after the process was killed".to_owned();
                    return Err(Wrong { broken: Broken::FalseAlarm, expected, answer: said(&answer) });
                };
                self.cut(&killed, &recovery, 0, "the process is killed, and then power fails")?;
            }
        }
        Ok(held)
    }

    /// Carries out what recovery asks for, and recovers once more.
    pub(super) fn again(&mut self, recovery: &Recovery) -> Result<(), Wrong> {
        let mut overlay = Overlay::new(&mut self.disk);
        carry_out(&recovery.first, &mut overlay);
        let answer = recover(&mut overlay);
        self.recoveries += 1;
        same(&recovery.durable, &answer, "it was read, and all that recovery asks for was done")
    }

    /// The same, and what could not be read can be: all that was recovered is there once more, with what of
    /// the lost comes back.
    fn read_again(&mut self, recovery: &Recovery) -> Result<(), Wrong> {
        if self.disk.files.iter().all(|file| file.unreadable.is_empty()) {
            return Ok(());
        }
        let files = self.disk.files.iter_mut();
        let hidden: Vec<_> = files.map(|file| std::mem::take(&mut file.unreadable)).collect();
        let mut overlay = Overlay::new(&mut self.disk);
        carry_out(&recovery.first, &mut overlay);
        let answer = recover(&mut overlay);
        self.recoveries += 1;
        for (file, sectors) in self.disk.files.iter_mut().zip(hidden) {
            file.unreadable = sectors;
        }
        let when = "all that recovery asks for was done, and what could not be read can be";
        if answer.as_ref().is_ok_and(|second| self.is_back(&recovery.durable, &second.durable)) {
            return Ok(());
        }
        let expected = format!("{} once more, where {when}", describe(&recovery.durable));
        Err(Wrong { broken: Broken::SameAgain, expected, answer: said(&answer) })
    }

    /// Whether a log is the `first` one, but for entries that were lost there and are as they were written.
    fn is_back(&self, first: &Durable, second: &Durable) -> bool {
        let is_written = |entry: &Entry| {
            let then = self.history.moments[..=self.at].iter().flat_map(|then| &then.states);
            then.flat_map(|state| &state.entries).any(|written| written == entry)
        };
        let as_first = |(found, was): (&Entry, &Entry)| match was.body {
            EntryBody::Lost if found.id == was.id && is_written(found) => was.clone(),
            _ => found.clone(),
        };
        let entries = second.entries.iter().zip(&first.entries).map(as_first);
        let entries: Vec<_> =
            entries.chain(second.entries.iter().skip(first.entries.len()).cloned()).collect();
        Durable { entries, ..second.clone() } == *first
    }

    /// Power fails after each of the operations that recovery asks for.
    pub(super) fn cut(
        &mut self,
        disk: &Platter,
        recovery: &Recovery,
        damages: u64,
        how: &str,
    ) -> Result<(), Wrong> {
        type Failure = fn(&mut Platter);
        let failures: [(Failure, &str); 3] = [
            (Platter::lose_unsynced, "nothing"),
            (Platter::keep_unsynced, "all"),
            (Platter::halve_unsynced, "half"),
        ];
        let mut done = disk.clone();
        for (count, operation) in recovery.first.iter().enumerate() {
            operation.perform(&mut done).expect("this disk does not fail");
            for (fail, left) in failures {
                let mut disk = done.clone();
                fail(&mut disk);
                self.recoveries += 1;
                let answer = recover(&mut disk);
                let when = format!(
                    "{how} after operation {} of {} that recovery asks for, with {left} left of what is not synced",
                    count + 1,
                    recovery.first.len()
                );
                if count + 1 == recovery.first.len() {
                    same(&recovery.durable, &answer, &when)?;
                } else {
                    self.judge_cut(recovery, &answer, damages, &when)?;
                }
            }
        }
        Ok(())
    }

    /// Nothing that was acknowledged may be missing, nor anything that the first recovery has lost come back.
    fn judge_cut(&self, first: &Recovery, answer: &Answer, damages: u64, when: &str) -> Result<(), Wrong> {
        let states = &self.moment().states;
        let wrong = |broken| {
            let states: Vec<_> = states.iter().map(describe).collect();
            let expected = format!("{}, where {when}", states.join("; or "));
            Err(Wrong { broken, expected, answer: said(answer) })
        };
        match answer {
            Err(RecoverError::VoteLost | RecoverError::TooMuch(_)) if damages > 0 => wrong(Broken::SameAgain),
            Err(_) => wrong(Broken::FalseAlarm),
            Ok(second) => {
                let owed = survives(&second.durable, states, damages > 0);
                let as_first = survives(&second.durable, std::slice::from_ref(&first.durable), damages > 0);
                if !owed && !as_first {
                    return wrong(Broken::DurableLog);
                }
                if lost(&second.durable) > lost(&first.durable) { wrong(Broken::SameAgain) } else { Ok(()) }
            }
        }
    }
}

/// How many entries are lost.
fn lost(log: &Durable) -> usize {
    log.entries.iter().filter(|entry| entry.body == EntryBody::Lost).count()
}

fn carry_out(operations: &[Operation], disk: &mut Overlay<'_>) {
    for operation in operations {
        operation.perform(disk).expect("this disk does not fail");
    }
}

/// What was recovered once is recovered again.
fn same(first: &Durable, answer: &Answer, when: &str) -> Result<(), Wrong> {
    match answer {
        Ok(second) if second.durable == *first => Ok(()),
        _ => {
            let expected = format!("{} once more, where {when}", describe(first));
            Err(Wrong { broken: Broken::SameAgain, expected, answer: said(answer) })
        }
    }
}

/// An answer in words.
pub(super) fn said(answer: &Answer) -> String {
    match answer {
        Err(error) => format!("the member must not start: {error}"),
        Ok(recovery) => {
            let found = &recovery.found;
            format!(
                "{}; batches: {} read, {} damaged, {} unfinished",
                describe(&recovery.durable),
                found.batches,
                found.rotten_batches,
                found.torn
            )
        }
    }
}
