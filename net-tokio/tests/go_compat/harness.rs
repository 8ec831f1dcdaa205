//! A group of members in one process, on real sockets and directories, and the verbs of the scenarios.
//!
//! No test sleeps for luck: each waits for a visible condition, with a bound that only a fault reaches. At
//! each poll it is asserted that no term has two leaders.

use crate::diary::Diary;
use kontiki_core::kv::Command;
use kontiki_core::status::RoleKind;
use kontiki_core::types::{Index, LogId, NodeId, Payload, Term};
use kontiki_net_tokio::node::{Applied, Builder, Error, Node, NodeOptions};
use kontiki_net_tokio::protocol::{Content, LogEntry, NodePhase, NodeStatus, Range};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;

pub(crate) type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// A bound for any wait on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The interval of polls.
const GLANCE: Duration = Duration::from_millis(5);
/// How often each member must have campaigned in vain before it is believed that no leader will be elected.
const TRIES: u64 = 2;

/// The leader, and since when.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Led {
    pub(crate) by: NodeId,
    pub(crate) term: Term,
}

/// A submitted command, and its outcome.
pub(crate) type Submitted = JoinHandle<Result<Applied, Error>>;

/// A group; any member may be partitioned or down.
pub(crate) struct Group {
    root: TempDir,
    nodes: BTreeMap<NodeId, Node>,
    diaries: BTreeMap<NodeId, Diary>,
    cut: BTreeSet<NodeId>,
    down: BTreeSet<NodeId>,
    /// The leader seen in each term.
    leaders: Mutex<BTreeMap<Term, NodeId>>,
}

pub(crate) fn id(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

/// The scenarios' commands are numbers, each written under its own key.
pub(crate) fn command(number: u64) -> Vec<u8> {
    let text = number.to_string();
    Command::Put { key: text.as_bytes(), value: text.as_bytes() }.encode()
}

/// Short timeouts, but long enough that a busy machine does not cause elections; and small files.
pub(crate) fn options() -> NodeOptions {
    let mut options = NodeOptions::default();
    options.raft.election_timeout_min = Duration::from_millis(250);
    options.raft.election_timeout_max = Duration::from_millis(500);
    options.raft.heartbeat_interval = Duration::from_millis(50);
    options.transport.backoff_min = Duration::from_millis(10);
    options.transport.backoff_max = Duration::from_millis(100);
    options.wal.segment_bytes = 1 << 20;
    options
}

/// A loopback address that no other test has, on systems with more than one: so no other process takes a port
/// between its choice and its use, nor while the member is down.
fn own_loopback() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let [.., high, low] = std::process::id().to_be_bytes();
    // The second byte must not be zero: all programs use 127.0.0.0/16.
    let own = Ipv4Addr::new(127, high | 1, low, number);
    if cfg!(target_os = "linux") { own } else { Ipv4Addr::LOCALHOST }
}

/// Free addresses.
pub(crate) fn addresses(count: u64) -> Result<Vec<SocketAddr>> {
    let at = own_loopback();
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind((at, 0))).collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

/// Builders for the first members of a group, each with its directory below `root`; and the records of their
/// machines.
fn described(count: u64, root: &Path, options: &NodeOptions) -> Result<Vec<(Builder, Diary)>> {
    let at = addresses(count)?;
    let peers: Vec<_> = (1..).map(id).zip(at.iter().map(ToString::to_string)).collect();
    let one = |(number, at): (u64, &SocketAddr)| {
        let diary = Diary::default();
        let builder = member(id(number), &diary)
            .directory(root.join(number.to_string()))
            .listen(*at)
            .peers(peers.clone())
            .options(options.clone());
        (builder, diary)
    };
    Ok((1..).zip(&at).map(one).collect())
}

pub(crate) fn builders(count: u64, root: &Path, options: &NodeOptions) -> Result<Vec<Builder>> {
    Ok(described(count, root, options)?.into_iter().map(|(builder, _)| builder).collect())
}

/// A member that records the commands it applies.
pub(crate) fn member(id: NodeId, diary: &Diary) -> Builder {
    let diary = diary.clone();
    Builder::new(id, move || diary.machine())
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(PATIENCE, what).await.map_err(|_| "it did not come about in time".into())
}

