//! How a member comes to its group: it is one of the first, or it joins.
//!
//! # Founding
//!
//! All first members are started with the same list. Each asks the others who they are. When all of them are there and none has a group, the one with the
//! lowest id draws a name for the group and writes down its members, each with the incarnation of its directory; the others find themselves in what it
//! wrote, and write it down as well. So a member whose directory was emptied later does not find itself: it can neither found the group
//! a second time nor vote in it with its memory lost.
//!
//! # Joining
//!
//! A newcomer asks any member for the group's name, starts as one that knows nothing, and asks the leader to be added. It gets the log, or a snapshot,
//! like any follower, and votes once it has caught up. Whether it is added is decided by the log, and by nobody else.

use crate::host::Host;
use crate::identity::{IdentityError, Record};
use crate::node::driver::Told;
use crate::node::presence::Presence;
use crate::protocol::{self, Ask, Founder, Phase, Refused, Reply, Request, Response, Who};
use crate::tls::Tls;
use crate::transport::{self, ClientHello};
use kontiki_core::membership::{Change, Standing};
use kontiki_core::types::{ClusterId, Index, NodeId};
use kontiki_core::wire::FrameError;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{error, fmt, io};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

/// How a member without a group comes to one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Beginning {
    /// It has one, or must not start.
    Known,
    /// As one of the first: all of these.
    Found(Vec<(NodeId, String)>),
    /// By way of the member at this address.
    Join(String),
}

/// Why a member cannot come to a group.
#[derive(Debug)]
pub(super) enum BeginError {
    /// Nobody said how.
    Nothing,
    /// The list of the first members lacks this one.
    NotListed(NodeId),
    /// The group was founded without this member.
    NotFounder(ClusterId),
    /// The group has this member's id under another incarnation.
    Forgotten(ClusterId),
    /// It cannot be written down.
    Identity(IdentityError),
    /// There is no entropy.
    Entropy(io::Error),
    /// It was shut down meanwhile.
    Shutdown,
}

impl fmt::Display for BeginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str(
                "the directory is new, and nobody said which group it is for: name the first members (peers), or a member of the group to join (join)",
            ),
            Self::NotListed(id) => write!(f, "the list of the first members lacks member {id}: start all of them with the same list"),
            Self::NotFounder(cluster) => {
                write!(f, "group {cluster} was founded without this member: join it instead")
            }
            Self::Forgotten(cluster) => write!(
                f,
                "group {cluster} knows this member by another life of its directory: the directory was lost or emptied; remove the member from \
                 the group, and join again"
            ),
            Self::Identity(error) => error.fmt(f),
            Self::Entropy(error) => write!(f, "the system gives no random numbers: {error}"),
            Self::Shutdown => f.write_str("it was shut down"),
        }
    }
}

impl error::Error for BeginError {}

