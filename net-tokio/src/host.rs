//! What all groups of a process share: the sockets, the disk threads, and the known addresses.
//!
//! A [`Node`](crate::node::Node) makes a host of its own, unless it is configured to share one with the
//! members of other groups.

mod listen;

use crate::address_book::AddressBook;
use crate::clock::Clock;
use crate::node::handle::NodeHandle;
use crate::storage::Storage;
use crate::tls::{Reloads, Role, Tls, TlsError};
use crate::transport::{self, Address, Hello, Transport, Verdict};
use kontiki_core::replica::Lane;
use kontiki_core::replica::formation::{self, Source, is_unspecified};
use kontiki_core::types::{ClusterId, Member, NodeId};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// The sockets, disk threads and addresses of one process.
#[derive(Debug)]
pub struct Host {
    id: NodeId,
    tls: Option<Tls>,
    transport: OnceLock<Transport>,
    storage: Storage,
    book: AddressBook,
    clock: Clock,
    groups: RwLock<Groups>,
    max_requests_of_a_client: usize,
}

#[derive(Debug, Default)]
struct Groups {
    running: BTreeMap<ClusterId, Arc<NodeHandle>>,
    /// The nodes that have no group yet.
    waiting: Vec<Arc<NodeHandle>>,
}

/// The reason a host cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The transport cannot listen.
    #[error(transparent)]
    Transport(transport::StartError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The certificate is not a member's.
    #[error(transparent)]
    Tls(TlsError),
}

impl HostError {
    /// Returns whether the options are wrong or contradict one another.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Transport(transport::StartError::Options(_)) | Self::Tls(_))
    }
}

impl Host {
    /// Reads the TLS files again, and logs the result. Returns the results of this and all earlier reloads;
    /// `None` without TLS.
    pub async fn reload_tls(&self) -> Option<Reloads> {
        let tls = self.tls.clone()?;
        let read = tokio::task::spawn_blocking(move || {
            let before = tls.reloads().problem;
            let result = tls.reload(Role::Member);
            (result, before, tls.reloads())
        });
        let (result, before, reloads) = read.await.ok()?;
        match result {
            Ok(true) => tracing::info!(host = %self.id, "new TLS material: new connections use it"),
            Ok(false) => {}
            Err(error) if before.is_some_and(|before| before == error.to_string()) => {}
            Err(error) => {
                tracing::error!(host = %self.id, %error, "the new TLS material cannot be used: the old is kept");
            }
        }
        Some(reloads)
    }

