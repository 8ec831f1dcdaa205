//! Frames between members, over TCP, with mutual TLS or in clear on loopback.
//!
//! ```text
//!  send ─► Link (queue) ─► its task: dial, introduce, write ═══════► acceptor ─► its task: read, check ─► Host::deliver
//!          one for each member and lane                    one-way    one for each connection
//! ```
//!
//! Each member dials every other: it sends on the connections it has made, and receives on those that others
//! have made to it. There is one connection for each [`Lane`], so that heartbeats, votes and acknowledgements
//! overtake entries and snapshots.
//!
//! Frames may be lost. Within one lane of one connection they stay in order; [`TransportCounters`] count the
//! lost frames by reason. No peer can block another: every queue is bounded and drops what does not fit,
//! every connection has its own task, and a connection that has not completed its handshake gets little
//! memory and little time. `wire.rs` defines the bytes.

mod counters;
mod inbound;
mod link;
mod options;
mod outbound;
mod shared;
mod slots;
mod stream;
mod wire;

pub use self::counters::{Dropped, PeerCounters, TransportCounters};
pub use self::options::{TransportOptions, TransportOptionsError};
pub use self::outbound::{ClientHello, DialError, dial};
pub use self::shared::Host;
pub use self::stream::Stream;
pub use self::wire::{HandshakeRefusal, Hello};
pub use kontiki_core::replica::Lane;
pub use kontiki_core::replica::formation::{Address, Verdict};

use self::counters::Refusals;
use self::link::{Link, Pushed};
use self::shared::{Inner, is_loopback};
use self::slots::Handshakes;
use crate::places::Places;
use crate::sync::lock;
use kontiki_core::types::{ClusterId, NodeId};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use std::{fmt, io};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The connections of one process: a handle, cheap to clone. They last until [`Self::shutdown`], or the end
/// of the runtime.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

impl Transport {
    /// Listens, and serves connections on the current runtime.
    pub async fn start(options: TransportOptions, host: Arc<dyn Host>) -> Result<Self, StartError> {
        options.check().map_err(StartError::Options)?;
        let listen = options.listen;
        if options.tls.is_none() && !options.allow_insecure && !is_loopback(listen) {
            return Err(StartError::Insecure { listen });
        }
        let failed = |error| StartError::Listen { listen, error };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let inner = Arc::new(Inner {
            local: listener.local_addr().map_err(failed)?,
            started: Instant::now(),
            runtime: Handle::current(),
            refusals: Refusals::new(options.log_interval),
            peers: Mutex::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
            clients: Places::new(options.max_connections, 0),
            members: Arc::new(Semaphore::new(options.max_connections)),
            handshakes: Handshakes::default(),
            options,
            host,
        });
        inner.spawn(inbound::listen(inner.clone(), listener));
        Ok(Self { inner })
    }

    /// Returns the address it listens on, with the actual port.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local
    }

    /// Queues a frame; never waits. Delivery is not guaranteed. Frames to one member in one lane arrive in
    /// order.
    pub fn send(&self, to: NodeId, lane: Lane, group: ClusterId, frame: &[u8]) {
        let Some(peer) = self.inner.peer(to) else { return };
        match peer.link(lane).push(|| peer.is_blocked(), group, frame, &self.inner.options) {
            Pushed::Queued => {}
            Pushed::Dropped(why) => peer.tally.dropped(why, 1),
            Pushed::Asleep => outbound::start(&self.inner, &peer, lane),
        }
    }

    /// Keeps connections to this member from now on, even without traffic: both ends then exchange addresses,
    /// and notice when the other ends.
    pub fn connect(&self, to: NodeId) {
        let peer = self.inner.named(to);
        peer.kept.store(true, Relaxed);
        outbound::start_all(&self.inner, &peer);
    }

    /// Ends the connections made to this member. Sending to it makes new ones.
    pub fn forget(&self, to: NodeId) {
        let Some(peer) = lock(&self.inner.peers).get(&to).cloned() else { return };
        peer.kept.store(false, Relaxed);
        peer.hang_up();
    }

    /// Dials this member now if it is not connected: it has a new address.
    pub fn retry(&self, to: NodeId) {
        if let Some(peer) = lock(&self.inner.peers).get(&to) {
            peer.links.iter().for_each(Link::kick);
        }
    }

    /// Sends every peer a new introduction: groups or addresses have changed. Unreachable members are dialled
    /// at once.
    pub fn rehello(&self) {
        for peer in lock(&self.inner.peers).values() {
            peer.links.iter().for_each(Link::rehello);
        }
    }

    /// Fault injection: while a member is blocked, no frame goes to it or comes from it, and its connections
    /// are closed.
    #[doc(hidden)]
    pub fn block(&self, peer: NodeId, blocked: bool) {
        let peer = self.inner.named(peer);
        peer.blocked.store(blocked, SeqCst);
        if blocked {
            peer.hang_up();
            lock(&peer.inbound).cut();
        } else if peer.kept.load(Relaxed) {
            outbound::start_all(&self.inner, &peer);
        }
    }

    /// Returns the counters.
    pub fn counters(&self) -> TransportCounters {
        let peers = lock(&self.inner.peers).clone();
        let peers = peers.into_iter().map(|(id, peer)| {
            let outbound = peer.links.iter().filter(|link| link.is_connected()).count();
            let inbound = lock(&peer.inbound).count();
            (id, PeerCounters { outbound, inbound, ..peer.tally.counters(self.inner.started) })
        });
        TransportCounters {
            refused: self.inner.refusals.counted(),
            peers: peers.collect(),
            clients: self.inner.clients.taken(),
        }
    }

    /// Ends all connections except those of clients, and waits until they and the listener are closed. Queued
    /// frames are dropped.
    pub async fn shutdown(&self) {
        let tasks = lock(&self.inner.tasks).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("local_addr", &self.inner.local).finish_non_exhaustive()
    }
}

/// The reason the transport does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The options are wrong.
    #[error(transparent)]
    Options(TransportOptionsError),
    /// Without TLS, any peer that reaches this address would be trusted.
    #[error(
        "without TLS any process that reaches {listen} could act as a member: give certificates, listen on a loopback address, or allow it explicitly"
    )]
    Insecure {
        /// The address to listen on.
        listen: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {error}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's error.
        #[source]
        error: io::Error,
    },
}
