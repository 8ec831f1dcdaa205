//! Log entries in the form that clients get.

use crate::protocol::{Content, LogEntry};
use kontiki_core::log::{Entry, EntryBody};
use kontiki_core::machine::Command;
use kontiki_core::replica::LogPage;
use kontiki_core::types::Payload;

/// Returns the entries of a page.
pub(super) fn entries(page: &LogPage) -> Vec<LogEntry> {
    let told = |entry: &Entry| LogEntry {
        id: entry.id,
        committed: entry.id.index <= page.committed,
        content: content(&entry.body),
    };
    page.entries.iter().map(told).collect()
}

fn content(body: &EntryBody) -> Content {
    match body {
        EntryBody::Blank => Content::Blank,
        EntryBody::Data(payload) => match Command::decode(payload) {
            Ok(Command::Plain(command) | Command::InSession { command, .. }) => {
                Content::Command(Payload::from(command))
            }
            Ok(Command::Register | Command::KeepAlive { .. } | Command::Close { .. }) | Err(_) => {
                Content::Session
            }
        },
        EntryBody::Config(membership) => Content::Members(membership.to_string()),
        EntryBody::Withheld => Content::Withheld,
        EntryBody::Lost => Content::Lost,
    }
}
