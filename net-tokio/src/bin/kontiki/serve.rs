//! `kontiki serve`: one member of a group, until it is told to stop.

use crate::cli::wait;
use crate::config;
use crate::failure::{Exit, Failure};
use crate::target::{Target, duration, host_port, node_id};
use clap::{ArgGroup, Args};
use kontiki_core::kv::Kv;
use kontiki_core::types::NodeId;
use kontiki_net_tokio::admin::{self, Token};
use kontiki_net_tokio::node::{Builder, Node};
use kontiki_net_tokio::protocol::NodePhase;
use std::fmt::Display;
use std::io::Read as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("group").args(["peers", "join"]))]
pub(crate) struct Serve {
    /// This member's id, a number from 1 that no other member has
    #[arg(long, value_parser = node_id)]
    id: NodeId,
    /// Where its log and its snapshots are: one directory, one member
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where members and clients reach it; port 0 takes any that is free
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    listen: SocketAddr,
    /// What it tells others to dial, where that is not what it listens on
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    advertise: Option<String>,
    /// Begin a new group of these members, this one among them; give each of them the same list
    #[arg(long, value_name = "ID=HOST:PORT,...", value_delimiter = ',', value_parser = peer)]
    peers: Vec<(NodeId, String)>,
    /// Become a member of the group that this address belongs to
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    join: Option<String>,
    /// Options that have defaults, as TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Vote and hold no values: the third vote of two real members
    #[arg(long)]
    witness: bool,
    /// Go without TLS where others than this machine can listen in, on either port
    #[arg(long)]
    allow_insecure: bool,
    /// Open the port for operators: HTTP with JSON, metrics and a status page
    #[arg(long, value_name = "HOST:PORT", value_parser = address, requires = "admin_token_file")]
    admin: Option<SocketAddr>,
    /// What whoever uses that port must bring: one line of 16 characters or more, for nobody else to read
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_token_file: Option<PathBuf>,
    /// Keep what the member is told, so that `kontiki-sim replay` can run it again; commands are in it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// How large that file may become; the oldest goes first
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, requires = "record")]
    record_bytes: u64,
    /// How long stopping may take, after SIGTERM or SIGINT; a second signal ends the process at once
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    shutdown_timeout: Duration,
    /// What is logged, such as warn, debug or info,kontiki_net_tokio::transport=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "KONTIKI_LOG")]
    log: Targets,
    /// Stop when the standard input ends
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

impl Serve {
    pub(crate) fn run(self, target: &Target) -> Result<Exit, Failure> {
        let lines = tracing_subscriber::fmt::layer().compact().with_writer(std::io::stderr);
        tracing_subscriber::registry().with(lines).with(self.log.clone()).init();
        wait(self.serve(target))
    }

    async fn serve(self, target: &Target) -> Result<Exit, Failure> {
        let mut stop = stop_at_signals()?;
        if self.exit_with_stdin {
            stop_with_stdin(stop.0.clone());
        }
        // What is wrong with the command line is found before anything is touched.
        let (builder, admin) = (self.builder(target)?, self.admin()?);
        let started = tokio::select! {
            started = builder.start() => started,
            _ = stop.1.recv() => return Ok(Exit::Done),
        };
        let node = started.map_err(|error| {
            let exit = if error.is_configuration() { Exit::Usage } else { Exit::Not };
            Failure { exit, ..self.cannot_start(error) }
        })?;
        if target.tls_ca.is_some() {
            reload_at_hangups(&node)?;
        }
        if let Some(address) = node.local_addr() {
            tracing::info!(member = %self.id, %address, data = %self.data.display(), "listens");
        }
        let admin = match admin {
            None => None,
            Some(options) => match admin::serve(node.clone(), options).await {
                Ok(admin) => {
                    tracing::info!(member = %self.id, page = %format!("http://{}/status", admin.local_addr()), "listens for operators");
                    Some(admin)
                }
                Err(error) => {
                    node.shutdown().await;
                    return Err(self.cannot_start(error));
                }
            },
        };
        let ended = tokio::select! {
            _ = stop.1.recv() => {
                tracing::info!(member = %self.id, "stops");
                Ok(Exit::Done)
            }
            why = halted(&node) => {
                Err(Failure::new(Exit::Halted, "halted", format!("member {} goes no further: {why}", self.id)))
            }
        };
        let limit = self.shutdown_timeout;
        let stopping = async {
            let (_, stopped) = tokio::join!(
                tokio::time::timeout(limit, async {
                    if let Some(admin) = admin {
                        admin.shutdown().await;
                    }
                }),
                node.shutdown_within(limit)
            );
            stopped.map_err(|error| Failure::new(Exit::Halted, "shutdown", error))
        };
        tokio::select! {
            stopped = stopping => stopped.and(ended),
            _ = stop.1.recv() => {
                let message = format!("member {} ends at once, at a second signal", self.id);
                Err(Failure::new(Exit::Halted, "shutdown", message))
            }
        }
    }

