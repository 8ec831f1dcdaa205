//! Members as processes of their own, over real sockets and files, under load: killed, frozen, cut off,
//! restarted, out of space.
//!
//! Each test starts members with `kontiki serve`, has clients read and write all the while, breaks something,
//! and in the end checks what the clients were told ([`load`]): the history is linearizable, every command
//! had its effect once, and nothing that was acknowledged is lost. The tests take turns, for they measure
//! time on whatever machine there is.
#![cfg(target_os = "linux")]

mod cut_off;
mod full_disk;
mod harness;
mod killed;
mod load;
mod rolling;
mod snapshot;
