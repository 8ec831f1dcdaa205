//! The JSON that the admin port and the command line show: one view of each type of the
//! [protocol](crate::protocol), so that the two cannot differ.
//!
//! Indexes and terms are numbers. Incarnations and cluster ids are strings: they need all 64 bits, and many
//! JSON readers have 53.

use crate::protocol::{Content, LogEntry, MemberStatus, NodeStatus};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kontiki_core::status::PauseReason;
use kontiki_core::types::{Index, LogId, NodeId, Term};
use serde::Serialize;

/// A member's status.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StatusView {
    cluster_id: String,
    id: NodeId,
    incarnation: String,
    phase: &'static str,
    phase_reason: Option<String>,
    role: String,
    kind: &'static str,
    term: Term,
    vote: Option<NodeId>,
    leader: Option<NodeId>,
    last: LogId,
    durable: LogId,
    commit_index: Index,
    applied_index: Index,
    snapshot: LogId,
    configured: LogId,
    space: &'static str,
}

impl From<&NodeStatus> for StatusView {
    fn from(status: &NodeStatus) -> Self {
        let NodeStatus { cluster, member, phase, role, kind, term, vote, leader, .. } = status;
        let NodeStatus { last, durable, committed, applied, snapshot, configured, space, .. } = status;
        Self {
            cluster_id: cluster.to_string(),
            id: member.id,
            incarnation: member.incarnation.to_string(),
            phase: phase.code(),
            phase_reason: phase.reason().map(str::to_owned),
            role: role.to_string(),
            kind: kind.code(),
            term: *term,
            vote: *vote,
            leader: *leader,
            last: *last,
            durable: *durable,
            commit_index: *committed,
            applied_index: *applied,
            snapshot: *snapshot,
            configured: *configured,
            space: space.code(),
        }
    }
}

/// A member of the group, as seen by one member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MemberView {
    id: NodeId,
    incarnation: String,
    address: Option<String>,
    kind: &'static str,
    is_leader: bool,
    last_contact_ms: Option<u64>,
    match_index: Option<Index>,
    lag: Option<u64>,
    pause_reason: Option<&'static str>,
}

impl From<&MemberStatus> for MemberView {
    fn from(status: &MemberStatus) -> Self {
        let MemberStatus { member, address, kind, leads, last_contact_ms, matched, lag, paused } = status;
        Self {
            id: member.id,
            incarnation: member.incarnation.to_string(),
            address: address.clone(),
            kind: kind.code(),
            is_leader: *leads,
            last_contact_ms: *last_contact_ms,
            match_index: *matched,
            lag: *lag,
            pause_reason: paused.map(PauseReason::code),
        }
    }
}

/// Returns the members of a group.
pub fn members(members: &[MemberStatus]) -> Vec<MemberView> {
    members.iter().map(MemberView::from).collect()
}

/// A log entry.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EntryView {
    index: Index,
    term: Term,
    committed: bool,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    command_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<String>,
}

impl From<&LogEntry> for EntryView {
    fn from(LogEntry { id, committed, content }: &LogEntry) -> Self {
        let (kind, command_base64, members) = match content {
            Content::Blank => ("blank", None, None),
            Content::Command(command) => ("command", Some(BASE64.encode(&**command)), None),
            Content::Session => ("session", None, None),
            Content::Members(members) => ("members", None, Some(members.clone())),
            Content::Withheld => ("withheld", None, None),
            Content::Lost => ("lost", None, None),
        };
        Self { index: id.index, term: id.term, committed: *committed, kind, command_base64, members }
    }
}
