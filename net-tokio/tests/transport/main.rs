//! The transport over real sockets.

#[path = "../../examples/certificates.rs"]
#[allow(dead_code)]
mod certificates;
mod encrypted;
mod members;
mod strangers;
mod world;
