//! The admin port: HTTP, with JSON for programs and a status page for people.
//!
//! [`serve`] opens it for a member. Clients authenticate with the [`Token`], in the header `Authorization:
//! Bearer ...`. Requests with side effects are `POST`. docs/admin.md documents every endpoint with an
//! example.
//!
//! The port speaks plain HTTP, so the token could be read on the network. It therefore listens on loopback
//! only, unless [`AdminOptions::allow_insecure`] is set; for access from other machines, put it behind a TLS
//! proxy.
//!
//! It makes no protocol decision: HTTP requests become a [`Request`], and each [`Response`] an HTTP status.

mod body;
mod health;
mod page;
mod reply;
mod routes;
mod server;
mod token;

pub use token::{MAX_TOKEN, MIN_TOKEN, Token, TokenError};

use crate::metrics::{Metrics, MetricsSample};
use crate::protocol::{NodeStatus, Request, Response, Who};
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
    /// Answers a request. It may take any time: the port gives up after [`AdminOptions::request_timeout`].
    fn ask(&self, request: Request) -> BoxFuture<'_, Response>;
    /// Returns the member's status. Answers at once, even if the driver is stuck.
    fn status(&self) -> NodeStatus;
    /// Returns the member's own counters.
    fn sample(&self) -> BoxFuture<'_, MetricsSample>;
    /// Returns the options in force, for people; without secrets.
    fn options(&self) -> serde_json::Value;
    /// Returns the identity of the member at an address, or why it is unknown.
    fn find<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Who, String>>;
    /// Returns the member's metrics. The port adds its own counters.
    fn metrics(&self) -> &Metrics;
}

/// A pending answer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The options of the admin port.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// The address to listen on. Port 0 takes a free one: see [`Admin::local_addr`].
    pub listen: SocketAddr,
    /// The token that clients must send.
    pub token: Token,
    /// Whether to listen on a network without TLS, where the token can be read. Default off.
    pub allow_insecure: bool,
    /// Whether `/health/live` and `/health/ready` need no token. They reveal little. Default on.
    pub open_health: bool,
    /// Whether `/metrics` needs no token. Default off.
    pub open_metrics: bool,
    /// The most committed entries that may wait to be applied for `/health/ready` to succeed. Default 1,000.
    pub ready_lag: u64,
    /// The largest request body, in bytes. Default 16 MiB.
    pub max_body_bytes: usize,
    /// The most requests answered at once, which is also the most connections; a few more are reserved for
    /// health checks. When there are more connections, the one that has waited longest for a complete request
    /// is closed. Default 64.
    pub max_connections: usize,
    /// The time limit for a request's head, and for an idle connection. Default 10 s.
    pub header_timeout: Duration,
    /// The time limit for a request, including its body; after it, the answer is 504. Default 30 s.
    pub request_timeout: Duration,
}

impl AdminOptions {
    /// Returns the default options for this address and token.
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

/// The reason the port could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Other machines could reach the port, and read the token on the network.
    #[error(
        "the admin port would be reachable at {0} without TLS, where its token can be read: listen on loopback (127.0.0.1) behind a proxy that speaks TLS, or allow it explicitly (allow_insecure)"
    )]
    Exposed(SocketAddr),
    /// An option is zero that must not be; its name.
    #[error("{0} is zero, so no request could succeed: set it to 1 or more")]
    Zero(&'static str),
    /// The address cannot be listened on.
    #[error("cannot open the admin port at {0}: {1}: choose a free address of this machine")]
    Bind(SocketAddr, #[source] io::Error),
}

/// The open port. Dropping it closes it.
#[derive(Debug)]
pub struct Admin {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Admin {
    /// Returns the address it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Accepts no more requests, waits briefly for those in progress, and closes all connections.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the admin port's task has panicked");
        }
    }
}

/// Opens the port. A task on the current runtime serves it, until the [`Admin`] is shut down or dropped.
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
