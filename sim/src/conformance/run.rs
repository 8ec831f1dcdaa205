//! One run of the workload over one store, cut off at every point that was asked for.

use super::bench::{Asked, Capture, TestDisk};
use super::fault::Fault;
use super::judge::{Promise, Verdict, describe};
use super::point::{Crash, Passed, Point, Rule, Violation, during};
use super::script::{SCRIPT, Step, Writer, snapshot_bytes};
use super::store::{LogStore, StoreError};
use crate::storage::{Plan, Rot, SimDisk};
use kontiki_core::action::Write;
use kontiki_core::durable::Durable;
use kontiki_core::types::WriteSeq;
use kontiki_core::wal::Disk as _;

/// Opens what is under test.
pub(super) trait Open<S>: Fn(TestDisk) -> Result<(S, Durable), StoreError> {}
impl<S, F: Fn(TestDisk) -> Result<(S, Durable), StoreError>> Open<S> for F {}

/// What is tried in one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// What goes wrong, and at which call.
    pub(super) fault: Option<(u64, Fault)>,
    /// Nothing but this point; everything that the run comes by, where it is none.
    pub(super) only: Option<Point>,
}

pub(super) struct Run<'a, S, O> {
    open: &'a O,
    trial: Trial,
    passed: &'a mut Passed,
    disk: TestDisk,
    store: Option<S>,
    writer: Writer,
    promise: Promise,
    step: String,
    /// Whether what went wrong was dealt with already.
    dealt_with: bool,
    /// How often it was opened.
    opened: u64,
}

/// How a run goes on.
enum Next {
    Go,
    /// What is on the disk is damaged, and the store knows it.
    Stop,
}

type Checked<T> = Result<T, Box<Violation>>;

impl<'a, S: LogStore, O: Open<S>> Run<'a, S, O> {
    pub(super) fn new(open: &'a O, trial: Trial, passed: &'a mut Passed) -> Self {
        let disk = match trial.fault {
            None => TestDisk::capturing(),
            Some((operation, fault)) => TestDisk::with_fault(operation, fault),
        };
        let nothing = Durable::default();
        let (writer, promise) = (Writer::after(&nothing), Promise::of(&nothing));
        let step = "the first start".to_owned();
        Self { open, trial, passed, disk, store: None, writer, promise, step, dealt_with: false, opened: 0 }
    }

    /// Goes through the whole workload. Says which calls to the disk that were.
    pub(super) fn run(mut self) -> Checked<Vec<Asked>> {
        self.begin()?;
        for step in SCRIPT {
            self.step = step.to_string();
            if matches!(self.step(*step)?, Next::Stop) {
                return Ok(self.disk.log());
            }
            if self.meets(Fault::Fails) {
                // A call has failed, and the store went on. So it must have lost nothing by it.
                self.dealt_with = true;
                self.check_now(&Crash::few())?;
            }
        }
        self.step = "the end".to_owned();
        if self.store.is_some() && !self.promise.written.is_empty() {
            let left = format!("{} writes are not acknowledged", self.promise.written.len());
            return Err(self.violation(Crash::Killed, Rule::Works, "all is acknowledged", &left));
        }
        // What a disk has lied about is held against the store whenever it has idled, and the workload ends
        // so.
        if !self.was_lied_to() {
            self.check_now(&Crash::few())?;
        }
        Ok(self.disk.log())
    }

    /// Whether a write was acknowledged that is not on the medium.
    fn was_lied_to(&self) -> bool {
        matches!(self.trial.fault, Some((_, Fault::Loses | Fault::Misdirects)))
            && self.disk.happened().is_some()
    }

    /// What an empty directory holds is for the store to say; from then on it owes that.
    fn begin(&mut self) -> Checked<()> {
        let (_, found) = match (self.open)(TestDisk::of(SimDisk::default())) {
            Ok(opened) => opened,
            Err(error) => {
                return Err(self.violation(
                    Crash::Killed,
                    Rule::Opens,
                    "an empty directory opens",
                    &error.to_string(),
                ));
            }
        };
        self.promise = Promise::of(&found);
        self.reopen()?;
        Ok(())
    }

