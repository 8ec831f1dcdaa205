//! One connection to one member: many requests in flight, and their responses in any order.
//!
//! One task owns the connection. It sends all queued requests in one write, and reads all received responses
//! in one read, so that under load a request costs neither a task nor a system call of its own. It polls the
//! member's status periodically, which shows whether the connection is alive, and which member leads.

use crate::protocol::{self, NodeStatus, Numbered, Request, Response, Who};
use crate::sync::lock;
use kontiki_core::types::NodeId;
use kontiki_core::wire::FrameError;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// The byte stream of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The result of dialling: a stream after its handshake, or the reason there is none.
pub type Dialled = Pin<Box<dyn Future<Output = Result<Box<dyn Stream>, String>> + Send>>;

/// Connects to an address.
pub type Dialler = Arc<dyn Fn(String) -> Dialled + Send + Sync>;

/// The timing and limits of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub(super) max_response_bytes: usize,
    pub(super) max_requests: usize,
    pub(super) heartbeat: Duration,
}

/// The reason a connection is broken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// The other end closed it.
    #[error("the connection was closed by the other end")]
    Closed,
    /// The system reported this error.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// The bytes are not a response: the other end is not a member of this version of the library, or the
    /// connection was tampered with.
    #[error("the response is malformed ({0}): check that the address belongs to a member of this version")]
    Garbage(#[from] FrameError),
    /// A response to a request that was never made.
    #[error("received a response to request {0}, which was never made")]
    NeverAsked(u64),
    /// Nothing was received for this long.
    #[error("nothing was received for {} s", .0.as_secs())]
    Silent(Duration),
}

/// A request without a reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lost {
    /// Whether the member may have received it.
    pub(super) sent: bool,
    pub(super) broken: Broken,
}

/// The sending end of a connection. When the last clone is dropped, the connection is closed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) address: String,
    requests: mpsc::Sender<Outgoing>,
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct Outgoing {
    request: Request,
    reply: oneshot::Sender<Response>,
}

/// What the member has reported about itself and its group.
#[derive(Default, Debug)]
struct Seen {
    /// Its id; zero while unknown.
    me: AtomicU64,
    /// The leader's id; zero while unknown.
    leader: AtomicU64,
    /// A leader that cannot be reached from here; this member can perhaps forward to it.
    out_of_reach: AtomicU64,
    addresses: Mutex<Vec<(NodeId, String)>>,
    broken: OnceLock<Broken>,
    activity: Mutex<Activity>,
}

/// When bytes last passed through a connection.
#[derive(Clone, Copy, Debug)]
struct Activity {
    /// Bytes of a request too long for one write: later requests wait for it.
    written: Instant,
    read: Instant,
}

impl Default for Activity {
    fn default() -> Self {
        let now = Instant::now();
        Self { written: now, read: now }
    }
}

