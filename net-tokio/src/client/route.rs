//! Whom to ask: the leader, where that is known and can be reached, and otherwise whoever answers.

use super::connection::{Behaviour, Broken, Connection, lock};
use super::{ClientOptions, Dialler, Failure};
use kontiki_core::types::NodeId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// Has the connection that all requests go by.
pub(super) struct Router {
    dialler: Dialler,
    behaviour: Behaviour,
    dial_timeout: Duration,
    /// Whether there is one address, and no following of leaders.
    pinned: bool,
    state: Mutex<State>,
    /// Only one looks for a connection at a time; others wait and get the same.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// What is in use.
    current: Option<Arc<Connection>>,
    /// The addresses that were given to begin with.
    given: Vec<String>,
    /// Where members are to be reached, as others have said. A member's latest address counts.
    learned: BTreeMap<NodeId, String>,
    /// Where somebody said that the leader is.
    hint: Option<String>,
    /// Whose turn it is among all addresses.
    turn: usize,
}

impl State {
    /// Where to go next: to the leader, or round.
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

    /// Remembers addresses, a bounded number of them whatever is claimed.
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

    /// The same to one address alone.
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

    /// A connection to ask by.
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
        // From whoever answers to the leader. A leader of yesterday sends us on; but not for ever.
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

    /// What went wrong by the connection in use; whether it is known where to go instead.
    pub(super) fn failed(&self, failure: &Failure) -> bool {
        if self.pinned {
            return false;
        }
        let mut state = lock(&self.state);
        match failure {
            Failure::Unreachable { .. } => state.current = None,
            Failure::Broken { address, .. } | Failure::NoReply { address, .. } => {
                // Another request may have found a better one already.
                if state.current.as_ref().is_some_and(|current| current.address == *address) {
                    state.current = None;
                }
            }
            Failure::Refused(refused) => {
                let Some((leader, address)) = &refused.leader else {
                    // This one knows of no leader: another may.
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

    /// The connection in use, where it is open.
    fn current(&self) -> Option<Arc<Connection>> {
        let mut state = lock(&self.state);
        if state.current.as_ref().is_some_and(|current| !current.is_open()) {
            state.current = None;
        }
        state.current.clone()
    }

    /// The same, where there is no better one.
    fn good(&self) -> Option<Arc<Connection>> {
        let current = self.current()?;
        match self.leader_elsewhere(&current) {
            Some(_) => None,
            None => Some(current),
        }
    }

    /// The leader that a member has told of, and where it is, where that is another.
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

/// How often in a row a connection is left for that of a leader.
const HOPS: u32 = 3;
/// How many addresses are remembered, and how long they may be.
const MAX_LEARNED: usize = 256;
const MAX_ADDRESS: usize = 512;