    fn cannot_start(&self, error: impl Display) -> Failure {
        Failure::new(Exit::Not, "start", format!("member {} cannot start: {error}", self.id))
    }

    fn admin(&self) -> Result<Option<admin::AdminOptions>, Failure> {
        let (Some(listen), Some(file)) = (self.admin, &self.admin_token_file) else {
            return Ok(None);
        };
        let token = Token::from_file(file).map_err(Failure::usage)?;
        let options = admin::AdminOptions::new(listen, token);
        Ok(Some(admin::AdminOptions { allow_insecure: self.allow_insecure, ..options }))
    }

    fn builder(&self, target: &Target) -> Result<Builder, Failure> {
        let mut options = self.config.as_deref().map(config::load).transpose()?.unwrap_or_default();
        options.transport.allow_insecure |= self.allow_insecure;
        options.raft.witness |= self.witness;
        let mut builder =
            Builder::new(self.id, Kv::default).directory(&self.data).listen(self.listen).options(options);
        if let Some(tls) = target.tls()? {
            builder = builder.tls(tls);
        }
        if let Some(address) = &self.advertise {
            builder = builder.advertise(address);
        }
        if let Some(seed) = &self.join {
            builder = builder.join(seed);
        }
        if !self.peers.is_empty() {
            if !self.peers.iter().any(|(id, _)| *id == self.id) {
                let message = format!("--peers lists the first members, but not this one: {}", self.id);
                return Err(Failure::usage(message));
            }
            builder = builder.peers(self.peers.clone());
        }
        if let Some(file) = &self.record {
            builder = builder.record(file, self.record_bytes);
        }
        Ok(builder)
    }
}

/// Waits until the member goes no further, which most never do; why.
async fn halted(node: &Node) -> String {
    let mut status = node.watch();
    match status
        .wait_for(|status| matches!(status.phase, NodePhase::Halted(_)))
        .await
        .map(|status| status.phase.clone())
    {
        Ok(NodePhase::Halted(why)) => why,
        // The watched end is the node's, which is here.
        Ok(_) | Err(_) => std::future::pending().await,
    }
}

type Stop = (mpsc::UnboundedSender<()>, mpsc::UnboundedReceiver<()>);

fn stop_at_signals() -> Result<Stop, Failure> {
    let (stop, stopped) = mpsc::unbounded_channel();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signal = signal(kind).map_err(|error| {
            Failure::new(Exit::Not, "system", format!("no signals are to be had: {error}"))
        })?;
        let stop = stop.clone();
        tokio::spawn(async move { while signal.recv().await.is_some() && stop.send(()).is_ok() {} });
    }
    Ok((stop, stopped))
}

/// Has the certificates read again at each SIGHUP.
fn reload_at_hangups(node: &Node) -> Result<(), Failure> {
    let mut signal = signal(SignalKind::hangup())
        .map_err(|error| Failure::new(Exit::Not, "system", format!("no signals are to be had: {error}")))?;
    let node = node.clone();
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            let Some(host) = node.host() else { return };
            if let Some(reloads) = host.reload_tls().await {
                let problem = reloads.problem.as_deref().unwrap_or("none");
                tracing::info!(taken = reloads.taken, refused = reloads.refused, %problem, "SIGHUP: looked at the certificates");
            }
        }
    });
    Ok(())
}

/// A thread that nobody waits for: it ends with the process.
fn stop_with_stdin(stop: mpsc::UnboundedSender<()>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while std::io::stdin().lock().read(&mut bytes).is_ok_and(|count| count > 0) {}
        let _ = stop.send(());
    });
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("{text:?} is no HOST:PORT: {error}"))?.next();
    found.ok_or_else(|| format!("{text:?} has no address"))
}

fn peer(text: &str) -> Result<(NodeId, String), String> {
    let (id, address) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is no member: write ID=HOST:PORT"))?;
    Ok((node_id(id)?, host_port(address)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_listed_by_id_and_address() {
        assert_eq!(peer("2=host:7"), Ok((NodeId::new(2).unwrap(), "host:7".to_owned())));
        assert_eq!(peer("2=[::1]:7"), Ok((NodeId::new(2).unwrap(), "[::1]:7".to_owned())));
        for wrong in ["host:7", "0=host:7", "x=host:7", "2=host", "2=:7", "2=host:70000"] {
            assert!(peer(wrong).is_err(), "{wrong}");
        }
    }
}
