//! What goes wrong in the terms of users.

use crate::scenario;
use kontiki_core::types::NodeId;

/// Something that goes wrong with single members, in the terms of a user's own code: an external store that
/// fails, say. Each run has one of its own, which all members share.
///
/// When it befalls whom is drawn from a stream of its own, so a fault that is added changes nothing else of a
/// seed. It is traced, told in stories, and left out of the smallest scenario where it does not matter.
///
/// What the state machine is to know of it, it learns by what it shares with the fault: `state` is not to be
/// changed otherwise, and a [`Cell`](std::cell::Cell) in it is enough.
pub trait CustomFault<M> {
    /// It begins at a member, whose state machine this is if it is up. It begins once more at a member that
    /// starts again while the fault lasts.
    ///
    /// Returns what goes wrong with the member beside, for as long: its clock jumps, its disk stalls. Of a
    /// fault that begins once more that is not done again.
    fn begin(&mut self, member: NodeId, state: Option<&M>) -> Vec<scenario::Fault>;

    /// It ends.
    fn end(&mut self, member: NodeId, state: Option<&M>) {
        let _ = (member, state);
    }
}
