//! What becomes of the inputs of a member that has ended.

use crate::event::Proposal;
use crate::replica::answer::{Answer, ReplicaRefusal};
use crate::replica::io::{Input, Output};
use alloc::vec::Vec;

/// Refuses every request of an input. Anything else is ignored.
pub(super) fn refuse_all(input: Input, refusal: &ReplicaRefusal, out: &mut Vec<Output>) {
    let mut refuse = |request| out.push(Output::Answer { request, answer: Answer::Refused(refusal.clone()) });
    match input {
        Input::Request { request, .. } => refuse(request),
        Input::Commands(commands) => {
            commands.into_iter().for_each(|Proposal { request, .. }| refuse(request));
        }
        Input::Wake
        | Input::Frame { .. }
        | Input::Disk { .. }
        | Input::Machine(_)
        | Input::PeerUnreachable(_)
        | Input::Shutdown => {}
    }
}
