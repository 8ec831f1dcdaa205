//! The stream of committed entries.

use crate::node::log::Paging;
use crate::node::{Error, Node};
use crate::protocol::{LogEntry, NodeStatus};
use kontiki_core::types::Index;
use std::collections::VecDeque;
use tokio::sync::watch;

/// Committed entries, each once and in order, blank ones and memberships included.
///
/// It is pulled: nothing is kept for whoever does not ask, so a slow consumer delays nobody but itself. One that is so slow that the log has gone
/// on without it is told where the log begins now.
#[derive(Debug)]
pub struct Committed {
    node: Node,
    after: Index,
    status: watch::Receiver<NodeStatus>,
    read: VecDeque<LogEntry>,
}

impl Committed {
    pub(super) fn new(node: Node, after: Index) -> Self {
        let status = node.watch();
        Self { node, after, status, read: VecDeque::new() }
    }

    /// The next entry, as soon as there is one.
    ///
    /// May be dropped at any time: no entry is lost by it.
    ///
    /// # Errors
    ///
    /// [`Error::Compacted`] where the next entry is no longer in the log, and [`Error::Stopped`] when the node is stopped.
    pub async fn next(&mut self) -> Result<LogEntry, Error> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                self.after = entry.id.index;
                return Ok(entry);
            }
            let through =
                self.status.wait_for(|status| status.committed > self.after || status.is_over()).await;
            let through = match through {
                Ok(status) if !status.is_over() => status.committed,
                _ => return Err(Error::Stopped),
            };
            let presence = self.node.presence()?;
            let page = presence.page(Paging { after: self.after, through, max_bytes: PAGE }).await?;
            if self.after < page.base {
                return Err(Error::Compacted { first: page.base.next() });
            }
            if page.entries.is_empty() {
                // It is on its way to the disk, or from another member.
                tokio::time::sleep(AGAIN).await;
            }
            self.read.extend(page.entries);
        }
    }
}

/// How much is read at once.
const PAGE: u64 = 256 << 10;
/// After how long an entry that could not be read is read again.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(10);
