//! Members in network namespaces of their own, joined by a bridge, that are cut off from the others: without
//! a word, as by a pulled cable.
//!
//! ```text
//!   hub: the bridge, the clients, 10.91.0.254 ── m1: 10.91.0.1
//!                                              ├─ m2: 10.91.0.2
//!                                              └─ m3: 10.91.0.3
//! ```

use crate::harness::{CALM, Group, PATIENCE, Result, id, program, run, skip, until};
use crate::load::{Load, Plan};
use kontiki_core::event::ReadVia;
use kontiki_core::types::{NodeId, Term};
use kontiki_net_tokio::client;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

#[test]
fn a_leader_whose_link_is_down_is_replaced_and_comes_back() {
    in_namespaces(CALM, async |group, net| {
        let load = Load::start(group, Plan::default());
        load.goes_on(50).await?;
        for _ in 0..2 {
            let leader = group.leader().await?;
            net.pull(leader)?;
            load.goes_on(50).await?;
            let term = group.latest_term().await?;
            net.plug(leader)?;
            follows(group, leader, term).await?;
        }
        eprintln!("{}", load.end(group).await?);
        Ok(())
    });
}

#[test]
fn a_leader_that_only_hears_or_is_only_heard_is_replaced_and_serves_nothing_stale() {
    let config = format!("{CALM}lease_reads = true\n");
    in_namespaces(&config, async |group, net| {
        // The clients still reach the leader, though some members do not.
        let mut load = Load::start(group, Plan { via: ReadVia::Lease, ..Plan::default() });
        group.ids().iter().for_each(|id| load.read_at(group, *id, 2));
        load.goes_on(50).await?;
        for way in [Way::From, Way::To] {
            let leader = group.leader().await?;
            let before = group.latest_term().await?;
            net.cut(way, leader)?;
            until("the others have another leader", async || {
                let all = group.statuses().await;
                all.iter().find(|it| it.term > before && it.leader.is_some_and(|it| it != leader)).map(drop)
            })
            .await?;
            load.goes_on(50).await?;
            let term = group.latest_term().await?;
            net.heal(way, leader)?;
            follows(group, leader, term).await?;
        }
        eprintln!("{}", load.end(group).await?);
        Ok(())
    });
}

