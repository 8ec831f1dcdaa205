//! The client's session: what makes a command that is sent again count once.

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
    /// Only one opens a session at a time; others wait and get the same.
    opening: tokio::sync::Mutex<()>,
}

struct Session {
    books: Mutex<machine::Client>,
    /// A command is over, and another may begin.
    room: Notify,
}

/// A command under way. Whoever gives up waiting for it says so by dropping this: it will never be sent
/// again, and the session goes on.
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

    /// The session to use; a new one where there is none.
    async fn open(&self, client: &Client) -> Result<Arc<Session>, Error> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let _one_at_a_time = self.opening.lock().await;
        if let Some(session) = self.current() {
            return Ok(session);
        }
        // One that is opened twice does no harm: the other is never used, and expires.
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
            // Before looking, so that no room that is made meanwhile is missed.
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
    /// What to propose, as of now.
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
            begun.payload().map(Ask::Command)
        };
        let reply = rest().ask_each(Again::Safe, make).await;
        let (_, answer) = applied(reply?)?;
        if answer == Answer::SessionExpired {
            sessions.forget(&session);
            // The only copy of the command that there ever was has just not been applied: it may go into
            // another session.
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
        // Whether it was closed or not: it expires.
        let _ = timeout(CLOSE, client.ask(ask, Again::Safe)).await;
    }
}

/// The state machine's answer, in what became of a command.
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

/// How long the end of a session is waited for.
const CLOSE: Duration = Duration::from_secs(1);