/// Waits until a member's status satisfies a condition.
pub(crate) async fn until(node: &Node, is_so: impl Fn(&NodeStatus) -> bool) -> Result<NodeStatus> {
    let mut status = node.watch();
    match tokio::time::timeout(PATIENCE, status.wait_for(is_so)).await {
        Ok(status) => Ok(status?.clone()),
        Err(_) => Err(format!("it stayed {:#?}", node.status()).into()),
    }
}

/// Returns all entries of a member; `None` while it reads them from its disk.
pub(crate) async fn log(node: &Node) -> Result<Vec<LogEntry>> {
    match within(node.logs(Range::Between(Index::ZERO, Index::new(u64::MAX)))).await? {
        Err(Error::Starting(_)) => Ok(Vec::new()),
        log => Ok(log?),
    }
}

/// Returns the index of this command in a log.
pub(crate) fn places(log: &[LogEntry], number: u64) -> impl Iterator<Item = &LogEntry> {
    let wanted = Content::Command(Payload::from(command(number).as_slice()));
    log.iter().filter(move |entry| entry.content == wanted)
}

impl Group {
    /// Starts a group, and waits until all its members know its leader.
    pub(crate) async fn start(count: u64) -> Result<Self> {
        Self::with(count, &options()).await
    }

    pub(crate) async fn with(count: u64, options: &NodeOptions) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let described = described(count, root.path(), options)?;
        let mut group = Self {
            root,
            nodes: BTreeMap::new(),
            diaries: BTreeMap::new(),
            cut: BTreeSet::new(),
            down: BTreeSet::new(),
            leaders: Mutex::default(),
        };
        for (number, (builder, diary)) in (1..).zip(described) {
            group.adopt(id(number), builder.start().await?, diary);
        }
        group.single_leader().await;
        Ok(group)
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[&id]
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Returns a member's directory.
    pub(crate) fn directory(&self, id: NodeId) -> PathBuf {
        self.root.path().join(id.to_string())
    }

    /// Adds a member that was started elsewhere.
    pub(crate) fn adopt(&mut self, id: NodeId, node: Node, diary: Diary) {
        self.nodes.insert(id, node);
        self.diaries.insert(id, diary);
    }

    /// Stops a removed member, if it runs, and forgets it.
    pub(crate) async fn dismiss(&mut self, id: NodeId) -> Result {
        self.stop(id).await?;
        self.nodes.remove(&id);
        Ok(())
    }

    /// Returns the members that run and are not partitioned, except this one.
    pub(crate) fn others(&self, than: NodeId) -> Vec<NodeId> {
        self.connected().map(|(id, _)| id).filter(|id| *id != than).collect()
    }

    /// Partitions a member until it is reconnected.
    pub(crate) fn disconnect(&mut self, id: NodeId) {
        self.cut.insert(id);
        self.lay_wires();
    }

    pub(crate) fn reconnect(&mut self, id: NodeId) {
        self.cut.remove(&id);
        self.lay_wires();
    }

    /// Blocks the partitioned members on both sides. A restarted host begins without blocks: until it has its
    /// own, those of the other side apply.
    fn lay_wires(&self) {
        for (here, node) in self.running() {
            let host = node.host();
            let Some(transport) = host.as_ref().and_then(|host| host.transport()) else { continue };
            for there in self.nodes.keys().filter(|there| **there != here) {
                transport.block(*there, self.cut.contains(&here) || self.cut.contains(there));
            }
        }
    }

    /// Ends a member like a crash of its process: no request is answered, and data that was only in memory is
    /// lost.
    pub(crate) async fn crash(&mut self, id: NodeId) -> Result {
        self.down.insert(id);
        within(self.node(id).crash()).await
    }

    /// Restarts a member from its disk.
    pub(crate) async fn restart(&mut self, id: NodeId) -> Result {
        within(self.node(id).start()).await??;
        self.down.remove(&id);
        self.lay_wires();
        Ok(())
    }