/// 16 MB to each of two followers take 2.6 s at 100 Mbit/s: three times the longest election timeout.
#[test]
fn one_large_value_over_a_narrow_link_costs_no_leader() {
    in_namespaces(CALM, async |group, net| {
        net.narrow("100mbit")?;
        let (leader, term) = (group.leader().await?, group.latest_term().await?);
        let patient =
            || group.client(client::ClientOptions { deadline: PATIENCE, ..client::ClientOptions::default() });
        let (large, small) = (patient(), patient());
        small.kv().put(b"small", b"before").await?;
        let value = vec![b'x'; 16_000_000];
        let begun = Instant::now();
        let writes = AtomicU32::new(0);
        let beside = async {
            loop {
                small.kv().put(b"small", b"beside").await?;
                writes.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            done = async { large.kv().put(b"large", &value).await } => done?,
            failed = beside => return failed,
        }
        eprintln!("16 MB in {:?}, {} small writes beside", begun.elapsed(), writes.load(Ordering::Relaxed));
        assert_eq!(
            (group.leader().await?, group.latest_term().await?),
            (leader, term),
            "the leader was lost"
        );
        assert!(writes.load(Ordering::Relaxed) > 0, "small writes are served beside it");
        Ok(())
    });
}

/// Waits until a member has come to at least this term, and has a leader in it.
async fn follows(group: &Group, member: NodeId, term: Term) -> Result {
    until("the one that was cut off is back", async || {
        group.status(member).await.filter(|status| status.term >= term && status.leader.is_some()).map(drop)
    })
    .await
}

/// Runs a test on a group in namespaces, its clients in that of the bridge.
fn in_namespaces(config: &str, test: impl AsyncFnOnce(&mut Group, &Net) -> Result + Send) {
    if !rustix::process::geteuid().is_root() {
        return skip("only root makes network namespaces").expect("it can be said");
    }
    // Where it has to be built, that is done while there is a way to the world.
    program().expect("the program is there");
    let net = match Net::new(3) {
        Ok(net) => net,
        Err(error) => return skip(&format!("no network namespaces: {error}")).expect("it can be said"),
    };
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    // A thread is for ever where it has gone to.
    let live = || {
        net.enter().expect("the bridge's namespace can be entered");
        let at: Vec<_> = (1..=3).map(|member| SocketAddr::from(([10, 91, 0, member], 7000))).collect();
        let behind = |id: NodeId| ["ip", "netns", "exec", &net.member(id)].map(str::to_owned).into();
        run(
            || Group::at(&at, config, behind),
            async |group| {
                group.start_all()?;
                group.leader().await?;
                test(group, &net).await
            },
        );
    };
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name(name).spawn_scoped(scope, live).expect("a thread");
        thread.join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Which way nothing goes.
#[derive(Clone, Copy)]
enum Way {
    /// What a member sends to the others is lost.
    From,
    /// What the others send to a member is lost.
    To,
}

/// A bridge and a namespace for each member, under names that nothing else has. They go with this.
struct Net {
    name: String,
    members: u64,
}

impl Net {
    fn new(members: u64) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let net = Self { name: format!("kontiki-{}-{number}", std::process::id()), members };
        let hub = net.hub();
        ip(&["netns", "add", &hub])?;
        ip(&["-n", &hub, "link", "set", "lo", "up"])?;
        ip(&["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        ip(&["-n", &hub, "addr", "add", "10.91.0.254/24", "dev", "bridge"])?;
        ip(&["-n", &hub, "link", "set", "bridge", "up"])?;
        for id in net.ids() {
            let (name, link) = (net.member(id), format!("m{id}"));
            ip(&["netns", "add", &name])?;
            ip(&["-n", &hub, "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
            ip(&["-n", &hub, "link", "set", &link, "master", "bridge", "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            ip(&["-n", &name, "addr", "add", &format!("{}/24", address(id)), "dev", "eth0"])?;
            ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        }
        Ok(net)
    }

    fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.members).map(id)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.name)
    }

    fn member(&self, id: NodeId) -> String {
        format!("{}-{id}", self.name)
    }

    /// Takes this thread to where the bridge is.
    fn enter(&self) -> Result {
        let file = File::open(format!("/run/netns/{}", self.hub()))?;
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Lets members send no more than this, with a queue of 50 ms as routers have one.
    fn narrow(&self, rate: &str) -> Result {
        self.ids().try_for_each(|id| {
            let limit = ["root", "tbf", "rate", rate, "burst", "64kb", "latency", "50ms"];
            let member = self.member(id);
            let inside = ["netns", "exec", &member, "tc", "qdisc", "add", "dev", "eth0"];
            ip(&[&inside[..], &limit[..]].concat())
        })
    }

    /// Takes a member's cable out.
    fn pull(&self, member: NodeId) -> Result {
        ip(&["-n", &self.hub(), "link", "set", &format!("m{member}"), "down"])
    }

    fn plug(&self, member: NodeId) -> Result {
        ip(&["-n", &self.hub(), "link", "set", &format!("m{member}"), "up"])
    }

    fn cut(&self, way: Way, member: NodeId) -> Result {
        self.routes("add", way, member)
    }

    fn heal(&self, way: Way, member: NodeId) -> Result {
        self.routes("del", way, member)
    }

    fn routes(&self, verb: &str, way: Way, member: NodeId) -> Result {
        self.ids().filter(|other| *other != member).try_for_each(|other| {
            let (from, to) = match way {
                Way::From => (member, other),
                Way::To => (other, member),
            };
            ip(&["-n", &self.member(from), "route", verb, "blackhole", &format!("{}/32", address(to))])
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let names = self.ids().map(|id| self.member(id)).chain([self.hub()]);
        for name in names {
            // One that was never made is not there.
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn address(id: NodeId) -> String {
    format!("10.91.0.{id}")
}

fn ip(arguments: &[&str]) -> Result {
    let told = Command::new("ip").args(arguments).output()?;
    match told.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&told.stderr)).into()),
    }
}
