//! `kontiki-sim explore`: every state of a small group.

use super::pool::{self, processor_time};
use super::stop::Stop;
use super::{Format, note, print, time};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kontiki_sim::explore::{
    self, Batch, Bounds, Counterexample, Expanded, Exploration, Reductions, Schedule,
};
use serde_json::json;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufReader, BufWriter, IsTerminal as _};
use std::num::NonZeroU32;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
pub(crate) struct Explore {
    #[command(flatten)]
    limits: Limits,
    /// Look at all states that are equal but for the names of members, not at one of them
    #[arg(long)]
    no_symmetry: bool,
    /// Write how far the search is to this file, now and then and where it stops, for --resume
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// How often
    #[arg(long, default_value = "10m", value_parser = time::long)]
    every: Duration,
    /// Go on from this file, within its bounds, and keep it up to date
    #[arg(long, conflicts_with = "no_symmetry")]
    resume: Option<PathBuf>,
    /// Stop after so long: 30m, 8h
    #[arg(long, value_parser = time::long)]
    budget: Option<Duration>,
    /// Stop after so many states
    #[arg(long, default_value_t = 50_000_000, value_parser = clap::value_parser!(u64).range(1..=2_000_000_000))]
    max_states: u64,
    /// How many threads to use; all cores by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// How to report
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Write the way to a violation to this file, which --replay reads
    #[arg(long, default_value = "counterexample.json")]
    counterexample: PathBuf,
    /// Go the way in this file again, and tell every step
    #[arg(long, conflicts_with_all = ["budget", "max_states", "jobs", "no_symmetry", "checkpoint", "resume"])]
    replay: Option<PathBuf>,
    /// With --replay: write the way to this file as a script for tests/data
    #[arg(long, requires = "replay")]
    script: Option<PathBuf>,
}

/// How much may happen.
#[derive(Args, Clone, Copy, Debug)]
struct Limits {
    /// How many members there are
    #[arg(long, default_value_t = 3)]
    members: u8,
    /// With how many voters the group begins: the first members; all but the learners by default
    #[arg(long)]
    voters: Option<u8>,
    /// With how many learners it begins: those after the voters
    #[arg(long, default_value_t = 0)]
    learners: u8,
    /// The last of the voters is a witness
    #[arg(long)]
    witness: bool,
    /// The group begins with the first member as the leader of term 1
    #[arg(long)]
    led: bool,
    /// The latest term in which a member stands for election
    #[arg(long, default_value_t = 2)]
    terms: u64,
    /// How many times a member that does not lead times out
    #[arg(long, default_value_t = 2)]
    elections: u8,
    /// How many commands clients propose
    #[arg(long, default_value_t = 1)]
    proposals: u8,
    /// How many times a member crashes and starts again
    #[arg(long, default_value_t = 0)]
    crashes: u8,
    /// How many times a member starts again, and its disk has damaged an entry
    #[arg(long, default_value_t = 0)]
    losses: u8,
    /// How many times a member loses its disk, and starts again in another incarnation
    #[arg(long, default_value_t = 0)]
    wipes: u8,
    /// How many heartbeats leaders send
    #[arg(long, default_value_t = 0)]
    heartbeats: u8,
    /// How many reads clients ask for, of a leader
    #[arg(long, default_value_t = 0)]
    reads: u8,
    /// How many reads clients ask of other members, and how many of their questions reach a leader
    #[arg(long, default_value_t = 0)]
    follower_reads: u8,
    /// How many times a member takes a snapshot, and forgets the entries in it
    #[arg(long, default_value_t = 0)]
    snapshots: u8,
    /// How many times a leader is to hand over
    #[arg(long, default_value_t = 0)]
    transfers: u8,
    /// How many times the membership changes: the last member is added, then removed, and so on
    #[arg(long, default_value_t = 0)]
    changes: u8,
    /// A change swaps the last member for the one before it, by joint consensus, then back
    #[arg(long)]
    swap: bool,
    /// How many times a message arrives that has arrived before; any number of times by default
    #[arg(long)]
    copied: Option<u8>,
    /// How many ticks time goes on, with leases and promises on; without, time is left out
    #[arg(long, default_value_t = 0)]
    ticks: u8,
    /// How many times the host of a follower is wrong about having lost its leader; heeded with --pre-vote
    #[arg(long, default_value_t = 0)]
    alarms: u8,
    /// Members ask before they stand for election
    #[arg(long)]
    pre_vote: bool,
    /// State machines take any time to apply entries
    #[arg(long)]
    slow_machines: bool,
    /// Disks finish each write at once
    #[arg(long)]
    instant_disks: bool,
    /// Hosts wait for their disks and state machines, and do what follows from a step in its order
    #[arg(long)]
    synchronous: bool,
    /// Of one in so many states, look for a way on: with no more faults, a member can be elected and commit
    #[arg(long, value_name = "STATES")]
    liveness_every: Option<NonZeroU32>,
    /// Of one in so many states, put the group through a trial: with timers that run, it must serve soon
    #[arg(long, value_name = "STATES")]
    trial_every: Option<NonZeroU32>,
}

