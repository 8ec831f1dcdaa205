//! The configuration of a node before it is started.

use crate::host::Host;
use crate::node::NodeOptions;
use crate::node::worker::Start;
use crate::tls::Tls;
use kontiki_core::machine::StateMachine;
use kontiki_core::replica::formation::Plan;
use kontiki_core::types::{ClusterId, NodeId};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// Builds a node: its id, its directory, its addresses and how it enters its group.
///
/// See the [module](crate::node) for an example.
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
    /// Returns a builder for a node with this id and state machine. The closure makes a new state machine at
    /// each start. By default the directory is `kontiki-ID` in the current directory, and the node listens on
    /// a free port of the loopback interface.
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

    /// Sets the name of the group. Hosts with more than one group need it: requests name the group by it. All
    /// first members must have the same name, and no other group that they could reach may have it. By
    /// default the group's founder draws a random name.
    #[must_use]
    pub fn cluster(mut self, name: ClusterId) -> Self {
        self.cluster = Some(name);
        self
    }

    /// Sets the directory of the log and the snapshots. A directory belongs to one member.
    #[must_use]
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = path.into();
        self
    }

    /// Sets the address to listen on, for members and clients. Port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, at: SocketAddr) -> Self {
        self.listen = at;
        self
    }

    /// Sets the address that other members dial, as host and port, if it differs from the one listened on.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Sets the first members of a new group, including this one. Start all of them with the same list, in
    /// any order; the group begins once all have started. A member that is already in a group uses the
    /// addresses as hints, which it tries before those that it remembers.
    #[must_use]
    pub fn peers(mut self, members: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        self.plan = Plan::Found(members.into_iter().collect());
        self
    }

    /// Joins the group of the member at this address. A member that is already in a group, or was removed
    /// from one, does not ask to be added again; it only asks there for the other members' addresses.
    #[must_use]
    pub fn join(mut self, seed: impl Into<String>) -> Self {
        self.plan = Plan::Join(seed.into());
        self
    }

    /// Sets all options that have a default.
    #[must_use]
    pub fn options(mut self, options: NodeOptions) -> Self {
        self.options = options;
        self
    }

    /// Enables mutual TLS, for members and clients. Without it, a node listens on the loopback interface
    /// only, unless the options allow more.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Runs the node on this host, which shares its sockets and threads with the members of other groups. The
    /// node then does not listen itself.
    #[must_use]
    pub fn on(mut self, host: Arc<Host>) -> Self {
        self.host = Some(host);
        self
    }

    /// Records the member's inputs into a file of at most this many bytes, for `kontiki-sim replay`. The
    /// recording contains the commands.
    #[must_use]
    pub fn record(mut self, file: impl Into<PathBuf>, max_bytes: u64) -> Self {
        self.record = Some((file.into(), max_bytes));
        self
    }
}
