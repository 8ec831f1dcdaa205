//! `kontiki-sim trace`: a run as data for another program.

use super::{Cluster, note, print};
use clap::{ArgGroup, Args, ValueEnum};
use kontiki_sim::tla;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["seed", "file"]).required(true).multiple(false))]
pub(crate) struct Trace {
    /// The seed to run
    #[arg(long)]
    seed: Option<u64>,
    /// A scenario file, as written by `scenario` or `run --out`
    file: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
    /// For whom it is written
    #[arg(long, value_enum)]
    format: TraceFormat,
    /// Write only the first so many steps
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    steps: u64,
    /// Write it to this file instead of the standard output
    #[arg(long, short)]
    out: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum TraceFormat {
    /// A module in TLA+, for KontikiTrace in tests/spec
    Tla,
}

impl Trace {
    /// Writes the trace. It is written whether the run fails or not, and a failure is said beside it.
    pub(crate) fn run(self) -> Result<bool, String> {
        let scenario = self.cluster.choose(self.file.as_deref(), self.seed)?;
        let (report, module) = match self.format {
            TraceFormat::Tla => tla::trace(&scenario, self.steps).map_err(|error| error.to_string())?,
        };
        match &self.out {
            None => print(&module),
            Some(path) => std::fs::write(path, module).map_err(|error| {
                format!("cannot write {}: {error}; name a file that can be written with -o", path.display())
            })?,
        }
        if let Some(failure) = &report.failure {
            note(&format!("FAILED  {failure}"));
        }
        Ok(report.failure.is_none())
    }
}
