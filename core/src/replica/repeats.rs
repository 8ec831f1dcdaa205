//! Long commands that are under way, so that none of them is under way twice.
//!
//! A client that has waited for too long sends its command again, under the same number of its session. Where
//! the command is long, so is its way to the other members: were it proposed or sent on once more, the copies
//! would keep each other from arriving. So a repeat waits for the answer to the command that is under way.
//! Short commands are not looked at: a copy costs less.

use crate::machine::{Command, SessionId};
use crate::replica::clients::Origin;
use crate::types::Payload;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// Which command of which session.
type Name = (SessionId, u64);

/// Everybody who waits for long commands.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Repeats {
    last: u64,
    numbers: BTreeMap<Name, u64>,
    waiting: BTreeMap<u64, (Name, Vec<Origin>)>,
    /// How many repeats wait for a command that came before them.
    joined: usize,
}

/// Commands from this length on are looked at.
pub(super) const LONG: usize = 64 << 10;

impl Repeats {
    /// Somebody brings a command: on whose behalf to go on with it, or nobody's where it is under way.
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

    /// There is an answer: who gets it.
    pub(super) fn take(&mut self, number: u64) -> Vec<Origin> {
        let Some((name, origins)) = self.waiting.remove(&number) else { return Vec::new() };
        self.numbers.remove(&name);
        self.joined -= origins.len() - 1;
        origins
    }

    /// How many wait beside those who are counted with their commands.
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
