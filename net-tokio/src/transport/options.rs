//! The transport's options.

use crate::tls::Tls;
use kontiki_core::config;
use kontiki_core::replica::frame;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How to listen and to dial, and the transport's limits.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportOptions {
    /// The address to listen on. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificates. Without them all traffic is in clear, and every peer is trusted.
    #[serde(skip)]
    pub tls: Option<Tls>,
    /// How often the certificate files are checked: when they change, new connections use the new ones.
    #[serde(with = "kontiki_core::time::span")]
    pub tls_interval: Duration,
    /// Whether to go without TLS on a network. Otherwise, without TLS only loopback addresses are listened
    /// on, dialled and answered.
    pub allow_insecure: bool,
    /// The longest body of a frame, in bytes; the same on all members: see [`frame::max_body`].
    pub max_body: usize,
    /// The bytes that may be queued for each member in each of the two lanes, including those being written.
    /// Further frames are dropped.
    pub queue_bytes: usize,
    /// The number of frames that may be queued, likewise.
    pub queue_frames: usize,
    /// The delay before dialling again after a first failure. It doubles with each further failure, and each
    /// delay is shortened at random by up to half.
    #[serde(with = "kontiki_core::time::span")]
    pub backoff_min: Duration,
    /// The longest such delay.
    #[serde(with = "kontiki_core::time::span")]
    pub backoff_max: Duration,
    /// The interval of keep-alives on a connection without other traffic.
    #[serde(with = "kontiki_core::time::span")]
    pub keep_alive: Duration,
    /// The silence after which a connection is closed. Connections that are not needed are closed after the
    /// same time.
    #[serde(with = "kontiki_core::time::span")]
    pub idle_timeout: Duration,
    /// The time limit for connecting and the handshake.
    #[serde(with = "kontiki_core::time::span")]
    pub handshake_timeout: Duration,
    /// The time limit for a frame that has begun to arrive; for one longer than 64 KiB, for each 64 KiB of
    /// it.
    #[serde(with = "kontiki_core::time::span")]
    pub frame_timeout: Duration,
    /// The number of connected clients: when there are more, the one that has waited longest for a complete
    /// request is closed. The number of connections from members has the same limit, counted separately.
    pub max_connections: usize,
    /// The shortest interval between log lines for refusals of one kind.
    #[serde(with = "kontiki_core::time::span")]
    pub log_interval: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            tls_interval: Duration::from_secs(10),
            allow_insecure: false,
            max_body: frame::max_body(&config::Options::default()),
            queue_bytes: 32 << 20,
            queue_frames: 1 << 16,
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            keep_alive: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(3),
            frame_timeout: Duration::from_secs(20),
            max_connections: 1024,
            log_interval: Duration::from_secs(10),
        }
    }
}

impl TransportOptions {
    /// Checks these values.
    pub fn check(&self) -> Result<(), TransportOptionsError> {
        let zero = [
            ("backoff_min", self.backoff_min.is_zero()),
            ("tls_interval", self.tls_interval.is_zero()),
            ("keep_alive", self.keep_alive.is_zero()),
            ("handshake_timeout", self.handshake_timeout.is_zero()),
            ("frame_timeout", self.frame_timeout.is_zero()),
            ("max_connections", self.max_connections == 0),
            ("max_body", self.max_body == 0),
            ("queue_frames", self.queue_frames == 0),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Err(TransportOptionsError::Zero(name));
        }
        if self.backoff_min > self.backoff_max {
            return Err(TransportOptionsError::Backoff { min: self.backoff_min, max: self.backoff_max });
        }
        if self.idle_timeout <= self.keep_alive {
            return Err(TransportOptionsError::Silence {
                keep_alive: self.keep_alive,
                idle: self.idle_timeout,
            });
        }
        let needed = self.max_body.saturating_add(super::wire::HEAD);
        if self.queue_bytes < needed {
            return Err(TransportOptionsError::Queue { bytes: self.queue_bytes, needed });
        }
        // Frame lengths are sent in four bytes, and a single read must be countable.
        if u32::try_from(self.max_body).is_err() {
            return Err(TransportOptionsError::Body(self.max_body));
        }
        Ok(())
    }
}

/// What is wrong with [`TransportOptions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportOptionsError {
    /// A value is zero that must not be; its name.
    #[error("{0} is zero: give it a value, or leave it out")]
    Zero(&'static str),
    /// The shortest backoff is longer than the longest.
    #[error("backoff_min is {min:?}, more than backoff_max, {max:?}: swap them")]
    Backoff {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Connections would time out before their first keep-alive.
    #[error(
        "idle_timeout is {idle:?}, no more than keep_alive, {keep_alive:?}: make it several times as long"
    )]
    Silence {
        /// The keep-alive interval.
        keep_alive: Duration,
        /// The idle timeout.
        idle: Duration,
    },
    /// The longest frame does not fit into a queue.
    #[error("queue_bytes is {bytes}, and the longest frame takes {needed}: make it at least that")]
    Queue {
        /// The size of the queue in bytes.
        bytes: usize,
        /// The size required.
        needed: usize,
    },
    /// The limit on frames exceeds the protocol's; its length.
    #[error("max_body is {0}, more than four bytes can say: make it less")]
    Body(usize),
}
