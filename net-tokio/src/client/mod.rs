//! A client of a group: finds the leader by itself, and tries again until it has an answer or the time is up.
//!
//! ```text
//!   Client ── a request ─► the connection that was good last ─► the leader, or a member that sends it on
//!             refused, and who leads is said ──────► there, at once
//!             no connection, no reply, no leader ──► the next address, after a moment
//!             the deadline ────────────────────────► Error::Deadline: what went wrong last, and whether it may be done
//! ```
//!
//! A [`Client`] is cheap to clone, and all its clones share one connection, on which any number of requests
//! may be under way. Commands go through a [session](kontiki_core::machine#sessions): however often one is
//! sent again it is applied once, so a client that loses a leader in the middle of a command goes on as
//! though nothing had happened. [`Client::kv`] speaks to the key-value store of `kontiki_core`.
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
mod route;
mod session;
#[cfg(test)]
mod tests;

pub use connection::{Broken, Stream};
pub use error::{Error, Failure, Part};
pub use kv::{Kv, Scanned, Swap};

use crate::protocol::{Ask, NodeStatus, Refused, Reply};
use crate::tls::Tls;
use crate::transport::{self, ClientHello};
use backoff::Backoff;
use connection::{Behaviour, Connection, Lost};
use kontiki_core::event::ReadVia;
use kontiki_core::machine::Command;
use kontiki_core::types::{ClusterId, LogId, Payload};
use route::Router;
use session::Sessions;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How a client behaves. All have a default.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The group that is meant: members of any other refuse. Where not set, any will do.
    pub cluster: Option<ClusterId>,
    /// How long a request is tried before it fails with [`Error::Deadline`]. Default 10 s.
    pub deadline: Duration,
    /// How long a member is given to reply, before another is asked: for what is answered at once. A command
    /// is given one more second for each 64 KiB, counted from when all of it is sent, unless the member falls
    /// silent: what is still under way is not sent again. Default 3 s.
    pub reply_timeout: Duration,
    /// How long a connection may take until it can be used. Default 2 s.
    pub dial_timeout: Duration,
    /// How long to wait after the first failure before trying again; it doubles up to the longest, and each
    /// is cut at random. Default 5 ms.
    pub backoff_min: Duration,
    /// The longest such wait. Default 300 ms.
    pub backoff_max: Duration,
    /// How often a member is asked how it is; after three times without a word its connection counts as
    /// broken. Default 2 s.
    pub heartbeat: Duration,
    /// How many requests may be under way on one connection; further ones wait. Default 4,096.
    pub max_requests: usize,
    /// The longest response that is accepted, in bytes. Default 64 MiB.
    pub max_response_bytes: usize,
    /// How many commands of the session may be under way: at most
    /// [`Limits::max_answers`](kontiki_core::machine::Limits::max_answers) of the group. Default 32.
    pub window: u32,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            cluster: None,
            deadline: Duration::from_secs(10),
            reply_timeout: Duration::from_secs(3),
            dial_timeout: Duration::from_secs(2),
            backoff_min: Duration::from_millis(5),
            backoff_max: Duration::from_millis(300),
            heartbeat: Duration::from_secs(2),
            max_requests: 4096,
            max_response_bytes: 64 << 20,
            window: 32,
        }
    }
}

impl ClientOptions {
    fn behaviour(&self) -> Behaviour {
        Behaviour {
            max_response_bytes: self.max_response_bytes,
            max_requests: self.max_requests.max(1),
            heartbeat: self.heartbeat.max(Duration::from_millis(1)),
        }
    }
}

/// What a dialler gives: a stream whose handshake is done, or why there is none.
pub type Dialled = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, String>> + Send>>;

/// How a connection to an address is made.
pub type Dialler = Arc<dyn Fn(String) -> Dialled + Send + Sync>;

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

/// Whether a request may be sent again when nobody knows what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Again {
    /// It changes nothing, or counts once however often it comes.
    Safe,
    /// It could take effect twice.
    Unsafe,
}

impl Client {
    /// A client of the group that the members at these addresses belong to, each `host:port`. Nothing is done
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

    /// A client of the group that the members at these addresses belong to, which connects in its own way.
    /// Nothing is done before the first request.
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