    fn step(&mut self, step: Step) -> Checked<Next> {
        match step {
            Step::Sync => self.sync(),
            Step::Idle => {
                if let Next::Stop = self.call(LogStore::idle)? {
                    return Ok(Next::Stop);
                }
                self.after_idling()
            }
            Step::Kill | Step::PowerFailure(_) => {
                self.store = None;
                if let Step::PowerFailure(seed) = step {
                    self.disk.change(|disk| Crash::Chance(seed).apply(disk));
                }
                self.reopen()
            }
            step => match self.writer.write(step) {
                Some(write) => self.write(&write),
                None => Ok(Next::Go),
            },
        }
    }

    fn write(&mut self, write: &Write) -> Checked<Next> {
        let opened = self.opened;
        if let Some(rebase) = &write.rebase {
            let bytes = snapshot_bytes(&rebase.snapshot);
            if let Next::Stop = self.call(|store| store.snapshot(&rebase.snapshot, &bytes))? {
                return Ok(Next::Stop);
            }
        }
        if self.opened != opened {
            // It has failed and come back on the way, and knows nothing of this write.
            return Ok(Next::Go);
        }
        self.promise.written.push(write.clone());
        self.call(|store| store.write(write))
    }

    fn sync(&mut self) -> Checked<Next> {
        let mut acknowledged = WriteSeq::ZERO;
        let next = self.call(|store| {
            acknowledged = store.sync()?;
            Ok(())
        })?;
        self.acknowledge(acknowledged)?;
        Ok(next)
    }

    fn acknowledge(&mut self, seq: WriteSeq) -> Checked<()> {
        let verdict = self.promise.acknowledge(seq);
        self.checked(self.here(Crash::Killed), verdict)
    }

    /// Asks something of the store, cuts the run off at every call to the disk that this makes, and deals
    /// with errors.
    fn call(&mut self, mut ask: impl FnMut(&mut S) -> Result<(), StoreError>) -> Checked<Next> {
        let Some(store) = self.store.as_mut() else {
            return Ok(Next::Stop);
        };
        let mut result = ask(store);
        self.check_captures()?;
        if matches!(result, Err(StoreError::Full)) && self.meets(Fault::Full) {
            self.dealt_with = true;
            self.check_now(&Crash::few())?;
            self.disk.change(|disk| disk.set_space(None));
            for _ in 0..RETRIES {
                let Some(store) = self.store.as_mut() else { break };
                result = store.idle().and_then(|()| ask(store));
                if result.is_ok() {
                    break;
                }
            }
            if let Err(error) = &result {
                let found = format!("{error}, {RETRIES} times after there was space again");
                return Err(self.violation(Crash::Killed, Rule::OutlivesAFullDisk, "it goes on", &found));
            }
        }
        match result {
            Ok(()) => Ok(Next::Go),
            Err(error) => self.on_error(&error),
        }
    }

    fn on_error(&mut self, error: &StoreError) -> Checked<Next> {
        match self.trial.fault {
            Some((_, Fault::Fails)) if self.meets(Fault::Fails) => {
                self.dealt_with = true;
                // A retry of a sync that has failed succeeds, as on Linux ("fsyncgate").
                if let Some(Ok(seq)) = self.store.as_mut().map(LogStore::sync) {
                    self.acknowledge(seq)?;
                }
                self.check_now(&Crash::few())?;
                self.store = None;
                if self.trial.fault.is_some_and(|(at, _)| at % 2 == 1) {
                    self.disk.change(|disk| Crash::Power(Plan::KeepNone).apply(disk));
                }
                self.reopen()
            }
            Some((_, Fault::Full)) if self.meets(Fault::Full) => {
                let expected = "an error that says that the disk is full";
                Err(self.violation(Crash::Killed, Rule::OutlivesAFullDisk, expected, &error.to_string()))
            }
            // It has found out what the disk did.
            _ if self.was_lied_to() => Ok(Next::Stop),
            _ => Err(self.violation(Crash::Killed, Rule::Works, "no error", &error.to_string())),
        }
    }

    /// Whether this has gone wrong, and was not dealt with.
    fn meets(&self, fault: Fault) -> bool {
        let is = self.trial.fault.is_some_and(|(_, planned)| planned == fault);
        is && !self.dealt_with && self.disk.happened().is_some()
    }

