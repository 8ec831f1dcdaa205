//! `kontiki-sim when`: from which point on a failing run was likely to fail, and inevitable.

use super::{Cluster, Format, note, print};
use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kontiki_sim::scenario::Scenario;
use kontiki_sim::trace::{LEGEND, Traced};
use kontiki_sim::when::{self, Effort};
use serde_json::json;
use std::io::IsTerminal as _;
use std::ops::RangeInclusive;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["seed", "file"]).required(true))]
pub(crate) struct When {
    /// The seed that fails
    #[arg(long)]
    seed: Option<u64>,
    /// A scenario file that fails
    file: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// How many forks at each point
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    forks: u32,
    /// At how many points, at most
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    points: u16,
    /// How to report
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
}

impl When {
    /// Prints the table. The scenario fails, so it ends like any failing run.
    pub(crate) fn run(self) -> Result<bool, String> {
        let scenario = self.cluster.choose(self.file.as_deref(), self.seed)?;
        let effort = Effort { forks: self.forks, points: usize::from(self.points) };
        let bar = progress_bar(u64::from(self.points));
        let when = when::when(&scenario, effort, &mut |so_far| bar.set_position(so_far.points.len() as u64))
            .map_err(|error| format!("the scenario is wrong: {error}"))?;
        bar.finish_and_clear();
        let Some(when) = when else {
            return Err("this scenario violates nothing, so there is no failure to ask about".to_owned());
        };
        match self.format {
            Format::Human => {
                note(&format!("FAILED  {}", when.failure));
                print(&text(&when, &scenario));
            }
            Format::Json => print(&format!("{}\n", as_json(&when))),
        }
        Ok(false)
    }
}

/// The table, and what happened where the failure became inevitable.
fn text(when: &when::When, scenario: &Scenario) -> String {
    let Some(shown) = when.decided() else { return format!("{when}\n") };
    let mut text = format!("{when}. Steps {} to {}:\n{LEGEND}\n", shown.start(), shown.end());
    lines(scenario, shown).iter().for_each(|line| text += &format!("{line}\n"));
    text
}

/// The trace of these steps, and of what happened to the world between them.
fn lines(scenario: &Scenario, steps: RangeInclusive<u64>) -> Vec<String> {
    let (mut lines, mut reached) = (Vec::new(), 0);
    let mut keep = |traced: &Traced<'_>| {
        if let Traced::Step { step, .. } = *traced {
            reached = step;
        }
        if steps.contains(&reached) && !traced.is_routine() {
            lines.push(traced.line());
        }
    };
    // It was run before.
    let _ = kontiki_sim::run_traced(scenario, &mut keep);
    lines
}

fn as_json(when: &when::When) -> serde_json::Value {
    let points = when
        .points
        .iter()
        .map(|point| json!({ "step": point.step, "failed": point.failed, "otherwise": point.otherwise }));
    let points: Vec<_> = points.collect();
    let inevitable = when
        .inevitable()
        .map(|it| json!({ "from_step": it.from.step, "escaped_at_step": it.before.map(|point| point.step) }));
    json!({
        "property": when.failure.property,
        "detail": when.failure.detail,
        "step": when.failure.step,
        "parts": when.failure.parts,
        "forks": when.forks,
        "points": points,
        "inevitable": inevitable,
    })
}

/// Shown only where a terminal watches.
fn progress_bar(points: u64) -> ProgressBar {
    let watched = std::io::stderr().is_terminal();
    let target = if watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:24} forked at {pos} of {len} points, {elapsed}");
    ProgressBar::with_draw_target(Some(points), target)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
