//! `kontiki-sim shrink`: the smallest scenario that still fails in the same way.

use super::{Cluster, note, print, to_json};
use clap::{ArgGroup, Args};
use kontiki_sim::shrink::shrink;
use std::path::PathBuf;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").args(["seed", "file"]).required(true))]
pub(crate) struct Shrink {
    /// The seed that fails
    #[arg(long)]
    seed: Option<u64>,
    /// A scenario file that fails
    file: Option<PathBuf>,
    #[command(flatten)]
    cluster: Cluster,
}

impl Shrink {
    /// Prints the smallest scenario, and beside it what it violates. It still fails, so it ends like any
    /// failing run.
    pub(crate) fn run(self) -> Result<bool, String> {
        let scenario = self.cluster.choose(self.file.as_deref(), self.seed)?;
        scenario.validate().map_err(|error| format!("the scenario is wrong: {error}"))?;
        let Some(shrunk) = shrink(&scenario) else {
            return Err("this scenario violates nothing, so there is nothing to shrink".to_owned());
        };
        note(&format!("FAILED  {}", shrunk.failure));
        note(&format!(
            "{} of {} faults are left after {} runs; replay accepts what follows",
            shrunk.scenario.faults.len(),
            scenario.faults.len(),
            shrunk.tried
        ));
        print(&format!("{}\n", to_json(&shrunk.scenario)));
        Ok(false)
    }
}
