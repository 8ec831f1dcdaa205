//! Lets commands come once more when it is too late (see [`crate::late_commands`]).

use super::{Happening, World, position};
use crate::application::Application;
use crate::check::Checked;
use crate::network::Frame;
use crate::report::{FaultKind, Mark};
use kontiki_core::event::Event;
use kontiki_core::types::NodeId;

impl<A: Application> World<'_, A> {
    /// A client has been told what came of a command of its session.
    pub(super) fn may_come_late(&mut self, command: usize) {
        let longest_us = 4 * self.scenario.workload.timeout_us;
        let Some(late) = self.late.as_mut().filter(|_| self.stage.is_none()) else { return };
        if let Some(after) = late.comes_late(longest_us) {
            let member = late.below(self.hosts.len());
            self.schedule(self.now + after, Happening::LateCommand { member, command });
        }
    }

    /// A copy of it comes to a member.
    pub(super) fn late_command(&mut self, member: usize, command: usize) -> Checked {
        let Some(proposal) = self.clients.sent_before(command).filter(|_| self.stage.is_none()) else {
            return Ok(());
        };
        self.counters.mark(Mark::LateCommand);
        self.tell(member, Event::Propose(proposal))
    }

    /// A member sends a command on. What an earlier life of it has sent may come now, and then this once
    /// more.
    pub(super) fn sends_on(&mut self, from: usize, to: NodeId, frame: Frame) {
        self.counters.mark(Mark::CommandSentOn);
        let (to, longest_us) = (position(to), 2 * self.scenario.network.latency_max_us);
        let sender = (from, self.hosts[from].life);
        let Some(late) = &mut self.late else { return };
        let Some(earlier) = late.sent_on(sender, to, frame.clone()) else { return };
        let Some((first, then)) = late.comes_late(longest_us).map(|first| (first, late.after(longest_us)))
        else {
            return;
        };
        self.counters.mark(Mark::EarlierLifeSentOn);
        self.comes_again(to, earlier, first);
        self.comes_again(to, frame, first + then);
    }

    /// A member has started again. What was sent on to an earlier life of it may come now.
    pub(super) fn may_be_sent_on_to(&mut self, member: usize) {
        let longest_us = (self.scenario.options.election_timeout_min.as_micros() / 4) as u64;
        let Some(late) = self.late.as_mut().filter(|_| self.stage.is_none()) else { return };
        let sent = late.sent_to(member);
        let comes = |frame| Some((frame, late.comes_late(longest_us)?));
        let coming: Vec<_> = sent.into_iter().filter_map(comes).collect();
        for (frame, after) in coming {
            self.counters.mark(Mark::SentOnToEarlierLife);
            self.comes_again(member, frame, after);
        }
    }

    fn comes_again(&mut self, to: usize, frame: Frame, after: u64) {
        self.counters.fault(FaultKind::OldMessage);
        self.schedule(self.now + after, Happening::Deliver { to, frame, connection: None, flipped: false });
    }
}
