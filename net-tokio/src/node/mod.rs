//! A member over real sockets and files.
//!
//! ```
//! use kontiki_core::kv::{self, Kv};
//! use kontiki_core::types::NodeId;
//! use kontiki_net_tokio::node::Builder;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = std::env::temp_dir().join(format!("kontiki-node-{}", std::process::id()));
//! let id = NodeId::new(1).expect("not zero");
//! // A group of one. Name three, and start each of them with the same list.
//! let node = Builder::new(id, Kv::default).directory(&directory).peers([(id, String::new())]).start().await?;
//! node.ready().await?;
//!
//! let session = node.session().await?;
//! session.propose(&kv::Command::Put { key: b"colour", value: b"red" }.encode()).await?;
//! let answer = node.read(kv::Query::Get { key: b"colour" }.encode()).await?;
//! assert_eq!(kv::Reply::decode(&answer), Ok(kv::Reply::Value(Some(b"red".to_vec()))));
//! node.shutdown().await;
//! # std::fs::remove_dir_all(&directory)?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "admin")]
mod admin_backend;
mod begin;
mod builder;
mod committed;
mod driver;
mod event;
mod failure;
pub(crate) mod handle;
mod log;
mod options;
pub(crate) mod service;
mod session;
mod worker;

pub use builder::Builder;
pub use committed::Committed;
pub use event::NodeCounters;
pub use failure::{Error, ShutdownError, Unended};
pub use options::NodeOptions;
pub use session::Session;

use crate::clock::Clock;
use crate::disk::{self, FileDisk};
use crate::host::{Host, HostError};
use crate::identity::{self, IdentityError};
use crate::metrics::Metrics;
use crate::node::begin::BeginError;
use crate::node::driver::{Driver, PendingRequests};
use crate::node::event::DriverEvent;
use crate::node::handle::NodeHandle;
use crate::protocol::{LogEntry, MemberStatus, NodePhase, NodeStatus, Range};
use crate::record::FlightRecorder;
use crate::storage::Directory;
use kontiki_core::config::{Config, ConfigError};
use kontiki_core::durable::Durable;
use kontiki_core::event::ReadVia;
use kontiki_core::machine::{self, LimitsError};
use kontiki_core::membership::{Change, MemberKind, Membership};
use kontiki_core::replica::formation::{Formation, FormationError, Plan, Setup, is_unspecified};
use kontiki_core::replica::{self, Answer, Ask, Refusing, Replica, ReplicaOptionsError};
use kontiki_core::status::{RoleKind, Space, Status};
use kontiki_core::types::{ClusterId, Identity, Index, LogId, Member, NodeId, Payload, Term};
use kontiki_core::wal::{DiskError, RecoverError, Recovery, Wal, WalOpenError};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};

/// One member of one group: a handle, cheap to clone. The member is stopped when the last handle is dropped,
/// or by [`shutdown`](Self::shutdown), and can be started again.
#[derive(Clone, Debug)]
pub struct Node(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    builder: Builder,
    status: Arc<watch::Sender<NodeStatus>>,
    metrics: Metrics,
    /// Serializes starting and stopping.
    running: Mutex<Option<Running>>,
    /// The running node, for all other calls.
    handle: RwLock<Option<(Arc<NodeHandle>, Arc<Host>)>>,
}

#[derive(Debug)]
struct Running {
    handle: Arc<NodeHandle>,
    host: Arc<Host>,
    task: JoinHandle<()>,
    /// The tasks that run beside the driver and end with it.
    beside: JoinSet<()>,
}

/// A command that was applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The id of its entry.
    pub id: LogId,
    /// The state machine's answer.
    pub answer: Payload,
}

/// A command that was applied, with an answer of any kind.
struct Raw {
    id: LogId,
    answer: machine::Answer,
}

