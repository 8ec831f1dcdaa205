//! `kontiki-sim formation`: groups that form.

use super::pool::{Hung, Pool, processor_time};
use super::{Format, print, run};
use clap::Args;
use kontiki_sim::check::Check as _;
use kontiki_sim::check::bounded_work::BoundedWork;
use kontiki_sim::formation::{self, Report};
use kontiki_sim::hash::StableHasher;
use kontiki_sim::report::Failure;
use serde_json::json;
use std::fmt::Write as _;
use std::ops::Range;
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
    #[command(flatten)]
    pool: Pool,
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
        let (mut reports, hung) = self.sweep();
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
            let hung = hung.map(
                |hung| json!({ "seed": hung.seed, "property": BoundedWork::NAME, "detail": hung.detail() }),
            );
            let failures: Vec<_> = failures.chain(hung).collect();
            let all = json!({
                "seeds": count, "events": events, "trace_hash": format!("{hash:016x}"), "failures": failures,
                "processor_seconds": processor_time().as_secs_f64(),
            });
            print(&format!("{all}\n"));
            return Ok(failures.is_empty());
        }
        let mut out = String::new();
        for report in failed.iter().take(TOLD) {
            out += &told(report, true);
        }
        if let Some(hung) = &hung {
            let (seed, detail) = (hung.seed, hung.detail());
            let _ = writeln!(out, "FAILED  {} in seed {seed}: {detail}", BoundedWork::NAME);
            let _ = writeln!(out, "  replay: cargo sim formation --seed {seed} --trace\n");
        }
        let verdict = match failed.len() + usize::from(hung.is_some()) {
            0 => "all properties held".to_owned(),
            failed => format!("{failed} failed"),
        };
        let _ = writeln!(
            out,
            "{count} seeds of groups that form: {verdict}; {events} events in {:.1?}, trace hash {hash:016x}",
            started.elapsed()
        );
        print(&out);
        Ok(failed.is_empty() && hung.is_none())
    }

    fn sweep(&self) -> (Vec<Report>, Option<Hung>) {
        let (mut all, mut failures): (Vec<Report>, _) = (Vec::new(), 0);
        let twice = self.twice;
        let run = move |seed| run_seed(seed, twice);
        let hung = self.pool.run(self.seeds.clone().unwrap_or_default(), run, |report| {
            failures += u64::from(report.failure.is_some());
            all.push(report);
            self.max_failures.is_none_or(|max| failures < max)
        });
        (all, hung)
    }
}

fn run_seed(seed: u64, twice: bool) -> Report {
    let mut report = formation::run(seed);
    if twice && formation::run(seed) != report {
        report.failure.get_or_insert(Failure::new(
            "Determinism",
            "the same seed gave another run".to_owned(),
            report.events,
            report.virtual_nanos,
        ));
    }
    report
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
