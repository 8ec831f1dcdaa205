//! The state shared by the transport's tasks, and what they call.

use crate::places::Places;
use crate::sync::lock;
use crate::transport::counters::{Dropped, Refusals, Tally};
use crate::transport::link::Link;
use crate::transport::options::TransportOptions;
use crate::transport::slots::{Handshakes, Slots};
use crate::transport::stream::Stream;
use crate::transport::wire::Hello;
use kontiki_core::replica::Lane;
use kontiki_core::replica::formation::Verdict;
use kontiki_core::types::{ClusterId, NodeId};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

/// The number of peers kept in memory, besides those that the host connects to.
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

/// The state shared by all tasks.
pub(super) struct Inner {
    pub(super) options: TransportOptions,
    pub(super) host: Arc<dyn Host>,
    pub(super) local: SocketAddr,
    pub(super) started: Instant,
    pub(super) runtime: Handle,
    pub(super) refusals: Refusals,
    pub(super) peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    /// `None` after shutdown.
    pub(super) tasks: Mutex<Option<JoinSet<()>>>,
    /// Slots for client connections.
    pub(super) clients: Arc<Places>,
    /// Slots for member connections.
    pub(super) members: Arc<Semaphore>,
    pub(super) handshakes: Handshakes,
}

impl Inner {
    /// Spawns a task that ends with the transport. Callable from any thread; spawns nothing after shutdown.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = lock(&self.tasks);
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(task, &self.runtime))
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.tasks).is_none()
    }

    /// Returns the state of a peer. An unknown peer is only added while there is room.
    pub(super) fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
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
    pub(super) fn named(&self, id: NodeId) -> Arc<Peer> {
        lock(&self.peers).entry(id).or_insert_with(|| Peer::new(id)).clone()
    }

    /// Records that this peer was heard from now.
    pub(super) fn heard(&self, peer: &Peer, now: Instant) {
        peer.tally.heard(now - self.started);
    }
}

/// The state of one peer.
pub(super) struct Peer {
    pub(super) id: NodeId,
    /// Whether to stay connected without traffic.
    pub(super) kept: AtomicBool,
    pub(super) blocked: AtomicBool,
    /// The outbound links, one for each lane.
    pub(super) links: [Link; 2],
    /// The inbound connections.
    pub(super) inbound: Mutex<Slots>,
    pub(super) tally: Tally,
}

impl Peer {
    pub(super) fn new(id: NodeId) -> Arc<Self> {
        Arc::new(Self {
            id,
            kept: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            links: Default::default(),
            inbound: Mutex::default(),
            tally: Tally::default(),
        })
    }

    pub(super) fn link(&self, lane: Lane) -> &Link {
        &self.links[lane as usize]
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(SeqCst)
    }

    /// Returns whether to stay connected without traffic.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Relaxed)
    }

    pub(super) fn is_needed(&self) -> bool {
        self.is_kept()
            || self.is_blocked()
            || lock(&self.inbound).count() > 0
            || self.links.iter().any(Link::is_running)
    }

    pub(super) fn hang_up(&self) {
        for link in &self.links {
            self.tally.dropped(Dropped::Unreachable, link.stop());
        }
    }
}

pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
