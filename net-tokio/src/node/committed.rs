//! The stream of committed entries.

use crate::node::{Error, Node, log};
use crate::protocol::{LogEntry, NodeStatus, Range};
use kontiki_core::types::Index;
use std::collections::VecDeque;
use tokio::sync::watch;

/// Committed entries, each once and in order, including blank entries and memberships.
///
/// The stream is pulled: the node buffers nothing for a consumer that does not ask, so a slow consumer delays
/// only itself. A consumer that falls behind the start of the log gets an error with the log's first index.
#[derive(Debug)]
pub struct Committed {
    node: Node,
    after: Index,
    status: watch::Receiver<NodeStatus>,
    read: VecDeque<LogEntry>,
}

impl Node {
    /// Returns a stream of the committed entries after this one.
    pub fn committed(&self, after: Index) -> Committed {
        Committed::new(self.clone(), after)
    }
}

impl Committed {
    fn new(node: Node, after: Index) -> Self {
        let status = node.watch();
        Self { node, after, status, read: VecDeque::new() }
    }

    /// Returns the next entry, as soon as there is one.
    ///
    /// The future may be dropped at any time: no entry is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with [`Refusal::Compacted`](kontiki_core::replica::ReplicaRefusal::Compacted) if
    /// the next entry is no longer in the log, and with
    /// [`Refusal::Unreadable`](kontiki_core::replica::ReplicaRefusal::Unreadable) if the member's disk has
    /// lost it: the next call tries again, and succeeds once another member has sent the entry.
    /// [`Error::Stopped`] if the node is stopped.
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
            let handle = self.node.handle()?;
            let page = handle.page(Range::Between(self.after, through), PAGE).await?;
            self.read.extend(log::entries(&page));
        }
    }
}

/// The number of entries read at once.
const PAGE: u64 = 256 << 10;
