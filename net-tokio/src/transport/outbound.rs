//! Outbound connections: the task of a link, which dials and writes.

use crate::tls::{self, Tls, Trouble};
use crate::transport::counters::Dropped;
use crate::transport::options::TransportOptions;
use crate::transport::shared::{Inner, Peer, is_loopback};
use crate::transport::stream::Stream;
use crate::transport::wire::{self, Answer, HandshakeRefusal, Hello, NoIntroduction, Opening, VERSION};
use kontiki_core::replica::Lane;
use kontiki_core::replica::formation::Verdict;
use kontiki_core::types::{ClusterId, NodeId};
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, mem};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::rustls;

/// A buffer that grew beyond this is not kept.
const KEPT_BUFFER: usize = 1 << 20;

/// Spawns a link's task, unless it is running.
pub(super) fn start(inner: &Arc<Inner>, peer: &Arc<Peer>, lane: Lane) {
    let begin = || inner.spawn(run(inner.clone(), peer.clone(), lane));
    peer.link(lane).run(|| peer.is_blocked(), begin);
}

/// Spawns the tasks of all links to a member.
pub(super) fn start_all(inner: &Arc<Inner>, peer: &Arc<Peer>) {
    start(inner, peer, Lane::Log);
    start(inner, peer, Lane::Bulk);
}

/// Keeps a link connected for as long as it is needed.
async fn run(inner: Arc<Inner>, peer: Arc<Peer>, lane: Lane) {
    let (link, options) = (peer.link(lane), &inner.options);
    loop {
        let worked = match reach(&inner, &peer, lane).await {
            Ok(stream) => {
                link.connected();
                let since = Instant::now();
                let Ended::Broken(why) = carry(&inner, &peer, lane, stream).await else { return };
                tracing::debug!(to = peer.id.get(), ?lane, %why, "connection ended");
                since.elapsed() >= options.backoff_max
            }
            Err(error) => {
                peer.tally.failed_dial();
                if link.is_news(options.log_interval) {
                    tracing::warn!(to = peer.id.get(), ?lane, %error, "cannot connect");
                }
                false
            }
        };
        let (failures, lost) = link.failed(worked);
        peer.tally.dropped(Dropped::Unreachable, lost);
        if failures == 0 {
            continue;
        }
        tokio::select! {
            () = sleep(backoff(options, failures, RandomState::new().hash_one(failures))) => {}
            () = link.kick.notified() => {}
        }
        if !peer.is_kept() && link.rest() {
            return;
        }
    }
}

/// Returns the delay after this many failures.
fn backoff(options: &TransportOptions, failures: u32, random: u64) -> Duration {
    let doubled = 2u32.saturating_pow(failures - 1);
    let longest = options.backoff_min.saturating_mul(doubled).min(options.backoff_max);
    longest / 2 + (longest / 2 / 1024) * (random % 1025) as u32
}

/// The reason a connection ended.
enum Ended {
    /// It was not needed: the link's task was released.
    Idle,
    Broken(io::Error),
}

/// Sends the queue until the connection ends.
async fn carry(inner: &Inner, peer: &Peer, lane: Lane, stream: Stream) -> Ended {
    let (from, to) = tokio::io::split(stream);
    tokio::select! {
        biased;
        error = watch(inner, peer, from) => Ended::Broken(error),
        ended = pump(inner, peer, lane, to) => ended,
    }
}

/// Waits until the peer closes the connection, or sends no keep-alive for too long.
async fn watch(inner: &Inner, peer: &Peer, mut from: impl AsyncRead + Unpin) -> io::Error {
    let mut beats = [0; 64];
    loop {
        match timeout(inner.options.idle_timeout, from.read(&mut beats)).await {
            Ok(Ok(0)) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(Ok(_)) => inner.heard(peer, Instant::now()),
            Ok(Err(error)) => return error,
            Err(_) => return io::ErrorKind::TimedOut.into(),
        }
    }
}

