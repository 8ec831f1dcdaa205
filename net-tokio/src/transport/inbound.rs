//! Inbound connections: the listening task, and one task for each connection, which identifies the peer and
//! reads its frames.

use crate::places::Place;
use crate::sync::lock;
use crate::tls::{self, Trouble};
use crate::transport::counters::Dropped;
use crate::transport::link::Link;
use crate::transport::outbound::write;
use crate::transport::shared::{Inner, Peer, is_loopback};
use crate::transport::stream::Stream;
use crate::transport::wire::{
    self, Answer, Arrived, HandshakeRefusal, Hello, Inflow, NoIntroduction, Opening, VERSION,
};
use kontiki_core::types::ClusterId;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::rustls;

/// The delay before accepting again when the system has no more sockets.
const BREATHER: Duration = Duration::from_millis(50);
/// A long frame must progress by this many bytes in each
/// [`frame_timeout`](super::TransportOptions::frame_timeout).
const SLOWEST: u64 = 64 << 10;
/// The acceptor's keep-alive.
const BEAT: &[u8] = &[0];

/// Accepts connections.
pub(super) async fn listen(inner: Arc<Inner>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((tcp, from)) => {
                inner.spawn(serve(inner.clone(), tcp, from));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(BREATHER).await;
            }
        }
    }
}

/// Serves one connection from handshake to end.
async fn serve(inner: Arc<Inner>, tcp: TcpStream, from: SocketAddr) {
    let (number, give_up) = inner.handshakes.begin();
    let limit = inner.options.handshake_timeout;
    let greeted = tokio::select! {
        greeted = timeout(limit, greet(&inner, tcp, from)) => {
            greeted.unwrap_or_else(|_| Err(HandshakeRefusal::Timeout.into()))
        }
        () = give_up.notified() => Err(HandshakeRefusal::TooManyConnections.into()),
    };
    let ended = match greeted {
        Ok(Guest::Client { stream, cluster }) => {
            inner.handshakes.end(number);
            inner.host.client(stream, cluster, from);
            return;
        }
        Ok(Guest::Member { stream, hello, bulk, place }) => {
            inner.handshakes.end(number);
            let ended = host(&inner, stream, &hello, bulk).await;
            drop(place);
            ended
        }
        Err(Refused { why, stream }) => {
            inner.refusals.add(why, &from);
            if let Some(stream) = stream {
                tokio::select! {
                    _ = timeout(limit, hear_out(stream)) => {}
                    () = give_up.notified() => {}
                }
            }
            inner.handshakes.end(number);
            return;
        }
    };
    if let Err(refusal) = ended {
        inner.refusals.add(refusal, &from);
    }
}

/// A peer that has completed the handshake.
enum Guest {
    Client { stream: Stream, cluster: Option<ClusterId> },
    Member { stream: Stream, hello: Hello, bulk: bool, place: OwnedSemaphorePermit },
}

/// A refused peer; with the connection, if the peer was told the reason.
struct Refused {
    why: HandshakeRefusal,
    stream: Option<Stream>,
}

impl From<HandshakeRefusal> for Refused {
    fn from(why: HandshakeRefusal) -> Self {
        Self { why, stream: None }
    }
}