impl Connection {
    /// Takes over a stream after its handshake, and asks the member for its identity and the leader. Returns
    /// once it has answered.
    pub(super) async fn open(
        address: String,
        stream: Box<dyn Stream>,
        behaviour: Behaviour,
    ) -> Result<Self, Broken> {
        let (requests, queue) = mpsc::channel(behaviour.max_requests);
        let seen = Arc::new(Seen::default());
        let (read, write) = tokio::io::split(stream);
        let mut beat = tokio::time::interval_at(Instant::now() + behaviour.heartbeat, behaviour.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let task = Task {
            read,
            write,
            queue,
            beat,
            behaviour,
            seen: Arc::clone(&seen),
            waiting: BTreeMap::new(),
            last: LAST_OWN,
            unheard: 0,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
        };
        tokio::spawn(task.run());
        let connection = Self { address, requests, seen };
        let (who, status) =
            tokio::join!(connection.request(Request::Identify), connection.request(Request::Status));
        for response in [who, status] {
            connection.seen.learn(&response.map_err(|lost| lost.broken)?);
        }
        Ok(connection)
    }

    /// Sends a request, and waits for the reply.
    pub(super) async fn request(&self, request: Request) -> Result<Response, Lost> {
        let (reply, replied) = oneshot::channel();
        if self.requests.send(Outgoing { request, reply }).await.is_err() {
            return Err(Lost { sent: false, broken: self.broken() });
        }
        replied.await.map_err(|_| Lost { sent: true, broken: self.broken() })
    }

    /// Returns when a request made at `begun` has timed out, if nothing more is received: `patience` after
    /// the last bytes of it, or of requests before it, could be written, but earlier if the member has been
    /// silent for `silence`.
    pub(super) fn gives_up_at(&self, begun: Instant, patience: Duration, silence: Duration) -> Instant {
        let Activity { written, read } = *lock(&self.seen.activity);
        let written = begun.max(written);
        (written + patience).min(written.max(read) + silence)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    fn broken(&self) -> Broken {
        self.seen.broken.get().cloned().unwrap_or(Broken::Closed)
    }

    /// Returns the leader, if it is another member than this one and can be reached.
    pub(super) fn leader_elsewhere(&self) -> Option<NodeId> {
        let leader = self.seen.leader.load(Ordering::Relaxed);
        let near = [self.seen.me.load(Ordering::Relaxed), self.seen.out_of_reach.load(Ordering::Relaxed)];
        if near.contains(&leader) { None } else { NodeId::new(leader) }
    }

    /// This leader cannot be reached: stay on this connection until there is another leader.
    pub(super) fn stay(&self, leader: NodeId) {
        self.seen.out_of_reach.store(leader.get(), Ordering::Relaxed);
    }

    /// Returns the addresses of members that this one has reported.
    pub(super) fn addresses(&self) -> Vec<(NodeId, String)> {
        lock(&self.seen.addresses).clone()
    }
}

impl Seen {
    fn learn(&self, response: &Response) {
        match response {
            Response::Identity(Who { member, addresses, .. }) => {
                self.me.store(member.id.get(), Ordering::Relaxed);
                addresses.clone_into(&mut lock(&self.addresses));
            }
            Response::Status(NodeStatus { member, leader, .. }) => {
                self.me.store(member.id.get(), Ordering::Relaxed);
                self.leader.store(leader.map_or(0, NodeId::get), Ordering::Relaxed);
            }
            Response::Members(_) | Response::Answer(_) => {}
        }
    }

    /// Returns whether the leader's address is unknown.
    fn lacks_leader(&self) -> bool {
        let leader = self.leader.load(Ordering::Relaxed);
        leader != 0 && !lock(&self.addresses).iter().any(|(id, _)| id.get() == leader)
    }
}

/// The task that owns the connection.
struct Task {
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    queue: mpsc::Receiver<Outgoing>,
    beat: Interval,
    behaviour: Behaviour,
    seen: Arc<Seen>,
    waiting: BTreeMap<u64, oneshot::Sender<Response>>,
    /// The number of the last request.
    last: u64,
    /// Status polls in a row without any answer.
    unheard: u32,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The number of bytes of the output already sent.
    sent: usize,
}

impl Task {
    async fn run(mut self) {
        let Err(broken) = self.exchange().await else {
            // No caller is left.
            let _ = self.write.shutdown().await;
            return;
        };
        tracing::debug!(reason = %broken, waiting = self.waiting.len(), "a connection to a member ended");
        // Before the pending callers see an error, which they do when this task is dropped.
        let _ = self.seen.broken.set(broken);
    }

    /// Moves bytes in both directions until the connection breaks, or no caller is left.
    async fn exchange(&mut self) -> Result<(), Broken> {
        let mut batch = Vec::new();
        loop {
            self.input.reserve(READ);
            // If the member reads nothing, or too many requests are pending, no more are taken from the
            // queue: callers wait, and memory stays bounded.
            let open = self.unsent() < MAX_OUTPUT && self.waiting.len() < self.behaviour.max_requests;
            tokio::select! {
                count = self.queue.recv_many(&mut batch, BATCH), if open => {
                    if count == 0 {
                        return Ok(());
                    }
                    batch.drain(..).for_each(|outgoing| self.begin(outgoing));
                }
                read = self.read.read_buf(&mut self.input) => {
                    if read.map_err(failed)? == 0 {
                        return Err(Broken::Closed);
                    }
                    self.unheard = 0;
                    lock(&self.seen.activity).read = Instant::now();
                    self.take_responses()?;
                }
                written = self.write.write(&self.output[self.sent..]), if self.unsent() > 0 => {
                    let written = written.map_err(failed)?;
                    if written == 0 {
                        return Err(Broken::Closed);
                    }
                    self.was_sent(written);
                }
                _ = self.beat.tick() => self.ask_how_it_is()?,
            }
        }
    }

    fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    fn was_sent(&mut self, count: usize) {
        // The status poll may be queued behind a long request: as long as that makes progress, the member is
        // alive.
        self.unheard = 0;
        if self.sent > 0 || count < self.unsent() {
            lock(&self.seen.activity).written = Instant::now();
        }
        self.sent += count;
        if self.sent == self.output.len() || self.sent > MAX_OUTPUT {
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        if self.output.is_empty() && self.output.capacity() > KEEP {
            self.output = Vec::new();
        }
    }

    fn begin(&mut self, Outgoing { request, reply }: Outgoing) {
        // The caller may have stopped waiting.
        if reply.is_closed() {
            return;
        }
        self.last += 1;
        protocol::encode(&Numbered { number: self.last, body: request }, &mut self.output);
        self.waiting.insert(self.last, reply);
    }

    fn take_responses(&mut self) -> Result<(), Broken> {
        let (seen, waiting) = (&self.seen, &mut self.waiting);
        protocol::take_frames(&mut self.input, self.behaviour.max_response_bytes, |response| {
            finish(seen, waiting, response)
        })?;
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = Vec::new();
        }
        Ok(())
    }

    fn ask_how_it_is(&mut self) -> Result<(), Broken> {
        if self.unheard >= UNHEARD {
            return Err(Broken::Silent(self.behaviour.heartbeat * self.unheard));
        }
        self.unheard += 1;
        if self.unsent() < MAX_OUTPUT {
            protocol::encode(&Numbered { number: STATUS, body: Request::Status }, &mut self.output);
            if self.seen.lacks_leader() {
                protocol::encode(&Numbered { number: IDENTIFY, body: Request::Identify }, &mut self.output);
            }
        }
        Ok(())
    }
}

/// Passes a response to the caller that waits for it.
fn finish(
    seen: &Seen,
    waiting: &mut BTreeMap<u64, oneshot::Sender<Response>>,
    Numbered { number, body: response }: Numbered<Response>,
) -> Result<(), Broken> {
    let caller = match number {
        ..=LAST_OWN => None,
        _ => Some(waiting.remove(&number).ok_or(Broken::NeverAsked(number))?),
    };
    seen.learn(&response);
    if let Some(caller) = caller {
        // The caller may have stopped waiting.
        let _ = caller.send(response);
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn failed(error: std::io::Error) -> Broken {
    Broken::Failed(error.to_string())
}

/// The request numbers of the connection's own polls for status and identity; callers' requests have higher
/// numbers.
const STATUS: u64 = 0;
const IDENTIFY: u64 = 1;
const LAST_OWN: u64 = IDENTIFY;
/// How many status polls in a row a member may leave unanswered.
const UNHEARD: u32 = 3;
/// The number of requests taken from the queue at once.
const BATCH: usize = 256;
/// The number of unsent bytes above which no more requests are taken.
const MAX_OUTPUT: usize = 1 << 18;
/// The number of bytes read at once.
const READ: usize = 1 << 14;
/// The size above which an empty read buffer is freed.
const KEEP: usize = 1 << 20;
