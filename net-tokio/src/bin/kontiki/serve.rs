//! `kontiki serve`: one member of a group, until it is stopped.

use crate::cli::wait;
use crate::config;
use crate::failure::{Exit, Failure};
use crate::target::{Target, duration, host_port, node_id};
use clap::{ArgGroup, Args};
use kontiki_core::kv::Kv;
use kontiki_core::types::NodeId;
use kontiki_net_tokio::admin::{self, Admin, AdminOptions, Token};
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
    /// This member's id, a number from 1, unique in the group
    #[arg(long, value_parser = node_id)]
    id: NodeId,
    /// The directory of its log and snapshots: one for each member
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The address to listen on, for members and clients; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    listen: SocketAddr,
    /// The address that others dial, if it differs from --listen
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    advertise: Option<String>,
    /// Found a new group of these members, including this one; give each the same list
    #[arg(long, value_name = "ID=HOST:PORT,...", value_delimiter = ',', value_parser = peer)]
    peers: Vec<(NodeId, String)>,
    /// Join the group of the member at this address
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    join: Option<String>,
    /// A file with options, as TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Be a witness: vote, and store no commands
    #[arg(long)]
    witness: bool,
    /// Allow listening on a network without TLS, on either port
    #[arg(long)]
    allow_insecure: bool,
    /// Open the admin port: HTTP with JSON, metrics and a status page
    #[arg(long, value_name = "HOST:PORT", value_parser = address, requires = "admin_token_file")]
    admin: Option<SocketAddr>,
    /// The file with the admin port's token: one line of 16 characters or more, readable by its owner only
    #[arg(long, value_name = "FILE", requires = "admin")]
    admin_token_file: Option<PathBuf>,
    /// Record the member's inputs for `kontiki-sim replay`; the recording contains commands
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The size limit of the recording; the oldest part is dropped first
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, requires = "record")]
    record_bytes: u64,
    /// The time limit for stopping, after SIGTERM or SIGINT; a second signal ends the process at once
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    shutdown_timeout: Duration,
    /// The log level, such as warn, debug or info,kontiki_net_tokio::transport=debug
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
        // The command line is checked before anything is changed.
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
            Some(options) => Some(self.open_admin(&node, options).await?),
        };
        let ended = tokio::select! {
            _ = stop.1.recv() => {
                tracing::info!(member = %self.id, "stops");
                Ok(Exit::Done)
            }
            why = halted(&node) => {
                Err(Failure::new(Exit::Halted, "halted", format!("member {} halted: {why}", self.id)))
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

    async fn open_admin(&self, node: &Node, options: AdminOptions) -> Result<Admin, Failure> {
        match admin::serve(node.clone(), options).await {
            Ok(admin) => {
                tracing::info!(member = %self.id, page = %format!("http://{}/status", admin.local_addr()), "the admin port is open");
                Ok(admin)
            }
            Err(error) => {
                node.shutdown().await;
                Err(self.cannot_start(error))
            }
        }
    }

    fn cannot_start(&self, error: impl Display) -> Failure {
        Failure::new(Exit::Not, "start", format!("member {} cannot start: {error}", self.id))
    }

    fn admin(&self) -> Result<Option<AdminOptions>, Failure> {
        let (Some(listen), Some(file)) = (self.admin, &self.admin_token_file) else {
            return Ok(None);
        };
        let token = Token::from_file(file).map_err(Failure::usage)?;
        let options = AdminOptions::new(listen, token);
        Ok(Some(AdminOptions { allow_insecure: self.allow_insecure, ..options }))
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

/// Waits until the member halts, which most never do; returns the reason.
async fn halted(node: &Node) -> String {
    let mut status = node.watch();
    match status
        .wait_for(|status| matches!(status.phase, NodePhase::Halted(_)))
        .await
        .map(|status| status.phase.clone())
    {
        Ok(NodePhase::Halted(why)) => why,
        // The sender belongs to the node, which is still alive.
        Ok(_) | Err(_) => std::future::pending().await,
    }
}

type Stop = (mpsc::UnboundedSender<()>, mpsc::UnboundedReceiver<()>);

fn stop_at_signals() -> Result<Stop, Failure> {
    let (stop, stopped) = mpsc::unbounded_channel();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signal = signal(kind)
            .map_err(|error| Failure::new(Exit::Not, "system", format!("cannot handle signals: {error}")))?;
        let stop = stop.clone();
        tokio::spawn(async move { while signal.recv().await.is_some() && stop.send(()).is_ok() {} });
    }
    Ok((stop, stopped))
}

/// Reloads the certificates at each SIGHUP.
fn reload_at_hangups(node: &Node) -> Result<(), Failure> {
    let mut signal = signal(SignalKind::hangup())
        .map_err(|error| Failure::new(Exit::Not, "system", format!("cannot handle signals: {error}")))?;
    let node = node.clone();
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            let Some(host) = node.host() else { return };
            if let Some(reloads) = host.reload_tls().await {
                let problem = reloads.problem.as_deref().unwrap_or("none");
                tracing::info!(taken = reloads.taken, refused = reloads.refused, %problem, "SIGHUP: reloaded the certificates");
            }
        }
    });
    Ok(())
}

/// A detached thread: it ends with the process.
fn stop_with_stdin(stop: mpsc::UnboundedSender<()>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while std::io::stdin().lock().read(&mut bytes).is_ok_and(|count| count > 0) {}
        let _ = stop.send(());
    });
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("{text:?} is not HOST:PORT: {error}"))?.next();
    found.ok_or_else(|| format!("{text:?} has no address"))
}

fn peer(text: &str) -> Result<(NodeId, String), String> {
    let (id, address) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not a member: write ID=HOST:PORT"))?;
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
