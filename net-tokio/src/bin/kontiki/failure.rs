//! How a command ends: its exit code, and what is said where it failed.

use crate::output::{Format, note, write};
use kontiki_net_tokio::client;
use serde_json::json;
use std::fmt::Display;
use std::process::ExitCode;

/// The exit codes, which scripts rely on. Wrong use exits with 2, by the parser of arguments or by us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// It is done.
    Done = 0,
    /// It is not: refused, not found, the condition does not hold.
    Not = 1,
    /// The command makes no sense.
    Usage = 2,
    /// Nobody could be reached, or the time was up; whether it is done may be unknown.
    Unreachable = 3,
    /// The member goes no further.
    Halted = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// In one word.
    pub(crate) code: String,
    /// In a sentence, with what to do.
    pub(crate) message: String,
    /// Whether what was asked for may have been done, or may yet be.
    pub(crate) may_be_done: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, code: &str, message: impl Display) -> Self {
        Self { exit, code: code.to_owned(), message: message.to_string(), may_be_done: false }
    }

    pub(crate) fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// Says it: to people on the error stream, to machines as the one object that they expect.
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
