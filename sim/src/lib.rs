//! Seeded, simulated Raft clusters.

pub mod contract;
