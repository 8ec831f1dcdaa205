//! omnipaxos, which is not Raft: batches are its own, and every member asks every other for heartbeats.

use crate::{Applied, Group};
use omnipaxos::messages::Message;
use omnipaxos::storage::{Entry, NoSnapshot};
use omnipaxos::util::LogEntry;
use omnipaxos::{ClusterConfig, OmniPaxos, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) struct Omni {
    members: Vec<Member>,
    queue: VecDeque<Message<Command>>,
    spare: Vec<Message<Command>>,
    leader: usize,
    sent: u64,
}

struct Member {
    node: OmniPaxos<Command, MemoryStorage<Command>>,
    read: usize,
    applied: Applied,
}

#[derive(Clone, Debug)]
pub(crate) struct Command(Arc<[u8]>);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

impl Omni {
    /// Hands over what a member sends, and applies what is decided.
    fn settle(&mut self, member: usize) {
        let member = &mut self.members[member];
        member.node.take_outgoing_messages(&mut self.spare);
        self.sent += self.spare.len() as u64;
        self.queue.extend(self.spare.drain(..));
        if member.node.get_decided_idx() > member.read {
            let decided = member.node.read_decided_suffix(member.read).expect("it is decided");
            member.read += decided.len();
            for entry in decided {
                match entry {
                    LogEntry::Decided(Command(command)) => member.applied.apply(&command),
                    other => panic!("{other:?}: nothing leaves these logs"),
                }
            }
        }
    }

    fn tick(&mut self) {
        for member in 0..self.members.len() {
            self.members[member].node.tick();
            self.settle(member);
        }
    }
}

impl Group for Omni {
    type Payload = Command;

    fn cold(members: usize, batch: usize) -> Self {
        let nodes: Vec<u64> = (1..=members as u64).collect();
        let member = |pid: u64| {
            let cluster_config =
                ClusterConfig { configuration_id: 1, nodes: nodes.clone(), ..ClusterConfig::default() };
            let server_config = ServerConfig {
                pid,
                election_tick_timeout: 1,
                resend_message_tick_timeout: 5,
                batch_size: batch,
                ..ServerConfig::default()
            };
            let config = OmniPaxosConfig { cluster_config, server_config };
            let node = config.build(MemoryStorage::default()).expect("valid");
            Member { node, read: 0, applied: Applied::default() }
        };
        let members = nodes.iter().map(|&pid| member(pid)).collect();
        Self { members, queue: VecDeque::new(), spare: Vec::new(), leader: 0, sent: 0 }
    }

    fn payload(bytes: &[u8]) -> Command {
        Command(bytes.into())
    }

    fn elect(&mut self) {
        loop {
            self.tick();
            self.deliver(None);
            let leaders = self.members.iter().map(|member| member.node.get_current_leader());
            if let Some(leader) = common(leaders) {
                self.leader = leader as usize - 1;
                return;
            }
        }
    }

    fn propose(&mut self, payload: Command) {
        self.members[self.leader].node.append(payload).expect("no reconfiguration is under way");
        self.settle(self.leader);
    }

    fn propose_batch(&mut self, batch: Vec<Command>) {
        for command in batch {
            self.members[self.leader].node.append(command).expect("no reconfiguration is under way");
        }
        self.settle(self.leader);
    }

    fn deliver(&mut self, lost: Option<usize>) {
        while let Some(message) = self.queue.pop_front() {
            let to = message.get_receiver() as usize - 1;
            if Some(to) != lost {
                self.members[to].node.handle_incoming(message);
                self.settle(to);
            }
        }
    }

    fn heartbeat(&mut self) {
        self.tick();
        self.deliver(None);
    }

    fn applied(&self) -> Vec<Applied> {
        self.members.iter().map(|member| member.applied).collect()
    }

    fn sent(&self) -> u64 {
        self.sent
    }
}

/// The leader that all know and that is ready.
fn common(mut leaders: impl Iterator<Item = Option<(u64, bool)>>) -> Option<u64> {
    let (leader, _) = leaders.next()??;
    leaders.all(|other| other.is_some_and(|(other, _)| other == leader)).then_some(leader)
}