/// The reason a node cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The kernel's options are wrong.
    #[error(transparent)]
    Config(ConfigError),
    /// The log's options are wrong.
    #[error(transparent)]
    Replica(ReplicaOptionsError),
    /// The session limits are wrong.
    #[error(transparent)]
    Sessions(LimitsError),
    /// The directory cannot be opened.
    #[error(transparent)]
    Directory(disk::DiskOpenError),
    /// The directory belongs to another member.
    #[error(transparent)]
    Identity(IdentityError),
    /// The member cannot enter the group that it is configured for.
    #[error(transparent)]
    Formation(FormationError),
    /// The address to advertise is unspecified, so other members could not dial it.
    #[error("{0} names no host that others could dial: advertise an address of this machine, or none")]
    Unspecified(String),
    /// The host cannot listen, or cannot start its threads.
    #[error(transparent)]
    Host(HostError),
    /// The system gives no random numbers, or no thread.
    #[error("the system refuses: {0}")]
    System(#[source] io::Error),
    /// A task has panicked.
    #[error("a task has panicked: {0}")]
    Panicked(#[source] JoinError),
}

impl StartError {
    /// Returns whether the options are wrong or contradict one another: the same start fails again until they
    /// are changed.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Config(_) | Self::Replica(_) | Self::Sessions(_) | Self::Unspecified(_) => true,
            Self::Host(error) => error.is_configuration(),
            Self::Directory(_)
            | Self::Identity(_)
            | Self::Formation(_)
            | Self::System(_)
            | Self::Panicked(_) => false,
        }
    }
}

impl Builder {
    /// Starts the node. Returns once its directory is open and its port is bound. [`status`](Node::status)
    /// tells how far it has come into its group, and [`ready`](Node::ready) waits for it.
    pub async fn start(&self) -> Result<Node, StartError> {
        let node = Node::new(self.clone());
        node.start().await?;
        Ok(node)
    }
}

impl NodeStatus {
    /// Returns whether this member does nothing more until it is started again.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, NodePhase::Stopped | NodePhase::Halted(_))
    }

    pub(super) fn of(cluster: ClusterId, member: Member, phase: NodePhase, status: &Status) -> Self {
        let Status { role, kind, term, vote, leader, .. } = *status;
        let Status { last, durable, committed, applied, snapshot, configured, space, .. } = *status;
        Self {
            cluster,
            member,
            phase,
            role,
            kind,
            term,
            vote,
            leader,
            last,
            durable,
            committed,
            applied,
            snapshot,
            configured,
            space,
        }
    }

    /// Marks the member as inactive: it neither leads nor follows, whatever its last status was.
    pub(super) fn set_aside(&mut self, phase: NodePhase) {
        self.role = match phase {
            NodePhase::Starting(_) => RoleKind::Follower,
            _ => RoleKind::Halted,
        };
        (self.phase, self.leader) = (phase, None);
    }

    fn before(id: NodeId) -> Self {
        Self {
            cluster: ClusterId(0),
            member: id.into(),
            phase: NodePhase::Stopped,
            role: RoleKind::Follower,
            kind: MemberKind::NonMember,
            term: Term::new(0),
            vote: None,
            leader: None,
            last: LogId::ZERO,
            durable: LogId::ZERO,
            committed: Index::ZERO,
            applied: Index::ZERO,
            snapshot: LogId::ZERO,
            configured: LogId::ZERO,
            space: Space::Free,
        }
    }
}

impl Node {
    fn new(builder: Builder) -> Self {
        let status = Arc::new(watch::Sender::new(NodeStatus::before(builder.id)));
        let metrics = Metrics::default();
        Self(Arc::new(Shared {
            builder,
            status,
            metrics,
            running: Mutex::new(None),
            handle: RwLock::default(),
        }))
    }

    /// Starts the node again. Does nothing if it is running.
    pub async fn start(&self) -> Result<(), StartError> {
        let mut running = self.0.running.lock().await;
        if let Some(old) = &mut *running {
            if !old.task.is_finished() {
                return Ok(());
            }
            self.stop(old).await;
        }
        let started = self.0.begin().await?;
        let here = Some((Arc::clone(&started.handle), Arc::clone(&started.host)));
        *self.0.handle.write().unwrap_or_else(PoisonError::into_inner) = here;
        *running = Some(started);
        Ok(())
    }

