//! raft-rs, as its example hosts drive it: `MemStorage`, and one `MsgPropose` for a batch.

use crate::{Applied, Group};
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use std::collections::VecDeque;

pub(crate) struct RaftRs {
    members: Vec<Member>,
    queue: VecDeque<Message>,
    leader: usize,
    sent: u64,
}

struct Member {
    node: RawNode<MemStorage>,
    applied: Applied,
}

impl Member {
    fn apply(&mut self, entries: &[Entry]) {
        // The entry with which a leader takes office is empty.
        for entry in entries.iter().filter(|entry| !entry.data.is_empty()) {
            self.applied.apply(&entry.data);
        }
    }

    /// Carries out what is ready, and hands over what is to be sent.
    fn settle(&mut self, queue: &mut VecDeque<Message>) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            queue.extend(ready.take_messages());
            assert!(ready.snapshot().is_empty(), "nothing leaves these logs");
            let store = self.node.store().clone();
            if !ready.entries().is_empty() {
                store.wl().append(ready.entries()).expect("entries that follow");
            }
            if let Some(state) = ready.hs() {
                store.wl().set_hardstate(state.clone());
            }
            queue.extend(ready.take_persisted_messages());
            let committed = ready.take_committed_entries();
            self.apply(&committed);
            let mut light = self.node.advance(ready);
            if let Some(commit) = light.commit_index() {
                store.wl().mut_hard_state().commit = commit;
            }
            queue.extend(light.take_messages());
            let committed = light.take_committed_entries();
            self.apply(&committed);
            self.node.advance_apply();
        }
    }
}

impl RaftRs {
    fn settle(&mut self, member: usize) {
        let before = self.queue.len();
        self.members[member].settle(&mut self.queue);
        self.sent += (self.queue.len() - before) as u64;
    }
}

impl Group for RaftRs {
    type Payload = Vec<u8>;

    fn cold(members: usize, _: usize) -> Self {
        let voters: Vec<u64> = (1..=members as u64).collect();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let member = |id: u64| {
            let config = Config {
                id,
                election_tick: 10,
                heartbeat_tick: 1,
                max_size_per_msg: 1 << 20,
                max_inflight_msgs: 256,
                check_quorum: true,
                pre_vote: true,
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((voters.clone(), Vec::new()));
            let node = RawNode::new(&config, storage, &logger).expect("valid");
            Member { node, applied: Applied::default() }
        };
        let members = voters.iter().map(|&id| member(id)).collect();
        Self { members, queue: VecDeque::new(), leader: 0, sent: 0 }
    }

    fn payload(bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    fn elect(&mut self) {
        self.members[0].node.campaign().expect("a voter");
        self.settle(0);
        self.deliver(None);
        assert_eq!(self.members[0].node.raft.state, StateRole::Leader);
    }

    fn propose(&mut self, payload: Vec<u8>) {
        self.members[self.leader].node.propose(Vec::new(), payload).expect("it leads");
        self.settle(self.leader);
    }

    fn propose_batch(&mut self, batch: Vec<Vec<u8>>) {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.leader as u64 + 1;
        let entry = |data: Vec<u8>| {
            let mut entry = Entry::default();
            entry.set_entry_type(EntryType::EntryNormal);
            entry.data = data.into();
            entry
        };
        message.entries = batch.into_iter().map(entry).collect::<Vec<_>>().into();
        self.members[self.leader].node.raft.step(message).expect("it leads");
        self.settle(self.leader);
    }

    fn deliver(&mut self, lost: Option<usize>) {
        while let Some(message) = self.queue.pop_front() {
            let to = message.to as usize - 1;
            if Some(to) != lost {
                self.members[to].node.step(message).expect("a message of the group");
                self.settle(to);
            }
        }
    }

    fn heartbeat(&mut self) {
        self.members[self.leader].node.tick();
        self.settle(self.leader);
        self.deliver(None);
    }

    fn applied(&self) -> Vec<Applied> {
        self.members.iter().map(|member| member.applied).collect()
    }

    fn sent(&self) -> u64 {
        self.sent
    }
}
