//! The options of the admin port.

use crate::admin::token::Token;
use std::net::SocketAddr;
use std::time::Duration;

/// The options of the admin port.
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// The address to listen on. Port 0 takes a free one: see
    /// [`Admin::local_addr`](crate::admin::Admin::local_addr).
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
