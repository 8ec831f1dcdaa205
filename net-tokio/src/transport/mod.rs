//! Frames between members, over TCP, with mutual TLS or in clear on loopback.
//!
//! ```text
//!  send ─► Link (queue) ─► its task: dial, introduce, write ═══════► acceptor ─► its task: read, check ─► Host::deliver
//!          one for each member and lane                    one-way    one for each connection
//! ```
//!
//! Each member dials each other: what it sends goes by the connections that it has made, what it receives
//! comes by those that others have made to it. A member has one for each [`Lane`], so that heartbeats, votes
//! and acknowledgements overtake entries and snapshots.
//!
//! Frames may be lost, and for one lane of one connection keep their order; of what is lost
//! [`TransportCounters`] tell how much and why. Nobody waits for anybody: every queue is bounded and drops
//! what does not fit, every connection has a task of its own, and whoever has not introduced itself gets
//! little room and little time. What the bytes are is said in `wire.rs`.

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
use std::{error, fmt, io};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// Of so many members something is remembered at once, besides those that [`Transport::connect`] names.
const MAX_PEERS: usize = 1024;

/// Whom the transport works for. It is called from the transport's tasks and never under its locks; no call
/// may block.
pub trait Host: Send + Sync + 'static {
    /// How this member introduces itself now.
    fn hello(&self) -> Hello;
    /// Another member has introduced itself, or again because something changed. What it says of addresses is
    /// a hint.
    fn heard(&self, hello: &Hello);
    /// Another member looks for this one here, and introduces itself. Returns whether it has come to the
    /// right place.
    fn visited(&self, sought: NodeId, hello: &Hello) -> bool {
        sought == self.hello().id && hello.id != sought
    }
    /// Where this member may be, each as `host:port`, the most likely first; asked at each dial, and resolved
    /// then.
    fn addresses(&self, of: NodeId) -> Vec<String>;
    /// What became of dialling a member at one of these addresses: a peer that said this of itself, or
    /// nothing. Says whether it is the member.
    fn dialled(&self, of: NodeId, address: &str, found: Option<&Hello>) -> Verdict {
        let _ = address;
        if found.is_some_and(|hello| hello.id == of) { Verdict::Verified } else { Verdict::Other }
    }
    /// Another member is connected with this one, which has this address at its end of the connection.
    fn reached_at(&self, here: SocketAddr) {
        let _ = here;
    }
    /// A frame has come. `false` if it is dropped, because there is no room or no such group.
    fn deliver(&self, from: NodeId, group: ClusterId, frame: Vec<u8>) -> bool;
    /// The last connection that this member had made has ended: a hint that it is gone.
    fn broken(&self, peer: NodeId);
    /// A client has connected. The connection is the host's from here on.
    fn client(&self, stream: Stream, cluster: Option<ClusterId>, peer: SocketAddr);
}

/// The connections of one process: a handle to them, cheap to clone. They last until [`Self::shutdown`], or
/// the end of the runtime.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
}

impl Transport {
    /// Listens, and serves whoever connects. To be called in the runtime that is to do the work.
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

    /// Where it listens, with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local
    }

    /// Sends a frame, sooner or later or never; never waits. Frames to one member in one lane arrive in this
    /// order, those that arrive.
    pub fn send(&self, to: NodeId, lane: Lane, group: ClusterId, frame: &[u8]) {
        let Some(peer) = self.inner.peer(to) else { return };
        match peer.link(lane).push(&peer, group, frame, &self.inner.options) {
            Pushed::Queued => {}
            Pushed::Dropped(why) => peer.tally.dropped(why, 1),
            Pushed::Asleep => self.inner.run(&peer, lane),
        }
    }

    /// Keeps connections to this member from now on, also with nothing to say: both learn what the other
    /// knows, and notice when it ends.
    pub fn connect(&self, to: NodeId) {
        let peer = self.inner.named(to);
        peer.kept.store(true, Relaxed);
        self.inner.run_all(&peer);
    }

    /// Ends the connections that were made to this member. To send to it again makes new ones.
    pub fn forget(&self, to: NodeId) {
        let Some(peer) = lock(&self.inner.peers).get(&to).cloned() else { return };
        peer.kept.store(false, Relaxed);
        peer.hang_up();
    }

    /// Dials this member at once if it is not connected: there is a new address.
    pub fn retry(&self, to: NodeId) {
        if let Some(peer) = lock(&self.inner.peers).get(&to) {
            peer.links.iter().for_each(Link::kick);
        }
    }

    /// Tells every member anew who this is: groups or addresses have changed. Members that could not be
    /// reached are dialled at once.
    pub fn rehello(&self) {
        for peer in lock(&self.inner.peers).values() {
            peer.links.iter().for_each(Link::rehello);
        }
    }

    /// Fault injection: while blocked, nothing goes to this member or comes from it, and no connection lasts.
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

    /// What happened until now.
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

    /// Ends every connection but those that the host was given, and waits until all are closed and nothing
    /// listens. What waits to be sent is dropped.
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

