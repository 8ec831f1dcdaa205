//! An application's own state machine, replicated: accounts, and transfers between them. Three members in one
//! process, over real sockets and files.
//!
//! ```text
//! cargo run -p kontiki-net-tokio --example bank
//! ```
//!
//! The example `cluster` runs the same bank with a process for each member, and kills one.

use kontiki_core::NodeId;
use kontiki_core::machine::{BadSnapshot, BufferedRestore, BufferedSnapshot, StateMachine, fingerprint};
use kontiki_core::types::LogId;
use kontiki_net_tokio::node::{Builder, Node};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};

/// The commands. They are stored in the log, so later versions of the program must still read them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    Deposit { account: String, amount: u64 },
    Transfer { from: String, to: String, amount: u64 },
}

/// The queries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Query {
    Balance(String),
    Total,
}

/// The result of a command: the balance of the account it names first, or why it had no effect.
pub(crate) type Outcome = Result<u64, Refusal>;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    NoSuchCommand,
    InsufficientFunds { balance: u64 },
    TooMuch,
}

/// The state: the balance of each account. Each member has it, and applies the same commands in the same
/// order.
#[derive(Clone, Default, Debug)]
pub(crate) struct Bank {
    accounts: BTreeMap<String, u64>,
}

impl Bank {
    fn carry_out(&mut self, command: Command) -> Outcome {
        match command {
            Command::Deposit { account, amount } => {
                let balance = self.balance(&account).checked_add(amount).ok_or(Refusal::TooMuch)?;
                self.accounts.insert(account, balance);
                Ok(balance)
            }
            Command::Transfer { from, to, amount } => {
                let balance = self.balance(&from);
                let left = balance.checked_sub(amount).ok_or(Refusal::InsufficientFunds { balance })?;
                self.accounts.insert(from.clone(), left);
                let received = self.balance(&to).checked_add(amount).ok_or(Refusal::TooMuch);
                // All of it or nothing.
                let received = received.inspect_err(|_| {
                    self.accounts.insert(from.clone(), balance);
                })?;
                self.accounts.insert(to, received);
                Ok(self.balance(&from))
            }
        }
    }

    fn balance(&self, account: &str) -> u64 {
        self.accounts.get(account).copied().unwrap_or(0)
    }
}

impl StateMachine for Bank {
    type Snapshot = BufferedSnapshot;
    type Restore = BufferedRestore<Self>;

    /// The same on each member: no clock, no random number, no panic, whatever the bytes are.
    fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
        let command = postcard::from_bytes(command).map_err(|_| Refusal::NoSuchCommand);
        encode(&command.and_then(|command| self.carry_out(command)))
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        let answer: Outcome = match postcard::from_bytes(query) {
            Ok(Query::Balance(account)) => Ok(self.balance(&account)),
            Ok(Query::Total) => self
                .accounts
                .values()
                .try_fold(0, |sum: u64, it| sum.checked_add(*it))
                .ok_or(Refusal::TooMuch),
            Err(_) => Err(Refusal::NoSuchCommand),
        };
        encode(&answer)
    }

    fn snapshot(&self) -> BufferedSnapshot {
        BufferedSnapshot::new(encode(&self.accounts))
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| match postcard::from_bytes(bytes) {
            Ok(accounts) => Ok(Self { accounts }),
            Err(error) => Err(BadSnapshot::new(error.to_string())),
        })
    }

    fn digest(&self) -> u64 {
        fingerprint(&[&encode(&self.accounts)])
    }
}

pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(value).expect("writing to memory does not fail")
}

/// Free loopback addresses.
pub(crate) fn free_addresses() -> std::io::Result<[SocketAddr; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let [first, second, third] = listeners;
    Ok([first?.local_addr()?, second?.local_addr()?, third?.local_addr()?])
}

/// Each member of a new group is started with the same list.
pub(crate) fn list(addresses: &[SocketAddr]) -> Vec<(NodeId, String)> {
    let ids = (1..).map(|id| NodeId::new(id).expect("not zero"));
    ids.zip(addresses.iter().map(ToString::to_string)).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::temp_dir().join(format!("kontiki-bank-{}", std::process::id()));
    let addresses = free_addresses()?;
    let mut nodes: Vec<Node> = Vec::new();
    for ((id, _), address) in list(&addresses).into_iter().zip(addresses) {
        let builder = Builder::new(id, Bank::default).directory(root.join(id.to_string())).listen(address);
        nodes.push(builder.peers(list(&addresses)).start().await?);
    }
    for node in &nodes {
        node.ready().await?;
    }

    // A command of a session is applied once, however often it is sent. Any member finds the leader.
    let session = nodes[0].session().await?;
    let run = async |command: Command| -> Result<Outcome, Box<dyn Error>> {
        let applied = session.propose(&encode(&command)).await?;
        println!("{command:?}");
        Ok(postcard::from_bytes(&applied.answer)?)
    };
    let (ada, bo) = ("ada".to_owned(), "bo".to_owned());
    assert_eq!(run(Command::Deposit { account: ada.clone(), amount: 100 }).await?, Ok(100));
    let transfer = |amount| Command::Transfer { from: ada.clone(), to: bo.clone(), amount };
    assert_eq!(run(transfer(30)).await?, Ok(70));
    assert_eq!(run(transfer(100)).await?, Err(Refusal::InsufficientFunds { balance: 70 }));

    // A read at any member reflects everything acknowledged before.
    for node in &nodes {
        let ask = async |query: Query| -> Result<Outcome, Box<dyn Error>> {
            Ok(postcard::from_bytes(&node.read(encode(&query)).await?)?)
        };
        println!("member {}: bo has {:?}", node.status().member.id, ask(Query::Balance(bo.clone())).await?);
        assert_eq!(ask(Query::Balance(bo.clone())).await?, Ok(30));
        assert_eq!(ask(Query::Total).await?, Ok(100));
    }
    session.close().await?;
    for node in &nodes {
        node.shutdown().await;
    }
    std::fs::remove_dir_all(&root)?;
    Ok(())
}
