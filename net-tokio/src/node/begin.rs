//! Carries out the decisions of [`formation`](kontiki_core::replica::formation): how a member founds or joins
//! its group.

use crate::clock::Clock;
use crate::host::Host;
use crate::identity::{self, IdentityError};
use crate::node::handle::NodeHandle;
use crate::protocol::{self, Answer, Ask, NodePhase, NodeStatus, Numbered, Refused, Request, Response};
use crate::tls::Tls;
use crate::transport::{self, ClientHello};
use kontiki_core::replica::formation::{
    self, ChangeRefused, FormationError, Input, Introduction, Output, Place, Question, Record, Report,
};
use kontiki_core::types::ClusterId;
use kontiki_core::wire::FrameError;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The reason a member cannot enter a group.
#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    /// Formation refuses it.
    #[error(transparent)]
    Formation(FormationError),
    /// The membership record cannot be written.
    #[error(transparent)]
    Identity(IdentityError),
    /// The member was shut down meanwhile.
    #[error("it was shut down")]
    Shutdown,
}

/// Reports that the member has a group, or cannot have one.
pub(super) type Entered = oneshot::Sender<Result<(), BeginError>>;

/// The delay before a failed write of the record is retried.
const AGAIN: Duration = Duration::from_secs(1);

/// Brings a member into its group, and continues while formation has work to do. Returns when the member
/// stops.
pub(super) async fn form(handle: Arc<NodeHandle>, host: Arc<Host>, directory: PathBuf, entered: Entered) {
    let (clock, mut entered) = (Clock::start(), Some(entered));
    let (tell, mut answers) = mpsc::unbounded_channel();
    let (mut asking, mut status) = (JoinSet::new(), handle.status_sender().subscribe());
    let (mut inputs, mut outputs, mut placed) = (VecDeque::from([Input::Wake]), Vec::new(), None);
    loop {
        while let Some(input) = inputs.pop_front() {
            host.with_addresses(|book| {
                handle.form(|formation| formation.handle(clock.now(), input, book, &mut outputs));
            });
            for output in outputs.drain(..) {
                match output {
                    Output::Ask { question, address, ask, patience } => {
                        let (host, tell) = (Arc::clone(&host), tell.clone());
                        let cluster = handle.cluster();
                        asking.spawn(async move {
                            let patience = Duration::from_nanos(patience.get());
                            let answer = put(&address, host.tls(), cluster, ask, patience).await;
                            // The task that asked may have ended.
                            let _ = tell.send(Input::Answered { question, answer });
                        });
                    }
                    Output::Store(record) => match store(record, &directory, entered.is_some()).await {
                        Ok(()) => inputs.push_back(Input::Stored),
                        Err(error) => return end(entered, BeginError::Identity(error)),
                    },
                    Output::Enter(_) => {
                        if let Some(entered) = entered.take() {
                            // The member may have been shut down.
                            let _ = entered.send(Ok(()));
                        }
                    }
                    Output::Connect(members) => host.connect(&members, &[]),
                    Output::Report(report) => tell_operator(&handle, &report),
                    Output::Fail(error) => return end(entered, BeginError::Formation(error)),
                }
            }
        }
        while asking.try_join_next().is_some() {}
        let deadline = clock.sleep_until(handle.form(|formation| formation.deadline()));
        tokio::select! {
            answer = answers.recv() => inputs.extend(answer),
            changed = status.changed() => {
                let now = place(&status.borrow_and_update());
                if changed.is_err() || now.is_err() {
                    return;
                }
                if let Ok(Some(now)) = now
                    && placed.replace(now) != Some(now)
                {
                    inputs.push_back(Input::Placed(now));
                }
            }
            () = sleep(deadline) => inputs.push_back(Input::Wake),
        }
    }
}

fn end(entered: Option<Entered>, error: BeginError) {
    match entered {
        // The member may have been shut down.
        Some(entered) => drop(entered.send(Err(error))),
        None => tracing::error!(%error, "cannot go on joining"),
    }
}

/// Writes a record. A member that already has its group keeps running if the write fails, and the write is
/// retried.
async fn store(record: Record, directory: &Path, must: bool) -> Result<(), IdentityError> {
    loop {
        let (record, directory) = (record.clone(), directory.to_owned());
        let stored = tokio::task::spawn_blocking(move || identity::store(&record, &directory)).await;
        match stored {
            Ok(Err(error)) if must => return Err(error),
            Ok(Err(error)) => tracing::warn!(%error, "cannot write down how far this member has joined"),
            // The runtime is shutting down.
            Err(_) => {}
            Ok(Ok(())) => return Ok(()),
        }
        sleep(AGAIN).await;
    }
}

