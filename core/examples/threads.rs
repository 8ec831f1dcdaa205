//! A host of [`Replica`] with nothing but the standard library: threads, `std::net` and files. Three members
//! of a replicated key-value store in one process; one of them is stopped, and started again from its
//! directory.
//!
//! ```text
//! cargo run -p kontiki-core --features replica --example threads
//! ```
//!
//! ```text
//!   reader, one per connection ──┐                    ┌──► disk, one thread per lane ──┐
//!   client ──────────────────────┼──► driver: Replica ┼──► state machine ──────────────┼──► driver
//!   clock ───────────────────────┘                    └──► writer, one per peer and lane, which dials
//! ```
//!
//! All threads send [`Input`]s to the driver, which alone has the replica. `docs/hosts.md` explains framing,
//! dialling and order. What a host for production has besides (TLS, handshakes, limits on strangers) is in
//! `kontiki-net-tokio`.

// The kernel has no clock and no threads; a host has both.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use kontiki_core::event::ReadVia;
use kontiki_core::kv::{self, Kv};
use kontiki_core::machine::{self, Machine};
use kontiki_core::replica::{self, Answer, Ask, Halt, Input, Lane, Output, Replica, Worker, frame};
use kontiki_core::wal::{self, Wal};
use kontiki_core::wire::{self, FrameError};
use kontiki_core::{ClusterId, Config, Durable, Identity, Instant, Membership, NodeId, Options, RequestId};
use kontiki_net_tokio::disk::FileDisk;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{self, Duration};

type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How many frames may wait for a peer. Further ones are dropped: the kernel sends again what matters.
const QUEUE: usize = 1024;
/// How long a writer waits after a failure before it dials again.
const BACKOFF: Duration = Duration::from_millis(50);

/// A member that runs.
struct Member {
    inputs: Sender<Input>,
    answers: Receiver<(RequestId, Answer)>,
    driver: JoinHandle<Halt>,
    requests: u64,
}

/// What stays when a member is stopped.
struct Place {
    id: NodeId,
    directory: PathBuf,
    address: SocketAddr,
    /// Where frames go; none while the member is down.
    inbox: Inbox,
}

type Inbox = Arc<Mutex<Option<Sender<Input>>>>;

fn main() -> Result {
    let root = std::env::temp_dir().join(format!("kontiki-threads-{}", std::process::id()));
    let ids = [1, 2, 3].map(|id| NodeId::new(id).expect("not zero"));
    let mut places = BTreeMap::new();
    for id in ids {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, inbox) = (listener.local_addr()?, Inbox::default());
        accept(listener, Arc::clone(&inbox));
        places.insert(id, Place { id, directory: root.join(id.to_string()), address, inbox });
    }
    let addresses = places.values().map(|place| (place.id, place.address)).collect();
    let mut members = BTreeMap::new();
    for place in places.values() {
        members.insert(place.id, start(place, &addresses)?);
    }

    // Any member takes commands.
    let [first, second, third] = ids;
    put(&mut members, first, b"colour", b"red")?;
    println!("written at member {first}: {:?}", get(&mut members, third, b"colour")?);

    stop(&mut members, second)?;
    put(&mut members, first, b"colour", b"blue")?;
    members.insert(second, start(&places[&second], &addresses)?);
    let found = get(&mut members, second, b"colour")?;
    println!("read at member {second}, which was down meanwhile: {found:?}");
    assert_eq!(found.as_deref(), Some(&b"blue"[..]));

    ids.iter().try_for_each(|id| stop(&mut members, *id))?;
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

