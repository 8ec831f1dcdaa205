//! `kontiki-sim explain`: a run as a page.

use super::shrink::{shrink_for, size};
use super::{Cluster, note, parse, print, read};
use clap::{ArgGroup, Args};
use kontiki_core::record;
use kontiki_core::time::span;
use kontiki_sim::explain::{self, Diagram};
use kontiki_sim::scenario::{Scenario, ScenarioError};
use kontiki_sim::when::{self, Effort};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["seed", "files"]).required(true).multiple(false))]
pub(crate) struct Explain {
    /// The seed to show
    #[arg(long)]
    seed: Option<u64>,
    /// A scenario file, a counterexample of `explore`, or the recordings of a member, the oldest first
    files: Vec<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// Where to write the page; in this directory where nothing is said
    #[arg(short, long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Mark from which step on the failure was inevitable, as `when` tells: some five hundred runs
    #[arg(long)]
    when: bool,
    /// Shrink the scenario first, if it fails
    #[arg(long)]
    shrink: bool,
    /// Shrink for this time at most
    #[arg(long, default_value = "60s", value_parser = span::parse, requires = "shrink")]
    shrink_time: Duration,
}

impl Explain {
    /// Writes the page. It ends like the run that the page is of.
    pub(crate) fn run(self) -> Result<bool, String> {
        let diagram = self.diagram()?;
        let path = self.out.clone().unwrap_or_else(|| self.page_name());
        std::fs::write(&path, diagram.to_html()).map_err(|error| {
            format!("cannot write {}: {error}; name a file that can be written with -o", path.display())
        })?;
        print(&format!(
            "{}\n{}: {} events; open it in a browser\n",
            diagram.outcome,
            path.display(),
            diagram.events.len()
        ));
        Ok(diagram.failure.is_none())
    }

    fn diagram(&self) -> Result<Diagram, String> {
        if let Some(seed) = self.seed {
            return self.of_scenario(self.cluster.draw(seed));
        }
        let bytes = self.files.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?.concat();
        if record::is_recording(&bytes) {
            self.refuse_to_rerun("a recording")?;
            return explain::recordings(&bytes).map_err(|error| error.to_string());
        }
        if let Some(schedule) = super::explore::schedule_of(&bytes) {
            self.refuse_to_rerun("what an exploration has found")?;
            return explain::schedule(&schedule).map_err(|error| error.to_string());
        }
        let [file] = &self.files[..] else {
            return Err("only recordings can be shown several at once: name one file".to_owned());
        };
        if is_script(&bytes) {
            return Err(format!(
                "{} is a script of tests: `cargo run -p kontiki-tests --bin explain -- {0}` shows it",
                file.display()
            ));
        }
        self.of_scenario(parse(file, &bytes)?)
    }

    fn refuse_to_rerun(&self, what: &str) -> Result<(), String> {
        match (self.shrink, self.when) {
            (true, _) => Err(format!("{what} is shown as it is: leave --shrink out")),
            (_, true) => Err(format!("{what} cannot take another course: leave --when out")),
            _ => Ok(()),
        }
    }

    fn of_scenario(&self, scenario: Scenario) -> Result<Diagram, String> {
        let wrong = |error| format!("the scenario is wrong: {error}");
        scenario.validate().map_err(wrong)?;
        let shrunk = if self.shrink { shrink_for(&scenario, self.shrink_time) } else { None };
        if let Some(shrunk) = &shrunk {
            note(&format!("shrunk to {}", size(&shrunk.scenario)));
        }
        let scenario = shrunk.map_or(scenario, |shrunk| shrunk.scenario);
        let inevitable = if self.when { inevitable_from(&scenario).map_err(wrong)? } else { None };
        Ok(Diagram { inevitable, ..explain::run(&scenario).map_err(wrong)? })
    }

    /// The name of the page, after what it shows.
    fn page_name(&self) -> PathBuf {
        let stem = match (self.files.first(), self.seed) {
            (Some(file), _) => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            (None, seed) => format!("seed-{}", seed.unwrap_or_default()),
        };
        Path::new(&stem).with_extension("html")
    }
}

/// The step from which on a failing run fails whatever luck it has; none where that is never so, or from the
/// beginning.
fn inevitable_from(scenario: &Scenario) -> Result<Option<u64>, ScenarioError> {
    let inevitable = when::when(scenario, Effort::default(), &mut |_| ())?.and_then(|when| when.inevitable());
    Ok(inevitable.filter(|it| it.before.is_some()).map(|it| it.from.step))
}

/// Whether a file is a script of tests/data: the first line that is no comment says which cluster it is
/// about.
fn is_script(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let first = text.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
    first.is_some_and(|line| line.starts_with("cluster "))
}
