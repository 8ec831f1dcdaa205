//! The shared state of a running node: the way to its driver, and what the driver publishes.

use crate::metrics::Metrics;
use crate::node::event::{DriverEvent, NodeCounters, Waiter};
use crate::node::{Error, log};
use crate::protocol::{LogEntry, MemberStatus, NodePhase, NodeStatus, Range};
use kontiki_core::log::Entry;
use kontiki_core::machine::Command;
use kontiki_core::replica::formation::{Formation, Record};
use kontiki_core::replica::{self, Answer, LogPage, ReplicaRefusal};
use kontiki_core::types::{ClusterId, Member, NodeId};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};

/// One run of a node, from start to stop.
#[derive(Debug)]
pub(crate) struct NodeHandle {
    formation: Mutex<Formation>,
    status: Arc<watch::Sender<NodeStatus>>,
    told: mpsc::Sender<DriverEvent>,
    /// The bytes of frames that wait for the driver.
    frames: AtomicUsize,
    metrics: Metrics,
    /// The longest body of a client's request.
    max_request: usize,
}

/// The number of requests and frames that may wait for the driver.
pub(super) const QUEUE: usize = 16 << 10;
/// The bytes of frames that may wait for the driver before further frames are dropped: about eight full
/// windows of a leader.
const FRAMES: usize = 64 << 20;
/// The most entries read in one request, and the most bytes of them.
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: u64 = 1 << 20;

impl NodeHandle {
    pub(super) fn new(
        formation: Formation,
        status: Arc<watch::Sender<NodeStatus>>,
        metrics: Metrics,
        max_payload: u64,
    ) -> (Arc<Self>, mpsc::Receiver<DriverEvent>) {
        let (told, queue) = mpsc::channel(QUEUE);
        let max_request =
            usize::try_from(max_payload).unwrap_or(usize::MAX).saturating_add(Command::OVERHEAD + 1024);
        let formation = Mutex::new(formation);
        let handle = Self { formation, status, told, frames: AtomicUsize::new(0), metrics, max_request };
        (Arc::new(handle), queue)
    }

    /// The formation: how the member enters its group.
    pub(super) fn form<T>(&self, look: impl FnOnce(&mut Formation) -> T) -> T {
        look(&mut self.formation.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The identity stored in the directory.
    pub(crate) fn record(&self) -> Record {
        self.form(|formation| formation.record().clone())
    }

    /// Returns the name of its group, or of the group that it waits for.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.form(|formation| formation.cluster())
    }

    pub(crate) fn member(&self) -> Member {
        self.record().member()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn max_request(&self) -> usize {
        self.max_request
    }

    pub(crate) fn status(&self) -> NodeStatus {
        self.status.borrow().clone()
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.status.borrow().leader
    }

    pub(super) fn status_sender(&self) -> &watch::Sender<NodeStatus> {
        &self.status
    }

    /// Publishes a new phase of the member.
    pub(super) fn set_phase(&self, phase: NodePhase) {
        self.status.send_modify(|status| status.set_aside(phase));
        self.metrics.status(&self.status.borrow());
    }

    /// Queues a frame. Returns whether there was room for it.
    pub(crate) fn deliver(&self, frame: Vec<u8>) -> bool {
        let length = frame.len();
        if self.frames.fetch_add(length, Ordering::Relaxed) + length > FRAMES {
            self.taken(length);
            return false;
        }
        let is_full = self.told.try_send(DriverEvent::Frame(frame)).is_err();
        if is_full {
            self.taken(length);
        }
        !is_full
    }

    /// The driver has taken a frame of this many bytes.
    pub(super) fn taken(&self, length: usize) {
        self.frames.fetch_sub(length, Ordering::Relaxed);
    }

    /// Reports a broken connection. This is a hint only: if there is no room for it, the timeouts show it
    /// too.
    pub(crate) fn broken(&self, peer: NodeId) {
        let _ = self.told.try_send(DriverEvent::Broken(peer));
    }

    /// Sends a request to the member, without waiting for room.
    pub(crate) fn ask(&self, ask: replica::Ask, waiter: Waiter) -> Result<(), Error> {
        self.check()?;
        match self.told.try_send(DriverEvent::Ask(ask, waiter)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Error::Refused(ReplicaRefusal::TooMany)),
            Err(TrySendError::Closed(_)) => Err(Error::Stopped),
        }
    }

    /// Sends a request to the member. If the member accepts it and ends without an answer, as in a crash, the
    /// outcome is unknown.
    pub(super) async fn request(&self, ask: replica::Ask) -> Result<Answer, Error> {
        let answer = self.hand(|waiter| DriverEvent::Ask(ask, Waiter::Alone(waiter))).await?;
        answer.await.map_err(|_| Error::Unknown)
    }

    pub(crate) async fn members(&self) -> Result<Vec<MemberStatus>, Error> {
        self.inquire(DriverEvent::Members).await
    }

    pub(crate) async fn counters(&self) -> Result<NodeCounters, Error> {
        self.inquire(DriverEvent::Counters).await
    }

    /// Returns entries of the log: at most this many bytes, and [`MAX_BYTES`], but at least one entry if
    /// there is one.
    pub(crate) async fn logs(&self, range: Range, max_bytes: u64) -> Result<Vec<LogEntry>, Error> {
        let max_bytes = max_bytes.min(MAX_BYTES);
        let (mut entries, mut size) = (Vec::new(), 0_u64);
        let mut rest = Some(range);
        while let Some(range) = rest.filter(|_| size < max_bytes && entries.len() < MAX_ENTRIES) {
            let page = self.page(range, max_bytes - size).await?;
            size += page.entries.iter().map(Entry::size).sum::<u64>();
            entries.extend(log::entries(&page));
            rest = page.rest();
        }
        entries.truncate(MAX_ENTRIES);
        Ok(entries)
    }

    pub(super) async fn page(&self, range: Range, max_bytes: u64) -> Result<LogPage, Error> {
        match self.request(replica::Ask::Entries { range, max_bytes }).await? {
            Answer::Entries(page) => Ok(page),
            Answer::Refused(refusal) => Err(Error::Refused(refusal)),
            // The other answers belong to other questions. The last one stands for a driver that ended
            // without an answer.
            _ => Err(Error::Stopped),
        }
    }

    pub(super) async fn shut_down(&self) {
        // A driver that has ended needs no message.
        let _ = self.told.send(DriverEvent::Shutdown).await;
    }

    /// Stops the driver without waiting, for use in `drop`.
    pub(super) fn abandon(&self) {
        let _ = self.told.try_send(DriverEvent::Shutdown);
    }

    /// Sends a request that changes nothing.
    async fn inquire<T>(&self, what: impl FnOnce(oneshot::Sender<T>) -> DriverEvent) -> Result<T, Error> {
        self.hand(what).await?.await.map_err(|_| Error::Stopped)
    }

    async fn hand<T>(
        &self,
        what: impl FnOnce(oneshot::Sender<T>) -> DriverEvent,
    ) -> Result<oneshot::Receiver<T>, Error> {
        self.check()?;
        let (reply, answer) = oneshot::channel();
        self.told.send(what(reply)).await.map_err(|_| Error::Stopped)?;
        Ok(answer)
    }

    fn check(&self) -> Result<(), Error> {
        match &self.status.borrow().phase {
            NodePhase::Starting(waiting) => Err(Error::Starting(waiting.clone())),
            NodePhase::Stopped => Err(Error::Stopped),
            // A halted or refusing member reports that phase itself.
            NodePhase::Running | NodePhase::Refusing(_) | NodePhase::Halted(_) => Ok(()),
        }
    }
}