    /// Shuts a member down.
    pub(crate) async fn stop(&mut self, id: NodeId) -> Result {
        self.down.insert(id);
        within(self.node(id).shutdown()).await?;
        assert_eq!(self.node(id).status().phase, NodePhase::Stopped);
        Ok(())
    }

    fn running(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().filter(|(id, _)| !self.down.contains(id)).map(|(id, node)| (*id, node))
    }

    fn connected(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.running().filter(|(id, _)| !self.cut.contains(id))
    }

    /// Returns the status of all running members.
    fn look(&self) -> BTreeMap<NodeId, NodeStatus> {
        let seen: BTreeMap<_, _> = self.running().map(|(id, node)| (id, node.status())).collect();
        let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, status) in seen.iter().filter(|(_, status)| status.role == RoleKind::Leader) {
            let leader = *leaders.entry(status.term).or_insert(*id);
            assert_eq!(leader, *id, "two members lead term {}: {seen:#?}", status.term);
        }
        seen
    }

    /// Polls until a condition holds.
    pub(crate) async fn until<T>(
        &self,
        what: &str,
        mut find: impl FnMut(&BTreeMap<NodeId, NodeStatus>) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        loop {
            let seen = self.look();
            if let Some(found) = find(&seen) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: that did not come about: {seen:#?}");
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Waits until all members that are not partitioned have one leader, which is one of them.
    pub(crate) async fn single_leader(&self) -> Led {
        let leader = |seen: &BTreeMap<NodeId, NodeStatus>| {
            let mut told = seen.iter().filter(|(id, _)| !self.cut.contains(id)).map(|(_, status)| status);
            let first = told.next()?;
            let led = Led { by: first.leader?, term: first.term };
            let leads = seen.get(&led.by)?.role == RoleKind::Leader && !self.cut.contains(&led.by);
            (leads && told.all(|status| (status.leader, status.term) == (first.leader, led.term)))
                .then_some(led)
        };
        self.until("one leader for all who are connected", leader).await
    }

    /// Waits until no member leads, partitioned or not, and asserts that it stays so until each has
    /// campaigned several times, and its requests were lost.
    pub(crate) async fn no_leader(&self) {
        let leads = |seen: &BTreeMap<NodeId, NodeStatus>| {
            seen.values().any(|status| status.role == RoleKind::Leader || status.leader.is_some())
        };
        self.until("no member leads", |seen| (!leads(seen)).then_some(())).await;
        let before: BTreeMap<_, _> = self.running().map(|(id, _)| (id, self.tries(id))).collect();
        let tried = |seen: &BTreeMap<NodeId, NodeStatus>| {
            assert!(!leads(seen), "a member leads without a quorum: {seen:#?}");
            before.iter().all(|(id, before)| self.tries(*id) >= before + TRIES).then_some(())
        };
        self.until("each tries to be elected", tried).await;
    }

    /// Returns how often a follower has campaigned while partitioned: each campaign sends one message to each
    /// other member, and the members waited for here get no answers.
    pub(crate) fn tries(&self, id: NodeId) -> u64 {
        let Some(host) = self.node(id).host() else { return 0 };
        let Some(transport) = host.transport() else { return 0 };
        let counters = transport.counters();
        counters.peers.values().map(|peer| peer.dropped.values().sum()).max().unwrap_or(0)
    }

    /// Waits until this member has campaigned this often, in vain.
    pub(crate) async fn tries_in_vain(&self, id: NodeId, times: u64) {
        self.until("it does not lead", |seen| (seen[&id].role != RoleKind::Leader).then_some(())).await;
        let before = self.tries(id);
        self.until("it tries to be elected", |_| (self.tries(id) >= before + times).then_some(())).await;
    }

    /// Waits until this member has stepped down by itself.
    pub(crate) async fn steps_down(&self, id: NodeId) {
        self.until("it steps down", |seen| (seen[&id].role != RoleKind::Leader).then_some(())).await;
    }

    /// Submits a command at this member, and returns once it is in that member's log, or has an answer.
    pub(crate) async fn submit(&self, at: NodeId, number: u64) -> Result<Submitted> {
        let node = self.node(at).clone();
        let submitted = tokio::spawn(async move { node.propose(&command(number)).await });
        let began = Instant::now();
        while !submitted.is_finished() && places(&log(self.node(at)).await?, number).next().is_none() {
            assert!(began.elapsed() < PATIENCE, "{number} is not taken by member {at}");
            tokio::time::sleep(GLANCE).await;
        }
        Ok(submitted)
    }

    /// Has a command applied, once, through this member.
    pub(crate) async fn commit_at(&self, at: NodeId, number: u64) -> Result<LogId> {
        let session = within(self.node(at).session()).await??;
        let applied = within(session.propose(&command(number))).await??;
        Ok(applied.id)
    }

    /// Has commands applied, each once, through the leader.
    pub(crate) async fn commit(&self, numbers: impl IntoIterator<Item = u64>) -> Result {
        for number in numbers {
            self.commit_at(self.single_leader().await.by, number).await?;
        }
        Ok(())
    }

    /// Waits until a command is committed on this many of the connected members, once on each, at the same
    /// index with the same term. Returns its id.
    pub(crate) async fn committed(&self, number: u64, on: usize) -> Result<LogId> {
        let began = Instant::now();
        loop {
            let found = self.places(self.connected(), number).await?;
            if found.len() == on {
                return Ok(*found.first().ok_or("committed on no member")?);
            }
            assert!(began.elapsed() < PATIENCE, "{number} is committed on {}, not {on}", found.len());
            self.look();
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Asserts that no member has this command committed, partitioned or not.
    pub(crate) async fn not_committed(&self, number: u64) -> Result {
        assert_eq!(self.places(self.running(), number).await?, [], "{number} is committed");
        Ok(())
    }

    /// Returns where a command is committed, on each of these that has it.
    async fn places(&self, nodes: impl Iterator<Item = (NodeId, &Node)>, number: u64) -> Result<Vec<LogId>> {
        let mut found = Vec::new();
        for (_, node) in nodes {
            let log = log(node).await?;
            // If its first attempt was lost with a leader, a session may have put it in the log twice: it is
            // applied once.
            let mut committed = places(&log, number).filter(|entry| entry.committed);
            found.extend(committed.next().map(|entry| entry.id));
        }
        assert!(found.windows(2).all(|two| two[0] == two[1]), "{number} is in different places: {found:?}");
        Ok(found)
    }

    /// Waits until all connected members have committed and applied everything, and asserts that their logs
    /// are the same, and that all have applied the same commands in the same order, each once.
    pub(crate) async fn agree(&self) -> Result<Vec<LogEntry>> {
        let began = Instant::now();
        loop {
            self.single_leader().await;
            let (mut logs, mut applied) = (Vec::new(), Vec::new());
            for (id, node) in self.connected() {
                let log = log(node).await?;
                let last = log.last().map_or(Index::ZERO, |last| last.id.index);
                if node.status().applied == last && log.iter().all(|entry| entry.committed) {
                    logs.push(log);
                    applied.push(self.diaries[&id].read());
                }
            }
            if logs.len() == self.connected().count() && logs.iter().all(|log| log.len() == logs[0].len()) {
                assert!(logs.iter().all(|log| *log == logs[0]), "different logs are committed: {logs:#?}");
                assert!(
                    applied.iter().all(|one| *one == applied[0]),
                    "not the same was applied: {applied:#?}"
                );
                let different: BTreeSet<_> = applied[0].iter().map(|(_, command)| command).collect();
                assert_eq!(different.len(), applied[0].len(), "something was applied twice: {applied:#?}");
                return Ok(logs.swap_remove(0));
            }
            assert!(began.elapsed() < PATIENCE, "they do not come to agree: {logs:#?}");
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Returns how many times this command was applied, once all members agree.
    pub(crate) async fn agreed(&self, number: u64) -> Result<usize> {
        self.agree().await?;
        let (id, _) = self.connected().next().ok_or("no member is connected")?;
        let wanted = command(number);
        Ok(self.diaries[&id].read().iter().filter(|(_, command)| *command == wanted).count())
    }

    /// Shuts all members down.
    pub(crate) async fn finish(mut self) -> Result {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.stop(id).await?;
        }
        Ok(())
    }
}
