//! The end of a command: its exit code, and its error message.

use crate::output::{Format, note, write};
use kontiki_net_tokio::client;
use serde_json::json;
use std::fmt::Display;
use std::process::ExitCode;

/// The exit codes, which scripts rely on. Wrong use exits with 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// The command succeeded.
    Done = 0,
    /// The request was refused, or the condition does not hold, or nothing was found.
    Not = 1,
    /// The command line is invalid.
    Usage = 2,
    /// No member could be reached, or the time limit passed; the outcome may be unknown.
    Unreachable = 3,
    /// The member halted.
    Halted = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The reason a command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The reason as one word.
    pub(crate) code: String,
    /// The reason as a sentence, with what to do.
    pub(crate) message: String,
    /// Whether the request may have taken effect, or may still.
    pub(crate) may_be_done: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &str, message: impl Display) -> Self {
        Self { exit, code: code.to_owned(), message: message.to_string(), may_be_done: false }
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Prints it: as text on the error stream, or as one JSON object.
    pub(crate) fn report(&self, format: Format) {
        match format {
            Format::Human => note(&format!("error: {}", self.message)),
            Format::Json => {
                let outcome = if self.may_be_done { "unknown" } else { "not_done" };
                let error = json!({ "code": self.code, "message": self.message, "outcome": outcome });
                write(format!("{}\n", json!({ "error": error })).as_bytes());
            }
        }
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        use client::Error;
        let exit = match error {
            Error::NoAddress => Exit::Usage,
            Error::Deadline { .. }
            | Error::Unknown(_)
            | Error::Unanswered(_)
            | Error::SessionExpired
            | Error::Unexpected(_) => Exit::Unreachable,
            _ => Exit::Not,
        };
        let (code, may_be_done) = (error.code().to_owned(), error.may_be_done());
        Self { exit, code, message: error.to_string(), may_be_done }
    }
}
