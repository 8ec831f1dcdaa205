//! The group that a command is for, and how to reach it.

use crate::dev::Running;
use crate::failure::Failure;
use clap::Args;
use kontiki_core::time::span;
use kontiki_core::types::NodeId;
use kontiki_net_tokio::client::{Client, ClientOptions};
use kontiki_net_tokio::tls::Tls;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

/// The connection to the group. Without an address, the group that `kontiki dev` runs.
#[derive(Args, Clone, Default, Debug)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Target {
    /// Addresses of one or more members [default: the group that `kontiki dev` runs]
    #[arg(long, global = true, value_name = "HOST:PORT,...", value_delimiter = ',', value_parser = host_port, env = "KONTIKI_AT")]
    pub(crate) at: Vec<String>,
    /// The time limit, such as 500ms, 10s or 2m [default: 10s, and 60s for membership changes]
    #[arg(long, global = true, value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// The certificate of the group's authority, as PEM: enables TLS
    #[arg(long, global = true, value_name = "FILE", requires = "tls_cert", requires = "tls_key")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// This client's or member's certificate
    #[arg(long, global = true, value_name = "FILE", requires = "tls_ca")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The key of that certificate
    #[arg(long, global = true, value_name = "FILE", requires = "tls_ca")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl Target {
    /// Returns a client that follows the leader.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        self.client_with(ClientOptions::default().deadline)
    }

    /// Returns a client with another default time limit.
    pub(crate) fn client_with(&self, deadline: Duration) -> Result<Client, Failure> {
        let addresses = match self.at.is_empty() {
            false => self.at.clone(),
            true => Running::find().ok_or_else(nowhere)?.addresses(),
        };
        let options =
            ClientOptions { deadline: self.timeout.unwrap_or(deadline), ..ClientOptions::default() };
        Ok(Client::new(addresses, self.tls()?, options)?)
    }

    /// Returns a client of the one member that was named; without one, or with several, of the leader.
    pub(crate) fn client_of_one(&self) -> Result<Client, Failure> {
        let client = self.client()?;
        Ok(match &self.at[..] {
            [one] => client.at(one),
            _ => client,
        })
    }

    pub(crate) fn tls(&self) -> Result<Option<Tls>, Failure> {
        match (&self.tls_ca, &self.tls_cert, &self.tls_key) {
            (Some(ca), Some(cert), Some(key)) => {
                Tls::from_files(ca, cert, key).map(Some).map_err(Failure::usage)
            }
            _ => Ok(None),
        }
    }
}

fn nowhere() -> Failure {
    Failure::usage(
        "no group was given: name a member with --at HOST:PORT or KONTIKI_AT, or run `kontiki dev` in another terminal",
    )
}

/// Parses a duration with a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    span::parse(text).map_err(|error| error.to_string())
}

/// Checks an address to dial: a host name or number, and a port. Names are resolved when dialling.
pub(crate) fn host_port(text: &str) -> Result<String, String> {
    let wrong =
        || format!("{text:?} is not an address: write HOST:PORT, such as 10.0.0.1:7001 or [::1]:7001");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(number) => number.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| !c.is_whitespace() && !"[]:/@".contains(c)),
    };
    match port.parse::<u16>() {
        Ok(1..) if is_host => Ok(text.to_owned()),
        _ => Err(wrong()),
    }
}

/// Parses a member's id.
pub(crate) fn node_id(text: &str) -> Result<NodeId, String> {
    let number = text.parse().map_err(|_| format!("{text:?} is not a member's id: write a number from 1"))?;
    NodeId::new(number).ok_or_else(|| "no member has the id 0: write a number from 1".to_owned())
}
