//! One connection to one member: many requests at a time, and their responses in whatever order they come.
//!
//! One task has the connection. It sends everything that waits in one write, and reads all that has come in
//! one read, so that a request costs neither a task nor a system call of its own where there are many. Now
//! and then it asks how the member is: that shows whether the connection is alive, and who leads.

use crate::protocol::{self, Ask, NodeStatus, Reply, Request, Response, Who};
use kontiki_core::types::NodeId;
use kontiki_core::wire::FrameError;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// What a connection may be made of.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How a connection behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Behaviour {
    pub(super) max_response_bytes: usize,
    pub(super) max_requests: usize,
    pub(super) heartbeat: Duration,
}

/// Why a connection is of no use any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Broken {
    /// The other end closed it.
    Closed,
    /// The operating system reports this.
    Failed(String),
    /// What came is no response: the other end is no member of this version of the library, or somebody
    /// meddles with the connection.
    Garbage(FrameError),
    /// A response to what was never asked.
    NeverAsked(u64),
    /// Nothing was heard for so long.
    Silent(Duration),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection was closed by the other end"),
            Self::Failed(error) => write!(f, "the connection failed: {error}"),
            Self::Garbage(error) => {
                write!(
                    f,
                    "what came is no response ({error}): is this address that of a member of this version?"
                )
            }
            Self::NeverAsked(number) => {
                write!(f, "a response came to request {number}, which was never made")
            }
            Self::Silent(time) => write!(f, "nothing was heard for {} s", time.as_secs()),
        }
    }
}

/// A request that has no reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lost {
    /// Whether the member may have got it.
    pub(super) sent: bool,
    pub(super) broken: Broken,
}

/// The end of a connection that requests go in at. When the last is dropped, the connection is closed.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) address: String,
    requests: mpsc::Sender<Outgoing>,
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct Outgoing {
    ask: Ask,
    reply: oneshot::Sender<Reply>,
}

/// What the member at the other end has told about itself and its group.
#[derive(Default, Debug)]
struct Seen {
    /// Zero as long as it is not known.
    me: AtomicU64,
    /// Zero as long as it is not known.
    leader: AtomicU64,
    /// The leader to whom it was in vain to go: what this member sends on reaches it, perhaps.
    out_of_reach: AtomicU64,
    addresses: Mutex<Vec<(NodeId, String)>>,
    broken: OnceLock<Broken>,
    activity: Mutex<Activity>,
}

/// When bytes last went through a connection.
#[derive(Clone, Copy, Debug)]
struct Activity {
    /// Those of a request that is too long for one write: what comes after it waits for it.
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
    /// Takes over a stream whose handshake is done, and asks the member who it is and who leads. Returns when
    /// it has said so.
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
        let (who, status) = tokio::join!(connection.request(Ask::Who), connection.request(Ask::Status));
        for reply in [who, status] {
            connection.seen.learn(&reply.map_err(|lost| lost.broken)?);
        }
        Ok(connection)
    }

    /// Asks, and waits for the reply.
    pub(super) async fn request(&self, ask: Ask) -> Result<Reply, Lost> {
        let (reply, replied) = oneshot::channel();
        if self.requests.send(Outgoing { ask, reply }).await.is_err() {
            return Err(Lost { sent: false, broken: self.broken() });
        }
        replied.await.map_err(|_| Lost { sent: true, broken: self.broken() })
    }

    /// When a request that was made at `begun` counts as left without a reply, if nothing more is heard:
    /// `patience` after the last bytes of it, or of others before it, could be written, and earlier where the
    /// member has not been heard for `silence`.
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

    /// The member that leads, where it is another than this one and has not been in vain.
    pub(super) fn leader_elsewhere(&self) -> Option<NodeId> {
        let leader = self.seen.leader.load(Ordering::Relaxed);
        let near = [self.seen.me.load(Ordering::Relaxed), self.seen.out_of_reach.load(Ordering::Relaxed)];
        if near.contains(&leader) { None } else { NodeId::new(leader) }
    }

    /// There is no getting to this leader: stay here until there is another.
    pub(super) fn stay(&self, leader: NodeId) {
        self.seen.out_of_reach.store(leader.get(), Ordering::Relaxed);
    }

    /// Where members are to be reached, as this one says.
    pub(super) fn addresses(&self) -> Vec<(NodeId, String)> {
        lock(&self.seen.addresses).clone()
    }
}

