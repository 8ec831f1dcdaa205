//! Giving votes, which a member does alike in every role (paper §5.2, §5.4.1).
//!
//! The gate has already refused where a leader is known to be alive, and has entered the asker's term.

use crate::action::Action;
use crate::common::Common;
use crate::message::Body;
use crate::types::{LogId, Member};
use alloc::vec::Vec;

/// Whether a real vote would be given. Promises nothing, and in particular does not put off this member's own
/// election. While the ballot is on its way to the disk, the election of its term has not had its time, and
/// no other would be done sooner: the next vote would wait for the same disk.
pub(crate) fn on_pre_vote(common: &mut Common, candidate: Member, last: LogId, out: &mut Vec<Action>) {
    let granted = last >= common.log.last() && !common.is_blank() && !common.is_writing_ballot();
    common.send(candidate, Body::PreVoted { granted }, out);
}

/// Gives this term's vote to the first candidate whose log is at least as up-to-date as ours (paper §5.4.1).
/// A grant is sent once it is durable, a refusal at once.
///
/// The vote is given even to a candidate that is not in this member's membership, and by a member that is a
/// learner in its own log: the candidate's log, which may be ahead, decides who votes. A blank member gives
/// no vote.
pub(crate) fn on_request_vote(common: &mut Common, candidate: Member, last: LogId, out: &mut Vec<Action>) {
    let up_to_date = last >= common.log.last() && !common.is_blank();
    if up_to_date && common.ballot.may_vote_for(candidate.id) {
        common.ballot.cast(candidate.id);
        common.rearm_election_timer();
        common.send_once_durable(candidate, Body::Voted { granted: true });
    } else {
        if !up_to_date {
            // It cannot be elected by this member, which must not wait for it any longer.
            common.end_campaigns();
        }
        common.send(candidate, Body::Voted { granted: false }, out);
    }
}
