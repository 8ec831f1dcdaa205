//! Serves clients: each connection is one task that reads requests, and writes responses as they become
//! ready.

use crate::host::Host;
use crate::node::Error;
use crate::node::driver::{Said, Waiter};
use crate::node::handle::NodeHandle;
use crate::protocol::{self, Ask, Refused, Reply, Request, Response};
use crate::transport::Stream;
use kontiki_core::action;
use kontiki_core::replica::formation::NoIdentity;
use kontiki_core::replica::{self, Answer, ReplicaRefusal};
use kontiki_core::types::NodeId;
use kontiki_core::wire::FrameError;
use std::pin::pin;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, UnboundedSender};

/// Serves one client until it disconnects, sends an invalid request, or has been idle so long that another
/// client needs its place.
pub(crate) async fn serve(mut stream: Stream, handle: &Arc<NodeHandle>, host: &Arc<Host>) {
    let max_body = handle.max_request();
    let limit = host.max_requests_of_a_client();
    let (say, mut said) = mpsc::unbounded_channel();
    let (mut read, mut write) = (Vec::with_capacity(BUFFER), Vec::with_capacity(BUFFER));
    let mut some = Vec::new();
    let mut open = 0_usize;
    let mut gives_way = pin!(stream.gives_way());
    loop {
        tokio::select! {
            () = &mut gives_way => return,
            // A client with too many requests in flight is read no further: its own socket buffers fill, and
            // other clients are not affected.
            got = stream.read_buf(&mut read), if open < limit => {
                if !matches!(got, Ok(1..)) {
                    return;
                }
            }
            _ = said.recv_many(&mut some, limit) => {}
        }
        match requests(&mut read, max_body, |request| {
            open += 1;
            stream.begin();
            take(request, handle, host, &say);
        }) {
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "a client sent an invalid request");
                handle.metrics().refused("bad_request");
                return;
            }
        }
        while let Ok(more) = said.try_recv() {
            some.push(more);
        }
        let answered = !some.is_empty();
        open -= some.len();
        for (number, said) in some.drain(..) {
            protocol::encode(&Response { number, reply: reply(said, handle, host) }, &mut write);
        }
        if !write.is_empty() {
            if stream.write_all(&write).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            write.clear();
            write.shrink_to(BUFFER);
        }
        if open == 0 && answered {
            stream.end();
        }
    }
}

const BUFFER: usize = 16 << 10;

