//! How a member ends: shut down, or because it cannot go on.

use crate::action;
use crate::event::{Event, Proposal};
use crate::replica::answer::{Answer, Halt, ReplicaRefusal};
use crate::replica::clients::Origin;
use crate::replica::io::{Input, Output};
use crate::replica::{Phase, Replica};
use alloc::vec::Vec;

impl Replica {
    pub(super) fn shut_down(&mut self, out: &mut Vec<Output>) {
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
            self.events.push_back(Event::Shutdown);
            let refusal = Answer::Refused(ReplicaRefusal::Raft(action::Refusal::Stopped));
            self.answer_outside_the_kernel(&refusal, out);
        }
    }

    /// While it is being shut down: nothing new is applied, so whoever waits for that is told; and once
    /// nothing is under way any more, the member may go.
    pub(super) fn stop_when_done(&mut self, out: &mut Vec<Output>) {
        if self.phase != Phase::Stopping {
            return;
        }
        let reached = self.applying.reaches();
        self.tell_all(|clients, told| clients.give_up_after(reached, told), out);
        // What is still queued now has no room on the disk, and was never acknowledged.
        let is_done = !self.log.is_writing() && self.jobs.is_empty() && self.applying.is_idle();
        if is_done && self.clients.len() == 0 {
            self.halt(Halt::Stopped, out);
        }
    }

    /// Goes no further: everybody who waits is told, and nothing more leaves this member.
    pub(super) fn halt(&mut self, why: Halt, out: &mut Vec<Output>) {
        if self.phase == Phase::Halted {
            return;
        }
        self.phase = Phase::Halted;
        let refusal = Answer::Refused(ReplicaRefusal::Raft(match why {
            Halt::Stopped => action::Refusal::Stopped,
            _ => action::Refusal::Halted,
        }));
        self.answer_outside_the_kernel(&refusal, out);
        self.tell_all(|clients, told| clients.end(&refusal, told), out);
        out.push(Output::Halt(why));
    }

    fn answer_outside_the_kernel(&mut self, refusal: &Answer, out: &mut Vec<Output>) {
        let waiting = self.snapshots.take_waiting().into_iter().chain(self.reading.take_waiting());
        for request in waiting.collect::<Vec<_>>() {
            self.tell(Origin::Client(request), refusal.clone(), out);
        }
        for origin in self.forwards.take_all() {
            self.tell(origin, Answer::Unknown, out);
        }
    }

    /// This member has halted: whatever is asked is refused, and everything else is nothing to it any more.
    pub(super) fn refuse(&self, input: Input, out: &mut Vec<Output>) {
        refuse_all(input, &ReplicaRefusal::Raft(action::Refusal::Halted), out);
    }
}

/// Refuses whatever is asked.
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
