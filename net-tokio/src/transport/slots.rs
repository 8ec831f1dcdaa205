//! The inbound connections of a transport: handshakes in progress, and the connections of each member.

use crate::sync::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, oneshot};

/// The number of handshakes that may be in progress. When there are more, the oldest is dropped: a valid
/// handshake takes milliseconds.
const MAX_HANDSHAKES: usize = 128;

/// The handshakes in progress, the oldest first.
#[derive(Default, Debug)]
pub(super) struct Handshakes {
    going_on: Mutex<(u64, BTreeMap<u64, Arc<Notify>>)>,
}

impl Handshakes {
    /// Registers a handshake, and returns its number.
    pub(super) fn begin(&self) -> (u64, Arc<Notify>) {
        let mut going_on = lock(&self.going_on);
        let (next, all) = &mut *going_on;
        *next += 1;
        let give_up = Arc::new(Notify::new());
        all.insert(*next, give_up.clone());
        if all.len() > MAX_HANDSHAKES
            && let Some((_, oldest)) = all.pop_first()
        {
            oldest.notify_one();
        }
        (*next, give_up)
    }

    pub(super) fn end(&self, number: u64) {
        lock(&self.going_on).1.remove(&number);
    }
}

/// The connections that one member has made to this one, at most one for each lane.
#[derive(Default, Debug)]
pub(super) struct Slots {
    next: u64,
    /// Each with its number, and a sender that ends the connection when dropped.
    of: [Option<(u64, oneshot::Sender<()>)>; 2],
}

impl Slots {
    /// Registers a connection, in place of an older one in the same lane.
    pub(super) fn enter(&mut self, bulk: bool) -> (u64, oneshot::Receiver<()>) {
        let (cut, is_cut) = oneshot::channel();
        self.next += 1;
        self.of[usize::from(bulk)] = Some((self.next, cut));
        (self.next, is_cut)
    }

    pub(super) fn leave(&mut self, number: u64) {
        for slot in &mut self.of {
            slot.take_if(|(of, _)| *of == number);
        }
    }

    /// Ends all connections.
    pub(super) fn cut(&mut self) {
        self.of = Default::default();
    }

    /// Returns the number of connections.
    pub(super) fn count(&self) -> usize {
        self.of.iter().flatten().count()
    }
}
