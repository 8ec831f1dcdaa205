//! The three roles of a member (paper §5.1), each with only the state that it alone needs.
//!
//! A role's handlers act on [`Common`](crate::common::Common) and *return* what the member should become;
//! only `Raft::become_` changes the role.

pub(crate) mod candidate;
pub(crate) mod follower;
pub(crate) mod leader;
mod next;
pub(crate) mod voter;

pub(crate) use next::{Next, Phase};