    /// Opens what is on the disk, and holds the store to what it finds.
    fn reopen(&mut self) -> Checked<Next> {
        let mut opened = (self.open)(self.disk.clone());
        self.check_captures()?;
        if opened.is_err() && (self.meets(Fault::Fails) || self.meets(Fault::Full)) {
            let told = matches!(opened, Err(StoreError::Full));
            if self.meets(Fault::Full) && !told {
                let error = opened.err().map(|error| error.to_string()).unwrap_or_default();
                let expected = "an error that says that the disk is full";
                return Err(self.violation(Crash::Killed, Rule::OutlivesAFullDisk, expected, &error));
            }
            self.dealt_with = true;
            self.check_now(&Crash::few())?;
            self.disk.change(|disk| disk.set_space(None));
            opened = (self.open)(self.disk.clone());
        }
        match opened {
            Err(_) if self.was_lied_to() => Ok(Next::Stop),
            Err(error) => Err(self.violation(Crash::Killed, Rule::Opens, "it opens", &error.to_string())),
            // What the lie has taken was perhaps not yet covered by anything: there is nothing to hold the
            // store to.
            Ok((_, found)) if self.was_lied_to() && self.promise.judge(&found).is_err() => Ok(Next::Stop),
            Ok((store, found)) => {
                let verdict = self.promise.judge(&found);
                self.checked(self.here(Crash::Killed), verdict)?;
                self.writer = Writer::after(&found);
                self.promise = Promise::of(&found);
                self.opened += 1;
                self.store = Some(store);
                Ok(Next::Go)
            }
        }
    }

    /// Everything is acknowledged, and the store had time to make sure of it: from now on damage must be
    /// noticed.
    fn after_idling(&mut self) -> Checked<Next> {
        if !self.promise.written.is_empty() {
            return Ok(Next::Go);
        }
        if self.was_lied_to() {
            let mut disk = self.disk.state();
            let crash = Crash::Power(Plan::KeepNone);
            crash.apply(&mut disk);
            self.check_damaged(self.here(crash), disk)?;
        }
        if self.trial.fault.is_none() {
            let disk = self.disk.state();
            for crash in rots(&disk) {
                let point = self.here(crash);
                if self.wants(point) {
                    let mut disk = disk.clone();
                    crash.apply(&mut disk);
                    self.check_damaged(point, disk)?;
                }
            }
        }
        Ok(Next::Go)
    }

    /// Cuts the run off before each call to the disk that was just made.
    fn check_captures(&mut self) -> Checked<()> {
        for Capture { operation, asked, disk } in self.disk.take_captures() {
            let step = self.step.clone();
            self.step = during(&step, Some(asked));
            self.check(operation, &disk, &Crash::of(&disk))?;
            self.step = step;
        }
        Ok(())
    }

    fn check_now(&mut self, crashes: &[Crash]) -> Checked<()> {
        self.check(self.disk.calls(), &self.disk.state(), crashes)
    }

    fn check(&mut self, operation: u64, disk: &SimDisk, crashes: &[Crash]) -> Checked<()> {
        let mut seen: Vec<SimDisk> = Vec::new();
        for (number, crash) in crashes.iter().enumerate() {
            let point = Point { fault: self.trial.fault, before: operation, crash: *crash };
            if !self.wants(point) {
                continue;
            }
            let mut disk = disk.clone();
            disk.set_space(None);
            crash.apply(&mut disk);
            if self.trial.only.is_none() && seen.contains(&disk) {
                continue;
            }
            seen.push(disk.clone());
            self.check_crashed(point, disk, number % 2 == 1)?;
        }
        Ok(())
    }