/// How many states are expanded before their successors are looked up.
const BATCH: usize = 4_096;
/// How often a line says how far the search is.
const EVERY: Duration = Duration::from_secs(10);

impl Limits {
    fn bounds(self) -> Bounds {
        Bounds {
            members: self.members,
            voters: self.voters.unwrap_or(self.members.saturating_sub(self.learners)),
            learners: self.learners,
            witness: self.witness,
            led: self.led,
            terms: self.terms,
            elections: self.elections,
            proposals: self.proposals,
            crashes: self.crashes,
            losses: self.losses,
            wipes: self.wipes,
            heartbeats: self.heartbeats,
            reads: self.reads,
            follower_reads: self.follower_reads,
            snapshots: self.snapshots,
            transfers: self.transfers,
            changes: self.changes,
            swap: self.swap,
            copied: self.copied,
            ticks: self.ticks,
            alarms: self.alarms,
            pre_vote: self.pre_vote,
            slow_machines: self.slow_machines,
            instant_disks: self.instant_disks,
            synchronous: self.synchronous,
            liveness_every: self.liveness_every,
            trial_every: self.trial_every,
        }
    }
}

impl Explore {
    pub(crate) fn run(self) -> Result<bool, String> {
        if let Some(file) = &self.replay {
            return replay(file, self.script.as_deref());
        }
        let mut exploration = self.begin()?;
        let file = self.checkpoint.as_deref().or(self.resume.as_deref());
        let jobs = pool::threads(self.jobs);
        let stop = Stop::after(self.budget).map_err(|error| format!("signals cannot be heeded: {error}"))?;
        let mut progress = Progress::new(exploration.states());
        let mut saved = Instant::now();
        while !exploration.is_done() && exploration.states() < self.max_states && stop.goes_on() {
            exploration.go_on_in_parts(BATCH, |batch| in_threads(batch, jobs));
            progress.show(&exploration);
            if let Some(file) = file.filter(|_| saved.elapsed() >= self.every) {
                save(&exploration, file)?;
                saved = Instant::now();
            }
        }
        progress.clear();
        if let Some(file) = file.filter(|_| !exploration.is_done()) {
            save(&exploration, file)?;
            note(&format!("go on: cargo sim explore --resume {}", file.display()));
        }
        self.report(&exploration, &progress)
    }

    /// The search that is to be made, or to go on.
    fn begin(&self) -> Result<Exploration, String> {
        let Some(file) = &self.resume else {
            let reductions = Reductions { symmetry: !self.no_symmetry };
            return Exploration::reduced(self.limits.bounds(), reductions).map_err(|error| error.to_string());
        };
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let bytes = fs::File::open(file).map_err(|error| wrong(&error))?;
        Exploration::resume(&mut BufReader::new(bytes)).map_err(|error| wrong(&error))
    }

    fn report(&self, exploration: &Exploration, progress: &Progress) -> Result<bool, String> {
        let (found, elapsed) = (exploration.found(), progress.started.elapsed());
        if let Some(found) = found {
            let kept = Schedule { bounds: *exploration.bounds(), path: found.path.clone() };
            let text = serde_json::to_string_pretty(&kept).map_err(|error| error.to_string())?;
            fs::write(&self.counterexample, text + "\n")
                .map_err(|error| format!("{}: {error}", self.counterexample.display()))?;
        }
        if self.format == Format::Json {
            let all = json!({
                "states": exploration.states(), "transitions": exploration.transitions(),
                "depth": exploration.depth(), "complete": found.is_none() && exploration.is_done(),
                "violation": found.map(|found| json!({
                    "property": found.violation.property, "detail": found.violation.detail, "path": found.path,
                })),
                "seconds": elapsed.as_secs_f64(), "processor_seconds": processor_time().as_secs_f64(),
            });
            print(&format!("{all}\n"));
            return Ok(found.is_none());
        }
        let far = progress.line(exploration);
        match found {
            Some(found) => {
                let Counterexample { violation, path } = found;
                let schedule = Schedule { bounds: *exploration.bounds(), path: path.clone() };
                print(&format!("FAILED  {}: {}\n{}", violation.property, violation.detail, tell(&schedule)?));
                print(&format!("{}\n{far}\n", commands(&self.counterexample)));
            }
            None if exploration.is_done() => {
                print(&format!("all states within the bounds hold every property: {far}\n"));
            }
            None => print(&format!("stopped before the end, all properties held so far: {far}\n")),
        }
        Ok(found.is_none())
    }
}

