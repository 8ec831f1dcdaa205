//! `kontiki-sim formation`: groups that form.

use super::{Format, print, run};
use clap::Args;
use kontiki_sim::formation::{self, Report};
use kontiki_sim::hash::StableHasher;
use serde_json::json;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

#[derive(Args, Debug)]
pub(crate) struct Formation {
    /// The seeds to run: 0..1000 for a range, or one number
    #[arg(long, value_parser = run::seeds, required_unless_present = "seed")]
    seeds: Option<Range<u64>>,
    /// One seed, with its last lines
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Show everything that happens
    #[arg(long, requires = "seed")]
    trace: bool,
    /// How many seeds to run at the same time; all cores by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// How to report
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Run each seed twice, and see that both runs are the same
    #[arg(long)]
    twice: bool,
    /// Stop after so many failures
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    max_failures: Option<u64>,
}

/// How many failures are told in full.
const TOLD: usize = 5;

impl Formation {
    pub(crate) fn run(self) -> Result<bool, String> {
        if let Some(seed) = self.seed {
            let report = match self.trace {
                true => formation::run_traced(seed, Box::new(|line| print(&format!("{line}\n")))),
                false => formation::run(seed),
            };
            print(&told(&report, !self.trace));
            return Ok(report.failure.is_none());
        }
        let started = Instant::now();
        let mut reports = self.sweep();
        reports.sort_by_key(|report| report.seed);
        let failed: Vec<_> = reports.iter().filter(|report| report.failure.is_some()).collect();
        let count = reports.len();
        let events: u64 = reports.iter().map(|report| report.events).sum();
        let hash = reports.iter().fold(0, |hash, report| StableHasher::combine(hash, report.trace_hash));
        if self.format == Format::Json {
            let failures = failed.iter().filter_map(|report| {
                let failure = report.failure.as_ref()?;
                Some(json!({ "seed": report.seed, "property": failure.property, "detail": failure.detail }))
            });
            let failures: Vec<_> = failures.collect();
            let all = json!({
                "seeds": count, "events": events, "trace_hash": format!("{hash:016x}"), "failures": failures,
            });
            print(&format!("{all}\n"));
            return Ok(failures.is_empty());
        }
        let mut out = String::new();
        for report in failed.iter().take(TOLD) {
            out += &told(report, true);
        }
        let verdict = match failed.len() {
            0 => "all properties held".to_owned(),
            failed => format!("{failed} failed"),
        };
        let _ = writeln!(
            out,
            "{count} seeds of groups that form: {verdict}; {events} events in {:.1?}, trace hash {hash:016x}",
            started.elapsed()
        );
        print(&out);
        Ok(failed.is_empty())
    }

    fn sweep(&self) -> Vec<Report> {
        let seeds = self.seeds.clone().unwrap_or_default();
        let jobs =
            self.jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
        let next = AtomicU64::new(seeds.start);
        let (sender, reports) = mpsc::channel();
        let mut all: Vec<Report> = Vec::new();
        thread::scope(|scope| {
            for _ in 0..jobs {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end || sender.send(self.run_seed(seed)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            let mut failures = 0;
            for report in reports {
                failures += u64::from(report.failure.is_some());
                all.push(report);
                if self.max_failures.is_some_and(|max| failures >= max) {
                    next.store(seeds.end, Ordering::Relaxed);
                }
            }
        });
        all
    }

    fn run_seed(&self, seed: u64) -> Report {
        let mut report = formation::run(seed);
        if self.twice && formation::run(seed) != report {
            report.failure.get_or_insert(kontiki_sim::report::Failure {
                property: "Determinism".to_owned(),
                detail: "the same seed gave another run".to_owned(),
                step: report.events,
                at: report.virtual_nanos,
            });
        }
        report
    }
}

fn told(report: &Report, with_lines: bool) -> String {
    let mut out = String::new();
    let seed = report.seed;
    match &report.failure {
        None => {
            let seconds = report.virtual_nanos / 1_000_000_000;
            let _ = writeln!(out, "seed {seed} held: {} events, {seconds} s of virtual time", report.events);
        }
        Some(failure) => {
            let _ =
                writeln!(out, "FAILED  {} at event {}: {}", failure.property, failure.step, failure.detail);
            let _ = writeln!(out, "  replay: cargo sim formation --seed {seed} --trace\n");
            if with_lines {
                let _ = writeln!(out, "The last lines of seed {seed}:\n{}\n", report.last.join("\n"));
            }
        }
    }
    out
}