    /// A store comes back with what it owes, and what it comes back with is there when power fails again: at
    /// once, or after it has gone on.
    fn check_crashed(&mut self, point: Point, disk: SimDisk, goes_on: bool) -> Checked<()> {
        self.passed.points += 1;
        let disk = TestDisk::of(disk);
        let (mut store, found) = self.open(point, &disk)?;
        let verdict = self.promise.judge(&found);
        self.checked(point, verdict)?;
        let mut promise = Promise::of(&found);
        if goes_on {
            let write = Writer::after(&found).write(Step::Append { entries: 1, bytes: 40 });
            let written = write.iter().try_for_each(|write| {
                promise.written.push(write.clone());
                store.write(write)
            });
            let verdict = match written.and_then(|()| store.sync()) {
                Ok(seq) => promise.acknowledge(seq),
                Err(error) => {
                    Err((Rule::Works, "it goes on after it has come back".to_owned(), error.to_string()))
                }
            };
            self.checked(point, verdict)?;
        }
        drop(store);
        disk.change(|disk| Crash::Power(Plan::KeepNone).apply(disk));
        let (_, again) = self.open(point, &disk)?;
        let verdict = promise.judge(&again).map_err(|(rule, expected, found)| {
            (if goes_on { rule } else { Rule::KeepsWhatWasFound }, expected, found)
        });
        self.checked(point, verdict)
    }

    /// What was acknowledged is damaged.
    fn check_damaged(&mut self, point: Point, disk: SimDisk) -> Checked<()> {
        self.passed.points += 1;
        self.passed.damaged += 1;
        let disk = TestDisk::of(disk);
        let Ok((mut store, found)) = (self.open)(disk.clone()) else {
            self.passed.refused += 1;
            return Ok(());
        };
        let verdict = self.promise.judge_damaged(&found);
        self.checked(point, verdict)?;
        let mut writer = Writer::after(&found);
        let repair = writer.repair(&self.promise.acknowledged);
        if repair.repaired.is_empty() && !found.snapshot_lost {
            return Ok(());
        }
        self.passed.reported += 1;
        if found.snapshot_lost || repair.repaired.is_empty() {
            return Ok(());
        }
        let verdict = match store.write(&repair).and_then(|()| store.sync()) {
            Ok(_) => {
                drop(store);
                disk.change(|disk| Crash::Power(Plan::KeepNone).apply(disk));
                let (_, again) = self.open(point, &disk)?;
                let whole = again.entries.iter().eq(self.promise.acknowledged.entries.iter());
                if whole {
                    Ok(())
                } else {
                    Err((Rule::Repairs, "every entry is whole".to_owned(), describe(&again)))
                }
            }
            Err(error) => Err((Rule::Repairs, "it takes what it has lost".to_owned(), error.to_string())),
        };
        self.checked(point, verdict)
    }

    fn open(&self, point: Point, disk: &TestDisk) -> Checked<(S, Durable)> {
        (self.open)(disk.clone()).map_err(|error| {
            self.violation_at(point, (Rule::Opens, "it opens".to_owned(), error.to_string()))
        })
    }

    /// Whether this point is to be tried.
    fn wants(&self, point: Point) -> bool {
        self.trial.only.is_none_or(|only| only == point)
    }

    fn here(&self, crash: Crash) -> Point {
        Point { fault: self.trial.fault, before: self.disk.calls(), crash }
    }

    fn checked(&self, point: Point, verdict: Verdict) -> Checked<()> {
        verdict.map_err(|broken| self.violation_at(point, broken))
    }

    fn violation(&self, crash: Crash, rule: Rule, expected: &str, found: &str) -> Box<Violation> {
        self.violation_at(self.here(crash), (rule, expected.to_owned(), found.to_owned()))
    }

    fn violation_at(&self, point: Point, (rule, expected, found): (Rule, String, String)) -> Box<Violation> {
        let mut step = self.step.clone();
        if let Some(asked) = self.disk.happened() {
            step = format!("{step}, after something went wrong with {asked}");
        }
        Box::new(Violation { rule, point, during: step, expected, found, replay: "store_at" })
    }
}

/// Every sector of every file, bad in one way or another.
fn rots(disk: &SimDisk) -> Vec<Crash> {
    let ways = [Some(Rot::FlipBit(77)), Some(Rot::Zero), Some(Rot::Noise(1)), None];
    let mut rots = Vec::new();
    let files = disk.clone().list().unwrap_or_default();
    for (file, length) in files {
        for sector in 0..length.div_ceil(512) {
            let how = ways[(sector % 4) as usize];
            rots.push(Crash::Rots { file, at: sector * 512, length: 512, how });
        }
    }
    rots
}

/// How often a store that was told of a full disk is asked again once there is space.
const RETRIES: usize = 3;
