//! The memberships of a log: the one it begins with, and one for every entry that holds another.

use crate::log::{Entry, EntryBody};
use crate::membership::Membership;
use crate::types::{Index, LogId};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Every membership that a truncation could bring back, and the latest, which is in force (paper §6).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "record", serde(try_from = "Known", into = "Known"))]
pub(crate) struct Configs {
    /// Never empty. The first is the one at the base of the log.
    known: Vec<(LogId, Arc<Membership>)>,
}

impl Configs {
    /// The memberships of a log that begins with this one, or with the empty membership where none is known.
    pub(crate) fn new(first: Option<(LogId, Arc<Membership>)>) -> Self {
        let unknown = || (LogId::ZERO, Arc::new(Membership::unknown()));
        Self { known: [first.unwrap_or_else(unknown)].into() }
    }

    /// The membership in force and the entry that holds it.
    pub(crate) fn latest(&self) -> &(LogId, Arc<Membership>) {
        self.known.last().expect("never empty")
    }

    /// The membership before the latest, where a truncation could bring it back.
    pub(crate) fn previous(&self) -> Option<&Membership> {
        let position = self.known.len().checked_sub(2)?;
        Some(&self.known[position].1)
    }

    /// The membership as of `index`, and the entry that holds it.
    pub(crate) fn as_of(&self, index: Index) -> &(LogId, Arc<Membership>) {
        let after = self.known.partition_point(|(id, _)| id.index <= index);
        &self.known[after.saturating_sub(1)]
    }

    /// Takes note of an entry that was appended.
    #[inline]
    pub(crate) fn appended(&mut self, entry: &Entry) {
        if let EntryBody::Config(membership) = &entry.body {
            self.known.push((entry.id, membership.clone()));
        }
    }

    /// Takes note of a membership whose entry is already in the log.
    pub(crate) fn push(&mut self, config: (LogId, Arc<Membership>)) {
        let after = self.known.partition_point(|(id, _)| id.index < config.0.index);
        self.known.insert(after, config);
    }

    /// Every entry after `index` is gone: what they changed is undone.
    pub(crate) fn truncate(&mut self, index: Index) {
        while self.known.len() > 1 && self.known.last().is_some_and(|(id, _)| id.index > index) {
            self.known.pop();
        }
    }

    /// The membership as of `index` is this one, and nothing before can come back.
    pub(crate) fn begin_with(&mut self, first: (LogId, Arc<Membership>), index: Index) {
        let after = self.known.partition_point(|(id, _)| id.index <= index);
        self.known.splice(..after, [first]);
    }

    /// Nothing before `index` can come back.
    pub(crate) fn compact_to(&mut self, index: Index) {
        let after = self.known.partition_point(|(id, _)| id.index <= index);
        self.known.drain(..after.saturating_sub(1));
    }
}

/// The same as it is kept outside: an unknown membership is no legal one, and so stands as none.
#[cfg(feature = "record")]
#[derive(serde::Serialize, serde::Deserialize)]
struct Known(Vec<(LogId, Option<Arc<Membership>>)>);

#[cfg(feature = "record")]
impl TryFrom<Known> for Configs {
    type Error = &'static str;
    fn try_from(Known(known): Known) -> Result<Self, Self::Error> {
        if known.is_empty() {
            return Err("a log without any membership");
        }
        let unknown = || Arc::new(Membership::unknown());
        let known = known.into_iter().map(|(id, group)| (id, group.unwrap_or_else(unknown)));
        Ok(Self { known: known.collect() })
    }
}

#[cfg(feature = "record")]
impl From<Configs> for Known {
    fn from(configs: Configs) -> Self {
        let legal = |group: &Arc<Membership>| !group.voters().is_empty();
        Self(configs.known.into_iter().map(|(id, group)| (id, Some(group).filter(legal))).collect())
    }
}