async fn pump(inner: &Inner, peer: &Peer, lane: Lane, mut to: impl AsyncWrite + Unpin) -> Ended {
    let (link, options) = (peer.link(lane), &inner.options);
    let mut beat = interval(options.keep_alive);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut out, mut said, mut used) = (Vec::new(), false, Instant::now());
    loop {
        let (frames, hello) = link.take(&mut out);
        if frames == 0 && !hello {
            tokio::select! {
                biased;
                () = link.wake.notified() => continue,
                _ = beat.tick() => {}
            }
            if !peer.is_kept() && used.elapsed() >= options.idle_timeout && link.rest() {
                return Ended::Idle;
            }
            if mem::take(&mut said) {
                continue;
            }
            out = wire::control(None);
        } else if hello {
            out.splice(..0, wire::control(Some(inner.host.hello())));
        }
        if let Err(error) = write(&mut to, &out).await {
            return Ended::Broken(error);
        }
        if frames > 0 {
            (said, used) = (true, Instant::now());
            peer.tally.sent(frames, out.len());
        }
        out.clear();
        if out.capacity() > KEPT_BUFFER {
            out = Vec::new();
        }
    }
}

pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Dials a member's addresses until it is found. A peer that may be the member is kept if no other address
/// leads to it.
async fn reach(inner: &Inner, peer: &Peer, lane: Lane) -> Result<Stream, DialError> {
    let (mut doubtful, mut failed) = (None, None);
    for address in inner.host.addresses(peer.id) {
        match reach_at(inner, peer, lane, &address).await {
            Ok((stream, theirs, here)) => match inner.host.dialled(peer.id, &address, Some(&theirs)) {
                Verdict::Verified => return Ok(found(inner, peer, stream, &theirs, here)),
                Verdict::Doubtful => doubtful = doubtful.or(Some((stream, theirs, here))),
                Verdict::Other => {
                    failed.get_or_insert(DialError::WrongMember { wanted: peer.id, found: theirs.id });
                }
            },
            Err(error) => {
                inner.host.dialled(peer.id, &address, None);
                failed.get_or_insert(error);
            }
        }
    }
    match doubtful {
        Some((stream, theirs, here)) => Ok(found(inner, peer, stream, &theirs, here)),
        None => Err(failed.unwrap_or(DialError::NoAddress)),
    }
}

fn found(inner: &Inner, peer: &Peer, stream: Stream, theirs: &Hello, here: SocketAddr) -> Stream {
    inner.heard(peer, Instant::now());
    inner.host.reached_at(here);
    inner.host.heard(theirs);
    stream
}

/// Dials one address, and introduces this member to the expected peer.
async fn reach_at(
    inner: &Inner,
    peer: &Peer,
    lane: Lane,
    address: &str,
) -> Result<(Stream, Hello, SocketAddr), DialError> {
    peer.link(lane).introducing();
    let opening = wire::opening(inner.host.hello(), peer.id, lane == Lane::Bulk);
    let options = &inner.options;
    let dialling = introduce(address, options.tls.as_ref(), options.allow_insecure, &opening);
    timeout(options.handshake_timeout, dialling).await.map_err(|_| DialError::Timeout)?
}

/// A client's introduction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClientHello {
    /// The cluster the client expects. `None` accepts any.
    pub cluster: Option<ClusterId>,
}

/// Connects to a member as a client, within this time. Returns the connection and the member's introduction.
/// An address is `host:port`.
pub async fn dial(
    address: &str,
    tls: Option<&Tls>,
    hello: ClientHello,
    limit: Duration,
) -> Result<(Stream, Hello), DialError> {
    let opening = Opening::Client { cluster: hello.cluster };
    // Whether clients may go without TLS is decided by the cluster.
    let dialling = introduce(address, tls, true, &opening);
    let (stream, hello, _) = timeout(limit, dialling).await.map_err(|_| DialError::Timeout)??;
    Ok((stream, hello))
}

