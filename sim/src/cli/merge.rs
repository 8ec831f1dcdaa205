//! `kontiki-sim merge`: the reports of shards as one.

use super::note;
use super::report::{ReportError, ReportFile};
use super::shard::Shard;
use super::summary::Reporting;
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// The reports that `run --shard --report` has written
    #[arg(required = true)]
    reports: Vec<PathBuf>,
    #[command(flatten)]
    reporting: Reporting,
}

impl Merge {
    /// Prints what one run over all these seeds would have. Seeds that are missing are an error unless what
    /// is there has failed already.
    pub(crate) fn run(self) -> Result<bool, String> {
        let report = self.merged().map_err(|error| error.to_string())?;
        let (ReportFile { sweep, summary, .. }, missing) = (&report, report.missing(Shard::WHOLE));
        let verdict = summary.judge(&sweep.cluster, self.reporting.marks);
        self.reporting.report(&verdict)?;
        match (missing.is_empty(), verdict.held()) {
            (true, held) => Ok(held),
            (false, true) => Err(ReportError::Missing(missing).to_string()),
            (false, false) => {
                note(&ReportError::Missing(missing).to_string());
                Ok(false)
            }
        }
    }

    fn merged(&self) -> Result<ReportFile, ReportError> {
        let (first, rest) = self.reports.split_first().expect("clap demands one");
        let mut merged = ReportFile::load(first)?;
        for path in rest {
            merged.merge(ReportFile::load(path)?, path)?;
        }
        Ok(merged)
    }
}
