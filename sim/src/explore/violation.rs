//! What an exploration looks for.

/// A property that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name: that of the check of `kontiki_sim::check` which watches it in simulated clusters.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

/// How a way ends that violates something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    pub(super) violation: Violation,
    /// What happened in a trial at its end, in words.
    pub(super) told: Vec<String>,
}

impl From<Violation> for Ended {
    fn from(violation: Violation) -> Self {
        Self { violation, told: Vec::new() }
    }
}

impl Violation {
    pub(super) fn new(property: &'static str, detail: String) -> Self {
        Self { property, detail }
    }
}
