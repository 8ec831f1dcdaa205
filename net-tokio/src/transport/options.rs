//! What the transport is told once, when it starts.

use crate::tls::Tls;
use kontiki_core::config;
use kontiki_core::replica::frame;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use std::{error, fmt};

/// How to listen and to dial, and how much of everything at most.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportOptions {
    /// Where to listen. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// The certificates. Without them everything is sent in clear, and everybody is believed.
    #[serde(skip)]
    pub tls: Option<Tls>,
    /// How often the files of the certificates are looked at: where they have changed, new connections use
    /// the new ones.
    #[serde(with = "kontiki_core::time::span")]
    pub tls_interval: Duration,
    /// Whether to go without TLS where others than this machine can listen in. Without TLS and this, only
    /// loopback addresses are listened on, dialled and answered.
    pub allow_insecure: bool,
    /// The longest body of a frame, in bytes; the same at all members: see [`frame::max_body`].
    pub max_body: usize,
    /// How many bytes may wait for each member, in each of the two lanes, those being written included. What
    /// does not fit is dropped.
    pub queue_bytes: usize,
    /// How many frames may wait, likewise.
    pub queue_frames: usize,
    /// How long to wait before dialling again after a first failure. It doubles with each further one, and of
    /// each wait a random part of up to half is left out.
    #[serde(with = "kontiki_core::time::span")]
    pub backoff_min: Duration,
    /// The longest such wait.
    #[serde(with = "kontiki_core::time::span")]
    pub backoff_max: Duration,
    /// How often to say that a connection is alive on which nothing else is said.
    #[serde(with = "kontiki_core::time::span")]
    pub keep_alive: Duration,
    /// After how much silence a connection is given up. Connections that nobody needs are closed after the
    /// same time.
    #[serde(with = "kontiki_core::time::span")]
    pub idle_timeout: Duration,
    /// How long connecting and introducing oneself may take.
    #[serde(with = "kontiki_core::time::span")]
    pub handshake_timeout: Duration,
    /// How long a frame that has begun may take to arrive; one of more than 64 KiB, for each 64 KiB of it.
    #[serde(with = "kontiki_core::time::span")]
    pub frame_timeout: Duration,
    /// How many clients may be connected at once; of more, the one that has been longest without a complete
    /// request gives way. And, apart from them, how many connections members may have made.
    pub max_connections: usize,
    /// How often at most refusals of one kind are logged.
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
    /// Says what is wrong with these values, if anything.
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
        // The lengths of frames are sent in four bytes, and what is read at once must be countable.
        if u32::try_from(self.max_body).is_err() {
            return Err(TransportOptionsError::Body(self.max_body));
        }
        Ok(())
    }
}

/// What is wrong with [`TransportOptions`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransportOptionsError {
    /// A value is zero that must not be; its name.
    Zero(&'static str),
    /// The shortest wait before dialling is longer than the longest.
    Backoff {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// Connections would be given up before they have had a chance to say that they are alive.
    Silence {
        /// How often they do.
        keep_alive: Duration,
        /// When they are given up.
        idle: Duration,
    },
    /// The longest frame does not fit into a queue.
    Queue {
        /// How many bytes do.
        bytes: usize,
        /// How many should.
        needed: usize,
    },
    /// The longest frame is longer than a frame can be; its length.
    Body(usize),
}

impl fmt::Display for TransportOptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(name) => write!(f, "{name} is zero: give it a value, or leave it out"),
            Self::Backoff { min, max } => {
                write!(f, "backoff_min is {min:?}, more than backoff_max, {max:?}: swap them")
            }
            Self::Silence { keep_alive, idle } => write!(
                f,
                "idle_timeout is {idle:?}, no more than keep_alive, {keep_alive:?}: make it several times as long"
            ),
            Self::Queue { bytes, needed } => {
                write!(
                    f,
                    "queue_bytes is {bytes}, and the longest frame takes {needed}: make it at least that"
                )
            }
            Self::Body(length) => {
                write!(f, "max_body is {length}, more than four bytes can say: make it less")
            }
        }
    }
}

impl error::Error for TransportOptionsError {}