/// Identifies the peer, and accepts or refuses it.
async fn greet(inner: &Inner, tcp: TcpStream, from: SocketAddr) -> Result<Guest, Refused> {
    let options = &inner.options;
    if options.tls.is_none() && !options.allow_insecure && !is_loopback(from) {
        return Err(HandshakeRefusal::Insecure.into());
    }
    tcp.set_nodelay(true).map_err(|_| HandshakeRefusal::Left)?;
    let here = tcp.local_addr().map_err(|_| HandshakeRefusal::Left)?;
    let mut stream = match &options.tls {
        None => Stream::plain(tcp),
        Some(tls) => {
            let accepted = tls.acceptor().accept(tcp).into_fallible().await;
            let told = |(error, tcp)| Refused { why: fault(&error), stream: Some(Stream::plain(tcp)) };
            Stream::tls(accepted.map_err(told)?)
        }
    };
    match judged(inner, &mut stream).await {
        Ok((opening, mine, place)) => {
            let welcome = wire::introduction(&wire::welcome(mine));
            write(&mut stream, &welcome).await.map_err(|_| HandshakeRefusal::Left)?;
            Ok(match (opening, place) {
                (Opening::Member { hello, bulk, .. }, Room::Member(place)) => {
                    inner.host.reached_at(here);
                    Guest::Member { stream, hello, bulk, place }
                }
                (Opening::Client { cluster }, Room::Client(place)) => {
                    Guest::Client { stream: stream.holding(place), cluster }
                }
                // Each kind of opening gets a slot of its own kind, so this does not occur.
                (_, Room::Member(_) | Room::Client(_)) => return Err(HandshakeRefusal::Malformed.into()),
            })
        }
        Err(why) if why.is_told() => {
            write(&mut stream, &wire::introduction(&Answer::Refused(why))).await.map_err(|_| why)?;
            Err(Refused { why, stream: Some(stream) })
        }
        Err(why) => Err(why.into()),
    }
}

/// A slot for a connection.
enum Room {
    Client(Place),
    Member(OwnedSemaphorePermit),
}

/// Reads an opening, and finds a slot for it if it is valid. Returns this member's own introduction with it.
async fn judged(inner: &Inner, stream: &mut Stream) -> Result<(Opening, Hello, Room), HandshakeRefusal> {
    let opening = match wire::introduced::<Opening>(stream).await {
        Ok((VERSION, Some(opening))) if opening.is_bounded() => opening,
        Ok((VERSION, _)) => return Err(HandshakeRefusal::Malformed),
        Ok(_) => return Err(HandshakeRefusal::Version),
        Err(NoIntroduction::Not(refusal)) => return Err(refusal),
        Err(NoIntroduction::Ended(error)) => return Err(fault(&error)),
    };
    let mine = inner.host.hello();
    let room = match &opening {
        Opening::Client { cluster } => {
            if cluster.is_some_and(|cluster| !mine.has(cluster)) {
                return Err(HandshakeRefusal::OtherCluster);
            }
            inner.clients.enter().await.map(Room::Client)
        }
        Opening::Member { hello, to, .. } => {
            if !stream.may_be_member() {
                return Err(HandshakeRefusal::NotAMember);
            }
            fits(&mine, hello)?;
            if !inner.host.visited(*to, hello) {
                return Err(HandshakeRefusal::WrongMember);
            }
            if inner.peer(hello.id).is_some_and(|peer| peer.is_blocked()) {
                return Err(HandshakeRefusal::Blocked);
            }
            Semaphore::try_acquire_owned(inner.members.clone()).ok().map(Room::Member)
        }
    };
    Ok((opening, mine, room.ok_or(HandshakeRefusal::TooManyConnections)?))
}

/// Checks that this member and the peer with this introduction may talk.
fn fits(mine: &Hello, theirs: &Hello) -> Result<(), HandshakeRefusal> {
    if theirs.id == mine.id {
        return Err(HandshakeRefusal::Itself);
    }
    if mine.is_foreign_to(theirs) {
        return Err(HandshakeRefusal::OtherCluster);
    }
    Ok(())
}

/// Classifies an error that ended the handshake.
fn fault(error: &io::Error) -> HandshakeRefusal {
    match tls::trouble(error) {
        Some(Trouble::Theirs(rustls::Error::NoCertificatesPresented)) => HandshakeRefusal::NoCertificate,
        Some(Trouble::Theirs(_) | Trouble::Ours(_)) => HandshakeRefusal::BadCertificate,
        Some(Trouble::Other(_)) => HandshakeRefusal::Tls,
        None => HandshakeRefusal::Left,
    }
}

/// Waits for the peer to read the refusal: closing a connection with unread input resets it, and discards the
/// refusal.
async fn hear_out(mut stream: Stream) {
    let mut rest = [0; 1024];
    if stream.shutdown().await.is_ok() {
        while let Ok(1..) = stream.read(&mut rest).await {}
    }
}

