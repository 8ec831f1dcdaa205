//! How a node is described before it is started.

use crate::host::Host;
use crate::node::worker::Start;
use crate::node::{Node, NodeOptions, StartError};
use crate::tls::Tls;
use kontiki_core::machine::StateMachine;
use kontiki_core::replica::formation::Plan;
use kontiki_core::types::{ClusterId, NodeId};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that makes a node: who it is, where it lives, how it comes to its group.
///
/// See [`Node`] for an example.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(super) id: NodeId,
    pub(super) machine: Start,
    pub(super) cluster: Option<ClusterId>,
    pub(super) directory: PathBuf,
    pub(super) listen: SocketAddr,
    pub(super) advertise: Option<String>,
    pub(super) plan: Plan,
    pub(super) options: NodeOptions,
    pub(super) tls: Option<Tls>,
    pub(super) host: Option<Arc<Host>>,
    pub(super) record: Option<(PathBuf, u64)>,
}

impl Builder {
    /// A node of this id, with this state machine, which is made anew at each start. Its directory is
    /// `kontiki-ID` where the process runs, unless told, and it listens on a free port of the loopback
    /// interface.
    pub fn new<S: StateMachine>(id: NodeId, machine: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self {
            id,
            machine: Start::of(machine),
            cluster: None,
            directory: PathBuf::from(format!("kontiki-{id}")),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertise: None,
            plan: Plan::Resume,
            options: NodeOptions::default(),
            tls: None,
            host: None,
            record: None,
        }
    }

    /// The name of its group, for hosts with more than one: what is asked there says by it which group is
    /// meant. The first members must all be given the same, and no other group that they could meet may have
    /// it. Where it is not set, the group's founder draws one.
    #[must_use]
    pub fn cluster(mut self, name: ClusterId) -> Self {
        self.cluster = Some(name);
        self
    }

    /// Where its log and its snapshots are. One directory is one member's.
    #[must_use]
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = path.into();
        self
    }

    /// Where members and clients reach it. Port 0 is any that is free.
    #[must_use]
    pub fn listen(mut self, at: SocketAddr) -> Self {
        self.listen = at;
        self
    }

    /// What it tells others to dial, host and port, where that is not what it listens on.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// The first members of a new group, this one among them. All of them are started with the same list, in
    /// any order; once all are there, the group begins. A member that is in a group already takes the
    /// addresses for hints that are tried before those that it remembers.
    #[must_use]
    pub fn peers(mut self, members: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        self.plan = Plan::Found(members.into_iter().collect());
        self
    }

    /// Become a member of the group that this address belongs to. A member that is in a group already, or was
    /// removed from one, does not ask to be added again; it asks at this address where the others are.
    #[must_use]
    pub fn join(mut self, seed: impl Into<String>) -> Self {
        self.plan = Plan::Join(seed.into());
        self
    }

    /// All settings that have a default.
    #[must_use]
    pub fn options(mut self, options: NodeOptions) -> Self {
        self.options = options;
        self
    }

    /// Mutual TLS, for members and clients alike. Without it, a node listens on the loopback interface alone,
    /// unless the options allow more.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Live on this host, and share its sockets and threads with the members of other groups. Such a node
    /// does not listen itself.
    #[must_use]
    pub fn on(mut self, host: Arc<Host>) -> Self {
        self.host = Some(host);
        self
    }

    /// Keep what the member is told in a file of at most so many bytes, to be replayed by `kontiki-sim
    /// replay`. Commands are in it.
    #[must_use]
    pub fn record(mut self, file: impl Into<PathBuf>, max_bytes: u64) -> Self {
        self.record = Some((file.into(), max_bytes));
        self
    }

    /// Starts the node. Returns once its directory is open and its port is bound; how far it is on its way
    /// into the group says its [`status`](Node::status), and [`ready`](Node::ready) waits for it.
    pub async fn start(&self) -> Result<Node, StartError> {
        let node = Node::new(self.clone());
        node.start().await?;
        Ok(node)
    }
}