    /// Stops the node: pending requests are answered, outstanding writes are synced, the sockets are closed.
    /// It can be started again. This takes as long as the disk and the state machine take: see
    /// [`shutdown_within`](Self::shutdown_within).
    pub async fn shutdown(&self) {
        let mut running = self.0.running.lock().await;
        if let Some(mut old) = running.take() {
            old.handle.shut_down().await;
            self.stop(&mut old).await;
        }
    }

    /// Stops the node like [`shutdown`](Self::shutdown), but waits no longer than the limit. Requests that
    /// are still pending then get an unknown outcome, and the sockets are closed. Nothing that was
    /// acknowledged is lost, because it was synced before. A thread that waits for a hung disk keeps the
    /// directory locked until the disk returns; until then the node cannot be started again in it.
    ///
    /// # Errors
    ///
    /// Returns what had not ended in time.
    pub async fn shutdown_within(&self, limit: Duration) -> Result<(), ShutdownError> {
        let until = tokio::time::Instant::now() + limit;
        let late = |waits_for| ShutdownError { after: limit, waits_for };
        let running = tokio::time::timeout_at(until, self.0.running.lock());
        let Ok(mut running) = running.await else { return Err(late(Unended::OtherShutdown)) };
        let Some(mut old) = running.take() else { return Ok(()) };
        let stopping = async {
            old.handle.shut_down().await;
            self.stop(&mut old).await;
        };
        if tokio::time::timeout_at(until, stopping).await.is_ok() {
            return Ok(());
        }
        let is_disk = old.host.storage().is_busy();
        let waits_for = if is_disk { Unended::Disk } else { Unended::StateMachine };
        old.task.abort();
        self.close(&mut old).await;
        self.0.status.send_modify(|status| status.set_aside(NodePhase::Stopped));
        Err(late(waits_for))
    }

    /// TESTS: ends the node like a crash of its process: no request is answered, and no write is finished.
    #[doc(hidden)]
    pub async fn crash(&self) {
        let mut running = self.0.running.lock().await;
        if let Some(mut old) = running.take() {
            old.task.abort();
            self.stop(&mut old).await;
            self.0.status.send_modify(|status| status.set_aside(NodePhase::Stopped));
        }
    }

    async fn stop(&self, old: &mut Running) {
        if let Err(error) = (&mut old.task).await
            && error.is_panic()
        {
            tracing::error!(%error, "a member's task has panicked");
        }
        old.host.storage().settle().await;
        self.close(old).await;
    }

    /// Ends everything except the member's own task and the jobs of the disk threads.
    async fn close(&self, old: &mut Running) {
        old.beside.shutdown().await;
        old.host.leave(&old.handle);
        if self.0.builder.host.is_none() {
            old.host.shutdown().await;
        }
        *self.0.handle.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn handle(&self) -> Result<Arc<NodeHandle>, Error> {
        let handle = self.0.handle.read().unwrap_or_else(PoisonError::into_inner);
        handle.as_ref().map(|(handle, _)| Arc::clone(handle)).ok_or(Error::Stopped)
    }

    /// Returns the host of the node, while it runs.
    pub fn host(&self) -> Option<Arc<Host>> {
        let handle = self.0.handle.read().unwrap_or_else(PoisonError::into_inner);
        handle.as_ref().map(|(_, host)| Arc::clone(host))
    }

    /// Returns the address that the node listens on, while it runs.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.host()?.local_addr()
    }

    /// Returns the options of the node.
    pub fn options(&self) -> &NodeOptions {
        &self.0.builder.options
    }

    /// Returns the node's status.
    pub fn status(&self) -> NodeStatus {
        self.0.status.borrow().clone()
    }

    /// Returns a receiver of the status and all its changes: leadership, membership, commits. It stays valid
    /// across stops and starts of the node.
    pub fn watch(&self) -> watch::Receiver<NodeStatus> {
        self.0.status.subscribe()
    }

    /// Returns the node's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Returns the replica's counters.
    pub async fn counters(&self) -> Result<NodeCounters, Error> {
        self.handle()?.counters().await
    }