    /// The same client with another deadline: connection and session are shared.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline }
    }

    /// A client of one member alone, whoever leads: what it is asked, it answers itself, or sends on, or
    /// refuses.
    #[must_use]
    pub fn at(&self, address: impl Into<String>) -> Self {
        let options = self.shared.options.clone();
        let router = self.shared.router.only(address.into());
        let sessions = Sessions::new(options.window);
        Self { shared: Arc::new(Shared { options, router, sessions }), deadline: self.deadline }
    }

    /// Has a command applied, once, and gives the state machine's answer. The session that this takes is
    /// opened with the first command.
    pub async fn command(&self, command: &[u8]) -> Result<Payload, Error> {
        session::command(self, command).await
    }

    /// Has a command applied without a session: one entry of the log for one command, and where the outcome
    /// is not known, [`Error::Unknown`] and no second try.
    pub async fn command_once(&self, command: &[u8]) -> Result<Payload, Error> {
        let ask = Ask::Command(Command::Plain(command).encode());
        let (_, answer) = applied(self.ask(ask, Again::Unsafe).await?)?;
        session::answer_of(answer)
    }

    /// Asks the state machine, and misses nothing that was acknowledged before.
    pub async fn query(&self, query: &[u8], via: ReadVia) -> Result<Vec<u8>, Error> {
        let ask = Ask::Query { query: query.to_vec(), via };
        match self.ask(ask, Again::Safe).await? {
            Reply::Read { answer, .. } => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks how the leader is, or where there is none, any member.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        match self.ask(Ask::Status, Again::Safe).await? {
            Reply::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Asks anything, and gives the reply. What can be tried again is tried again until the deadline, as far
    /// as that is safe: so [`Reply::Refused`] and [`Reply::Unknown`] are never given, but come as errors.
    pub async fn ask(&self, ask: Ask, again: Again) -> Result<Reply, Error> {
        self.ask_each(again, || Some(ask.clone())).await
    }

    /// The key-value store that the group replicates.
    pub fn kv(&self) -> Kv {
        Kv::new(self.clone())
    }

    /// Ends the session, if there is one. Where that cannot be done, it expires by itself later.
    pub async fn close(&self) {
        session::close(self).await;
    }

    /// The same with a question that is made anew for each attempt; none when it is not wanted any more.
    async fn ask_each(&self, again: Again, make: impl Fn() -> Option<Ask>) -> Result<Reply, Error> {
        let begun = Instant::now();
        let until = begun + self.deadline;
        let options = &self.shared.options;
        let mut backoff = Backoff::new(options.backoff_min, options.backoff_max);
        let (mut last, mut may_be_done) = (None, false);
        while let Some(ask) = make() {
            let changes = again == Again::Unsafe || matches!(ask, Ask::Command(_));
            let Ok(attempt) = timeout_at(until, self.attempt(ask, again)).await else {
                may_be_done |= changes;
                break;
            };
            let failure = match attempt {
                Ok(reply) => return Ok(reply),
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

    async fn attempt(&self, ask: Ask, again: Again) -> Result<Reply, Failure> {
        let connection = self.shared.router.connection().await?;
        let address = || connection.address.clone();
        let replied = match again {
            Again::Safe => self.patiently(&connection, ask).await?,
            // What an operator asks for takes as long as it takes.
            Again::Unsafe => connection.request(ask).await,
        };
        let reply = replied.map_err(|Lost { sent, broken }| Failure::Broken {
            address: address(),
            reason: broken,
            sent,
        })?;
        match reply {
            Reply::Refused(refused) => Err(Failure::Refused(refused)),
            Reply::Unknown => Err(Failure::Unknown),
            Reply::Unanswered(id) => Err(Failure::Unanswered(id)),
            Reply::Applied { answer: kontiki_core::machine::Answer::TooManyPending, .. } => {
                Err(Failure::TooManyPending)
            }
            reply => Ok(reply),
        }
    }
}

impl Client {
    /// Asks, and waits for the reply as long as it may still be under way.
    async fn patiently(&self, connection: &Connection, ask: Ask) -> Result<Result<Reply, Lost>, Failure> {
        let ClientOptions { reply_timeout, heartbeat, .. } = self.shared.options;
        let bytes = if let Ask::Command(payload) = &ask { payload.len() } else { 0 };
        let patience =
            reply_timeout + Duration::from_secs(1) * u32::try_from(bytes / SLOWEST).unwrap_or(u32::MAX);
        // A member that is there says so with each heartbeat.
        let silence = reply_timeout.max(heartbeat + heartbeat / 2);
        let begun = Instant::now();
        let mut request = pin!(connection.request(ask));
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

/// The slowest way that a command is waited for, there and on to the other members: bytes a second.
const SLOWEST: usize = 64 << 10;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// What a command has come to.
fn applied(reply: Reply) -> Result<(LogId, kontiki_core::machine::Answer), Error> {
    match reply {
        Reply::Applied { id, answer } => Ok((id, answer)),
        other => Err(unexpected(&other)),
    }
}

/// A reply to something else than what was asked.
pub fn unexpected(reply: &Reply) -> Error {
    let what = match reply {
        Reply::Who(_) => "who",
        Reply::Applied { .. } => "applied",
        Reply::Unanswered(_) => "unanswered",
        Reply::Read { .. } => "read",
        Reply::Status(_) => "status",
        Reply::Members(_) => "members",
        Reply::Logs(_) => "logs",
        Reply::Reconfigured(_) => "reconfigured",
        Reply::NotCaughtUp(id) => return Error::NotCaughtUp(*id),
        Reply::Cancelled => return Error::Cancelled,
        Reply::Transferred => "transferred",
        Reply::NotTransferred => return Error::NotTransferred,
        Reply::Snapshot(_) => "snapshot",
        Reply::Refused(Refused { code, .. }) => code,
        Reply::Unknown => "unknown",
    };
    Error::Unexpected(what.to_owned())
}