/// Waits until the member has a group, and writes down which.
pub(super) async fn begin(
    presence: &Presence,
    host: &Host,
    beginning: &Beginning,
    directory: &Path,
    told: &mut mpsc::Receiver<Told>,
) -> Result<(), BeginError> {
    loop {
        let attempt = async {
            match beginning {
                Beginning::Known => Err(BeginError::Nothing),
                Beginning::Found(first) => found(presence, host, first).await,
                Beginning::Join(seed) => Ok(join(presence, host, seed).await),
            }
        };
        let step = tokio::select! {
            () = shut_down(told) => return Err(BeginError::Shutdown),
            step = attempt => step?,
        };
        match step {
            Step::Known(record) => {
                record.store(directory).map_err(BeginError::Identity)?;
                record.founders.iter().for_each(|founder| host.hint(founder.id, founder.address.clone()));
                presence.set_record(record);
                return Ok(());
            }
            Step::Wait(why) => {
                let news = presence.status_sender().send_if_modified(|status| {
                    let phase = Phase::Starting(why.clone());
                    let is_news = status.phase != phase;
                    status.phase = phase;
                    is_news
                });
                if news {
                    presence.metrics().status(&presence.status());
                    tracing::info!(member = %presence.member().id, "{why}");
                }
            }
        }
        tokio::select! {
            () = shut_down(told) => return Err(BeginError::Shutdown),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

enum Step {
    Known(Record),
    Wait(String),
}

/// How long to wait before everybody is asked again.
const AGAIN: Duration = Duration::from_millis(100);
/// How long somebody may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long adding a member may take until the leader is asked again: longer than it may take to catch up.
const ADDING: Duration = Duration::from_secs(15 * 60);

async fn shut_down(told: &mut mpsc::Receiver<Told>) {
    // Whoever asks something before there is a group is refused before it comes here.
    while !matches!(told.recv().await, Some(Told::Shutdown) | None) {}
}

async fn found(presence: &Presence, host: &Host, first: &[(NodeId, String)]) -> Result<Step, BeginError> {
    let mut record = presence.record();
    let me = record.member();
    if !first.iter().any(|(id, _)| *id == me.id) {
        return Err(BeginError::NotListed(me.id));
    }
    let mut founders = vec![Founder { id: me.id, incarnation: me.incarnation, address: host.own_address() }];
    let mut missing = Vec::new();
    for (id, address) in first.iter().filter(|(id, _)| *id != me.id) {
        let who = match who(address, host.tls(), presence.cluster()).await {
            Ok(who) if who.member.id == *id => who,
            Ok(who) => {
                missing.push(format!("{id} (member {} is at {address})", who.member.id));
                continue;
            }
            Err(error) => {
                tracing::debug!(%address, %error, "no answer");
                missing.push(format!("{id} at {address}"));
                continue;
            }
        };
        if let Some(cluster) = who.cluster {
            let us = who.founders.iter().find(|founder| founder.id == me.id);
            return match us {
                Some(us) if us.incarnation == me.incarnation => {
                    record.cluster = Some(cluster);
                    record.founders = who.founders;
                    Ok(Step::Known(record))
                }
                Some(_) => Err(BeginError::Forgotten(cluster)),
                None => Err(BeginError::NotFounder(cluster)),
            };
        }
        let address = address.clone();
        founders.push(Founder { id: *id, incarnation: who.member.incarnation, address });
    }
    founders.sort_unstable_by_key(|founder| founder.id);
    if !missing.is_empty() {
        return Ok(Step::Wait(format!("waiting for member {}", missing.join(", "))));
    }
    match founders.first() {
        Some(lowest) if lowest.id == me.id => {
            record.cluster = Some(match presence.cluster() {
                Some(name) => name,
                None => ClusterId(crate::entropy().map_err(BeginError::Entropy)?),
            });
            record.founders = founders;
            Ok(Step::Known(record))
        }
        Some(lowest) => Ok(Step::Wait(format!("waiting for member {} to found the group", lowest.id))),
        None => Ok(Step::Wait(String::new())),
    }
}

async fn join(presence: &Presence, host: &Host, seed: &str) -> Step {
    match who(seed, host.tls(), presence.cluster()).await {
        Ok(Who { cluster: Some(cluster), addresses, member, .. }) => {
            host.hint(member.id, seed.to_owned());
            addresses.into_iter().for_each(|(id, address)| host.hint(id, address));
            let mut record = presence.record();
            record.cluster = Some(cluster);
            Step::Known(record)
        }
        Ok(who) => {
            Step::Wait(format!("waiting for member {} at {seed}, which has no group yet", who.member.id))
        }
        Err(error) => Step::Wait(format!("waiting for the member at {seed}: {error}")),
    }
}

/// Asks the leader to add this member, again and again until it has heard who is in its group. A member that was in it and is no
/// more does not ask: it was removed. Where the leader is lost while this member catches up, the next one knows it for a learner only, and
/// is asked to promote it.
pub(super) async fn ask_to_be_added(presence: Arc<Presence>, host: Arc<Host>, seed: String, witness: bool) {
    let me = presence.member();
    let add = if witness { Change::AddWitness(me) } else { Change::AddVoter(me) };
    let mut target = seed.clone();
    let mut pause = AGAIN;
    // Whether it was asked for, and nobody said what came of it.
    let mut is_open = false;
    let mut turn = 0;
    loop {
        let status = presence.status();
        let change = match status.standing {
            _ if !matches!(status.phase, Phase::Running | Phase::Starting(_)) => return,
            _ if status.configured.index == Index::ZERO => add,
            Standing::Learner if is_open && !witness => Change::Promote(me.id),
            _ => return,
        };
        let ask = Ask::Reconfigure {
            expected: None,
            changes: vec![change],
            addresses: vec![(me.id, host.own_address())],
        };
        let answer = ask_once(&target, host.tls(), presence.record().cluster, ask, ADDING).await;
        match answer {
            Ok(Reply::Reconfigured(id)) => {
                tracing::info!(member = %me.id, entry = %id, "joined");
                return;
            }
            Ok(Reply::NotCaughtUp(_)) => {
                tracing::warn!(member = %me.id, "did not catch up in time: a learner, to be promoted later");
                return;
            }
            Ok(Reply::Refused(Refused { leader: Some((_, Some(address))), .. })) if address != target => {
                target = address;
                continue;
            }
            Ok(Reply::Refused(Refused { code, .. })) if code == "already_member" => {}
            Ok(Reply::Refused(Refused { code, text, retry, .. })) if !retry => {
                // An operator must do something first.
                pause = PATIENCE * 5;
                tracing::error!(member = %me.id, code, "cannot join: {text}");
            }
            Ok(Reply::Refused(Refused { code, .. })) => {
                tracing::info!(member = %me.id, code, "not added yet");
            }
            Ok(_) => is_open = true,
            Err(error) => {
                is_open = true;
                tracing::info!(member = %me.id, address = target, %error, "nobody says whether it is added");
            }
        }
        // Whom it was told to ask first may be gone by now: then the leader where it is known, or else one after another. And whoever leads
        // next must know where this member is, which it learns from a connection.
        let others: Vec<_> = host.addresses().into_iter().filter(|(id, _)| *id != me.id).collect();
        host.connect(&others.iter().map(|(id, _)| *id).collect::<Vec<_>>(), &[]);
        let leader = presence.leader().and_then(|leader| host.address_of(leader));
        turn += 1;
        let next = others.get(turn % (others.len() + 1)).map(|(_, address)| address.clone());
        target = leader.filter(|leader| *leader != target).or(next).unwrap_or_else(|| seed.clone());
        tokio::time::sleep(pause).await;
    }
}

/// What went wrong when somebody was asked.
#[derive(Debug)]
pub(super) enum AskError {
    /// There is no connection.
    Dial(transport::DialError),
    /// It broke.
    Io(io::Error),
    /// What came back is no answer.
    Garbled(FrameError),
    /// Nothing came in time.
    Late,
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Garbled(error) => error.fmt(f),
            Self::Late => f.write_str("no answer came in time"),
        }
    }
}

pub(super) async fn who(
    address: &str,
    tls: Option<&Tls>,
    cluster: Option<ClusterId>,
) -> Result<Who, AskError> {
    match ask_once(address, tls, cluster, Ask::Who, PATIENCE).await? {
        Reply::Who(who) => Ok(who),
        _ => Err(AskError::Garbled(FrameError::Body)),
    }
}

/// Asks one question over a connection of its own.
pub(super) async fn ask_once(
    address: &str,
    tls: Option<&Tls>,
    cluster: Option<ClusterId>,
    ask: Ask,
    patience: Duration,
) -> Result<Reply, AskError> {
    let asking = async {
        let (mut stream, _) =
            transport::dial(address, tls, ClientHello { cluster }, PATIENCE).await.map_err(AskError::Dial)?;
        let mut bytes = Vec::new();
        protocol::encode(&Request { number: 0, ask }, &mut bytes);
        stream.write_all(&bytes).await.map_err(AskError::Io)?;
        stream.flush().await.map_err(AskError::Io)?;
        bytes.clear();
        loop {
            match protocol::decode::<Response>(&bytes, MAX_ANSWER) {
                Ok((response, _)) => return Ok(response.reply),
                Err(FrameError::Incomplete { .. }) => {}
                Err(error) => return Err(AskError::Garbled(error)),
            }
            if stream.read_buf(&mut bytes).await.map_err(AskError::Io)? == 0 {
                return Err(AskError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    };
    tokio::time::timeout(patience, asking).await.unwrap_or(Err(AskError::Late))
}

/// More than any answer to these questions has.
const MAX_ANSWER: usize = 1 << 20;