    /// Waits until the node is in a group that has a leader.
    pub async fn ready(&self) -> Result<NodeStatus, Error> {
        let mut status = self.watch();
        let ready = |status: &NodeStatus| {
            status.is_over() || matches!(status.phase, NodePhase::Refusing(_)) || status.leader.is_some()
        };
        let status = status.wait_for(ready).await.map_err(|_| Error::Stopped)?.clone();
        match &status.phase {
            NodePhase::Refusing(why) => Err(Error::Refused(replica::ReplicaRefusal::Damaged(why.clone()))),
            NodePhase::Halted(_) => {
                Err(Error::Refused(replica::ReplicaRefusal::Raft(kontiki_core::action::Refusal::Halted)))
            }
            NodePhase::Stopped => Err(Error::Stopped),
            NodePhase::Starting(_) | NodePhase::Running => Ok(status),
        }
    }

    /// Returns the members of the group; with `alive`, only those heard from recently. For a leader, which
    /// hears from all members, that is the longest election timeout. Another member hears only keep-alives
    /// from most members, so there it is twice [`keep_alive`](crate::transport::TransportOptions::keep_alive)
    /// if that is longer.
    pub async fn members(&self, alive: bool) -> Result<Vec<MemberStatus>, Error> {
        let mut members = self.handle()?.members().await?;
        if alive {
            let NodeOptions { raft, transport, .. } = self.options();
            let limit = match self.status().role {
                RoleKind::Leader => raft.election_timeout_max,
                _ => raft.election_timeout_max.max(transport.keep_alive * 2),
            };
            let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            members.retain(|member| member.last_contact_ms.is_some_and(|since| since <= limit));
        }
        Ok(members)
    }

    /// Returns entries of the log, committed or not: at most 10,000 at once, or about 1 MiB.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with [`Refusal::Compacted`](replica::ReplicaRefusal::Compacted) if the range begins
    /// before the log, and with [`Refusal::Unreadable`](replica::ReplicaRefusal::Unreadable) if this member
    /// cannot read one of the entries.
    pub async fn logs(&self, range: Range) -> Result<Vec<LogEntry>, Error> {
        self.handle()?.logs(range, u64::MAX).await
    }

    /// Has a command applied, and returns its answer. The command is tried once: a [`session`](Self::session)
    /// retries it until it is applied, and applies it once.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if this member cannot take the command now; it had no effect. With
    /// [`NotLeader`](kontiki_core::action::Refusal::NotLeader) there is no leader to which this member could
    /// forward the command: for about an election timeout after a leader has stopped, or longer if
    /// [`forward`](kontiki_core::replica::ReplicaOptions::forward) is off. [`Error::Unknown`] if the command
    /// may have been applied, or may still be. [`Error::is_retryable`] tells which errors are temporary.
    pub async fn propose(&self, command: &[u8]) -> Result<Applied, Error> {
        let Raw { id, answer } = self.apply(machine::Command::Plain(command).encode()).await?;
        match answer {
            machine::Answer::Applied(answer) => Ok(Applied { id, answer }),
            other => Err(Error::NotApplied(other)),
        }
    }

    async fn apply(&self, payload: Payload) -> Result<Raw, Error> {
        match self.request(Ask::Command(payload)).await? {
            Answer::Applied { id, answer } => Ok(Raw { id, answer }),
            other => Err(failed(other)),
        }
    }

    /// Queries the state machine, linearizably: the answer reflects every command acknowledged before the
    /// call.
    pub async fn read(&self, query: impl Into<Vec<u8>>) -> Result<Vec<u8>, Error> {
        self.read_with(query, ReadVia::Quorum).await
    }

    /// Queries the state machine like [`read`](Self::read), with a choice of how linearizability is ensured.
    pub async fn read_with(&self, query: impl Into<Vec<u8>>, via: ReadVia) -> Result<Vec<u8>, Error> {
        match self.request(Ask::Query { query: query.into(), via }).await? {
            Answer::Read { answer, .. } => Ok(answer),
            other => Err(failed(other)),
        }
    }

    /// Changes the membership. Call it on the leader. With `expected`, the change is refused unless the
    /// membership is still that of this entry.
    pub async fn reconfigure(&self, expected: Option<LogId>, changes: Vec<Change>) -> Result<LogId, Error> {
        self.ask_to_reconfigure(Ask::Reconfigure { expected, changes, force: false }).await
    }

