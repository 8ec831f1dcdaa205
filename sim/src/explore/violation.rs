//! What an exploration looks for.

/// A property that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Its name: that of the check of `kontiki_sim::check` which watches it in simulated clusters.
    pub property: &'static str,
    /// What was seen.
    pub detail: String,
}

impl Violation {
    pub(super) fn new(property: &'static str, detail: String) -> Self {
        Self { property, detail }
    }
}
