//! The options of a client.

use crate::client::connection::Behaviour;
use kontiki_core::types::ClusterId;
use std::time::Duration;

/// The options of a client, all with defaults.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The group: members of other groups refuse. `None` accepts any group.
    pub cluster: Option<ClusterId>,
    /// The time limit of a request, with retries; then it fails with
    /// [`Error::Deadline`](crate::client::Error::Deadline). Default 10 s.
    pub deadline: Duration,
    /// The time limit for a reply from one member, before another is tried. A command gets one more second
    /// for each 64 KiB, counted from when all of it is sent, unless the member falls silent: a command in
    /// transmission is not sent again. Default 3 s.
    pub reply_timeout: Duration,
    /// The time limit for connecting and the handshake. Default 2 s.
    pub dial_timeout: Duration,
    /// The delay after the first failure. It doubles up to the longest, and each delay is shortened at
    /// random. Default 5 ms.
    pub backoff_min: Duration,
    /// The longest such delay. Default 300 ms.
    pub backoff_max: Duration,
    /// The interval of status polls; after three without an answer the connection counts as broken. Default 2
    /// s.
    pub heartbeat: Duration,
    /// The most requests in flight on one connection; further ones wait. Default 4,096.
    pub max_requests: usize,
    /// The longest accepted response, in bytes. Default 64 MiB.
    pub max_response_bytes: usize,
    /// The most commands of the session in flight: at most
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
    pub(super) fn behaviour(&self) -> Behaviour {
        Behaviour {
            max_response_bytes: self.max_response_bytes,
            max_requests: self.max_requests.max(1),
            heartbeat: self.heartbeat.max(Duration::from_millis(1)),
        }
    }
}