/// Takes all complete requests out of `read`.
fn requests(read: &mut Vec<u8>, max_body: usize, mut each: impl FnMut(Request)) -> Result<(), FrameError> {
    let mut at = 0;
    loop {
        match protocol::decode::<Request>(&read[at..], max_body) {
            Ok((request, length)) => {
                each(request);
                at += length;
            }
            Err(FrameError::Incomplete { .. }) => {
                read.drain(..at);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Passes a request to the part that answers it. The reply is sent through `say`.
fn take(request: Request, handle: &Arc<NodeHandle>, host: &Arc<Host>, say: &UnboundedSender<(u64, Said)>) {
    let Request { number, ask } = request;
    let ask = match ask {
        Ask::Command(payload) => replica::Ask::Command(payload),
        Ask::Query { query, via } => replica::Ask::Query { query, via },
        Ask::Transfer(to) => replica::Ask::Transfer { to },
        Ask::Snapshot => replica::Ask::Snapshot,
        Ask::CancelChange => replica::Ask::CancelChange,
        Ask::Reconfigure { expected, changes, force, addresses } => {
            addresses.into_iter().for_each(|(id, address)| host.configure(id, address));
            replica::Ask::Reconfigure { expected, changes, force }
        }
        other => {
            let (handle, host, say) = (Arc::clone(handle), Arc::clone(host), say.clone());
            tokio::spawn(async move {
                // A client that has disconnected needs no answer.
                let _ = say.send((number, Said::Replied(look(other, &handle, &host).await)));
            });
            return;
        }
    };
    let waiter = Waiter::Numbered(number, say.clone());
    if let Err(error) = handle.ask(ask, waiter) {
        handle.metrics().refused(error.code());
        let _ = say.send((number, Said::Replied(Reply::Refused(refused(&error, handle, host)))));
    }
}

/// Returns the one reply to one request, for a caller in this process.
#[cfg(feature = "admin")]
pub(super) async fn answer(ask: Ask, handle: &Arc<NodeHandle>, host: &Arc<Host>) -> Reply {
    let (say, mut said) = mpsc::unbounded_channel();
    take(Request { number: 0, ask }, handle, host, &say);
    drop(say);
    // The driver may have ended without an answer.
    said.recv().await.map_or(Reply::Unknown, |(_, said)| reply(said, handle, host))
}

/// Answers a request that changes nothing.
async fn look(ask: Ask, handle: &Arc<NodeHandle>, host: &Arc<Host>) -> Reply {
    let looked = match ask {
        Ask::Status => Ok(Reply::Status(handle.status())),
        Ask::Members => handle.members().await.map(Reply::Members),
        Ask::Logs(range) => handle.logs(range).await.map(Reply::Logs),
        Ask::Introduce(peer) => {
            let who = host.with_addresses(|book| handle.form(|formation| formation.introduced(&peer, book)));
            who.map(Reply::Who).map_err(|error| Error::Starting(error.to_string()))
        }
        _ => {
            let who = host.with_addresses(|book| handle.form(|formation| formation.who(book)));
            who.map(Reply::Who).ok_or_else(|| Error::Starting(NoIdentity::Writing.to_string()))
        }
    };
    looked.unwrap_or_else(|error| Reply::Refused(refused(&error, handle, host)))
}

fn reply(said: Said, handle: &NodeHandle, host: &Host) -> Reply {
    let answer = match said {
        Said::Answered(answer) => answer,
        Said::Replied(reply) => return reply,
    };
    match answer {
        Answer::Applied { id, answer } => Reply::Applied { id, answer },
        Answer::Unanswered(id) => Reply::Unanswered(id),
        Answer::Read { index, answer, .. } => Reply::Read { index, answer },
        Answer::Reconfigured(id) => Reply::Reconfigured(id),
        Answer::NotCaughtUp(id) => Reply::NotCaughtUp(id),
        Answer::Cancelled => Reply::Cancelled,
        Answer::Transferred => Reply::Transferred,
        Answer::NotTransferred => Reply::NotTransferred,
        Answer::Snapshot(id) => Reply::Snapshot(id),
        Answer::Refused(refusal) => Reply::Refused(refused(&Error::Refused(refusal), handle, host)),
        // Entries are requested through `look`.
        Answer::Entries(_) | Answer::Unknown => Reply::Unknown,
    }
}

/// Describes a refusal, and the member that may accept the request.
fn refused(error: &Error, handle: &NodeHandle, host: &Host) -> Refused {
    let leader = match error {
        Error::Refused(ReplicaRefusal::Raft(action::Refusal::NotLeader { leader })) => *leader,
        Error::Refused(ReplicaRefusal::Raft(action::Refusal::Transferring { to })) => Some(*to),
        _ => handle.leader(),
    };
    let at = |id: NodeId| (id, host.address_of(id));
    Refused {
        code: error.code().to_owned(),
        text: error.to_string(),
        retry: error.is_retryable() || matches!(error, Error::Stopped),
        leader: leader.map(at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_may_come_in_any_pieces() {
        let mut bytes = Vec::new();
        for number in 1..=3 {
            protocol::encode(&Request { number, ask: Ask::Status }, &mut bytes);
        }
        let (mut read, mut numbers) = (Vec::new(), Vec::new());
        for byte in bytes {
            read.push(byte);
            assert_eq!(requests(&mut read, 100, |request| numbers.push(request.number)), Ok(()));
        }
        assert_eq!((numbers, read), (vec![1, 2, 3], Vec::new()));
    }

    #[test]
    fn what_is_no_request_ends_the_connection() {
        let mut read = Vec::new();
        protocol::encode(&Request { number: 1, ask: Ask::Status }, &mut read);
        read[9] ^= 1;
        assert_eq!(requests(&mut read, 100, |_| panic!("it is none")), Err(FrameError::Checksum));
        let mut read = vec![0xff; 20];
        let told = requests(&mut read, 100, |_| panic!("it is none"));
        assert!(matches!(told, Err(FrameError::TooLong { .. })), "{told:?}");
    }
}
