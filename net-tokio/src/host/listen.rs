//! The start of a host, and what its transport calls. Apart from the host itself, which the nodes use,
//! because this uses the nodes.

use crate::address_book::AddressBook;
use crate::clock::Clock;
use crate::host::{Host, HostError};
use crate::node::service;
use crate::storage::Storage;
use crate::tls::{Role, Tls};
use crate::transport::{self, Address, Hello, Stream, Transport, Verdict};
use kontiki_core::replica::frame;
use kontiki_core::types::{ClusterId, NodeId};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, RwLock, Weak};
use std::time::Duration;

impl Host {
    /// Binds the port and begins to listen. `advertise` is the address that other members dial, if it differs
    /// from the one listened on.
    pub async fn start(
        id: NodeId,
        listen: SocketAddr,
        advertise: Option<String>,
        tls: Option<Tls>,
        options: &crate::node::NodeOptions,
    ) -> Result<Arc<Self>, HostError> {
        if let Some(tls) = &tls {
            tls.check(Role::Member).map_err(HostError::Tls)?;
        }
        let storage = Storage::start(&format!("kontiki {id}")).map_err(HostError::Thread)?;
        let host = Arc::new(Self {
            id,
            tls: tls.clone(),
            transport: OnceLock::new(),
            storage,
            book: AddressBook::new(id),
            clock: Clock::start(),
            groups: RwLock::default(),
            max_requests_of_a_client: options.max_requests_of_a_client,
        });
        let max_body = options.transport.max_body.max(frame::max_body(&options.raft));
        let sockets = transport::TransportOptions { listen, tls, max_body, ..options.transport.clone() };
        let calls = Arc::new(Calls { id, host: Arc::downgrade(&host) });
        let transport = Transport::start(sockets, calls).await.map_err(HostError::Transport)?;
        host.announce(advertise.unwrap_or_else(|| transport.local_addr().to_string()));
        host.transport.get_or_init(|| transport);
        if host.tls.is_some() {
            tokio::spawn(watch_tls(Arc::downgrade(&host), options.transport.tls_interval));
        }
        Ok(host)
    }
}

/// Checks periodically whether the TLS files have changed, while the host exists.
async fn watch_tls(host: Weak<Host>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(host) = host.upgrade() else { return };
        host.reload_tls().await;
    }
}

/// The transport's callbacks. They hold no strong reference to the host, which owns the transport.
struct Calls {
    id: NodeId,
    host: Weak<Host>,
}

impl transport::Host for Calls {
    fn hello(&self) -> Hello {
        self.host.upgrade().map_or_else(
            || {
                let address = Address::undated("");
                Hello { id: self.id, groups: Vec::new(), address, known: Vec::new() }
            },
            |host| host.hello(),
        )
    }

    fn heard(&self, hello: &Hello) {
        if let Some(host) = self.host.upgrade() {
            host.heard(hello);
        }
    }

    fn visited(&self, sought: NodeId, hello: &Hello) -> bool {
        self.host.upgrade().is_some_and(|host| host.visited(sought, hello))
    }

    fn addresses(&self, of: NodeId) -> Vec<String> {
        self.host.upgrade().map(|host| host.book.with(|book| book.to_dial(of))).unwrap_or_default()
    }

    fn dialled(&self, of: NodeId, address: &str, found: Option<&Hello>) -> Verdict {
        self.host.upgrade().map_or(Verdict::Other, |host| host.dialled(of, address, found))
    }

    fn reached_at(&self, here: SocketAddr) {
        if let Some(host) = self.host.upgrade() {
            host.reached_at(here);
        }
    }

    fn deliver(&self, _: NodeId, group: ClusterId, frame: Vec<u8>) -> bool {
        let Some(host) = self.host.upgrade() else { return false };
        let handle = host.read(|groups| groups.running.get(&group).cloned());
        handle.is_some_and(|handle| handle.deliver(frame))
    }

    fn broken(&self, peer: NodeId) {
        if let Some(host) = self.host.upgrade() {
            let all: Vec<_> = host.read(|groups| groups.running.values().cloned().collect());
            all.iter().for_each(|handle| handle.broken(peer));
        }
    }

    fn client(&self, stream: Stream, cluster: Option<ClusterId>, peer: SocketAddr) {
        let Some(host) = self.host.upgrade() else { return };
        let Some(handle) = host.node_of(cluster) else {
            tracing::debug!(%peer, "a client of another group");
            return;
        };
        tokio::spawn(async move { service::serve(stream, &handle, &host).await });
    }
}
