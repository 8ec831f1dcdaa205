//! How a member ends: shut down, or because it cannot go on.

use crate::action;
use crate::event::{Event, Proposal};
use crate::replica::Replica;
use crate::replica::answer::{Answer, Halt, ReplicaRefusal};
use crate::replica::clients::Origin;
use crate::replica::io::{Input, Output};
use crate::replica::phase::Phase;
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

    /// Goes on with a shutdown. Nothing new is applied, so requests that wait for it are answered. Once no
    /// job is in progress, the member halts.
    pub(super) fn stop_when_done(&mut self, out: &mut Vec<Output>) {
        if self.phase != Phase::Stopping {
            return;
        }
        let reached = self.applying.reaches();
        self.tell_all(|clients, told| clients.give_up_after(reached, told), out);
        // The writes that are still queued have no space on the disk, and were never acknowledged.
        let is_done = !self.log.is_writing() && self.jobs.is_empty() && self.applying.is_idle();
        if is_done && self.clients.len() == 0 {
            self.halt(Halt::Stopped, out);
        }
    }

    /// Halts the member: every waiting request is answered, and the member sends nothing more.
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

    /// Handles an input of a halted member: requests are refused, and any other input is ignored.
    pub(super) fn refuse(&self, input: Input, out: &mut Vec<Output>) {
        refuse_all(input, &ReplicaRefusal::Raft(action::Refusal::Halted), out);
    }
}

/// Refuses a request.
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
