//! What Kontiki's own tests share.

pub mod lab;
