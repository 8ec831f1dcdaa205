//! A member that records its callbacks, and a peer that sends arbitrary bytes.

use kontiki_core::types::{ClusterId, Incarnation, NodeId};
use kontiki_core::wire;
use kontiki_net_tokio::transport::{
    Address, Dropped, HandshakeRefusal, Hello, Host, Lane, StartError, Stream, Transport, TransportOptions,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A bound for any wait, on a slow machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// The group of all members.
pub(crate) const GROUP: ClusterId = ClusterId(7);

pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("not zero")
}

/// Short delays, and timeouts that tolerate a slow machine.
pub(crate) fn options() -> TransportOptions {
    TransportOptions {
        max_body: 1 << 20,
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        keep_alive: Duration::from_millis(20),
        idle_timeout: LONG,
        handshake_timeout: LONG,
        frame_timeout: LONG,
        ..TransportOptions::default()
    }
}

/// The callbacks of a member.
pub(crate) struct Notes {
    pub(crate) hello: Mutex<Hello>,
    pub(crate) addresses: Mutex<BTreeMap<NodeId, String>>,
    pub(crate) inbox: Mutex<Vec<(NodeId, ClusterId, Vec<u8>)>>,
    pub(crate) heard: Mutex<Vec<Hello>>,
    pub(crate) broken: Mutex<Vec<NodeId>>,
    pub(crate) clients: Mutex<Vec<Stream>>,
    pub(crate) is_full: AtomicBool,
}

impl Host for Notes {
    fn hello(&self) -> Hello {
        self.hello.lock().unwrap().clone()
    }

    fn heard(&self, hello: &Hello) {
        self.heard.lock().unwrap().push(hello.clone());
    }

    fn addresses(&self, of: NodeId) -> Vec<String> {
        self.addresses.lock().unwrap().get(&of).cloned().into_iter().collect()
    }

    fn deliver(&self, from: NodeId, group: ClusterId, frame: Vec<u8>) -> bool {
        let takes = !self.is_full.load(SeqCst);
        if takes {
            self.inbox.lock().unwrap().push((from, group, frame));
        }
        takes
    }

    fn broken(&self, peer: NodeId) {
        self.broken.lock().unwrap().push(peer);
    }

    fn client(&self, stream: Stream, _: Option<ClusterId>, _: SocketAddr) {
        self.clients.lock().unwrap().push(stream);
    }
}

/// A member.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) notes: Arc<Notes>,
    pub(crate) transport: Transport,
}

impl Node {
    pub(crate) async fn start(number: u64, options: TransportOptions) -> Self {
        Self::try_start(number, options).await.expect("a port that is free")
    }

