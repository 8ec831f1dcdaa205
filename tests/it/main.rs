//! Kontiki's tests across crates: the paper, scripts, properties and house rules.

mod api;
mod conformance;
mod contract;
mod damage;
mod explain;
mod exploring;
mod flooding;
mod golden;
mod growth;
mod house;
mod identity;
mod imports;
mod leases;
mod membership;
mod paper;
mod properties;
mod reads;
mod record;
mod regressions;
mod scripts;
mod slow_disks;
mod snapshots;
mod sweep;
