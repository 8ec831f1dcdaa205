//! `kontiki-sim merge`: the reports of shards as one.

use super::report::{ReportError, ReportFile};
use super::shard::Shard;
use super::summary::MarkDemand;
use super::{Format, junit, note, print};
use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Merge {
    /// The reports that `run --shard --report` has written
    #[arg(required = true)]
    reports: Vec<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value = "human")]
    format: Format,
    /// Which marks must have been reached
    #[arg(long, value_enum, default_value = "due")]
    marks: MarkDemand,
    /// Write a JUnit report to this file as well
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Merge {
    /// Prints what one run over all these seeds would have. Seeds that are missing are an error unless what is
    /// there has failed already.
    pub(crate) fn run(self) -> Result<bool, String> {
        let report = self.merged().map_err(|error| error.to_string())?;
        let (ReportFile { sweep, summary, .. }, missing) = (&report, report.missing(Shard::WHOLE));
        let verdict = summary.judge(&sweep.cluster, self.marks);
        if let Some(path) = &self.junit {
            junit::save(&verdict, path)?;
        }
        print(&match self.format {
            Format::Human => verdict.tell(),
            Format::Json => format!("{}\n", verdict.json()),
        });
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
