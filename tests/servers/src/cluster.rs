//! Three members of one system, each a process.

use crate::{Error, Programs, Result};
use etcd_client::KvClient;
use kontiki_net_tokio::client::{Client, ClientOptions};
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum System {
    Etcd,
    Kontiki,
}

impl System {
    pub(crate) const ALL: [Self; 2] = [Self::Etcd, Self::Kontiki];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kontiki => "Kontiki",
        }
    }
}

/// How many members a cluster has.
pub(crate) const MEMBERS: usize = 3;

/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Members of one system. They end with it.
pub(crate) struct Cluster {
    pub(crate) system: System,
    members: Vec<Member>,
}

struct Member {
    program: PathBuf,
    arguments: Vec<String>,
    /// Where clients reach it.
    address: String,
    log: PathBuf,
    child: Option<Child>,
}

impl Member {
    fn start(&mut self) -> Result {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a cluster's members are told beside their addresses and directories.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    /// Arguments of etcd.
    pub(crate) etcd: Vec<String>,
    /// The configuration file of Kontiki.
    pub(crate) kontiki: String,
}

impl Cluster {
    /// Starts members in these directories, and waits until they serve a write.
    pub(crate) async fn start(
        system: System,
        programs: &Programs,
        directories: &[PathBuf; MEMBERS],
        settings: &Settings,
    ) -> Result<Self> {
        let members = match system {
            System::Etcd => etcd(programs, directories, settings)?,
            System::Kontiki => kontiki(programs, directories, settings)?,
        };
        let mut cluster = Self { system, members };
        cluster.members.iter_mut().try_for_each(Member::start)?;
        cluster.serves().await?;
        Ok(cluster)
    }