/// Recovers a member from its directory, which is made where there is none, and starts its threads.
fn start(place: &Place, addresses: &BTreeMap<NodeId, SocketAddr>) -> Result<Member> {
    let identity = Identity::new(ClusterId(7), place.id);
    let mut disk = open(&place.directory)?;
    let group = Durable::bootstrap(Membership::of(addresses.keys().copied())?);
    let recovery = Wal::open(&mut disk, identity, wal::WalOptions::default(), &group)?;
    let config = Config::new(identity, options())?;
    let clock = Clock(time::Instant::now());
    // Members pass commands on to their leader.
    let options = replica::ReplicaOptions { forward: true, ..replica::ReplicaOptions::default() };
    let replica = Replica::open(config, options, recovery, clock.now())?;

    let (inputs, received) = channel();
    let (answer, answers) = channel();
    // Each lane of the disk does its jobs in order, and does not wait for the other.
    let bulk = disk.for_another_lane();
    let disks =
        BTreeMap::from([(Lane::Log, disk_lane(disk, &inputs)), (Lane::Bulk, disk_lane(bulk, &inputs))]);
    let machine = state_machine(&inputs);
    *place.inbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(inputs.clone());
    let mut peers = BTreeMap::new();
    for (id, address) in addresses.iter().filter(|(id, _)| **id != place.id) {
        for lane in [Lane::Log, Lane::Bulk] {
            peers.insert((*id, lane), writer(*id, *address, inputs.clone()));
        }
    }
    let mut driver = Driver { replica, clock, disks, machine, peers, answer };
    let driver = thread::spawn(move || driver.run(&received));
    inputs.send(Input::Wake)?;
    Ok(Member { inputs, answers, driver, requests: 0 })
}

fn options() -> Options {
    Options { seed: 42, ..Options::default() }
}

/// A member that has just been stopped may hold its directory for a moment longer.
fn open(directory: &Path) -> Result<FileDisk> {
    let end = time::Instant::now() + Duration::from_secs(10);
    loop {
        match FileDisk::open(directory) {
            Ok(disk) => return Ok(disk),
            Err(error) if time::Instant::now() > end => return Err(error.into()),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// The member's own clock: it never goes back, and its origin is any.
struct Clock(time::Instant);

impl Clock {
    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Owns the replica: takes inputs one at a time, and carries out what the replica decides.
struct Driver {
    replica: Replica,
    clock: Clock,
    disks: BTreeMap<Lane, Sender<replica::DiskJob>>,
    machine: Sender<replica::MachineJob>,
    peers: BTreeMap<(NodeId, Lane), SyncSender<Vec<u8>>>,
    answer: Sender<(RequestId, Answer)>,
}

impl Driver {
    fn run(&mut self, inputs: &Receiver<Input>) -> Halt {
        let mut outputs = Vec::new();
        loop {
            let wait = self.replica.deadline() - self.clock.now();
            let input = match inputs.recv_timeout(Duration::from_nanos(wait.get())) {
                Ok(input) => input,
                Err(RecvTimeoutError::Timeout) => Input::Wake,
                Err(RecvTimeoutError::Disconnected) => {
                    unreachable!("the threads of this member hold senders")
                }
            };
            self.replica.handle(self.clock.now(), input, &mut outputs);
            for output in outputs.drain(..) {
                match output {
                    // A full queue or a peer that is not listed: the frame is lost, as on any network.
                    Output::Frame { to, lane, bytes } => {
                        if let Some(peer) = self.peers.get(&(to.id, lane)) {
                            let _ = peer.try_send(bytes);
                        }
                    }
                    Output::Disk(job) => self.disks[&job.lane].send(job).expect("the lane runs"),
                    Output::Machine(job) => self.machine.send(job).expect("the state machine runs"),
                    // The client may have gone.
                    Output::Answer { request, answer } => drop(self.answer.send((request, answer))),
                    Output::Halt(halt) => return halt,
                }
            }
        }
    }
}

/// Carries out the jobs of one lane. The directory is free again when the driver and both lanes have ended.
fn disk_lane(mut disk: FileDisk, inputs: &Sender<Input>) -> Sender<replica::DiskJob> {
    let (jobs, inputs) = (channel::<replica::DiskJob>(), inputs.clone());
    thread::spawn(move || jobs.1.iter().try_for_each(|job| inputs.send(job.run(&mut disk))));
    jobs.0
}

/// Has the state machine of this member, which starts empty: the replica restores a snapshot first where
/// there is one.
fn state_machine(inputs: &Sender<Input>) -> Sender<replica::MachineJob> {
    let (jobs, inputs) = (channel(), inputs.clone());
    thread::spawn(move || {
        let mut worker = Worker::new(Machine::new(Kv::default()));
        let mut done = jobs.1.iter().filter_map(|job| worker.run(job));
        done.try_for_each(|done| inputs.send(Input::Machine(done)))
    });
    jobs.0
}

/// Takes connections of peers.
fn accept(listener: TcpListener, inbox: Inbox) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let inputs = inbox.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(inputs) = inputs {
                thread::spawn(move || read(stream, &inputs));
            }
        }
    });
}

