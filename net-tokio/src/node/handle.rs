//! What there is of a node for everybody else in its process: a way to its driver, and what the driver tells
//! of it.

use crate::metrics::Metrics;
use crate::node::driver::{DriverEvent, NodeCounters, Waiter};
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

/// One life of a node, from start to stop.
#[derive(Debug)]
pub(crate) struct NodeHandle {
    formation: Mutex<Formation>,
    status: Arc<watch::Sender<NodeStatus>>,
    told: mpsc::Sender<DriverEvent>,
    /// How many bytes of frames wait for the driver.
    frames: AtomicUsize,
    metrics: Metrics,
    /// The longest body of a client's request.
    max_request: usize,
}

/// How many requests and frames may wait for the driver.
pub(super) const QUEUE: usize = 16 << 10;
/// How many bytes of frames may wait for the driver before further ones are dropped: about eight full windows
/// of a leader.
const FRAMES: usize = 64 << 20;
/// The most entries that are looked at in one request, and the most bytes of them.
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

    /// How it comes to its group.
    pub(super) fn form<T>(&self, look: impl FnOnce(&mut Formation) -> T) -> T {
        look(&mut self.formation.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the directory says.
    pub(crate) fn record(&self) -> Record {
        self.form(|formation| formation.record().clone())
    }

    /// The name of its group, or of the one that it waits for.
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

    /// The member is so far in its life now.
    pub(super) fn set_phase(&self, phase: NodePhase) {
        self.status.send_modify(|status| status.set_aside(phase));
        self.metrics.status(&self.status.borrow());
    }

    /// A frame came. Whether there was room for it.
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

    /// The driver has taken a frame of so many bytes.
    pub(super) fn taken(&self, length: usize) {
        self.frames.fetch_sub(length, Ordering::Relaxed);
    }

    /// A connection broke. Only a hint: where there is no room for it, time will tell.
    pub(crate) fn broken(&self, peer: NodeId) {
        let _ = self.told.try_send(DriverEvent::Broken(peer));
    }

    /// Asks the member something, without waiting for room.
    pub(crate) fn ask(&self, ask: replica::Ask, waiter: Waiter) -> Result<(), Error> {
        self.check()?;
        match self.told.try_send(DriverEvent::Ask(ask, waiter)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(Error::Refused(ReplicaRefusal::TooMany)),
            Err(TrySendError::Closed(_)) => Err(Error::Stopped),
        }
    }

    /// Asks the member something. Where it takes that and ends without an answer, as in a crash, it may have
    /// done it or not.
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

    /// Entries of the log: at most [`MAX_BYTES`], but one at least where there is one.
    pub(crate) async fn logs(&self, range: Range) -> Result<Vec<LogEntry>, Error> {
        let (mut entries, mut size) = (Vec::new(), 0_u64);
        let mut rest = Some(range);
        while let Some(range) = rest.filter(|_| size < MAX_BYTES && entries.len() < MAX_ENTRIES) {
            let page = self.page(range, MAX_BYTES - size).await?;
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
            // The others answer other questions, and the last is what an end without an answer leaves.
            _ => Err(Error::Stopped),
        }
    }

    pub(super) async fn shut_down(&self) {
        // One that is gone needs not be told.
        let _ = self.told.send(DriverEvent::Shutdown).await;
    }

    /// The same without waiting: for whoever is being dropped.
    pub(super) fn abandon(&self) {
        let _ = self.told.try_send(DriverEvent::Shutdown);
    }

    /// Asks what changes nothing.
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
            // What has halted or refuses says so itself.
            NodePhase::Running | NodePhase::Refusing(_) | NodePhase::Halted(_) => Ok(()),
        }
    }
}
