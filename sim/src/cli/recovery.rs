//! `kontiki-sim recovery`: every disk that a crash or damage can leave at the end of a log.

use super::pool::{Pool, processor_time};
use super::stop::Stop;
use super::{Format, note, print, run, time};
use clap::{Args, ValueEnum};
use kontiki_sim::recovery::{Failure, Held, Plan, Tally, Tier};
use serde_json::json;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
pub(crate) struct Recovery {
    /// Only these tiers: may be given more than once. The numbers of cases depend on it
    #[arg(long, value_enum)]
    tier: Vec<TierArg>,
    /// The cases to try: 0..100000 for a range; all by default
    #[arg(long, value_parser = run::seeds)]
    cases: Option<Range<u64>>,
    /// Try one case in N, those whose number is a multiple of N: 1/10007. Best a prime
    #[arg(long, value_name = "1/N", default_value = "1/1", value_parser = sample)]
    sample: u64,
    /// Tell one case in words
    #[arg(long, conflicts_with_all = ["cases", "sample"])]
    case: Option<u64>,
    /// Begin no further cases after this time, as in 30m
    #[arg(long, value_name = "TIME", value_parser = time::long)]
    budget: Option<Duration>,
    /// How many threads to use; all cores by default
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// How to report
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// How often to write a line that says how far it is; 0s for never
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time::long_or_none)]
    progress: Duration,
    /// Stop after so many failures
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    max_failures: Option<u64>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum TierArg {
    /// Power fails
    Crash,
    /// Power fails again while recovery writes
    Twice,
    /// Any two blocks are damaged
    Two,
    /// All blocks are damaged at once
    All,
}

impl TierArg {
    fn tier(self) -> Tier {
        match self {
            Self::Crash => Tier::Crash,
            Self::Twice => Tier::Twice,
            Self::Two => Tier::Two,
            Self::All => Tier::All,
        }
    }
}

/// How many cases a thread tries before it asks for more.
const PIECE: u64 = 2_000;
/// Into how many pieces the work is cut, at least.
const PIECES: u64 = 256;
/// A piece that has not ended by then does not end.
const PATIENCE: Duration = Duration::from_secs(600);
/// How many failures are told in full.
const TOLD: usize = 5;

fn percent(part: u64, whole: u64) -> u128 {
    u128::from(part) * 100 / u128::from(whole.max(1))
}

fn sample(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("1/").and_then(|number| number.parse().ok()).filter(|number| *number > 0);
    number
        .ok_or_else(|| format!("`{text}` is no sample; write 1/10007 for one case in 10,007, or 1/1 for all"))
}

impl Recovery {
    pub(crate) fn run(self) -> Result<bool, String> {
        let started = Instant::now();
        let plan = Plan::new(&self.tiers());
        if let Some(case) = self.case {
            let count = plan.count();
            let told = plan.explain(case).ok_or_else(|| {
                format!(
                    "there is no case {case}: they are numbered from 0 to {}; name one of them",
                    count - 1
                )
            })?;
            print(&told.text);
            return Ok(told.holds);
        }
        let all = 0..plan.count();
        let cases = self.cases.clone().unwrap_or_else(|| all.clone());
        if cases.start >= all.end {
            return Err(format!(
                "there are {} cases: begin at a smaller number than {}",
                all.end, cases.start
            ));
        }
        let cases = cases.start..cases.end.min(all.end);
        let stop = Stop::after(self.budget).map_err(|error| format!("cannot heed signals: {error}"))?;
        let plan = Arc::new(plan);
        let (tally, tried, hung) = self.sweep(&plan, &cases, &stop, started);
        if let Some(hung) = hung {
            return Err(hung);
        }
        if tally.cases == 0 {
            return Err("no case was tried: take a larger range, a larger sample or more time".to_owned());
        }
        self.report(&plan, &tally, tried, cases.end - cases.start, started.elapsed());
        Ok(tally.failed() == 0)
    }

    fn tiers(&self) -> Vec<Tier> {
        match self.tier.is_empty() {
            true => vec![Tier::Crash, Tier::Twice, Tier::Two, Tier::All],
            false => self.tier.iter().map(|tier| tier.tier()).collect(),
        }
    }

