//! The client's session: a command that is sent repeatedly is applied once.

use super::connection::lock;
use super::{Again, Client, Error, applied};
use crate::protocol::Ask;
use kontiki_core::machine::{self, Answer, Command, Limits, TooMany};
use kontiki_core::types::Payload;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// The session in use, if any.
pub(super) struct Sessions {
    limits: Limits,
    current: Mutex<Option<Arc<Session>>>,
    /// One task at a time opens a session; others wait and get the same.
    opening: tokio::sync::Mutex<()>,
}

struct Session {
    books: Mutex<machine::Client>,
    /// A command has ended, and another may begin.
    room: Notify,
}

/// A command in flight. Dropping it means that the caller has stopped waiting: it is never sent again, and
/// the session continues.
struct Begun {
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

    fn current(&self) -> Option<Arc<Session>> {
        lock(&self.current).clone()
    }

    /// Returns the session to use; opens one if there is none.
    async fn open(&self, client: &Client) -> Result<Arc<Session>, Error> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(session) = self.current() {
            return Ok(session);
        }
        // If two are opened, the unused one expires.
        let ask = Ask::Command(Command::Register.encode());
        let opened = client.ask(ask, Again::Safe).await.map_err(nothing_done)?;
        let id = match applied(opened)? {
            (_, Answer::Opened(id)) => id,
            (_, other) => return Err(Error::Unexpected(other.to_string())),
        };
        let books = Mutex::new(machine::Client::new(id, &self.limits));
        let session = Arc::new(Session { books, room: Notify::new() });
        *lock(&self.current) = Some(Arc::clone(&session));
        Ok(session)
    }

    fn forget(&self, session: &Arc<Session>) {
        let mut current = lock(&self.current);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *current = None;
        }
    }
}

impl Session {
    /// Begins a command, once there is room for it.
    async fn begin(self: &Arc<Self>, command: &[u8]) -> Begun {
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
    fn payload(&self) -> Option<Payload> {
        lock(&self.session.books).again(self.number)
    }
}

/// See [`Client::command`].
pub(super) async fn command(client: &Client, command: &[u8]) -> Result<Payload, Error> {
    let begun_at = Instant::now();
    let rest = || client.with_deadline(client.deadline.saturating_sub(begun_at.elapsed()));
    let sessions = &client.shared.sessions;
    loop {
        let session = sessions.open(&rest()).await?;
        let Ok(begun) = timeout_at(begun_at + client.deadline, session.begin(command)).await else {
            return Err(Error::Deadline { after: begun_at.elapsed(), last: None, may_be_done: false });
        };
        let attempts = Mutex::new(0_u32);
        let make = || {
            *lock(&attempts) += 1;
            begun.payload().map(|payload| Ask::Command(payload).into())
        };
        let reply = rest().ask_each(Again::Safe, make).await;
        let (_, answer) = applied(reply?)?;
        if answer == Answer::SessionExpired {
            sessions.forget(&session);
            // The only copy of the command was not applied: it may be sent in another session.
            if *lock(&attempts) == 1 {
                continue;
            }
        }
        return answer_of(answer);
    }
}

/// See [`Client::close`].
pub(super) async fn close(client: &Client) {
    let session = lock(&client.shared.sessions.current).take();
    if let Some(session) = session {
        let ask = Ask::Command(lock(&session.books).close());
        // If it was not closed, it expires.
        let _ = timeout(CLOSE, client.ask(ask, Again::Safe)).await;
    }
}

/// Returns the state machine's answer from the outcome of a command.
pub(super) fn answer_of(answer: Answer) -> Result<Payload, Error> {
    match answer {
        Answer::Applied(answer) => Ok(answer),
        Answer::NotKept { length } => Err(Error::NotKept { length }),
        Answer::SessionExpired => Err(Error::SessionExpired),
        other => Err(Error::Unexpected(other.to_string())),
    }
}

/// A session that may be open does no harm.
fn nothing_done(error: Error) -> Error {
    match error {
        Error::Deadline { after, last, .. } => Error::Deadline { after, last, may_be_done: false },
        other => other,
    }
}

/// The time limit for closing the session.
const CLOSE: Duration = Duration::from_secs(1);