    /// Waits until a write is acknowledged.
    async fn serves(&self) -> Result {
        let end = Instant::now() + PATIENCE;
        loop {
            let done = match self.connect(1).await {
                Ok(connections) => connections[0].clone().put(b"first", b"").await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(self.blame(&error)),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn blame(&self, error: &Error) -> Error {
        let log = &self.members[0].log;
        format!("{} does not serve writes: {error}; see {}", self.system.name(), log.display()).into()
    }

    /// Connections that clients share. Those of etcd lead to the leader, as Kontiki's do by themselves.
    pub(crate) async fn connect(&self, count: u32) -> Result<Vec<Connection>> {
        let mut connections = Vec::new();
        let leader = match self.system {
            System::Etcd => Some(self.leader().await?),
            System::Kontiki => None,
        };
        for _ in 0..count {
            connections.push(match leader {
                Some(leader) => {
                    let endpoint = &self.members[leader].address;
                    let client = etcd_client::Client::connect([endpoint], None).await?;
                    Connection::Etcd(Box::new(client.kv_client()))
                }
                None => Connection::Kontiki(Client::new(self.addresses(), None, ClientOptions::default())?),
            });
        }
        Ok(connections)
    }

    fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    /// Which member leads. Waits for a leader.
    pub(crate) async fn leader(&self) -> Result<usize> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            for member in (0..MEMBERS).filter(|&member| self.members[member].child.is_some()) {
                if let Ok(true) = self.leads(member).await {
                    return Ok(member);
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(format!("{} has no leader", self.system.name()).into())
    }

    async fn leads(&self, member: usize) -> Result<bool> {
        let address = &self.members[member].address;
        Ok(match self.system {
            System::Etcd => {
                let status = etcd_client::Client::connect([address], None).await?.status().await?;
                status.header().is_some_and(|header| header.member_id() == status.leader())
            }
            System::Kontiki => {
                let status = self.ask_status(member).await?;
                status.leader == Some(status.member.id)
            }
        })
    }

    async fn ask_status(&self, member: usize) -> Result<kontiki_net_tokio::protocol::NodeStatus> {
        let options = ClientOptions { deadline: Duration::from_secs(1), ..ClientOptions::default() };
        let client = Client::new(self.addresses(), None, options)?;
        Ok(client.at(self.members[member].address.clone()).status().await?)
    }

    /// How much of the log a member has applied.
    pub(crate) async fn applied(&self, member: usize) -> Result<u64> {
        Ok(match self.system {
            System::Etcd => {
                let address = &self.members[member].address;
                etcd_client::Client::connect([address], None).await?.status().await?.raft_applied_index()
            }
            System::Kontiki => self.ask_status(member).await?.applied.get(),
        })
    }

    /// Ends a member without warning.
    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].kill();
    }

    pub(crate) fn restart(&mut self, member: usize) -> Result {
        self.members[member].start()
    }

    /// Has each running member of Kontiki take a snapshot; etcd's take theirs all the time.
    pub(crate) fn snapshot(&self, programs: &Programs) -> Result<Vec<Child>> {
        if self.system == System::Etcd {
            return Ok(Vec::new());
        }
        let running = self.members.iter().filter(|member| member.child.is_some());
        let snapshot = |member: &Member| {
            Command::new(&programs.kontiki)
                .args(["snapshot", "--timeout", "300s", "--at", &member.address])
                .stdout(Stdio::null())
                .spawn()
        };
        Ok(running.map(snapshot).collect::<std::io::Result<_>>()?)
    }
}

/// A connection, as many clients use it at a time as share it.
#[derive(Clone)]
pub(crate) enum Connection {
    Etcd(Box<KvClient>),
    Kontiki(Client),
}

impl Connection {
    pub(crate) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result {
        match self {
            Self::Etcd(client) => drop(client.put(key, value, None).await?),
            Self::Kontiki(client) => client.kv().put(key, value).await?,
        }
        Ok(())
    }

    /// A linearizable read.
    pub(crate) async fn get(&mut self, key: &[u8]) -> Result {
        match self {
            Self::Etcd(client) => drop(client.get(key, None).await?),
            Self::Kontiki(client) => drop(client.kv().get(key).await?),
        }
        Ok(())
    }
}

/// A port that was free a moment ago.
fn port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn ports() -> Result<[u16; MEMBERS]> {
    Ok([port()?, port()?, port()?])
}

fn log(directory: &Path) -> PathBuf {
    directory.join("log.txt")
}

fn etcd(programs: &Programs, directories: &[PathBuf; MEMBERS], settings: &Settings) -> Result<Vec<Member>> {
    let (clients, peers) = (ports()?, ports()?);
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let group: Vec<_> = (0..MEMBERS).map(|member| format!("m{member}={}", url(peers[member]))).collect();
    let member = |number: usize| {
        let named = [
            ("--name", format!("m{number}")),
            ("--data-dir", directories[number].join("data").display().to_string()),
            ("--listen-client-urls", url(clients[number])),
            ("--advertise-client-urls", url(clients[number])),
            ("--listen-peer-urls", url(peers[number])),
            ("--initial-advertise-peer-urls", url(peers[number])),
            ("--initial-cluster", group.join(",")),
            ("--initial-cluster-state", "new".to_owned()),
            ("--quota-backend-bytes", "8589934592".to_owned()),
            ("--logger", "zap".to_owned()),
            ("--log-level", "warn".to_owned()),
        ];
        let mut arguments: Vec<_> =
            named.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        arguments.extend(settings.etcd.iter().cloned());
        Member {
            program: programs.etcd.clone(),
            arguments,
            address: format!("127.0.0.1:{}", clients[number]),
            log: log(&directories[number]),
            child: None,
        }
    };
    Ok((0..MEMBERS).map(member).collect())
}

fn kontiki(
    programs: &Programs,
    directories: &[PathBuf; MEMBERS],
    settings: &Settings,
) -> Result<Vec<Member>> {
    let ports = ports()?;
    let address = |number: usize| format!("127.0.0.1:{}", ports[number]);
    let peers: Vec<_> = (0..MEMBERS).map(|number| format!("{}={}", number + 1, address(number))).collect();
    let member = |number: usize| {
        let config = directories[number].join("config.toml");
        fs::write(&config, &settings.kontiki)?;
        let named = [
            ("--id", (number + 1).to_string()),
            ("--data", directories[number].join("data").display().to_string()),
            ("--listen", address(number)),
            ("--peers", peers.join(",")),
            ("--config", config.display().to_string()),
            ("--log", "warn".to_owned()),
        ];
        let arguments = named.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        Ok(Member {
            program: programs.kontiki.clone(),
            arguments: std::iter::once("serve".to_owned()).chain(arguments).collect(),
            address: address(number),
            log: log(&directories[number]),
            child: None,
        })
    };
    (0..MEMBERS).map(member).collect()
}