impl Seen {
    fn learn(&self, reply: &Reply) {
        match reply {
            Reply::Who(Who { member, addresses, .. }) => {
                self.me.store(member.id.get(), Ordering::Relaxed);
                addresses.clone_into(&mut lock(&self.addresses));
            }
            Reply::Status(NodeStatus { member, leader, .. }) => {
                self.me.store(member.id.get(), Ordering::Relaxed);
                self.leader.store(leader.map_or(0, NodeId::get), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// Whether the address of the leader is not among those that are known.
    fn lacks_leader(&self) -> bool {
        let leader = self.leader.load(Ordering::Relaxed);
        leader != 0 && !lock(&self.addresses).iter().any(|(id, _)| id.get() == leader)
    }
}

/// What has the connection.
struct Task {
    read: ReadHalf<Box<dyn Stream>>,
    write: WriteHalf<Box<dyn Stream>>,
    queue: mpsc::Receiver<Outgoing>,
    beat: Interval,
    behaviour: Behaviour,
    seen: Arc<Seen>,
    waiting: BTreeMap<u64, oneshot::Sender<Reply>>,
    /// The number of the last request.
    last: u64,
    /// How many times in a row the member was asked how it is, and has not said anything since.
    unheard: u32,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the output is sent already.
    sent: usize,
}

impl Task {
    async fn run(mut self) {
        let Err(broken) = self.exchange().await else {
            // Nobody is interested any more.
            let _ = self.write.shutdown().await;
            return;
        };
        tracing::debug!(reason = %broken, waiting = self.waiting.len(), "a connection to a member ended");
        // Before those who wait see that they wait in vain, which they do when this task is dropped.
        let _ = self.seen.broken.set(broken);
    }

    /// Moves bytes both ways until the connection breaks, or nobody is left to ask.
    async fn exchange(&mut self) -> Result<(), Broken> {
        let mut batch = Vec::new();
        loop {
            self.input.reserve(READ);
            // Where the other end takes nothing, or too many wait, no more is taken from those who ask: they
            // wait, and no memory grows.
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
        // The question how the member is may be behind a long request: as long as that goes out, the member
        // is there.
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

    fn begin(&mut self, Outgoing { ask, reply }: Outgoing) {
        // Whoever asked may have gone by now.
        if reply.is_closed() {
            return;
        }
        self.last += 1;
        protocol::encode(&Request { number: self.last, ask }, &mut self.output);
        self.waiting.insert(self.last, reply);
    }

    fn take_responses(&mut self) -> Result<(), Broken> {
        let mut taken = 0;
        loop {
            let rest = &self.input[taken..];
            match protocol::decode::<Response>(rest, self.behaviour.max_response_bytes) {
                Ok((response, length)) => {
                    taken += length;
                    self.finish(response)?;
                }
                Err(FrameError::Incomplete { .. }) => break,
                Err(error) => return Err(Broken::Garbage(error)),
            }
        }
        self.input.drain(..taken);
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = Vec::new();
        }
        Ok(())
    }

    fn finish(&mut self, Response { number, reply }: Response) -> Result<(), Broken> {
        if number <= LAST_OWN {
            self.seen.learn(&reply);
            return Ok(());
        }
        let Some(waiting) = self.waiting.remove(&number) else {
            return Err(Broken::NeverAsked(number));
        };
        self.seen.learn(&reply);
        // Whoever asked may have gone by now.
        let _ = waiting.send(reply);
        Ok(())
    }

    fn ask_how_it_is(&mut self) -> Result<(), Broken> {
        if self.unheard >= UNHEARD {
            return Err(Broken::Silent(self.behaviour.heartbeat * self.unheard));
        }
        self.unheard += 1;
        if self.unsent() < MAX_OUTPUT {
            protocol::encode(&Request { number: STATUS, ask: Ask::Status }, &mut self.output);
            if self.seen.lacks_leader() {
                protocol::encode(&Request { number: WHO, ask: Ask::Who }, &mut self.output);
            }
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err gives")]
fn failed(error: std::io::Error) -> Broken {
    Broken::Failed(error.to_string())
}

/// What panicked elsewhere has left whole data behind: each is one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of the connection's own questions how the member is, and who it is; the clients' numbers come
/// after.
const STATUS: u64 = 0;
const WHO: u64 = 1;
const LAST_OWN: u64 = WHO;
/// How often in a row a member may leave the question unanswered.
const UNHEARD: u32 = 3;
/// How many requests are taken at a time.
const BATCH: usize = 256;
/// How many bytes may wait to be written before no more requests are taken.
const MAX_OUTPUT: usize = 1 << 18;
/// How much is read at a time.
const READ: usize = 1 << 14;
/// How large the buffer for what is read may stay.
const KEEP: usize = 1 << 20;