    pub(crate) async fn try_start(number: u64, options: TransportOptions) -> Result<Self, StartError> {
        let address = Address { text: format!("member-{number}"), stamp: 1 };
        let groups = vec![(GROUP, Incarnation(number))];
        let hello = Hello { id: id(number), groups, address, known: vec![] };
        let notes = Arc::new(Notes {
            hello: Mutex::new(hello),
            addresses: Mutex::default(),
            inbox: Mutex::default(),
            heard: Mutex::default(),
            broken: Mutex::default(),
            clients: Mutex::default(),
            is_full: AtomicBool::new(false),
        });
        let transport = Transport::start(options, notes.clone()).await?;
        Ok(Self { id: id(number), notes, transport })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    pub(crate) fn knows(&self, other: NodeId, address: SocketAddr) {
        self.notes.addresses.lock().unwrap().insert(other, address.to_string());
    }

    /// Keeps a connection to another member.
    pub(crate) fn connect(&self, other: &Self) {
        self.knows(other.id, other.address());
        self.transport.connect(other.id);
    }

    pub(crate) fn send(&self, to: &Self, lane: Lane, body: &[u8]) {
        self.transport.send(to.id, lane, GROUP, &frame(body));
    }

    /// Returns the bodies of the frames received from another member.
    pub(crate) fn received(&self, from: &Self) -> Vec<Vec<u8>> {
        let inbox = self.notes.inbox.lock().unwrap();
        let of = inbox.iter().filter(|(sender, group, _)| *sender == from.id && *group == GROUP);
        of.map(|(_, _, frame)| frame[wire::HEADER..].to_vec()).collect()
    }

    pub(crate) fn refused(&self, refusal: HandshakeRefusal) -> u64 {
        self.transport.counters().refused.get(&refusal).copied().unwrap_or_default()
    }

    pub(crate) fn dropped(&self, to: NodeId, why: Dropped) -> u64 {
        let counters = self.transport.counters();
        counters.peers.get(&to).and_then(|peer| peer.dropped.get(&why)).copied().unwrap_or_default()
    }

    pub(crate) fn broken(&self) -> usize {
        self.notes.broken.lock().unwrap().len()
    }
}

/// Returns two members with connections in both directions.
pub(crate) async fn pair(options: TransportOptions) -> [Node; 2] {
    let nodes = [Node::start(1, options.clone()).await, Node::start(2, options).await];
    nodes[0].connect(&nodes[1]);
    nodes[1].connect(&nodes[0]);
    until("both are connected", || {
        let both = [(0, 1), (1, 0)];
        both.iter().all(|&(at, other)| {
            let counters = nodes[at].transport.counters();
            let peer = counters.peers.get(&nodes[other].id);
            peer.is_some_and(|peer| (peer.outbound, peer.inbound) == (2, 2))
        })
    })
    .await;
    nodes
}

/// Sends until one frame has arrived. Frames sent while there is no connection are lost.
pub(crate) async fn get_through(from: &Node, to: &Node, lane: Lane, body: &[u8]) {
    until("a frame comes", || {
        from.send(to, lane, body);
        to.received(from).iter().any(|received| received == body)
    })
    .await;
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < LONG, "waited in vain: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    wire::seal(2, &mut out, |out| out.extend_from_slice(body));
    out
}

/// Encodes a frame as it is on a connection.
pub(crate) fn on_the_wire(body: &[u8]) -> Vec<u8> {
    [&GROUP.0.to_le_bytes()[..], &frame(body)].concat()
}

/// Encodes a dialler's opening by hand, so that it can be invalid in every way.
pub(crate) fn opening(version: u8, body: &[u8]) -> Vec<u8> {
    let mut out = b"KONTIKI".to_vec();
    out.push(version);
    wire::seal(1, &mut out, |out| out.extend_from_slice(body));
    out
}

/// Encodes the opening of a member of this group that wants to reach that member.
pub(crate) fn member(number: u64, group: ClusterId, to: u64) -> Vec<u8> {
    let address = Address { text: String::new(), stamp: 0 };
    let hello = Hello { id: id(number), groups: vec![(group, Incarnation(0))], address, known: vec![] };
    let opening_of = (hello, id(to), false);
    opening(1, &[&[0][..], &postcard::to_allocvec(&opening_of).unwrap()].concat())
}

/// Sends bytes to a peer, and reads until the peer closes the connection.
pub(crate) async fn say(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    // The peer may close the connection before all is sent.
    let _ = tcp.write_all(bytes).await;
    answer(&mut tcp).await
}

pub(crate) async fn answer(tcp: &mut TcpStream) -> Vec<u8> {
    let mut answer = vec![];
    // The connection must end, however it ends.
    let _ = timeout(LONG, tcp.read_to_end(&mut answer)).await.expect("the other end hangs up");
    answer
}

/// Returns the reason for a refusal in an answer.
pub(crate) fn refusal(answer: &[u8]) -> Option<HandshakeRefusal> {
    assert_eq!(answer.get(..8), Some(&b"KONTIKI\x01"[..]), "{answer:?}");
    match wire::open(&answer[8..], 1 << 16).expect("an answer").body.split_first() {
        Some((1, reason)) => Some(postcard::from_bytes(reason).expect("a reason")),
        _ => None,
    }
}

/// Pseudorandom numbers, the same each time (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