    /// Returns the address it listens on.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.transport.get().map(Transport::local_addr)
    }

    /// Returns the transport, for its counters and for tests.
    pub fn transport(&self) -> Option<&Transport> {
        self.transport.get()
    }

    /// Closes the port and all connections. Shut down its nodes before.
    pub async fn shutdown(&self) {
        if let Some(transport) = self.transport.get() {
            transport.shutdown().await;
        }
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(crate) fn max_requests_of_a_client(&self) -> usize {
        self.max_requests_of_a_client
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn send(&self, to: NodeId, lane: Lane, group: ClusterId, frame: Vec<u8>) {
        if let Some(transport) = self.transport.get() {
            transport.send(to, lane, group, &frame);
        }
    }

    /// Keeps connections to the first members, and none to the second.
    pub(crate) fn connect(&self, to: &[NodeId], not: &[NodeId]) {
        if let Some(transport) = self.transport.get() {
            to.iter().for_each(|id| transport.connect(*id));
            not.iter().for_each(|id| transport.forget(*id));
        }
    }

    /// Updates the known addresses. Members with a new address are dialled at once.
    pub(crate) fn with_addresses<T>(&self, look: impl FnOnce(&mut formation::AddressBook) -> T) -> T {
        let (looked, news) = self.book.with(|book| (look(book), book.take_news()));
        if let Some(transport) = self.transport.get() {
            news.into_iter().for_each(|id| transport.retry(id));
        }
        looked
    }

    pub(crate) fn address_book(&self) -> &AddressBook {
        &self.book
    }

    /// From now on other members are told to dial this address, unless it names no host.
    fn announce(&self, text: String) {
        // Wall-clock time: it only orders two addresses of the same member.
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs().max(1));
        self.book.with(|book| book.announce(Address { text, stamp }));
    }

    /// An operator's list has this address for this host: it is advertised if no other is known.
    pub(crate) fn listed_at(&self, address: &str) {
        if self.own_address().is_none() && !is_unspecified(address) {
            self.announce(address.to_owned());
        }
    }

    /// A connection with another member ends at this local address. A host that listens on all interfaces and
    /// has no configured address to advertise, advertises this one.
    fn reached_at(&self, here: SocketAddr) {
        let Some(listens) = self.local_addr().filter(|at| at.ip().to_canonical().is_unspecified()) else {
            return;
        };
        let is_better = match self.own_address() {
            None => true,
            // A loopback address means nothing to other machines.
            Some(own) => {
                let own = own.parse::<SocketAddr>();
                own.is_ok_and(|own| own.ip().is_loopback()) && !here.ip().to_canonical().is_loopback()
            }
        };
        if is_better {
            self.announce(SocketAddr::new(here.ip().to_canonical(), listens.port()).to_string());
            if let Some(transport) = self.transport.get() {
                transport.rehello();
            }
        }
    }

    /// Returns the address at which this host can be dialled, if known.
    pub(crate) fn own_address(&self) -> Option<String> {
        self.book.with(|book| book.own().map(|own| own.text.clone()))
    }

    pub(crate) fn address_of(&self, id: NodeId) -> Option<String> {
        self.book.with(|book| book.best(id).map(str::to_owned))
    }

    /// Sets a member's address as given by an operator.
    pub(crate) fn configure(&self, id: NodeId, address: String) {
        self.with_addresses(|book| book.note(id, Address::undated(address), Source::Configured));
    }

    /// Sets the members of a group.
    pub(crate) fn expect(&self, cluster: ClusterId, members: &[Member]) {
        self.book.with(|book| book.expect(cluster, members));
    }

    pub(crate) fn last_heard_ms(&self, id: NodeId) -> Option<u64> {
        let heard = self.transport.get()?.counters().peers.get(&id)?.last_heard?;
        u64::try_from(heard.elapsed().as_millis()).ok()
    }

    /// Adds a node that has no group yet.
    pub(crate) fn await_group(&self, handle: Arc<NodeHandle>) {
        self.change(|groups| groups.waiting.push(handle));
    }

    /// Sets the group of a node.
    pub(crate) fn enter(&self, cluster: ClusterId, handle: Arc<NodeHandle>) {
        self.change(|groups| {
            groups.waiting.retain(|waiting| !Arc::ptr_eq(waiting, &handle));
            groups.running.insert(cluster, handle);
        });
    }

    /// Removes a node.
    pub(crate) fn leave(&self, handle: &Arc<NodeHandle>) {
        self.change(|groups| {
            groups.waiting.retain(|waiting| !Arc::ptr_eq(waiting, handle));
            groups.running.retain(|_, running| !Arc::ptr_eq(running, handle));
        });
        if let Some(cluster) = handle.record().cluster {
            self.book.with(|book| book.forget_group(cluster));
        }
    }

    fn change(&self, change: impl FnOnce(&mut Groups)) {
        change(&mut self.groups.write().unwrap_or_else(PoisonError::into_inner));
        if let Some(transport) = self.transport.get() {
            transport.rehello();
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Groups) -> T) -> T {
        read(&self.groups.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn hello(&self) -> Hello {
        let groups = self.read(|groups| {
            let all = groups.running.values().chain(&groups.waiting);
            all.filter_map(|handle| Some((handle.cluster()?, handle.member().incarnation))).collect()
        });
        let (own, known) = self.book.with(|book| (book.own().cloned(), book.known()));
        Hello { id: self.id, groups, address: own.unwrap_or_else(|| Address::undated("")), known }
    }

    fn heard(&self, hello: &Hello) {
        self.with_addresses(|book| book.heard(hello.id, &hello.address, &hello.known));
    }

    fn visited(&self, sought: NodeId, hello: &Hello) -> bool {
        self.with_addresses(|book| book.visited(sought, hello.id, &hello.address, &hello.known))
    }

    fn dialled(&self, of: NodeId, address: &str, found: Option<&Hello>) -> Verdict {
        let now = self.clock.now();
        self.with_addresses(|book| match found {
            Some(hello) => book.answered(of, address, hello.id, &hello.groups, now),
            None => {
                book.failed(of, address, now);
                Verdict::Other
            }
        })
    }

    /// Returns the node that a client means: the one of this group, or the only one.
    fn node_of(&self, cluster: Option<ClusterId>) -> Option<Arc<NodeHandle>> {
        self.read(|groups| match cluster {
            Some(cluster) => {
                let waiting = || groups.waiting.iter().find(|waiting| waiting.cluster() == Some(cluster));
                groups.running.get(&cluster).or_else(waiting).cloned()
            }
            None => {
                let mut all = groups.running.values().chain(&groups.waiting);
                all.next().filter(|_| all.next().is_none()).cloned()
            }
        })
    }
}
