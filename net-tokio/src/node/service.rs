//! Serves clients: each connection is one task that reads requests, and writes responses as they become
//! ready.

use crate::host::Host;
use crate::node::Error;
use crate::node::event::{Said, Waiter};
use crate::node::handle::NodeHandle;
use crate::node::log;
use crate::protocol::{self, Answer, Ask, Numbered, Refused, Request, Response};
use crate::transport::Stream;
use kontiki_core::action;
use kontiki_core::replica::ReplicaRefusal;
use kontiki_core::replica::formation::NoIdentity;
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
        let taken = protocol::take_frames(&mut read, max_body, |request| {
            open += 1;
            stream.begin();
            take(request, handle, host, &say);
            Ok::<_, FrameError>(())
        });
        if let Err(error) = taken {
            tracing::debug!(%error, "a client sent an invalid request");
            handle.metrics().refused("bad_request");
            return;
        }
        while let Ok(more) = said.try_recv() {
            some.push(more);
        }
        let answered = !some.is_empty();
        open -= some.len();
        for (number, said) in some.drain(..) {
            protocol::encode(&Numbered { number, body: response(said, handle, host) }, &mut write);
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

/// Passes a request to the part that answers it. The response is sent through `say`.
fn take(
    request: Numbered<Request>,
    handle: &Arc<NodeHandle>,
    host: &Arc<Host>,
    say: &UnboundedSender<(u64, Said)>,
) {
    let Numbered { number, body } = request;
    let now = match body {
        Request::Status => Ok(Response::Status(handle.status())),
        Request::Identify => {
            let who = host.with_addresses(|book| handle.form(|formation| formation.who(book)));
            who.map(Response::Identity).ok_or_else(|| Error::Starting(NoIdentity::Writing.to_string()))
        }
        Request::Introduce(peer) => {
            let who = host.with_addresses(|book| handle.form(|formation| formation.introduced(&peer, book)));
            who.map(Response::Identity).map_err(|error| Error::Starting(error.to_string()))
        }
        Request::Members => {
            let asked = Arc::clone(handle);
            return look(
                number,
                async move { asked.members().await.map(Response::Members) },
                handle,
                host,
                say,
            );
        }
        Request::Ask { ask: Ask::Entries { range, max_bytes }, addresses: _ } => {
            let asked = Arc::clone(handle);
            let entries = async move { Ok(Answer::Entries(asked.logs(range, max_bytes).await?).into()) };
            return look(number, entries, handle, host, say);
        }
        Request::Ask { ask, addresses } => {
            addresses.into_iter().for_each(|(id, address)| host.configure(id, address));
            match handle.ask(ask, Waiter::Numbered(number, say.clone())) {
                Ok(()) => return,
                Err(error) => {
                    handle.metrics().refused(error.code());
                    Err(error)
                }
            }
        }
    };
    let _ = say.send((number, Said::Replied(now.unwrap_or_else(|error| refusal(&error, handle, host)))));
}

/// Answers a request that changes nothing, as soon as its answer is there.
fn look(
    number: u64,
    answering: impl Future<Output = Result<Response, Error>> + Send + 'static,
    handle: &Arc<NodeHandle>,
    host: &Arc<Host>,
    say: &UnboundedSender<(u64, Said)>,
) {
    let (handle, host, say) = (Arc::clone(handle), Arc::clone(host), say.clone());
    tokio::spawn(async move {
        let response = answering.await.unwrap_or_else(|error| refusal(&error, &handle, &host));
        // A client that has disconnected needs no answer.
        let _ = say.send((number, Said::Replied(response)));
    });
}

/// Returns the one response to one request, for a caller in this process.
#[cfg(feature = "admin")]
pub(super) async fn answer(body: Request, handle: &Arc<NodeHandle>, host: &Arc<Host>) -> Response {
    let (say, mut said) = mpsc::unbounded_channel();
    take(Numbered { number: 0, body }, handle, host, &say);
    drop(say);
    // The driver may have ended without an answer.
    said.recv().await.map_or(Answer::Unknown.into(), |(_, said)| response(said, handle, host))
}

fn response(said: Said, handle: &NodeHandle, host: &Host) -> Response {
    match said {
        Said::Replied(response) => response,
        Said::Answered(answer) => {
            let refusal = |refusal| refused(&Error::Refused(refusal), handle, host);
            answer.map(refusal, |page| log::entries(&page)).into()
        }
    }
}

fn refusal(error: &Error, handle: &NodeHandle, host: &Host) -> Response {
    Response::refused(refused(error, handle, host))
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
