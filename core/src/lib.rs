//! Raft consensus as a pure state machine: events in, actions out.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod action;
mod common;
pub mod config;
mod durability;
pub mod event;
pub mod log;
pub mod membership;
pub mod message;
mod progress;
pub mod quorum;
pub mod raft;
mod rng;
mod role;
pub mod status;
pub mod time;
pub mod types;
#[cfg(feature = "wire")]
pub mod wire;