    /// Changes the membership even if no majority of the remaining voters has been heard from recently. Until
    /// enough of them return, the group can then decide nothing, not even to undo the change.
    pub async fn force_reconfigure(
        &self,
        expected: Option<LogId>,
        changes: Vec<Change>,
    ) -> Result<LogId, Error> {
        self.ask_to_reconfigure(Ask::Reconfigure { expected, changes, force: true }).await
    }

    async fn ask_to_reconfigure(&self, ask: Ask) -> Result<LogId, Error> {
        match self.request(ask).await? {
            Answer::Reconfigured(id) => Ok(id),
            other => Err(failed(other)),
        }
    }

    /// Cancels the membership change that waits for new members to catch up. Call it on the leader. The
    /// members already added stay learners, and the caller of the change gets [`Error::Cancelled`].
    pub async fn cancel_change(&self) -> Result<(), Error> {
        match self.request(Ask::CancelChange).await? {
            Answer::Cancelled => Ok(()),
            other => Err(failed(other)),
        }
    }

    /// Adds a voter, once it has caught up. A new member configured with [`join`](Builder::join) asks for
    /// this itself.
    pub async fn add(&self, member: Member, address: impl Into<String>) -> Result<LogId, Error> {
        if let Some(host) = self.host() {
            host.configure(member.id, address.into());
        }
        self.reconfigure(None, vec![Change::AddVoter(member)]).await
    }

    /// Removes a member.
    pub async fn remove(&self, id: NodeId) -> Result<LogId, Error> {
        self.reconfigure(None, vec![Change::Remove(id)]).await
    }

    /// Makes a learner a voter, once it has caught up.
    pub async fn promote(&self, id: NodeId) -> Result<LogId, Error> {
        self.reconfigure(None, vec![Change::Promote(id)]).await
    }

    /// Makes a voter a learner.
    pub async fn demote(&self, id: NodeId) -> Result<LogId, Error> {
        self.reconfigure(None, vec![Change::Demote(id)]).await
    }

    /// Transfers leadership to this member; without one, to the member with the most complete log.
    pub async fn transfer(&self, to: Option<NodeId>) -> Result<(), Error> {
        match self.request(Ask::Transfer { to }).await? {
            Answer::Transferred => Ok(()),
            other => Err(failed(other)),
        }
    }

    /// Takes a snapshot on this member now, whether it leads or not.
    pub async fn snapshot(&self) -> Result<LogId, Error> {
        match self.request(Ask::Snapshot).await? {
            Answer::Snapshot(id) => Ok(id),
            other => Err(failed(other)),
        }
    }

    async fn request(&self, ask: Ask) -> Result<Answer, Error> {
        self.handle()?.request(ask).await
    }
}

fn failed(answer: Answer) -> Error {
    match answer {
        Answer::Refused(refusal) => Error::Refused(refusal),
        Answer::Unanswered(id) => Error::Unanswered(id),
        Answer::NotCaughtUp(id) => Error::NotCaughtUp(id),
        Answer::Cancelled => Error::Cancelled,
        Answer::NotTransferred => Error::NotTransferred,
        // These belong to other requests and never arrive here.
        Answer::Applied { .. }
        | Answer::Read { .. }
        | Answer::Reconfigured(_)
        | Answer::Transferred
        | Answer::Snapshot(_)
        | Answer::Entries(_)
        | Answer::Unknown => Error::Unknown,
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let running = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some((handle, host)) = running {
            handle.abandon();
            host.leave(handle);
        }
    }
}

