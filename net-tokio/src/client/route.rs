//! Routing: which member to ask. The leader if it is known and can be reached, otherwise any member that
//! answers.

use crate::client::connection::{Behaviour, Broken, Connection, Dialler};
use crate::client::error::Failure;
use crate::client::options::ClientOptions;
use crate::sync::lock;
use kontiki_core::types::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// Owns the connection that all requests use.
pub(super) struct Router {
    dialler: Dialler,
    behaviour: Behaviour,
    dial_timeout: Duration,
    /// Whether there is one address only, and redirections are ignored.
    pinned: bool,
    state: Mutex<State>,
    /// One task at a time looks for a connection; others wait and get the same.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The connection in use.
    current: Option<Arc<Connection>>,
    /// The addresses given by the caller.
    given: Vec<String>,
    /// The members' addresses, as other members have reported them. The latest address of a member counts.
    learned: BTreeMap<NodeId, String>,
    /// The leader's address, as reported.
    hint: Option<String>,
    /// The index of the next address to try.
    turn: usize,
}

impl State {
    /// The next destination: the leader, or the next address.
    fn address(&mut self) -> String {
        if let Some(hint) = self.hint.take() {
            return hint;
        }
        let learned = self.learned.values().filter(|address| !self.given.contains(address));
        let all: Vec<_> = self.given.iter().chain(learned).collect();
        let address = all[self.turn % all.len()].clone();
        self.turn = self.turn.wrapping_add(1);
        address
    }

    /// Remembers addresses, a bounded number of them.
    fn learn(&mut self, addresses: impl IntoIterator<Item = (NodeId, String)>) {
        for (id, address) in addresses {
            let known = self.learned.contains_key(&id) || self.learned.len() < MAX_LEARNED;
            if known && !address.is_empty() && address.len() <= MAX_ADDRESS {
                self.learned.insert(id, address);
            }
        }
    }
}

impl Router {
    pub(super) fn new(addresses: Vec<String>, dialler: Dialler, options: &ClientOptions) -> Self {
        Self {
            dialler,
            behaviour: options.behaviour(),
            dial_timeout: options.dial_timeout,
            pinned: false,
            state: Mutex::new(State { given: addresses, ..State::default() }),
            dialling: tokio::sync::Mutex::default(),
        }
    }

    /// Returns the same route to one address only.
    pub(super) fn only(&self, address: String) -> Self {
        Self {
            dialler: Arc::clone(&self.dialler),
            behaviour: self.behaviour,
            dial_timeout: self.dial_timeout,
            pinned: true,
            state: Mutex::new(State { given: vec![address], ..State::default() }),
            dialling: tokio::sync::Mutex::default(),
        }
    }

    /// Returns a connection to use.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        if let Some(connection) = self.good() {
            return Ok(connection);
        }
        let _one_at_a_time = self.dialling.lock().await;
        if let Some(connection) = self.good() {
            return Ok(connection);
        }
        let mut connection = match self.current() {
            Some(connection) => connection,
            None => {
                let address = lock(&self.state).address();
                self.dial(address).await?
            }
        };
        // Follow the redirection to the leader. A former leader may redirect too, so the number is bounded.
        for _ in 0..HOPS {
            let Some((leader, address)) = self.leader_elsewhere(&connection) else {
                break;
            };
            match self.dial(address).await {
                Ok(leading) => connection = leading,
                Err(failure) => {
                    tracing::debug!(%leader, %failure, "stays with a member that sends requests on");
                    connection.stay(leader);
                }
            }
        }
        lock(&self.state).current = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Reports a failure of the connection in use. Returns whether the next destination is known.
    pub(super) fn failed(&self, failure: &Failure) -> bool {
        if self.pinned {
            return false;
        }
        let mut state = lock(&self.state);
        match failure {
            Failure::Unreachable { .. } => state.current = None,
            Failure::Broken { address, .. } | Failure::NoReply { address, .. } => {
                // Another request may already have found a better one.
                if state.current.as_ref().is_some_and(|current| current.address == *address) {
                    state.current = None;
                }
            }
            Failure::Refused(refused) => {
                let Some((leader, address)) = &refused.leader else {
                    // This member knows no leader: another may.
                    state.current = None;
                    return false;
                };
                state.learn(address.iter().map(|address| (*leader, address.clone())));
                let Some(address) = state.learned.get(leader).cloned() else {
                    state.current = None;
                    return false;
                };
                if state.current.as_ref().is_some_and(|current| current.address == address) {
                    return false;
                }
                state.current = None;
                state.hint = Some(address);
                return true;
            }
            Failure::Unknown | Failure::Unanswered(_) | Failure::TooManyPending => {}
        }
        false
    }

    /// Returns the connection in use, if it is open.
    fn current(&self) -> Option<Arc<Connection>> {
        let mut state = lock(&self.state);
        if state.current.as_ref().is_some_and(|current| !current.is_open()) {
            state.current = None;
        }
        state.current.clone()
    }

    /// Returns the connection in use, if there is no better one.
    fn good(&self) -> Option<Arc<Connection>> {
        let current = self.current()?;
        match self.leader_elsewhere(&current) {
            Some(_) => None,
            None => Some(current),
        }
    }

    /// Returns the leader that a member has reported, and its address, if it is another member.
    fn leader_elsewhere(&self, connection: &Connection) -> Option<(NodeId, String)> {
        if self.pinned {
            return None;
        }
        let leader = connection.leader_elsewhere()?;
        let mut state = lock(&self.state);
        state.learn(connection.addresses());
        let address = state.learned.get(&leader).filter(|address| **address != connection.address)?;
        Some((leader, address.clone()))
    }

    async fn dial(&self, address: String) -> Result<Arc<Connection>, Failure> {
        let dialled = timeout(self.dial_timeout, async {
            let stream = (self.dialler)(address.clone()).await.map_err(Reason::Dial)?;
            Connection::open(address.clone(), stream, self.behaviour).await.map_err(Reason::Broken)
        });
        match dialled.await {
            Ok(Ok(connection)) => {
                lock(&self.state).learn(connection.addresses());
                Ok(Arc::new(connection))
            }
            Ok(Err(Reason::Dial(reason))) => Err(Failure::Unreachable { address, reason }),
            Ok(Err(Reason::Broken(reason))) => Err(Failure::Broken { address, reason, sent: false }),
            Err(_) => {
                let reason = format!("no connection within {} ms", self.dial_timeout.as_millis());
                Err(Failure::Unreachable { address, reason })
            }
        }
    }
}

enum Reason {
    Dial(String),
    Broken(Broken),
}

/// How often in a row a connection is left for the leader's.
const HOPS: u32 = 3;
/// The most addresses remembered, and the longest length of one.
const MAX_LEARNED: usize = 256;
const MAX_ADDRESS: usize = 512;