    /// Tries the cases, and says how many numbers were gone through; or which do not end.
    fn sweep(
        &self,
        plan: &Arc<Plan>,
        cases: &Range<u64>,
        stop: &Stop,
        started: Instant,
    ) -> (Tally, u64, Option<String>) {
        let (span, every) = (cases.end - cases.start, self.sample);
        let piece = (span / PIECES).clamp(1, PIECE.saturating_mul(every)).next_multiple_of(every);
        let (plan, whole, still) = (Arc::clone(plan), cases.clone(), stop.clone());
        let range = move |number: u64| {
            let from = whole.start + number * piece;
            from..(from + piece).min(whole.end)
        };
        let goes_on = move |_: &u64| still.goes_on();
        let pieces = (0..span.div_ceil(piece)).take_while(goes_on);
        let (mut tally, mut tried, mut said) = (Tally::default(), 0, Instant::now());
        let run = move |number| (range(number), plan.run(range(number), every));
        let hung = Pool::new(self.jobs, PATIENCE).run(pieces, run, |(range, part)| {
            tried += range.end - range.start;
            tally.add(part);
            if !self.progress.is_zero() && said.elapsed() >= self.progress {
                said = Instant::now();
                note(&format!(
                    "{} % of the cases, {} tried, {} a second; {} failed",
                    percent(tried, span),
                    tally.cases,
                    time::rate(tally.cases, started.elapsed()),
                    tally.failed()
                ));
            }
            self.max_failures.is_none_or(|max| tally.failed() < max)
        });
        let hung = hung.map(|hung| {
            let from = cases.start + hung.seed * piece;
            format!("recovery does not end in one of the cases {from}..{}; try fewer of them", from + piece)
        });
        (tally, tried, hung)
    }

    fn report(&self, plan: &Plan, tally: &Tally, tried: u64, span: u64, wall: Duration) {
        let failed: Vec<_> = tally.failed.iter().map(|(broken, count)| (broken.name(), *count)).collect();
        if self.format == Format::Json {
            let failures = tally.failures.iter().map(|it| {
                json!({ "case": it.case, "property": it.broken.name(), "expected": it.expected, "answer": it.answer })
            });
            let all = json!({
                "cases": tally.cases, "recoveries": tally.recoveries, "of": plan.count(),
                "whole": tally.count(Held::Whole), "reported": tally.count(Held::Reported),
                "refused": tally.count(Held::Refused),
                "indistinguishable": tally.count(Held::Indistinguishable),
                "ballot_gone": tally.count(Held::BallotGone), "failed": tally.failed(),
                "failures": failures.collect::<Vec<_>>(), "processor_seconds": processor_time().as_secs_f64(),
            });
            return print(&format!("{all}\n"));
        }
        let mut out = String::new();
        tally.failures.iter().take(TOLD).for_each(|failure| self.tell(failure, &mut out));
        let verdict = match failed.is_empty() {
            true => "all properties held".to_owned(),
            false => {
                let each = failed.iter().map(|(name, count)| format!("{name} in {count}"));
                format!("FAILED: {}", each.collect::<Vec<_>>().join(", "))
            }
        };
        let tiers = plan.by_tier().into_iter().map(|(tier, count)| format!("{} {count}", tier.name()));
        let tiers = tiers.collect::<Vec<_>>().join(", ");
        let _ = writeln!(out, "{} cases of {} histories: {verdict}\n", tally.cases, plan.histories());
        let _ = writeln!(out, "  all cases          {} ({tiers})", plan.count());
        let _ = writeln!(out, "  gone through       {} % of the range", percent(tried, span));
        let _ = writeln!(
            out,
            "  recoveries         {}, {} a second",
            tally.recoveries,
            time::rate(tally.recoveries, wall)
        );
        for held in Held::ALL {
            let _ = writeln!(out, "  {:<18} {}", held.name(), tally.count(held));
        }
        print(&out);
    }

    fn tell(&self, failure: &Failure, out: &mut String) {
        let Failure { case, broken, expected, answer } = failure;
        let tiers: String = self.tiers().iter().map(|tier| format!(" --tier {}", tier.name())).collect();
        let tiers = if self.tier.is_empty() { String::new() } else { tiers };
        let _ = writeln!(out, "FAILED  {} in case {case}", broken.name());
        let _ = writeln!(out, "  expected: {expected}\n  answered: {answer}");
        let _ = writeln!(out, "  explain:  cargo sim recovery{tiers} --case {case}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::sample;

    #[test]
    fn a_sample_is_one_case_in_so_many() {
        assert_eq!((sample("1/1"), sample("1/10007")), (Ok(1), Ok(10_007)));
        for wrong in ["1/0", "2/3", "10007", "1/x"] {
            assert!(sample(wrong).unwrap_err().contains("write 1/10007"), "{wrong}");
        }
    }
}
