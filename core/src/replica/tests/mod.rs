//! Whole groups of replicas in memory, step by step.

mod attack;
mod chaos;
mod damage;
mod forwarding;
mod frames;
mod group;
mod reading;
mod running;
mod transfer;
mod versions;
