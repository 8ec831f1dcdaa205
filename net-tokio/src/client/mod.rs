//! A client of a group: it finds the leader, and retries until it has an answer or the deadline passes.
//!
//! ```text
//!   Client ── a request ─► the connection that was good last ─► the leader, or a member that sends it on
//!             refused, and who leads is said ──────► there, at once
//!             no connection, no reply, no leader ──► the next address, after a moment
//!             the deadline ────────────────────────► Error::Deadline: what went wrong last, and whether it may be done
//! ```
//!
//! A [`Client`] is cheap to clone. All clones share one connection, with any number of requests in flight.
//! Commands use a [session](kontiki_core::machine#sessions): a command is applied once however often it is
//! sent, so a client that loses the leader in the middle of a command just retries. [`Client::kv`] is a
//! client of the key-value store of `kontiki_core`.
//!
//! ```no_run
//! use kontiki_net_tokio::client::{Client, ClientOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(["127.0.0.1:7001".to_owned(), "127.0.0.1:7002".to_owned()], None, ClientOptions::default())?;
//! client.kv().put(b"colour", b"red").await?;
//! assert_eq!(client.kv().get(b"colour").await?, Some(b"red".to_vec()));
//! client.close().await;
//! # Ok(())
//! # }
//! ```

mod backoff;
mod connection;
mod error;
mod kv;
mod options;
mod route;
mod session;
mod sessions;
#[cfg(test)]
mod tests;

pub use connection::{Broken, Dialled, Dialler, Stream};
pub use error::{Error, Failure, Part};
pub use kv::{Kv, Scanned, Swap};
pub use options::ClientOptions;

use crate::protocol::{Answer, Ask, NodeStatus, Refused, Request, Response};
use crate::tls::Tls;
use crate::transport::{self, ClientHello};
use backoff::Backoff;
use connection::{Connection, Lost};
use kontiki_core::event::ReadVia;
use kontiki_core::machine::{self, Command};
use kontiki_core::types::{LogId, Payload};
use route::Router;
use sessions::Sessions;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A client of a group. Clones share the connection and the session.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    options: ClientOptions,
    router: Router,
    sessions: Sessions,
}

/// Whether a request may be retried when its outcome is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// It changes nothing, or is applied once however often it is sent.
    Safe,
    /// It could be applied twice.
    Unsafe,
}

impl Client {
    /// Returns a client of the group with members at these addresses, each `host:port`. Nothing is sent
    /// before the first request.
    pub fn new(
        addresses: impl IntoIterator<Item = String>,
        tls: Option<Tls>,
        options: ClientOptions,
    ) -> Result<Self, Error> {
        let (hello, limit) = (ClientHello { cluster: options.cluster }, options.dial_timeout);
        let dialler: Dialler = Arc::new(move |address| {
            let tls = tls.clone();
            Box::pin(async move {
                let dialled = transport::dial(&address, tls.as_ref(), hello, limit).await;
                let (stream, _) = dialled.map_err(|error| error.to_string())?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            })
        });
        Self::with_dialler(addresses, dialler, options)
    }

    /// Returns a client that connects with its own dialler. Nothing is sent before the first request.
    pub fn with_dialler(
        addresses: impl IntoIterator<Item = String>,
        dialler: Dialler,
        options: ClientOptions,
    ) -> Result<Self, Error> {
        let addresses: Vec<_> = addresses.into_iter().collect();
        if addresses.is_empty() {
            return Err(Error::NoAddress);
        }
        let router = Router::new(addresses, dialler, &options);
        let sessions = Sessions::new(options.window);
        let deadline = options.deadline;
        Ok(Self { shared: Arc::new(Shared { options, router, sessions }), deadline })
    }

