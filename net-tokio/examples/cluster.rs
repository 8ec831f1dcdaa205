//! The bank of the example `bank` as a cluster of processes. This process starts three copies of itself, each
//! a member, and is their client. It kills the leader in the middle of the work, and no money is lost or
//! created.
//!
//! ```text
//! cargo run -p kontiki-net-tokio --example cluster
//! ```

#[allow(dead_code, reason = "its main function")]
#[path = "bank.rs"]
mod bank;

use bank::{Bank, Command, Outcome, Query, encode, free_addresses, list};
use kontiki_core::NodeId;
use kontiki_core::event::ReadVia;
use kontiki_net_tokio::client::{Client, ClientOptions};
use kontiki_net_tokio::node::Builder;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => lead_the_cluster().await,
        [id, directory, addresses @ ..] => {
            let addresses = addresses.iter().map(|it| it.parse()).collect::<Result<Vec<_>, _>>()?;
            be_a_member(id.parse()?, directory.into(), &addresses).await
        }
        _ => Err("give no arguments: the members get theirs from this program".into()),
    }
}

/// A member, until its parent has ended.
async fn be_a_member(number: u64, directory: PathBuf, addresses: &[SocketAddr]) -> Result {
    let members = list(addresses);
    let id = NodeId::new(number).ok_or("ids begin with 1")?;
    let (_, address) =
        members.iter().find(|(member, _)| *member == id).ok_or("the list has no such member")?;
    let builder = Builder::new(id, Bank::default).directory(directory).listen(address.parse()?);
    let node = builder.peers(members).start().await?;
    // The parent holds the other end of this pipe.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    node.shutdown().await;
    Ok(())
}

async fn lead_the_cluster() -> Result {
    let root = std::env::temp_dir().join(format!("kontiki-cluster-{}", std::process::id()));
    let addresses = free_addresses()?;
    let mut members = BTreeMap::new();
    for (id, _) in list(&addresses) {
        members.insert(id, start(id, &root, &addresses)?);
    }
    let options = ClientOptions { deadline: Duration::from_secs(60), ..ClientOptions::default() };
    let client = Client::new(addresses.map(|it| it.to_string()), None, options)?;

    let accounts = ["ada", "bo", "cy"];
    for account in accounts {
        let deposit = Command::Deposit { account: account.to_owned(), amount: 1_000 };
        assert_eq!(command(&client, &deposit).await?, Ok(1_000));
    }
    for round in 0..200 {
        if round == 100 {
            let leader = client.status().await?.leader.ok_or("it has just answered")?;
            println!("member {leader} leads, and is killed");
            let mut process = members.remove(&leader).ok_or("it runs")?;
            process.kill()?;
            process.wait()?;
            members.insert(leader, start(leader, &root, &addresses)?);
        }
        let (from, to) = (accounts[round % 3].to_owned(), accounts[(round + 1) % 3].to_owned());
        let transfer = Command::Transfer { from, to, amount: 1 + round as u64 % 7 };
        assert!(command(&client, &transfer).await?.is_ok(), "each has a thousand");
    }
    let total = query(&client, &Query::Total).await?;
    println!("200 transfers later the bank holds {total:?}");
    assert_eq!(total, Ok(3_000));

    client.close().await;
    for process in members.values_mut() {
        drop(process.stdin.take());
        process.wait()?;
    }
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

fn start(id: NodeId, root: &Path, addresses: &[SocketAddr]) -> Result<Child> {
    let mut program = std::process::Command::new(std::env::current_exe()?);
    program
        .arg(id.to_string())
        .arg(root.join(id.to_string()))
        .args(addresses.iter().map(ToString::to_string));
    Ok(program.stdin(Stdio::piped()).spawn()?)
}

/// Applied once, even if members fail meanwhile: the client sends it again with the same number in its
/// session.
async fn command(client: &Client, command: &Command) -> Result<Outcome> {
    Ok(postcard::from_bytes(&client.command(&encode(command)).await?)?)
}

async fn query(client: &Client, query: &Query) -> Result<Outcome> {
    Ok(postcard::from_bytes(&client.query(&encode(query), ReadVia::Quorum).await?)?)
}