impl Shared {
    async fn begin(&self) -> Result<Running, StartError> {
        let Builder { id, options, tls, cluster: wanted, plan, .. } = self.builder.clone();
        self.check()?;
        let witness = options.raft.witness;
        let directory = self.builder.directory.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let disk = FileDisk::open(&directory).map_err(StartError::Directory)?;
            let record = match identity::load(&directory, id).map_err(StartError::Identity)? {
                Some(record) => record,
                None => {
                    let record = identity::blank(id).map_err(StartError::System)?;
                    identity::store(&record, &directory).map_err(StartError::Identity)?;
                    record
                }
            };
            let drawn = ClusterId(crate::entropy().map_err(StartError::System)?);
            let setup = Setup { plan, wanted, drawn, witness };
            Ok((disk, Formation::new(record, setup).map_err(StartError::Formation)?))
        });
        let (disk, formation) = opened.await.map_err(StartError::Panicked)??;
        let host = match &self.builder.host {
            Some(host) => Arc::clone(host),
            None => {
                let Builder { listen, advertise, .. } = &self.builder;
                Host::start(id, *listen, advertise.clone(), tls, &options).await.map_err(StartError::Host)?
            }
        };
        let (status, metrics) = (Arc::clone(&self.status), self.metrics.clone());
        status.send_modify(|status| {
            status.member = formation.record().member();
            status.set_aside(NodePhase::Starting("it opens its log".to_owned()));
        });
        metrics.status(&status.borrow());
        host.address_book().load(&self.builder.directory);
        if let Plan::Found(first) = &self.builder.plan
            && let Some((_, address)) = first.iter().find(|(peer, _)| *peer == id)
        {
            host.listed_at(address);
        }
        let (handle, told) = NodeHandle::new(formation, status, metrics, options.raft.max_payload_bytes);
        host.await_group(Arc::clone(&handle));
        let (enter, entered) = oneshot::channel();
        let life = Life {
            builder: self.builder.clone(),
            handle: Arc::clone(&handle),
            host: Arc::clone(&host),
            told,
            entered,
        };
        let mut beside = JoinSet::new();
        let directory = self.builder.directory.clone();
        beside.spawn(begin::form(Arc::clone(&handle), Arc::clone(&host), directory, enter));
        beside.spawn(remember(Arc::clone(&host), self.builder.directory.clone()));
        Ok(Running { handle, host, task: tokio::spawn(life.live(disk)), beside })
    }

    /// Checks the options before anything is changed.
    fn check(&self) -> Result<(), StartError> {
        let Builder { id, options, advertise, .. } = &self.builder;
        if let Some(address) = advertise.as_ref().filter(|address| is_unspecified(address)) {
            return Err(StartError::Unspecified(address.clone()));
        }
        let placeholder = Identity::new(ClusterId(0), *id);
        Config::new(placeholder, options.raft.clone()).map_err(StartError::Config)?;
        options.replica.check(&options.raft).map_err(StartError::Replica)?;
        options.sessions.check().map_err(StartError::Sessions)
    }
}

/// Writes the members' addresses whenever they change.
async fn remember(host: Arc<Host>, directory: PathBuf) {
    let mut written = 0;
    loop {
        tokio::time::sleep(BETWEEN_WRITES).await;
        let changes = host.with_addresses(|book| book.changes());
        if changes == written {
            continue;
        }
        let (host, directory) = (Arc::clone(&host), directory.clone());
        match tokio::task::spawn_blocking(move || host.address_book().store(&directory)).await {
            Ok(Ok(())) => written = changes,
            Ok(Err(error)) => tracing::warn!(%error, "cannot write down the members' addresses"),
            Err(error) => tracing::warn!(%error, "cannot write down the members' addresses"),
        }
    }
}

/// The shortest interval between two such writes.
const BETWEEN_WRITES: Duration = Duration::from_secs(2);

/// One run of a node, from start to stop.
struct Life {
    builder: Builder,
    handle: Arc<NodeHandle>,
    host: Arc<Host>,
    told: mpsc::Receiver<DriverEvent>,
    /// Reports that the member has a group.
    entered: oneshot::Receiver<Result<(), BeginError>>,
}

impl Life {
    async fn live(mut self, disk: FileDisk) {
        let lived = self.come_to_a_group().await;
        let driver = match lived {
            Ok(identity) => self.open(disk, identity).await,
            Err(error) => Err(error),
        };
        let phase = match driver {
            Ok(driver) => return driver.run().await,
            Err(Ending::Begin(BeginError::Shutdown)) => NodePhase::Stopped,
            Err(error) => {
                tracing::error!(member = %self.builder.id, %error, "cannot start");
                NodePhase::Halted(error.to_string())
            }
        };
        self.handle.set_phase(phase);
    }

