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
//! It makes no protocol decision: HTTP requests become a [`Request`](crate::protocol::Request), and each
//! [`Response`](crate::protocol::Response) an HTTP status.

mod backend;
mod body;
mod health;
mod options;
mod page;
mod reply;
mod routes;
mod server;
mod token;

pub use backend::{AdminBackend, BoxFuture};
pub use options::AdminOptions;
pub use token::{MAX_TOKEN, MIN_TOKEN, Token, TokenError};

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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
