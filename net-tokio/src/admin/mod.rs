//! The port for operators: HTTP, with JSON for programs and one page for people.
//!
//! [`serve`] opens it for a member. Whoever wants something brings the [`Token`] in the header
//! `Authorization: Bearer ...`; what changes anything is a `POST`. docs/admin.md has every endpoint with an
//! example.
//!
//! It speaks plain HTTP, so anybody on the way could read the token. It therefore listens on loopback alone,
//! unless [`AdminOptions::allow_insecure`] says otherwise; for other machines, put it behind a proxy that
//! speaks TLS.
//!
//! There is no decision in it: requests become an [`Ask`], and each [`Reply`] an HTTP status.

mod body;
mod health;
mod page;
mod reply;
mod routes;
mod server;
mod token;

pub use token::{MAX_TOKEN, MIN_TOKEN, Token, TokenError};

use crate::metrics::{Metrics, MetricsSample};
use crate::protocol::{Ask, NodeStatus, Reply, Who};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the port needs of the member.
pub trait AdminBackend: Send + Sync + 'static {
    /// What [`Ask`] asks. May take as long as it likes: it is given up after
    /// [`AdminOptions::request_timeout`].
    fn ask(&self, ask: Ask) -> BoxFuture<'_, Reply>;
    /// How the member is. Answered at once, even where its driver is stuck.
    fn status(&self) -> NodeStatus;
    /// What the member counts itself.
    fn sample(&self) -> BoxFuture<'_, MetricsSample>;
    /// The options in force, for people to read; nothing secret.
    fn options(&self) -> serde_json::Value;
    /// Who is to be reached at an address; why nobody is, in words.
    fn find<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Who, String>>;
    /// What is counted of the member. The port adds its own counts.
    fn metrics(&self) -> &Metrics;
}

/// An answer in the making.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How to open the port.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// Where to listen. Port 0 takes a free one: see [`Admin::local_addr`].
    pub listen: SocketAddr,
    /// What whoever asks must bring.
    pub token: Token,
    /// Whether to listen where other machines can reach it, without TLS: the token can be read on the way.
    /// Default off.
    pub allow_insecure: bool,
    /// Whether `/health/live` and `/health/ready` need no token. They tell little. Default on.
    pub open_health: bool,
    /// Whether `/metrics` needs no token. Default off.
    pub open_metrics: bool,
    /// How many committed entries may wait to be applied in a member that calls itself ready. Default 1,000.
    pub ready_lag: u64,
    /// The largest body of a request, in bytes. Default 16 MiB.
    pub max_body_bytes: usize,
    /// How many requests are answered at once, and connections there are, beside a few more that may ask for
    /// the member's health alone. Of more connections, the one that has been longest without a complete
    /// request gives way. Default 64.
    pub max_connections: usize,
    /// How long the head of a request may take to come, and a connection may stay idle. Default 10 s.
    pub header_timeout: Duration,
    /// How long a request may take, its body included, before it is answered with 504. Default 30 s.
    pub request_timeout: Duration,
}

impl AdminOptions {
    /// The defaults.
    pub fn new(listen: SocketAddr, token: Token) -> Self {
        Self {
            listen,
            token,
            allow_insecure: false,
            open_health: true,
            open_metrics: false,
            ready_lag: 1000,
            max_body_bytes: 16 << 20,
            max_connections: 64,
            header_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
        }
    }
}

/// Why the port could not be opened.
#[derive(Debug)]
pub enum AdminError {
    /// Other machines could reach it, and read the token on the way.
    Exposed(SocketAddr),
    /// An option is zero that must not be: which.
    Zero(&'static str),
    /// The address is not to be had.
    Bind(SocketAddr, io::Error),
}

/// The open port. Dropping it closes it.
#[derive(Debug)]
pub struct Admin {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Admin {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no more requests, waits a little for those under way, and closes everything.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the admin port ended badly");
        }
    }
}

/// Opens the port. It is served by a task of the runtime that this is called in, until the [`Admin`] is shut
/// down or dropped.
pub async fn serve(node: impl AdminBackend, options: AdminOptions) -> Result<Admin, AdminError> {
    let listen = options.listen;
    if !options.allow_insecure && !listen.ip().is_loopback() {
        return Err(AdminError::Exposed(listen));
    }
    for (name, is_zero) in [
        ("max_body_bytes", options.max_body_bytes == 0),
        ("max_connections", options.max_connections == 0),
        ("header_timeout", options.header_timeout.is_zero()),
        ("request_timeout", options.request_timeout.is_zero()),
    ] {
        if is_zero {
            return Err(AdminError::Zero(name));
        }
    }
    let listener = TcpListener::bind(listen).await.map_err(|error| AdminError::Bind(listen, error))?;
    let local_addr = listener.local_addr().map_err(|error| AdminError::Bind(listen, error))?;
    let limits = server::Limits::of(&options);
    let router = routes::router(Arc::new(routes::Shared::new(node, options)));
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(server::run(listener, router, limits, stopped));
    tracing::info!(%local_addr, "the admin port is open");
    Ok(Admin { local_addr, stop, server })
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exposed(at) => write!(
                f,
                "the admin port would be reachable at {at} without TLS, and its token be read on the way: listen on loopback (127.0.0.1) behind a proxy that speaks TLS, or allow it explicitly (allow_insecure)"
            ),
            Self::Zero(name) => write!(f, "{name} is zero, so nothing could be asked: set it to more"),
            Self::Bind(at, error) => {
                write!(
                    f,
                    "cannot listen for operators at {at}: {error}; choose a free address of this machine"
                )
            }
        }
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(_, error) => Some(error),
            Self::Exposed(_) | Self::Zero(_) => None,
        }
    }
}
