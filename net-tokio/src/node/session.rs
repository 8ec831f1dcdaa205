//! A session of a client in the same process: each command is applied once, however often it is sent.

use crate::node::{Applied, Error, Node};
use kontiki_core::machine::{Answer, Client, Command, Limits, TooMany};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A session with exactly-once commands. It retries for as long as its caller waits: combine it with
/// [`tokio::time::timeout`].
///
/// Up to [`Limits::max_answers`] commands may be in flight at once; further ones wait. A session that is not
/// used expires after [`Limits::idle_entries`] entries of the log.
#[derive(Debug)]
pub struct Session {
    node: Node,
    client: Mutex<Client>,
    answered: Notify,
}

impl Node {
    /// Opens a session, in which each command is applied once.
    pub async fn session(&self) -> Result<Session, Error> {
        Session::open(self.clone(), &self.options().sessions).await
    }
}

impl Session {
    async fn open(node: Node, limits: &Limits) -> Result<Self, Error> {
        // If the first answer is lost, a second session is opened. The first one occupies a slot until it
        // expires.
        let applied = retried(|| async { node.apply(Command::Register.encode()).await }).await?;
        match applied.answer {
            Answer::Opened(session) => {
                let client = Mutex::new(Client::new(session, limits));
                Ok(Self { node, client, answered: Notify::new() })
            }
            other => Err(Error::NotApplied(other)),
        }
    }

    /// Has a command applied, once, and returns its answer.
    ///
    /// If the caller stops waiting, the command is not sent again: it is applied once, or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::NotApplied`] if the session has expired, [`Error::Refused`] if the command will never be
    /// accepted, and [`Error::Stopped`].
    pub async fn propose(&self, command: &[u8]) -> Result<Applied, Error> {
        let begun = loop {
            let answered = self.answered.notified();
            let begun = self.client().begin(command);
            match begun {
                Ok((number, _)) => break Begun { session: self, number },
                Err(TooMany { .. }) => answered.await,
            }
        };
        let applied = retried(|| async {
            let payload = self.client().again(begun.number).ok_or(Error::Unknown)?;
            let applied = self.node.apply(payload).await?;
            if applied.answer == Answer::TooManyPending { Err(Error::Unknown) } else { Ok(applied) }
        });
        let applied = applied.await?;
        match applied.answer {
            Answer::Applied(answer) => Ok(Applied { id: applied.id, answer }),
            other => Err(Error::NotApplied(other)),
        }
    }

    /// Closes the session. A session that is only dropped expires later.
    pub async fn close(self) -> Result<(), Error> {
        let payload = self.client().close();
        self.node.apply(payload).await.map(drop)
    }

    fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command in flight. Dropping it makes room for another.
struct Begun<'a> {
    session: &'a Session,
    number: u64,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.session.client().answered(self.number);
        self.session.answered.notify_one();
    }
}

/// Retries until there is an answer, or an error that does not pass.
async fn retried<T, F: Future<Output = Result<T, Error>>>(
    mut attempt: impl FnMut() -> F,
) -> Result<T, Error> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt().await {
            Err(error) if error.is_retryable() => {
                tracing::debug!(code = error.code(), "again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
            result => return result,
        }
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(100);
