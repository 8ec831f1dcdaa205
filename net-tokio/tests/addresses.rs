//! Groups whose members return at other addresses, with no file deleted by hand.

use kontiki_core::kv::{Command, Kv, Query, Reply};
use kontiki_core::membership::MemberKind;
use kontiki_core::types::NodeId;
use kontiki_net_tokio::node::{Builder, Node, NodeOptions, StartError};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn id(id: u64) -> NodeId {
    NodeId::new(id).expect("not zero")
}

/// Ports that are free now.
fn ports(count: usize) -> Result<Vec<SocketAddr>> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

async fn within<T>(what: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::time::timeout(Duration::from_secs(60), what).await?)
}

fn builder(root: &Path, number: usize, at: SocketAddr) -> Builder {
    Builder::new(id(number as u64), Kv::default).directory(root.join(number.to_string())).listen(at)
}

fn list(at: &[SocketAddr]) -> Vec<(NodeId, String)> {
    (1..).map(id).zip(at.iter().map(ToString::to_string)).collect()
}

/// Starts each member, and waits until all have the same leader and the value.
async fn start(builders: &[Builder]) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for builder in builders {
        nodes.push(builder.start().await?);
    }
    for node in &nodes {
        within(node.ready()).await??;
    }
    Ok(nodes)
}

async fn get(node: &Node) -> Result<Option<Vec<u8>>> {
    loop {
        match within(node.read(Query::Get { key: b"colour" }.encode())).await? {
            Ok(answer) => match Reply::decode(&answer)? {
                Reply::Value(value) => return Ok(value),
                other => return Err(format!("{other:?}").into()),
            },
            Err(error) if error.is_retryable() => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

async fn stop(nodes: &[Node]) -> Result {
    for node in nodes {
        within(node.shutdown()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_whole_group_moves_to_new_addresses() -> Result {
    let root = tempfile::tempdir()?;
    let at = ports(3)?;
    let builders = |at: &[SocketAddr]| {
        let peers = list(at);
        let builder =
            |(number, at): (usize, &SocketAddr)| builder(root.path(), number, *at).peers(peers.clone());
        (1..).zip(at).map(builder).collect::<Vec<_>>()
    };
    let nodes = start(&builders(&at)).await?;
    let session = within(nodes[0].session()).await??;
    within(session.propose(&Command::Put { key: b"colour", value: b"red" }.encode())).await??;
    drop(session);
    stop(&nodes).await?;
    // With a new list; the addresses each has stored from the old one do not matter.
    let at = ports(3)?;
    let nodes = start(&builders(&at)).await?;
    for node in &nodes {
        assert_eq!(get(node).await?.as_deref(), Some(&b"red"[..]));
    }
    stop(&nodes).await?;
    // With the new address of one of them alone, its own included.
    let at = ports(3)?;
    let seed = at[0].to_string();
    let builders: Vec<_> =
        (1..).zip(&at).map(|(number, at)| builder(root.path(), number, *at).join(seed.clone())).collect();
    let nodes = start(&builders).await?;
    for node in &nodes {
        assert_eq!(get(node).await?.as_deref(), Some(&b"red"[..]));
    }
    stop(&nodes).await
}

#[tokio::test]
async fn an_unspecified_address_is_never_announced() -> Result {
    let root = tempfile::tempdir()?;
    let mut options = NodeOptions::default();
    options.transport.allow_insecure = true;
    let at = ports(2)?;
    let everywhere = |at: SocketAddr| SocketAddr::from(([0, 0, 0, 0], at.port()));
    // One advertises its address in the list, the other the address at which it was reached.
    let first = builder(root.path(), 1, everywhere(at[0])).options(options.clone()).peers(list(&at[..1]));
    let first = start(&[first]).await?.remove(0);
    let second = builder(root.path(), 2, everywhere(at[1])).options(options.clone()).join(at[0].to_string());
    let second = start(&[second]).await?.remove(0);
    within(second.watch().wait_for(|status| status.kind == MemberKind::Voter)).await??;
    for node in [&first, &second] {
        let addresses = async {
            loop {
                let members = node.members(false).await?;
                let found: Vec<_> = members.into_iter().filter_map(|member| member.address).collect();
                if found.len() == 2 {
                    return Ok::<_, kontiki_net_tokio::node::Error>(found);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert_eq!(within(addresses).await??, [at[0].to_string(), at[1].to_string()]);
    }
    stop(&[second, first]).await?;
    let refused = builder(root.path(), 3, everywhere(at[0])).options(options).advertise("0.0.0.0:7001");
    let refused = refused.join("127.0.0.1:1").start().await;
    assert!(matches!(refused, Err(StartError::Unspecified(_))), "{refused:?}");
    Ok(())
}
