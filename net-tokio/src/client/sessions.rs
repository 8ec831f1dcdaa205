//! The session that a client has open, and its commands in flight.

use crate::sync::lock;
use kontiki_core::machine::{self, Limits, TooMany};
use kontiki_core::types::Payload;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// The session in use, if any.
pub(super) struct Sessions {
    pub(super) limits: Limits,
    pub(super) current: Mutex<Option<Arc<Session>>>,
    /// One task at a time opens a session; others wait and get the same.
    pub(super) opening: tokio::sync::Mutex<()>,
}

pub(super) struct Session {
    pub(super) books: Mutex<machine::Client>,
    /// A command has ended, and another may begin.
    pub(super) room: Notify,
}

/// A command in flight. Dropping it means that the caller has stopped waiting: it is never sent again, and
/// the session continues.
pub(super) struct Begun {
    session: Arc<Session>,
    number: u64,
}

impl Drop for Begun {
    fn drop(&mut self) {
        lock(&self.session.books).answered(self.number);
        self.session.room.notify_waiters();
    }
}

impl Sessions {
    pub(super) fn new(window: u32) -> Self {
        let limits = Limits { max_answers: window.max(1), ..Limits::default() };
        Self { limits, current: Mutex::default(), opening: tokio::sync::Mutex::default() }
    }

    pub(super) fn current(&self) -> Option<Arc<Session>> {
        lock(&self.current).clone()
    }

    pub(super) fn forget(&self, session: &Arc<Session>) {
        let mut current = lock(&self.current);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *current = None;
        }
    }
}

impl Session {
    /// Begins a command, once there is room for it.
    pub(super) async fn begin(self: &Arc<Self>, command: &[u8]) -> Begun {
        loop {
            // Before the check, so that room made meanwhile is not missed.
            let room = self.room.notified();
            let begun = lock(&self.books).begin(command);
            match begun {
                Ok((number, _)) => return Begun { session: Arc::clone(self), number },
                Err(TooMany { .. }) => room.await,
            }
        }
    }
}

impl Begun {
    /// Returns the payload to propose now.
    pub(super) fn payload(&self) -> Option<Payload> {
        lock(&self.session.books).again(self.number)
    }
}