    async fn come_to_a_group(&mut self) -> Result<Identity, Ending> {
        let entered = tokio::select! {
            () = shut_down(&mut self.told) => Err(BeginError::Shutdown),
            entered = &mut self.entered => entered.unwrap_or(Err(BeginError::Shutdown)),
        };
        entered.map_err(Ending::Begin)?;
        let none = Ending::Begin(BeginError::Formation(FormationError::NoPlan));
        self.handle.record().identity().ok_or(none)
    }

    async fn open(&mut self, disk: FileDisk, identity: Identity) -> Result<Driver, Ending> {
        let NodeOptions { raft, replica, wal, sessions, .. } = self.builder.options.clone();
        let seed = if raft.seed == 0 { crate::entropy().map_err(Ending::System)? } else { raft.seed };
        let config =
            Config::new(identity, kontiki_core::config::Options { seed, ..raft }).map_err(Ending::Config)?;
        let (record, ring) = (self.handle.record(), self.builder.record.clone());
        let clock = Clock::start();
        let opening = tokio::task::spawn_blocking(move || {
            let mut disk = disk;
            let recorder = ring.map(|(file, max_bytes)| FlightRecorder::create(file, max_bytes));
            let recorder = recorder.transpose().map_err(Ending::Record)?;
            let members = record.founders.iter().map(|founder| Member::new(founder.id, founder.incarnation));
            let group = match record.founders.is_empty() {
                true => Durable::default(),
                false => Durable::bootstrap(Membership::of(members).map_err(Ending::Founders)?),
            };
            let found = match Wal::open(&mut disk, identity, wal, &group) {
                Ok(recovery) => {
                    report(&recovery);
                    Replica::open(config, replica, recovery, clock.now()).map_err(|error| error.to_string())
                }
                Err(WalOpenError::Disk(error) | WalOpenError::Recover(RecoverError::Disk(error))) => {
                    return Err(Ending::Disk(error));
                }
                Err(error) => Err(error.to_string()),
            };
            let member = match found {
                Ok(replica) => driver::Member::Replica(Box::new(replica)),
                Err(missing) => driver::Member::Refusing(Refusing::new(&missing), missing),
            };
            Ok((Directory::new(disk), member, recorder))
        });
        let (directory, member, recorder) = opening.await.map_err(Ending::Panicked)??;
        let (work, machine_done) = self.builder.machine.start(sessions).map_err(Ending::System)?;
        let (done, disk_done) = mpsc::unbounded_channel();
        let (_, closed) = mpsc::channel(1);
        let told = std::mem::replace(&mut self.told, closed);
        let (host, handle) = (Arc::clone(&self.host), Arc::clone(&self.handle));
        host.enter(identity.cluster, Arc::clone(&handle));
        Ok(Driver {
            identity,
            member,
            recorder,
            clock,
            host,
            directory,
            work,
            handle,
            told,
            disk_done,
            machine_done,
            done,
            pending: PendingRequests::default(),
        })
    }
}

async fn shut_down(told: &mut mpsc::Receiver<DriverEvent>) {
    // Requests are refused before this point while the member has no group.
    while !matches!(told.recv().await, Some(DriverEvent::Shutdown) | None) {}
}

/// Logs what recovery found, if it is worth a line.
fn report(recovery: &Recovery) {
    let found = &recovery.found;
    tracing::info!(
        batches = found.batches,
        torn = found.torn,
        rewritten = found.rewritten,
        "recovered the log"
    );
    for (after, through) in &found.lost {
        tracing::warn!(%after, %through, "entries are damaged and will be repaired from other members");
    }
}

/// The reason a run ended before it began.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error(transparent)]
    Begin(BeginError),
    #[error(transparent)]
    Config(ConfigError),
    #[error(transparent)]
    Founders(kontiki_core::membership::MembershipError),
    #[error(transparent)]
    Disk(DiskError),
    #[error("cannot record: {0}")]
    Record(#[source] io::Error),
    #[error(transparent)]
    System(io::Error),
    #[error(transparent)]
    Panicked(JoinError),
}
