//! Whole groups of replicas in memory, step by step.

mod damage;
mod forwarding;
mod frames;
mod group;
mod running;
mod transfer;
mod versions;
