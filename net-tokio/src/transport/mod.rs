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
mod options;
mod outbound;
mod stream;
mod wire;

pub use self::counters::{Dropped, PeerCounters, TransportCounters};
pub use self::options::{TransportOptions, TransportOptionsError};
pub use self::outbound::{ClientHello, DialError, dial};
pub use self::stream::Stream;
pub use self::wire::{HandshakeRefusal, Hello};
pub use kontiki_core::replica::Lane;
pub use kontiki_core::replica::formation::{Address, Verdict};

use self::counters::{Refusals, Tally};
use self::inbound::{Handshakes, Slots};
use self::outbound::{Link, Pushed};
use crate::places::Places;
use kontiki_core::types::{ClusterId, NodeId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use std::{fmt, io};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// The number of peers kept in memory, besides those named to [`Transport::connect`].
const MAX_PEERS: usize = 1024;

/// The callbacks of the transport. They are called from the transport's tasks, never under its locks, and
/// must not block.
pub trait Host: Send + Sync + 'static {
    /// Returns this member's introduction.
    fn hello(&self) -> Hello;
    /// A peer has introduced itself, or has changed its introduction. Its addresses are hints.
    fn heard(&self, hello: &Hello);
    /// A peer has introduced itself and names the member it wants to reach. Returns whether this is the right
    /// member.
    fn visited(&self, sought: NodeId, hello: &Hello) -> bool {
        sought == self.hello().id && hello.id != sought
    }
    /// Returns the addresses of a member as `host:port`, the most likely first. Called at each dial; names
    /// are resolved then.
    fn addresses(&self, of: NodeId) -> Vec<String>;
    /// Reports the result of dialling one of a member's addresses: the peer's introduction, or `None`.
    /// Returns whether the peer is the wanted member.
    fn dialled(&self, of: NodeId, address: &str, found: Option<&Hello>) -> Verdict {
        let _ = address;
        if found.is_some_and(|hello| hello.id == of) { Verdict::Verified } else { Verdict::Other }
    }
    /// A peer is connected to this member, at this local address.
    fn reached_at(&self, here: SocketAddr) {
        let _ = here;
    }
    /// Takes a frame. Returns `false` if it is dropped, because there is no room or no such group.
    fn deliver(&self, from: NodeId, group: ClusterId, frame: Vec<u8>) -> bool;
    /// The last connection from this member has ended: a hint that the member is down.
    fn broken(&self, peer: NodeId);
    /// Takes over a client's connection.
    fn client(&self, stream: Stream, cluster: Option<ClusterId>, peer: SocketAddr);
}

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
        match peer.link(lane).push(&peer, group, frame, &self.inner.options) {
            Pushed::Queued => {}
            Pushed::Dropped(why) => peer.tally.dropped(why, 1),
            Pushed::Asleep => self.inner.run(&peer, lane),
        }
    }

    /// Keeps connections to this member from now on, even without traffic: both ends then exchange addresses,
    /// and notice when the other ends.
    pub fn connect(&self, to: NodeId) {
        let peer = self.inner.named(to);
        peer.kept.store(true, Relaxed);
        self.inner.run_all(&peer);
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
            self.inner.run_all(&peer);
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

/// The state shared by all tasks.
struct Inner {
    options: TransportOptions,
    host: Arc<dyn Host>,
    local: SocketAddr,
    started: Instant,
    runtime: Handle,
    refusals: Refusals,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    /// `None` after shutdown.
    tasks: Mutex<Option<JoinSet<()>>>,
    /// Slots for client connections.
    clients: Arc<Places>,
    /// Slots for member connections.
    members: Arc<Semaphore>,
    handshakes: Handshakes,
}

impl Inner {
    /// Spawns a task that ends with the transport. Callable from any thread; spawns nothing after shutdown.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = lock(&self.tasks);
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(task, &self.runtime))
    }

    fn is_stopped(&self) -> bool {
        lock(&self.tasks).is_none()
    }

    /// Returns the state of a peer. An unknown peer is only added while there is room.
    fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get(&id) {
            return Some(peer.clone());
        }
        if peers.len() >= MAX_PEERS {
            // Any connection may claim any id.
            peers.retain(|_, peer| peer.is_needed());
        }
        let room = peers.len() < MAX_PEERS;
        room.then(|| peers.entry(id).or_insert_with(|| Peer::new(id)).clone())
    }

    /// Returns the state of a member that the host has named.
    fn named(&self, id: NodeId) -> Arc<Peer> {
        lock(&self.peers).entry(id).or_insert_with(|| Peer::new(id)).clone()
    }

    /// Spawns a link's task, unless it is running.
    fn run(self: &Arc<Self>, peer: &Arc<Peer>, lane: Lane) {
        peer.link(lane).run(peer, || self.spawn(outbound::run(self.clone(), peer.clone(), lane)));
    }

    fn run_all(self: &Arc<Self>, peer: &Arc<Peer>) {
        self.run(peer, Lane::Log);
        self.run(peer, Lane::Bulk);
    }

    /// Records that this peer was heard from now.
    fn heard(&self, peer: &Peer, now: Instant) {
        peer.tally.heard(now - self.started);
    }
}

/// The state of one peer.
struct Peer {
    id: NodeId,
    /// Whether to stay connected without traffic.
    kept: AtomicBool,
    blocked: AtomicBool,
    /// The outbound links, one for each lane.
    links: [Link; 2],
    /// The inbound connections.
    inbound: Mutex<Slots>,
    tally: Tally,
}

impl Peer {
    fn new(id: NodeId) -> Arc<Self> {
        Arc::new(Self {
            id,
            kept: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            links: Default::default(),
            inbound: Mutex::default(),
            tally: Tally::default(),
        })
    }

    fn link(&self, lane: Lane) -> &Link {
        &self.links[lane as usize]
    }

    fn is_blocked(&self) -> bool {
        self.blocked.load(SeqCst)
    }

    /// Returns whether to stay connected without traffic.
    fn is_kept(&self) -> bool {
        self.kept.load(Relaxed)
    }

    fn is_needed(&self) -> bool {
        self.is_kept()
            || self.is_blocked()
            || lock(&self.inbound).count() > 0
            || self.links.iter().any(Link::is_running)
    }

    fn hang_up(&self) {
        for link in &self.links {
            self.tally.dropped(Dropped::Unreachable, link.stop());
        }
    }
}

/// No code that can panic runs under a lock, and the guarded state is always consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
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