    /// Returns the same client with another deadline. Connection and session are shared.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline }
    }

    /// Returns a client of one member only, whichever member leads: the member answers requests itself,
    /// forwards them, or refuses them.
    #[must_use]
    pub fn at(&self, address: impl Into<String>) -> Self {
        let options = self.shared.options.clone();
        let router = self.shared.router.only(address.into());
        let sessions = Sessions::new(options.window);
        Self { shared: Arc::new(Shared { options, router, sessions }), deadline: self.deadline }
    }

    /// Has a command applied outside a session: one log entry for one command. If the outcome is unknown, it
    /// returns [`Error::Unknown`] and does not retry.
    pub async fn command_once(&self, command: &[u8]) -> Result<Payload, Error> {
        let ask = Ask::Command(Command::Plain(command).encode());
        let (_, answer) = applied(self.ask(ask, Again::Unsafe).await?)?;
        answer_of(answer)
    }

    /// Queries the state machine, linearizably: the answer reflects every command acknowledged before the
    /// call.
    pub async fn query(&self, query: &[u8], via: ReadVia) -> Result<Vec<u8>, Error> {
        let ask = Ask::Query { query: query.to_vec(), via };
        match self.ask(ask, Again::Safe).await? {
            Response::Answer(Answer::Read { answer, .. }) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Returns the leader's status; without a leader, any member's.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        match self.ask(Request::Status, Again::Safe).await? {
            Response::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends any request, and returns the response. It retries until the deadline where that is safe: so
    /// [`Answer::Refused`] and [`Answer::Unknown`] are never returned, but become errors.
    pub async fn ask(&self, request: impl Into<Request>, again: Again) -> Result<Response, Error> {
        let request = request.into();
        self.ask_each(again, || Some(request.clone())).await
    }

    /// Sends a request that is built anew for each attempt; `None` stops the retries.
    async fn ask_each(&self, again: Again, make: impl Fn() -> Option<Request>) -> Result<Response, Error> {
        let begun = Instant::now();
        let until = begun + self.deadline;
        let options = &self.shared.options;
        let mut backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let (mut last, mut may_be_done) = (None, false);
        while let Some(request) = make() {
            let changes =
                again == Again::Unsafe || matches!(request, Request::Ask { ask: Ask::Command(_), .. });
            let Ok(attempt) = timeout_at(until, self.attempt(request, again)).await else {
                may_be_done |= changes;
                break;
            };
            let failure = match attempt {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            may_be_done |= changes && failure.may_be_done();
            match &failure {
                Failure::Unanswered(id) if again == Again::Unsafe => return Err(Error::Unanswered(*id)),
                Failure::Refused(refused) if !refused.retry => {
                    return Err(match may_be_done {
                        true => Error::Unknown(failure),
                        false => Error::Refused(refused.clone()),
                    });
                }
                _ if may_be_done && again == Again::Unsafe => return Err(Error::Unknown(failure)),
                _ => {}
            }
            let redirected = self.shared.router.failed(&failure);
            last = Some(failure);
            let pause = backoff.next(redirected);
            if Instant::now() + pause >= until {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        Err(Error::Deadline { after: begun.elapsed(), last, may_be_done })
    }

    async fn attempt(&self, request: Request, again: Again) -> Result<Response, Failure> {
        let connection = self.shared.router.connection().await?;
        let address = || connection.address.clone();
        let replied = match again {
            Again::Safe => self.patiently(&connection, request).await?,
            // Operators' requests have no time limit but the deadline.
            Again::Unsafe => connection.request(request).await,
        };
        let response = replied.map_err(|Lost { sent, broken }| Failure::Broken {
            address: address(),
            reason: broken,
            sent,
        })?;
        match response {
            Response::Answer(Answer::Refused(refused)) => Err(Failure::Refused(refused)),
            Response::Answer(Answer::Unknown) => Err(Failure::Unknown),
            Response::Answer(Answer::Unanswered(id)) => Err(Failure::Unanswered(id)),
            Response::Answer(Answer::Applied { answer: machine::Answer::TooManyPending, .. }) => {
                Err(Failure::TooManyPending)
            }
            response => Ok(response),
        }
    }
}

impl Client {
    /// Sends a request, and waits for the reply as long as it may still arrive.
    async fn patiently(
        &self,
        connection: &Connection,
        request: Request,
    ) -> Result<Result<Response, Lost>, Failure> {
        let ClientOptions { reply_timeout, heartbeat, .. } = self.shared.options;
        let bytes = match &request {
            Request::Ask { ask: Ask::Command(payload), .. } => payload.len(),
            _ => 0,
        };
        let patience =
            reply_timeout + Duration::from_secs(1) * u32::try_from(bytes / SLOWEST).unwrap_or(u32::MAX);
        // A member that is alive answers each status poll.
        let silence = reply_timeout.max(heartbeat + heartbeat / 2);
        let begun = Instant::now();
        let mut request = pin!(connection.request(request));
        loop {
            let until = connection.gives_up_at(begun, patience, silence);
            match timeout_at(until, &mut request).await {
                Ok(replied) => return Ok(replied),
                Err(_) if connection.gives_up_at(begun, patience, silence) > until => {}
                Err(_) => {
                    let address = connection.address.clone();
                    return Err(Failure::NoReply { address, after: begun.elapsed() });
                }
            }
        }
    }
}

/// The slowest rate at which a command may travel, to the member and on to the others, in bytes per second.
const SLOWEST: usize = 64 << 10;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// The outcome of a command.
fn applied(response: Response) -> Result<(LogId, machine::Answer), Error> {
    match response {
        Response::Answer(Answer::Applied { id, answer }) => Ok((id, answer)),
        other => Err(unexpected(&other)),
    }
}

/// Returns an error for a response that does not belong to the request.
pub fn unexpected(response: &Response) -> Error {
    let what = match response {
        Response::Identity(_) => "identity",
        Response::Status(_) => "status",
        Response::Members(_) => "members",
        Response::Answer(answer) => match answer {
            Answer::NotCaughtUp(id) => return Error::NotCaughtUp(*id),
            Answer::Cancelled => return Error::Cancelled,
            Answer::NotTransferred => return Error::NotTransferred,
            Answer::Applied { .. } => "applied",
            Answer::Unanswered(_) => "unanswered",
            Answer::Read { .. } => "read",
            Answer::Reconfigured(_) => "reconfigured",
            Answer::Transferred => "transferred",
            Answer::Snapshot(_) => "snapshot",
            Answer::Entries(_) => "entries",
            Answer::Refused(Refused { code, .. }) => code,
            Answer::Unknown => "unknown",
        },
    };
    Error::Unexpected(what.to_owned())
}

/// Returns the state machine's answer from the outcome of a command.
fn answer_of(answer: machine::Answer) -> Result<Payload, Error> {
    match answer {
        machine::Answer::Applied(answer) => Ok(answer),
        machine::Answer::NotKept { length } => Err(Error::NotKept { length }),
        machine::Answer::SessionExpired => Err(Error::SessionExpired),
        other => Err(Error::Unexpected(other.to_string())),
    }
}
