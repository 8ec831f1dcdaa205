//! Where requests come from.

use crate::replica::frame::ForwardId;
use crate::types::{Member, RequestId};

/// The origin of a request, which gets the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A client of this host, with the request's id.
    Client(RequestId),
    /// A member that forwarded a client's command.
    Peer(Member, ForwardId),
    /// Every origin of this long command: see [`Repeats`](crate::replica::repeats::Repeats).
    Long(u64),
}