/// Returns the member's place in its group, if it has one; an error if the member runs no further.
fn place(status: &NodeStatus) -> Result<Option<Place>, ()> {
    match status.phase {
        NodePhase::Starting(_) => Ok(None),
        NodePhase::Running => {
            let NodeStatus { configured, committed, kind, leader, .. } = *status;
            Ok(Some(Place::new(configured.index, committed, kind, leader)))
        }
        NodePhase::Refusing(_) | NodePhase::Halted(_) | NodePhase::Stopped => Err(()),
    }
}

fn tell_operator(handle: &NodeHandle, report: &Report) {
    let member = handle.member().id;
    if report.is_waiting() {
        handle.set_phase(NodePhase::Starting(report.to_string()));
    }
    match report {
        Report::NotAdded { needs_operator: true, .. } | Report::SeedOfOtherGroup { .. } => {
            tracing::error!(%member, "{report}");
        }
        Report::NotCaughtUp => tracing::warn!(%member, "{report}"),
        _ => tracing::info!(%member, "{report}"),
    }
}

/// Sends a formation's question.
async fn put(
    address: &str,
    tls: Option<&Tls>,
    cluster: Option<ClusterId>,
    question: Question,
    patience: Duration,
) -> Result<formation::Reply, String> {
    let is_change = matches!(question, Question::Change(..));
    let request = match question {
        Question::Introduce(introduction) => Request::Introduce(introduction),
        Question::Change(change, Introduction { member, address, .. }) => Request::Ask {
            ask: Ask::Reconfigure { expected: None, changes: vec![change], force: false },
            addresses: address.map(|address| (member.id, address.text)).into_iter().collect(),
        },
    };
    let asked = ask_once(address, tls, cluster, request, patience).await;
    let answer = match asked.map_err(|error| error.to_string())? {
        Response::Identity(who) => return Ok(formation::Reply::Who(who)),
        Response::Answer(answer) => answer,
        _ => return Err(AskError::Garbled(FrameError::Body).to_string()),
    };
    match answer {
        Answer::Reconfigured(id) => Ok(formation::Reply::Changed(id)),
        // An operator may have cancelled the change. The member is a learner all the same, to be promoted
        // later.
        Answer::NotCaughtUp(_) | Answer::Cancelled => Ok(formation::Reply::NotCaughtUp),
        Answer::Unknown => Ok(formation::Reply::Unknown),
        Answer::Refused(Refused { code, text, retry, leader }) if is_change => {
            let is_member = code == "already_member";
            let refused = ChangeRefused { reason: text, is_passing: retry, is_member, leader };
            Ok(formation::Reply::Refused(refused))
        }
        Answer::Refused(Refused { text, .. }) => Err(text),
        Answer::Applied { .. }
        | Answer::Unanswered(_)
        | Answer::Read { .. }
        | Answer::Transferred
        | Answer::NotTransferred
        | Answer::Snapshot(_)
        | Answer::Entries(_) => Err(AskError::Garbled(FrameError::Body).to_string()),
    }
}

/// The reason a question got no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The connection could not be made.
    #[error(transparent)]
    Dial(transport::DialError),
    /// The connection broke.
    #[error(transparent)]
    Io(io::Error),
    /// The response is not a valid answer.
    #[error(transparent)]
    Garbled(FrameError),
    /// No answer came in time.
    #[error("no answer came in time")]
    Late,
}

/// The time limit for a member to identify itself.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks the member at an address for its identity.
#[cfg(feature = "admin")]
pub(super) async fn who(address: &str, tls: Option<&Tls>) -> Result<protocol::Who, AskError> {
    match ask_once(address, tls, None, Request::Identify, PATIENCE).await? {
        Response::Identity(who) => Ok(who),
        _ => Err(AskError::Garbled(FrameError::Body)),
    }
}

/// Asks one question over a connection of its own.
async fn ask_once(
    address: &str,
    tls: Option<&Tls>,
    cluster: Option<ClusterId>,
    body: Request,
    patience: Duration,
) -> Result<Response, AskError> {
    let asking = async {
        let (mut stream, _) =
            transport::dial(address, tls, ClientHello { cluster }, PATIENCE).await.map_err(AskError::Dial)?;
        let mut bytes = Vec::new();
        protocol::encode(&Numbered { number: 0, body }, &mut bytes);
        stream.write_all(&bytes).await.map_err(AskError::Io)?;
        stream.flush().await.map_err(AskError::Io)?;
        bytes.clear();
        loop {
            match protocol::decode::<Numbered<Response>>(&bytes, MAX_ANSWER) {
                Ok((response, _)) => return Ok(response.body),
                Err(FrameError::Incomplete { .. }) => {}
                Err(error) => return Err(AskError::Garbled(error)),
            }
            if stream.read_buf(&mut bytes).await.map_err(AskError::Io)? == 0 {
                return Err(AskError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    };
    timeout(patience, asking).await.unwrap_or(Err(AskError::Late))
}

/// An upper bound on the size of an answer to these questions.
const MAX_ANSWER: usize = 1 << 20;
