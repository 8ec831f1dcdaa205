//! What a run has shown.

use crate::report::Failure;

/// Is shown each line of a run.
pub type Tracer<'a> = Box<dyn FnMut(&str) + 'a>;

/// What a seed has come to.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The property that was violated, if one was.
    pub failure: Option<Failure>,
    /// How many events there were.
    pub events: u64,
    /// How long the run took in virtual time.
    pub virtual_nanos: u64,
    /// A hash of all that happened.
    pub trace_hash: u64,
    /// The last lines.
    pub last: Vec<String>,
}
