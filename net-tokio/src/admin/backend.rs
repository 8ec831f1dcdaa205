//! The member behind the admin port.

use crate::metrics::{Metrics, MetricsSample};
use crate::protocol::{NodeStatus, Request, Response, Who};
use std::pin::Pin;

/// What the port needs of the member.
pub trait AdminBackend: Send + Sync + 'static {
    /// Answers a request. It may take any time: the port gives up after
    /// [`AdminOptions::request_timeout`](crate::admin::AdminOptions::request_timeout).
    fn ask(&self, request: Request) -> BoxFuture<'_, Response>;
    /// Returns the member's status. Answers at once, even if the driver is stuck.
    fn status(&self) -> NodeStatus;
    /// Returns the member's own counters.
    fn sample(&self) -> BoxFuture<'_, MetricsSample>;
    /// Returns the options in force, for people; without secrets.
    fn options(&self) -> serde_json::Value;
    /// Returns the identity of the member at an address, or why it is unknown.
    fn find<'a>(&'a self, address: &'a str) -> BoxFuture<'a, Result<Who, String>>;
    /// Returns the member's metrics. The port adds its own counters.
    fn metrics(&self) -> &Metrics;
}

/// A pending answer.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
