//! What becomes of messages, for those who watch the run. Nothing here changes what happens, or its trace
//! hash.

use super::World;
use crate::application::Application;
use crate::fate::{Fate, Loss};
use crate::trace::{Commands, Traced};
use kontiki_core::message::Message;
use kontiki_core::replica::frame::{self, Envelope};
use kontiki_core::types::Payload;

impl<A: Application> World<'_, A> {
    /// The number of the message that is sent now.
    pub(super) fn numbered(&mut self, message: impl FnOnce() -> Option<Message>) -> u64 {
        self.counters.messages += 1;
        let number = self.counters.messages;
        if self.tracer.is_some()
            && let Some(message) = message()
        {
            self.sent.insert(number, message);
        }
        number
    }

    /// The message between kernels that a frame of a replica holds.
    pub(super) fn message_of(&self, bytes: &[u8]) -> Option<Message> {
        let decoded = frame::decode(bytes, u8::MAX, frame::max_body(&self.scenario.options)).ok()?;
        match decoded.envelope {
            Envelope::Raft(message) => Some(message),
            Envelope::Replica(_) => None,
        }
    }

    /// A member crashes before a frame leaves.
    pub(super) fn trace_unsent(&mut self, bytes: &[u8]) {
        if self.tracer.is_some()
            && let Some(message) = self.message_of(bytes)
        {
            self.sent.insert(0, message);
            self.trace_fate(0, || Fate::Lost(Loss::SenderCrashed));
        }
    }

    /// Tells the tracer what becomes of a message. Frames without a message between kernels have no fate.
    pub(super) fn trace_fate(&mut self, number: u64, fate: impl FnOnce() -> Fate) {
        let Some(tracer) = &mut self.tracer else { return };
        let Some(message) = self.sent.get(&number) else { return };
        let (application, is_full) = (&self.clients.application, self.scenario.replica.is_some());
        let show = |payload: &Payload| super::step::show(application, is_full, payload);
        let (at, show) = (self.now, Commands(&show));
        tracer(&Traced::Message { at, number, message, fate: &fate(), show });
    }
}