/// What all tasks share.
struct Inner {
    options: TransportOptions,
    host: Arc<dyn Host>,
    local: SocketAddr,
    started: Instant,
    runtime: Handle,
    refusals: Refusals,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    /// None once everything is to end.
    tasks: Mutex<Option<JoinSet<()>>>,
    /// Places for connections of clients.
    clients: Arc<Places>,
    /// Places for connections of members.
    members: Arc<Semaphore>,
    handshakes: Handshakes,
}

impl Inner {
    /// Begins a task that ends with the transport. From any thread; none begins after the end.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = lock(&self.tasks);
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(task, &self.runtime))
    }

    fn is_stopped(&self) -> bool {
        lock(&self.tasks).is_none()
    }

    /// What there is of a member, known or not; of one that is not known, only as long as there is room.
    fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get(&id) {
            return Some(peer.clone());
        }
        if peers.len() >= MAX_PEERS {
            // Anybody may have called itself anything.
            peers.retain(|_, peer| peer.is_needed());
        }
        let room = peers.len() < MAX_PEERS;
        room.then(|| peers.entry(id).or_insert_with(|| Peer::new(id)).clone())
    }

    /// The same for a member that the host has named.
    fn named(&self, id: NodeId) -> Arc<Peer> {
        lock(&self.peers).entry(id).or_insert_with(|| Peer::new(id)).clone()
    }

    /// Has a link's task run, if it does not.
    fn run(self: &Arc<Self>, peer: &Arc<Peer>, lane: Lane) {
        peer.link(lane).run(peer, || self.spawn(outbound::run(self.clone(), peer.clone(), lane)));
    }

    fn run_all(self: &Arc<Self>, peer: &Arc<Peer>) {
        self.run(peer, Lane::Log);
        self.run(peer, Lane::Bulk);
    }

    /// Something was heard of this member just now.
    fn heard(&self, peer: &Peer, now: Instant) {
        peer.tally.heard(now - self.started);
    }
}

/// What there is of another member.
struct Peer {
    id: NodeId,
    /// Whether to be connected also with nothing to say.
    kept: AtomicBool,
    blocked: AtomicBool,
    /// What goes there, for each lane.
    links: [Link; 2],
    /// What comes from there.
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

    /// Whether connections are wanted also with nothing to say.
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

/// No lock is held where anything can panic, and what they guard is whole at every time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Why the transport does not start.
#[derive(Debug)]
pub enum StartError {
    /// The options are wrong.
    Options(TransportOptionsError),
    /// Everybody who reaches this address would be believed.
    Insecure {
        /// Where it should listen.
        listen: SocketAddr,
    },
    /// It cannot listen there.
    Listen {
        /// Where it should.
        listen: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(error) => error.fmt(f),
            Self::Insecure { listen } => write!(
                f,
                "without TLS anybody who reaches {listen} could speak as a member: give certificates, listen on a loopback address, \
                 or allow it expressly"
            ),
            Self::Listen { listen, error } => write!(f, "cannot listen on {listen}: {error}"),
        }
    }
}

impl error::Error for StartError {}
