//! What members write down and tell each other about the beginning of their group.

use crate::types::{ClusterId, Identity, Incarnation, Member, NodeId};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Which member of which group a data directory belongs to, and how that group began.
///
/// It is durable before anything else is written, and written again when the group is known. It needs its own
/// file: a member that forgot it would found its group twice, or vote twice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The version of this format: [`Record::FORMAT`].
    pub format: u32,
    /// The member's id.
    pub id: NodeId,
    /// The incarnation of the directory, drawn when the directory was made.
    pub incarnation: Incarnation,
    /// The group, once it is known.
    pub cluster: Option<ClusterId>,
    /// The group's first members, if this member is one of them.
    pub founders: Vec<Founder>,
    /// How far the member is in joining its group, until it votes. A member that is restarted while it
    /// catches up goes on asking; a member that an operator keeps as a learner does not ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joining: Option<Admission>,
}

/// How far a newcomer is in joining its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// It is to be added.
    Wanted,
    /// It is a learner, by a membership that is committed, and is to be promoted. If it is no member any
    /// more, it was removed, and does not ask again.
    Learner,
}

impl Record {
    /// The version of the format that this library writes.
    pub const FORMAT: u32 = 1;

    /// The record of a new directory, which has no group yet.
    pub fn blank(id: NodeId, incarnation: Incarnation) -> Self {
        Self { format: Self::FORMAT, id, incarnation, cluster: None, founders: Vec::new(), joining: None }
    }

    /// The member, with its incarnation.
    pub fn member(&self) -> Member {
        Member::new(self.id, self.incarnation)
    }

    /// The member within its group, once it has one.
    pub fn identity(&self) -> Option<Identity> {
        self.cluster.map(|cluster| Identity::new(cluster, self.member()))
    }
}

/// One of the first members of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founder {
    /// Its id.
    pub id: NodeId,
    /// The incarnation of its directory.
    pub incarnation: Incarnation,
    /// Where it was reached when the group was founded.
    pub address: String,
}

/// What a member says when it is asked for its identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Who {
    /// The member: its id, and the incarnation of its directory.
    pub member: Member,
    /// Its group, if it has one.
    pub cluster: Option<ClusterId>,
    /// The group's first members, if this member is one of them: a member that waits to be founded finds
    /// itself in the list.
    pub founders: Vec<Founder>,
    /// Where members are to be reached, as far as this member knows.
    pub addresses: Vec<(NodeId, String)>,
}

/// What a member says of itself when it asks another member for its identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Introduction {
    /// The member that asks.
    pub member: Member,
    /// Where it is to be reached, if it knows.
    pub address: Option<Address>,
    /// The digest of its list of first members, if it is to be one of them and has no group yet. Members with
    /// other lists do not found a group together, even if the ids are the same.
    pub list: Option<u64>,
}

/// Why a member does not tell its identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoIdentity {
    /// It writes down its group at this moment.
    Writing,
    /// It was started with another list of first members than the one that asks, or with none.
    OtherList,
}

impl fmt::Display for NoIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Writing => "it writes down its group: ask again",
            Self::OtherList => {
                "it was started with another list of first members: start all of them with the same list"
            }
        })
    }
}

impl core::error::Error for NoIdentity {}

/// Where a member is to be reached: a hint, never a proof.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Address {
    /// `host:port`, of at most [`MAX_ADDRESS`] bytes.
    pub text: String,
    /// Of two addresses that one member has announced, the one with the greater stamp is the newer.
    pub stamp: u64,
}

/// The longest address, in bytes.
pub const MAX_ADDRESS: usize = 255;

impl Address {
    /// An address of which it is not known when it was announced.
    pub fn undated(text: impl Into<String>) -> Self {
        Self { text: text.into(), stamp: 0 }
    }

    /// Whether another member could dial it: it is not empty, not too long, and names a host. An unspecified
    /// IP address (`0.0.0.0`, `::`) is where a member listens, and names no host.
    pub fn is_usable(&self) -> bool {
        !self.text.is_empty() && self.text.len() <= MAX_ADDRESS && !is_unspecified(&self.text)
    }
}

/// Whether this `host:port` has an unspecified IP address as its host.
pub fn is_unspecified(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match host.parse::<core::net::IpAddr>() {
        Ok(ip) => ip.to_canonical().is_unspecified(),
        Err(_) => host.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_names_no_host() {
        for address in ["0.0.0.0:7001", "[::]:7001", "[::ffff:0.0.0.0]:7001", ":7001"] {
            assert!(is_unspecified(address), "{address}");
        }
        for address in ["10.0.0.1:7001", "[::1]:7001", "db-1.internal:7001", "0.0.0.1:7001"] {
            assert!(!is_unspecified(address), "{address}");
        }
        assert!(!Address::undated("").is_usable());
        assert!(!Address::undated("x".repeat(MAX_ADDRESS + 1)).is_usable());
    }
}
