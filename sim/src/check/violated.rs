//! A property that did not hold, and who had a part in it.

use crate::part::{Involvement, Part, Stamp};
use kontiki_core::types::NodeId;

/// What a check has seen that must not be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What was seen.
    pub detail: String,
    /// Who had a part in it, as far as the check knows.
    pub parts: Vec<Part>,
}

/// A property that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violated {
    /// Its name.
    pub property: &'static str,
    /// What was seen instead.
    pub detail: String,
    /// Who had a part in it, as far as the check knows.
    pub parts: Vec<Part>,
}

impl Finding {
    /// What was seen, and who had a part in it.
    pub fn new(detail: String, parts: impl IntoIterator<Item = Part>) -> Self {
        Self { detail, parts: parts.into_iter().collect() }
    }

    /// That it violates a property.
    pub fn of(self, property: &'static str) -> Violated {
        Violated { property, detail: self.detail, parts: self.parts }
    }
}

impl From<String> for Finding {
    fn from(detail: String) -> Self {
        Self { detail, parts: Vec::new() }
    }
}

impl Violated {
    /// A violation of a property of which no more is known than what was seen.
    pub fn new(property: &'static str, detail: String) -> Self {
        Finding::from(detail).of(property)
    }

    /// Says more of what was seen.
    #[must_use]
    pub(crate) fn with(mut self, more: &str) -> Self {
        self.detail += more;
        self
    }

    /// Names the member that acted when it was seen, where nothing more is known.
    pub(crate) fn by(mut self, member: NodeId, now: Stamp) -> Self {
        if self.parts.is_empty() {
            self.parts.push(Part::of(member, now, Involvement::Acts));
        }
        self
    }
}

impl From<(&'static str, String)> for Violated {
    fn from((property, detail): (&'static str, String)) -> Self {
        Self::new(property, detail)
    }
}