/// Reads a member's frames until the connection ends. An error is a violation by that member.
async fn host(inner: &Arc<Inner>, stream: Stream, hello: &Hello, bulk: bool) -> Result<(), HandshakeRefusal> {
    let peer = inner.peer(hello.id).ok_or(HandshakeRefusal::TooManyConnections)?;
    let (number, cut) = lock(&peer.inbound).enter(bulk);
    let _leaves = Leaves { inner, peer: &peer, number };
    if peer.is_blocked() {
        return Ok(());
    }
    inner.heard(&peer, Instant::now());
    inner.host.heard(hello);
    // The peer is alive, so it can perhaps be dialled as well.
    peer.links.iter().for_each(Link::kick);
    tokio::select! {
        biased;
        // Another connection has replaced this one, or it was cut.
        _ = cut => Ok(()),
        ended = read(inner, &peer, stream) => ended,
    }
}

/// Frees the connection's slot when dropped. If it was the member's last connection, the host is told.
struct Leaves<'a> {
    inner: &'a Inner,
    peer: &'a Peer,
    number: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let left = {
            let mut slots = lock(&self.peer.inbound);
            slots.leave(self.number);
            slots.count()
        };
        if left == 0 && !self.inner.is_stopped() {
            self.inner.host.broken(self.peer.id);
        }
    }
}

async fn read(inner: &Inner, peer: &Peer, stream: Stream) -> Result<(), HandshakeRefusal> {
    let options = &inner.options;
    let (mut from, mut to) = tokio::io::split(stream);
    let mut inflow = Inflow::new(options.max_body);
    let mut beat = interval(options.keep_alive);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    // The incomplete frame: since when, and the bytes received by then.
    let mut begun: Option<(Instant, u64)> = None;
    let mut came = 0;
    loop {
        tokio::select! {
            biased;
            // First, or a peer that sends without pause would never get a keep-alive.
            _ = beat.tick() => {
                if let Some((since, then)) = begun
                    && since.elapsed() >= options.frame_timeout
                {
                    if came - then < SLOWEST {
                        return Err(HandshakeRefusal::Slow);
                    }
                    begun = Some((Instant::now(), came));
                }
                if heard.elapsed() >= options.idle_timeout {
                    return Err(HandshakeRefusal::Silent);
                }
                // A peer that does not read one byte in this time counts as gone.
                if !matches!(timeout(options.idle_timeout, write(&mut to, BEAT)).await, Ok(Ok(()))) {
                    return Ok(());
                }
                continue;
            }
            filled = inflow.fill(&mut from) => match filled {
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => {
                    came += count as u64;
                    heard = Instant::now();
                }
            },
        }
        inner.heard(peer, heard);
        if take_arrived(inner, peer, &mut inflow)? {
            begun = None;
        }
        begun = if inflow.is_pending() { begun.or(Some((heard, came))) } else { None };
    }
}

/// Takes all complete frames in. Returns whether there was one.
fn take_arrived(inner: &Inner, peer: &Peer, inflow: &mut Inflow) -> Result<bool, HandshakeRefusal> {
    let (mut frames, mut bytes, mut any) = (0, 0, false);
    while let Some(arrived) = inflow.next()? {
        any = true;
        match arrived {
            Arrived::Frame(group, frame) => {
                (frames, bytes) = (frames + 1, bytes + frame.len());
                if peer.is_blocked() {
                    peer.tally.dropped(Dropped::Blocked, 1);
                } else if !inner.host.deliver(peer.id, group, frame) {
                    peer.tally.dropped(Dropped::NotTaken, 1);
                }
            }
            Arrived::Hello(hello) if hello.id != peer.id => return Err(HandshakeRefusal::Malformed),
            Arrived::Hello(hello) => {
                let mine = inner.host.hello();
                fits(&mine, &hello)?;
                inner.host.heard(&hello);
            }
            Arrived::Beat => {}
        }
    }
    peer.tally.received(frames, bytes);
    Ok(any)
}
