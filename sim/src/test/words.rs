//! What clients ask and are told, in the words of the workload; and what is said of one that panics.

use super::numbered::command_in;
use super::workload::{Request, Workload};
use crate::check::Violated;
use crate::quiet::{quietly, text_of};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine::{Answer, Command};
use std::panic::AssertUnwindSafe;

/// The property that is violated where a workload panics.
pub(super) const WORKLOAD: &str = "Workload";

/// Runs a function of the workload. The error says that `name` panicked, and with what.
pub(super) fn guarded<R>(name: &str, run: impl FnOnce() -> R) -> Result<R, String> {
    let mut returned = None;
    let ran = quietly(AssertUnwindSafe(|| returned = Some(run())));
    match (ran, returned) {
        (Ok(()), Some(returned)) => Ok(returned),
        (Err(panic), _) => Err(format!("{name} panicked: {}", text_of(&*panic))),
        (Ok(()), None) => unreachable!("what ran has returned"),
    }
}

/// Puts what is said between clients and members into words. What the workload panics at is named by that.
pub(super) trait Words {
    /// What an entry holds.
    fn say_entry(&self, entry: &Entry) -> String;

    /// A command.
    fn say_command(&self, command: &[u8]) -> String;

    /// A query.
    fn say_query(&self, query: &[u8]) -> String;

    /// The answer of the user's state machine.
    fn say_answer(&self, request: Request<'_>, answer: &[u8]) -> String;

    /// What the client of an entry is told.
    fn say_answer_of(&self, entry: &Entry, answer: &Answer) -> String {
        let (Answer::Applied(bytes), Some(command)) = (answer, command_of(entry)) else {
            return answer.to_string();
        };
        format!("applied: {}", self.say_answer(Request::Command(command), bytes))
    }
}

impl<W: Workload> Words for W {
    fn say_entry(&self, entry: &Entry) -> String {
        let EntryBody::Data(payload) = &entry.body else { return "no command".to_owned() };
        match Command::decode(payload) {
            Ok(Command::Plain(command)) => format!("command {}", self.say_command(command_in(command))),
            Ok(Command::InSession { session, sequence, command, .. }) => {
                format!(
                    "command {}, number {sequence} of session {session}",
                    self.say_command(command_in(command))
                )
            }
            Ok(command) => format!("{command:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn say_command(&self, command: &[u8]) -> String {
        describe(self, command).unwrap_or_else(|panicked| panicked)
    }

    fn say_query(&self, query: &[u8]) -> String {
        guarded("describe_query", || self.describe_query(query))
            .unwrap_or_else(|panicked| format!("{query:?} ({panicked})"))
    }

    fn say_answer(&self, request: Request<'_>, answer: &[u8]) -> String {
        guarded("describe_answer", || self.describe_answer(request, answer))
            .unwrap_or_else(|panicked| format!("{answer:?} ({panicked})"))
    }
}

/// A command in words. The error names it where the workload panics at it.
fn describe<W: Workload>(workload: &W, command: &[u8]) -> Result<String, String> {
    guarded("describe", || workload.describe(command)).map_err(|panicked| format!("{command:?} ({panicked})"))
}

/// A command must have words.
pub(super) fn has_words<W: Workload>(workload: &W, command: &[u8]) -> Result<(), Violated> {
    describe(workload, command)
        .map(drop)
        .map_err(|panicked| Violated::new(WORKLOAD, format!("command {panicked}")))
}

/// The user's command in an entry, if it holds one.
pub(super) fn command_of(entry: &Entry) -> Option<&[u8]> {
    let EntryBody::Data(payload) = &entry.body else { return None };
    match Command::decode(payload) {
        Ok(Command::Plain(command) | Command::InSession { command, .. }) => Some(command_in(command)),
        _ => None,
    }
}
