//! Long commands in progress, so that none is proposed or forwarded twice.
//!
//! A client that has waited too long sends its command again, with the same sequence number of its session. A
//! long command takes long to replicate, and a second copy would delay both. So a repeat waits for the answer
//! to the first copy. Short commands are not checked: a second copy costs less.

use crate::machine::{Command, SessionId};
use crate::replica::origin::Origin;
use crate::types::Payload;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// A command, named by its session and sequence number.
type Name = (SessionId, u64);

/// The origins that wait for long commands.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Repeats {
    last: u64,
    numbers: BTreeMap<Name, u64>,
    waiting: BTreeMap<u64, (Name, Vec<Origin>)>,
    /// How many repeats wait for an earlier copy of their command.
    joined: usize,
}

/// The length in bytes from which on a command counts as long.
pub(super) const LONG: usize = 64 << 10;

impl Repeats {
    /// A command has arrived. Returns the origin to go on with, or `None` where the command is already in
    /// progress.
    pub(super) fn bring(&mut self, origin: Origin, payload: &Payload) -> Option<Origin> {
        let Some(name) = name(payload) else { return Some(origin) };
        if let Some((_, origins)) = self.numbers.get(&name).and_then(|number| self.waiting.get_mut(number)) {
            origins.push(origin);
            self.joined += 1;
            return None;
        }
        self.last += 1;
        self.numbers.insert(name, self.last);
        self.waiting.insert(self.last, (name, vec![origin]));
        Some(Origin::Long(self.last))
    }

    /// The command is answered. Returns all its origins.
    pub(super) fn take(&mut self, number: u64) -> Vec<Origin> {
        let Some((name, origins)) = self.waiting.remove(&number) else { return Vec::new() };
        self.numbers.remove(&name);
        self.joined -= origins.len() - 1;
        origins
    }

    /// How many repeats wait beside the first copies.
    pub(super) fn joined(&self) -> usize {
        self.joined
    }
}

fn name(payload: &Payload) -> Option<Name> {
    match Command::decode(payload) {
        Ok(Command::InSession { session, sequence, .. }) if payload.len() >= LONG => {
            Some((session, sequence))
        }
        _ => None,
    }
}
