//! What goes wrong in the terms of users: named here, and carried out by their own code.

use super::{Leading, Scenario, Target};
use crate::fault::Rename as _;
use crate::stream::Stream;
use kontiki_core::types::NodeId;
use serde::{Deserialize, Serialize};

/// Something of a user's own that goes wrong with a member, and when.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimedCustomFault {
    /// When.
    pub at_us: u64,
    /// For how long.
    pub for_us: u64,
    /// With whom; `"next_leader"` is the present leader here.
    pub member: Target,
    /// What: the name that [`Test::fault`](crate::Test::fault) gave it.
    pub name: String,
}

impl TimedCustomFault {
    /// Gives its member another id. Returns whether it is still there.
    pub(crate) fn rename(&mut self, to: &dyn Fn(NodeId) -> Option<NodeId>) -> bool {
        self.member.rename(to)
    }
}

/// How often a fault of a name befalls members in one scenario, at most.
const MOST: u64 = 3;

impl Scenario {
    /// Draws when the fault of this name befalls whom, from a stream of its own.
    pub(crate) fn add_custom_faults(&mut self, name: &str) {
        let mut stream = Stream::named(self.seed, &format!("custom faults {name}"), 0);
        for _ in 0..stream.between(0, MOST) {
            let member = match stream.below(3) {
                0 => Target::Leading(Leading::Leader),
                _ => Target::Member(*stream.pick(&self.ids())),
            };
            let (at_us, for_us) = (stream.below(self.chaos_us.max(1)), stream.skewed(1_000, 1_000_000));
            self.custom_faults.push(TimedCustomFault { at_us, for_us, member, name: name.to_owned() });
        }
    }
}
