//! No consensus: the first member sends its log to the others, which believe everything.

use crate::{Applied, Group};
use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) struct Floor {
    members: Vec<Member>,
    queue: VecDeque<(usize, Message)>,
    sent: u64,
}

#[derive(Default)]
struct Member {
    log: Vec<Arc<[u8]>>,
    applied: Applied,
    committed: usize,
    /// What the others have, as the first member knows.
    acknowledged: Vec<usize>,
    told: Vec<usize>,
}

enum Message {
    Append { after: usize, entries: Vec<Arc<[u8]>> },
    Appended { from: usize, through: usize },
    Commit { through: usize },
    Heartbeat,
    HeartbeatAck { from: usize, through: usize },
}

impl Floor {
    fn send(&mut self, to: usize, message: Message) {
        self.sent += 1;
        self.queue.push_back((to, message));
    }

    fn replicate(&mut self) {
        for to in 1..self.members.len() {
            let leader = &mut self.members[0];
            let after = std::mem::replace(&mut leader.told[to], leader.log.len());
            if after < leader.log.len() {
                let entries = leader.log[after..].to_vec();
                self.send(to, Message::Append { after, entries });
            }
        }
    }

    fn acknowledged(&mut self, from: usize, through: usize) {
        let leader = &mut self.members[0];
        leader.acknowledged[from] = through;
        let mut all = leader.acknowledged.clone();
        all[0] = leader.log.len();
        all.sort_unstable();
        let committed = all[(all.len() - 1) / 2];
        if committed > leader.committed {
            leader.commit(committed);
            for to in 1..self.members.len() {
                self.send(to, Message::Commit { through: committed });
            }
        }
    }

    fn on_message(&mut self, to: usize, message: Message) {
        let member = &mut self.members[to];
        match message {
            Message::Append { after, entries } => {
                member.log.truncate(after);
                member.log.extend(entries);
                let through = member.log.len();
                self.send(0, Message::Appended { from: to, through });
            }
            Message::Appended { from, through } => self.acknowledged(from, through),
            Message::Commit { through } => member.commit(through),
            Message::Heartbeat => {
                let through = member.log.len();
                self.send(0, Message::HeartbeatAck { from: to, through });
            }
            Message::HeartbeatAck { from, through } => {
                if member.told[from] > through {
                    member.told[from] = through;
                    self.replicate();
                    let through = self.members[0].committed;
                    self.send(from, Message::Commit { through });
                }
            }
        }
    }
}

impl Member {
    fn commit(&mut self, through: usize) {
        let through = through.min(self.log.len());
        for command in &self.log[self.committed.min(through)..through] {
            self.applied.apply(command);
        }
        self.committed = self.committed.max(through);
    }
}

impl Group for Floor {
    type Payload = Arc<[u8]>;

    fn cold(members: usize, _: usize) -> Self {
        let member =
            || Member { acknowledged: vec![0; members], told: vec![0; members], ..Member::default() };
        Self { members: (0..members).map(|_| member()).collect(), queue: VecDeque::new(), sent: 0 }
    }

    fn payload(bytes: &[u8]) -> Arc<[u8]> {
        bytes.into()
    }

    fn elect(&mut self) {}

    fn propose(&mut self, payload: Arc<[u8]>) {
        self.members[0].log.push(payload);
        self.replicate();
    }

    fn propose_batch(&mut self, batch: Vec<Arc<[u8]>>) {
        self.members[0].log.extend(batch);
        self.replicate();
    }

    fn deliver(&mut self, lost: Option<usize>) {
        while let Some((to, message)) = self.queue.pop_front() {
            if Some(to) != lost {
                self.on_message(to, message);
            }
        }
    }

    fn heartbeat(&mut self) {
        for to in 1..self.members.len() {
            self.send(to, Message::Heartbeat);
        }
        self.deliver(None);
    }

    fn applied(&self) -> Vec<Applied> {
        self.members.iter().map(|member| member.applied).collect()
    }

    fn sent(&self) -> u64 {
        self.sent
    }
}