/// Goes a way again. Where a script is wanted it is written; the steps are told if not.
fn replay(file: &Path, script: Option<&Path>) -> Result<bool, String> {
    let schedule = schedule_in(file)?;
    let wrong = |error: explore::ReplayError| error.to_string();
    if let Some(script) = script {
        fs::write(script, schedule.script().map_err(wrong)?).map_err(|error| {
            format!("cannot write {}: {error}; name a file that can be written", script.display())
        })?;
    }
    print(&tell(&schedule)?);
    let (_, violation) = explore::replay(&schedule).map_err(wrong)?;
    match &violation {
        Some(violation) => print(&format!("FAILED  {}: {}\n", violation.property, violation.detail)),
        None => print("all properties held\n"),
    }
    Ok(violation.is_none())
}

/// The way that a file keeps.
fn schedule_in(file: &Path) -> Result<Schedule, String> {
    schedule_of(&super::read(file)?)
        .ok_or_else(|| format!("{} is no way that explore has written", file.display()))
}

/// The way that these bytes are, if they are one.
pub(super) fn schedule_of(bytes: &[u8]) -> Option<Schedule> {
    serde_json::from_slice(bytes).ok()
}

/// The commands that tell more of a counterexample.
fn commands(file: &Path) -> String {
    let (file, script) = (file.display(), file.with_extension("txt"));
    format!(
        "  replay: cargo sim explore --replay {file}\n  trace: cargo sim replay {file} --trace\n  explain: cargo sim explain {file}\n  script: cargo sim explore --replay {file} --script {}\n",
        script.display()
    )
}

/// Every event, and how it came to the violation.
fn tell(schedule: &Schedule) -> Result<String, String> {
    let wrong = |error: explore::ReplayError| error.to_string();
    let (steps, _) = explore::replay(schedule).map_err(wrong)?;
    let story = schedule.story().map_err(wrong)?;
    let story = story.map(|story| format!("\n{story}\n\n")).unwrap_or_default();
    Ok(numbered(&steps) + &story)
}

fn numbered(steps: &[String]) -> String {
    let mut out = String::new();
    for (step, number) in steps.iter().zip(1..) {
        let _ = writeln!(out, "{number:>6}  {step}");
    }
    out
}

/// Shows how far a search is: a line that changes where a terminal watches, and one now and then where none
/// does.
struct Progress {
    started: Instant,
    /// How many states were known before.
    before: u64,
    bar: ProgressBar,
    written: Instant,
}

impl Progress {
    fn new(before: u64) -> Self {
        let watched = std::io::stderr().is_terminal();
        let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        let now = Instant::now();
        Self { started: now, before, bar, written: now }
    }

    fn show(&mut self, exploration: &Exploration) {
        if !self.bar.is_hidden() {
            self.bar.set_message(self.line(exploration));
            self.bar.tick();
        } else if self.written.elapsed() >= EVERY {
            self.written = Instant::now();
            note(&format!("{} ...", self.line(exploration)));
        }
    }

    fn line(&self, exploration: &Exploration) -> String {
        let elapsed = self.started.elapsed();
        let rate = time::rate(exploration.states() - self.before, elapsed);
        format!(
            "{} states, {} transitions, depth {}, {} states to go on from, {rate} new states a second, {elapsed:.1?}",
            exploration.states(),
            exploration.transitions(),
            exploration.depth(),
            exploration.frontier(),
        )
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Writes a checkpoint in the place of the one before, which stays until the new one is whole.
fn save(exploration: &Exploration, file: &Path) -> Result<(), String> {
    let mut new = file.as_os_str().to_owned();
    new.push(".new");
    let written = || {
        let mut to = BufWriter::new(fs::File::create(&new)?);
        exploration.save(&mut to)?;
        to.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&new, file)
    };
    written()
        .map_err(|error| format!("cannot write {}: {error}; name a file that can be written", file.display()))
}

/// Finds what follows from each state of a batch, in so many threads.
fn in_threads(batch: Batch<'_>, jobs: usize) -> Vec<Expanded> {
    let share = batch.len().div_ceil(jobs).max(1);
    thread::scope(|scope| {
        let parts = (0..batch.len()).step_by(share).map(|from| {
            let range = from..batch.len().min(from + share);
            scope.spawn(move || range.map(|state| batch.expand(state)).collect::<Vec<_>>())
        });
        let parts: Vec<_> = parts.collect();
        parts.into_iter().flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}