async fn introduce(
    address: &str,
    tls: Option<&Tls>,
    insecure: bool,
    opening: &Opening,
) -> Result<(Stream, Hello, SocketAddr), DialError> {
    let tcp = TcpStream::connect(address).await.map_err(DialError::Connect)?;
    let here = tcp.local_addr().map_err(DialError::Connect)?;
    let there = tcp.peer_addr().map_err(DialError::Connect)?;
    // A connection to an unused local port may connect to itself: TCP's simultaneous open.
    if here == there {
        return Err(DialError::Connect(io::ErrorKind::ConnectionRefused.into()));
    }
    if tls.is_none() && !insecure && !is_loopback(there) {
        return Err(DialError::Insecure(there));
    }
    tcp.set_nodelay(true).map_err(DialError::Connect)?;
    let mut stream = match tls {
        None => Stream::plain(tcp),
        Some(tls) => {
            let connecting = tls.connector().connect(tls::member(), tcp);
            Stream::tls(connecting.await.map_err(DialError::of)?)
        }
    };
    write(&mut stream, &wire::introduction(opening)).await.map_err(DialError::of)?;
    match wire::introduced::<Answer>(&mut stream).await {
        Ok((_, Some(Answer::Refused(refusal)))) => Err(DialError::Refused(refusal)),
        Ok((VERSION, Some(answer @ Answer::Welcome(_)))) if !answer.is_bounded() => Err(DialError::Garbage),
        Ok((VERSION, Some(Answer::Welcome(hello)))) => Ok((stream, hello, here)),
        Ok((version, _)) => Err(DialError::Version(version)),
        Err(NoIntroduction::Not(HandshakeRefusal::NotKontiki)) => Err(DialError::NotKontiki),
        Err(NoIntroduction::Not(_)) => Err(DialError::Garbage),
        Err(NoIntroduction::Ended(error)) => Err(DialError::of(error)),
    }
}

/// The reason there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The member's address is not known.
    #[error("its address is not known: configure it, or wait until another member reports it")]
    NoAddress,
    /// The address cannot be resolved, or the connection was refused.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// The time limit has passed.
    #[error("no answer in time")]
    Timeout,
    /// It would be in clear over a network, which is not allowed.
    #[error("{0} is on another machine, and there is no TLS: give certificates, or allow it explicitly")]
    Insecure(SocketAddr),
    /// The other end closed the connection without an answer.
    #[error(
        "the connection was closed without an answer ({0}): a member with TLS answers only peers with TLS"
    )]
    Closed(#[source] io::Error),
    /// The other end has no valid member's certificate of this cluster's authority.
    #[error("the other end has no valid member's certificate of this cluster: {0}")]
    Certificate(#[source] rustls::Error),
    /// The other end has no TLS parameters in common.
    #[error("the TLS 1.3 handshake failed: {0}")]
    Tls(#[source] rustls::Error),
    /// The other end does not speak this protocol, or speaks it over TLS only.
    #[error("the other end is not a Kontiki member, or requires TLS")]
    NotKontiki,
    /// The other end speaks this version of the protocol.
    #[error("the other end speaks version {0} of the protocol, this one version {VERSION}: update the older")]
    Version(u8),
    /// The other end speaks this protocol, but its answer is malformed.
    #[error("the other end sent a malformed answer")]
    Garbage,
    /// The other end refuses the connection.
    #[error("refused by the other end: {0}")]
    Refused(HandshakeRefusal),
    /// Another member answers there.
    #[error("the address belongs to member {found}, not {wanted}: correct it")]
    WrongMember {
        /// The expected member.
        wanted: NodeId,
        /// The actual member.
        found: NodeId,
    },
}

impl DialError {
    /// Classifies a connection's error: perhaps one end rejects the other's certificate.
    fn of(error: io::Error) -> Self {
        match tls::trouble(&error) {
            Some(Trouble::Ours(refusal)) => Self::Refused(refusal),
            Some(Trouble::Theirs(error)) => Self::Certificate(error),
            Some(Trouble::Other(error)) => Self::Tls(error),
            None => Self::Closed(error),
        }
    }
}
