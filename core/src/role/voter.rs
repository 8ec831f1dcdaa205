//! Giving votes, which a member does alike in every role (paper §5.2, §5.4.1).
//!
//! The gate has already refused where a leader is known to be alive, and has entered the asker's term.

use crate::action::Action;
use crate::common::Common;
use crate::message::Body;
use crate::types::{LogId, NodeId};
use alloc::vec::Vec;

/// Whether a real vote would be given. Promises nothing, and in particular does not put off this member's own
/// election.
pub(crate) fn on_pre_vote(common: &mut Common, candidate: NodeId, last: LogId, out: &mut Vec<Action>) {
    let granted = last >= common.log.last();
    common.send(candidate, Body::PreVoted { granted }, out);
}

/// Gives the vote of this term to the first who asks with a log at least as up-to-date as ours. The grant leaves
/// once it is durable; a refusal at once.
pub(crate) fn on_request_vote(common: &mut Common, candidate: NodeId, last: LogId, out: &mut Vec<Action>) {
    if last >= common.log.last() && common.ballot.may_vote_for(candidate) {
        common.ballot.cast(candidate);
        common.rearm_election_timer();
        common.send_once_durable(candidate, Body::Voted { granted: true });
    } else {
        common.send(candidate, Body::Voted { granted: false }, out);
    }
}