/// Cuts a connection's bytes into frames. A frame that is damaged or longer than allowed ends the connection;
/// the peer dials again.
fn read(mut stream: TcpStream, inputs: &Sender<Input>) -> Result {
    let max_body = frame::max_body(&options());
    let (mut bytes, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match wire::open(&bytes, max_body) {
            Ok(frame) => {
                let rest = bytes.split_off(frame.length);
                inputs.send(Input::Frame { bytes })?;
                bytes = rest;
            }
            Err(FrameError::Incomplete { .. }) => match stream.read(&mut piece)? {
                0 => return Ok(()),
                read => bytes.extend_from_slice(&piece[..read]),
            },
            Err(error) => return Err(error.into()),
        }
    }
}

/// Keeps a connection to a peer, and writes frames to it. What cannot be sent is dropped, and the replica is
/// told that the peer is gone.
fn writer(to: NodeId, address: SocketAddr, inputs: Sender<Input>) -> SyncSender<Vec<u8>> {
    let (frames, queue) = sync_channel::<Vec<u8>>(QUEUE);
    thread::spawn(move || {
        let mut stream: Option<TcpStream> = None;
        for frame in queue {
            let connected = match stream.take() {
                Some(stream) => Ok(stream),
                None => TcpStream::connect_timeout(&address, Duration::from_secs(1)),
            };
            let sent = connected.and_then(|mut stream| {
                stream.set_nodelay(true)?;
                stream.write_all(&frame).map(|()| stream)
            });
            match sent {
                Ok(open) => stream = Some(open),
                Err(_) if inputs.send(Input::PeerUnreachable(to)).is_err() => return,
                Err(_) => thread::sleep(BACKOFF),
            }
        }
    });
    frames
}

/// Asks a member until it has done it. A command without a session may be done twice when it is asked twice;
/// these two do no harm then.
fn ask(members: &mut BTreeMap<NodeId, Member>, at: NodeId, ask: &Ask) -> Result<Answer> {
    let member = members.get_mut(&at).ok_or("the member is down")?;
    let end = time::Instant::now() + Duration::from_secs(60);
    while time::Instant::now() < end {
        member.requests += 1;
        let request = RequestId(member.requests);
        member.inputs.send(Input::Request { request, ask: ask.clone() })?;
        match member.answers.recv_timeout(Duration::from_secs(60))? {
            (_, Answer::Refused(refusal)) if refusal.is_retryable() => {
                thread::sleep(Duration::from_millis(10));
            }
            (_, Answer::Unknown) => {}
            (_, answer) => return Ok(answer),
        }
    }
    Err("no leader in a minute".into())
}

fn put(members: &mut BTreeMap<NodeId, Member>, at: NodeId, key: &[u8], value: &[u8]) -> Result {
    let command = kv::Command::Put { key, value }.encode();
    match ask(members, at, &Ask::Command(machine::Command::Plain(&command).encode()))? {
        Answer::Applied { .. } | Answer::Unanswered(_) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn get(members: &mut BTreeMap<NodeId, Member>, at: NodeId, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let query = Ask::Query { query: kv::Query::Get { key }.encode(), via: ReadVia::Quorum };
    match ask(members, at, &query)? {
        Answer::Read { answer, .. } => match kv::Reply::decode(&answer)? {
            kv::Reply::Value(value) => Ok(value),
            other => Err(format!("{other:?}").into()),
        },
        other => Err(format!("{other:?}").into()),
    }
}

/// Stops a member, which answers what waits and finishes what is being written. A leader hands over first.
fn stop(members: &mut BTreeMap<NodeId, Member>, id: NodeId) -> Result {
    let member = members.remove(&id).ok_or("the member is down")?;
    member.inputs.send(Input::Shutdown)?;
    match member.driver.join() {
        Ok(Halt::Stopped) => Ok(()),
        Ok(halt) => Err(halt.to_string().into()),
        Err(_) => Err("the driver has panicked".into()),
    }
}
