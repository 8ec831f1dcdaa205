//! The client's session: a command that is sent repeatedly is applied once.

use crate::client::sessions::{Session, Sessions};
use crate::client::{Again, Client, Error, answer_of, applied};
use crate::protocol::Ask;
use crate::sync::lock;
use kontiki_core::machine::{self, Answer, Command};
use kontiki_core::types::Payload;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

impl Client {
    /// Has a command applied, once, and returns the state machine's answer. The first command opens a
    /// session.
    pub async fn command(&self, command: &[u8]) -> Result<Payload, Error> {
        let begun_at = Instant::now();
        let rest = || self.with_deadline(self.deadline.saturating_sub(begun_at.elapsed()));
        let sessions = &self.shared.sessions;
        loop {
            let session = open(sessions, &rest()).await?;
            let Ok(begun) = timeout_at(begun_at + self.deadline, session.begin(command)).await else {
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

    /// Closes the session, if there is one. If that fails, the session expires later.
    pub async fn close(&self) {
        let session = lock(&self.shared.sessions.current).take();
        if let Some(session) = session {
            let ask = Ask::Command(lock(&session.books).close());
            // If it was not closed, it expires.
            let _ = timeout(CLOSE, self.ask(ask, Again::Safe)).await;
        }
    }
}

/// Returns the session to use; opens one if there is none.
async fn open(sessions: &Sessions, client: &Client) -> Result<Arc<Session>, Error> {
    if let Some(session) = sessions.current() {
        return Ok(session);
    }
    let _one_at_a_time = sessions.opening.lock().await;
    if let Some(session) = sessions.current() {
        return Ok(session);
    }
    // If two are opened, the unused one expires.
    let ask = Ask::Command(Command::Register.encode());
    let opened = client.ask(ask, Again::Safe).await.map_err(nothing_done)?;
    let id = match applied(opened)? {
        (_, Answer::Opened(id)) => id,
        (_, other) => return Err(Error::Unexpected(other.to_string())),
    };
    let books = Mutex::new(machine::Client::new(id, &sessions.limits));
    let session = Arc::new(Session { books, room: Notify::new() });
    *lock(&sessions.current) = Some(Arc::clone(&session));
    Ok(session)
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
