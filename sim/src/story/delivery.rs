//! Which message that arrives is which that was sent, as far as a trace says what became of messages.

use crate::fate::Fate;
use crate::hash::StableHasher;
use kontiki_core::message::Message;
use kontiki_core::types::NodeId;
use std::collections::{BTreeMap, VecDeque};

/// The messages of a run on their way. Each has a key, by which its user knows it.
#[derive(Default, Debug)]
pub(crate) struct Deliveries {
    /// Those that a member has sent and of which nothing more was said yet, by their content.
    leaving: BTreeMap<(NodeId, u64), Vec<usize>>,
    /// The keys of those that have left, by their numbers.
    left: BTreeMap<u64, Left>,
    /// The numbers of those that have arrived and of which the receiver has made nothing yet, by their
    /// content.
    arriving: BTreeMap<(NodeId, u64), VecDeque<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    key: usize,
    /// How often it has been received.
    received: u32,
    delayed: bool,
    kept_back: bool,
}

/// How a message that is received has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Delivery {
    pub(crate) key: usize,
    /// Whether it was received before.
    pub(crate) is_copy: bool,
    /// Whether the network delayed it, or kept it back.
    pub(crate) is_late: bool,
}

impl Deliveries {
    /// A member sends a message.
    pub(crate) fn sends(&mut self, message: &Message, key: usize) {
        self.leaving.entry((message.from.id, StableHasher::of(message))).or_default().push(key);
    }

    /// Something becomes of a message. Returns its key; none where its sending was not seen.
    pub(crate) fn becomes(&mut self, number: u64, message: &Message, fate: &Fate) -> Option<usize> {
        let content = StableHasher::of(message);
        if !self.left.contains_key(&number) {
            // A member that sends the same again has sent it just now.
            let key = self.leaving.get_mut(&(message.from.id, content))?.pop()?;
            if number == 0 {
                return Some(key);
            }
            self.left.insert(number, Left { key, received: 0, delayed: false, kept_back: false });
        }
        let left = self.left.get_mut(&number)?;
        match fate {
            Fate::Carried { delayed, .. } => left.delayed |= delayed,
            Fate::Arrived { kept_back } => {
                left.kept_back |= kept_back;
                self.arriving.entry((message.to.id, content)).or_default().push_back(number);
            }
            Fate::KeptBack | Fate::Lost(_) => {}
        }
        Some(left.key)
    }

    /// A member receives a message. Returns how it has come; nothing where that was not said.
    pub(crate) fn receives(&mut self, message: &Message) -> Option<Delivery> {
        let arriving = self.arriving.get_mut(&(message.to.id, StableHasher::of(message)))?;
        let left = self.left.get_mut(&arriving.pop_front()?)?;
        left.received += 1;
        let (is_copy, is_late) = (left.received > 1, left.delayed || left.kept_back);
        Some(Delivery { key: left.key, is_copy, is_late })
    }

    /// A member crashed: what it had not sent yet is gone, and what it had not looked at.
    pub(crate) fn crashes(&mut self, member: NodeId) {
        self.leaving.retain(|(from, _), _| *from != member);
        self.arriving.retain(|(to, _), _| *to != member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fate::Loss;
    use kontiki_core::message::Body;
    use kontiki_core::types::{ClusterId, Identity, Term};

    const CARRIED: Fate = Fate::Carried { arrives_ns: Vec::new(), delayed: false };
    const ARRIVED: Fate = Fate::Arrived { kept_back: false };

    fn vote() -> Message {
        let id = |number| NodeId::new(number).expect("not zero");
        let from = Identity::new(ClusterId(1), id(1));
        Message::new(from, id(2).into(), Term::new(1), Body::Voted { granted: true })
    }

    #[test]
    fn equal_messages_are_told_apart_by_their_numbers() {
        let (mut deliveries, vote) = (Deliveries::default(), vote());
        deliveries.sends(&vote, 10);
        assert_eq!(deliveries.becomes(1, &vote, &Fate::Lost(Loss::Dropped)), Some(10));
        deliveries.sends(&vote, 20);
        assert_eq!(deliveries.becomes(2, &vote, &CARRIED), Some(20));
        deliveries.sends(&vote, 30);
        assert_eq!(deliveries.becomes(3, &vote, &CARRIED), Some(30));
        assert_eq!(deliveries.receives(&vote), None, "none has arrived");
        for (number, key, is_copy) in [(3, 30, false), (2, 20, false), (3, 30, true)] {
            deliveries.becomes(number, &vote, &ARRIVED);
            assert_eq!(deliveries.receives(&vote), Some(Delivery { key, is_copy, is_late: false }));
        }
        deliveries.becomes(2, &vote, &Fate::Arrived { kept_back: true });
        assert_eq!(deliveries.receives(&vote), Some(Delivery { key: 20, is_copy: true, is_late: true }));
    }

    #[test]
    fn what_a_member_had_not_sent_when_it_crashed_is_not_confused_with_what_it_sends_later() {
        let (mut deliveries, vote) = (Deliveries::default(), vote());
        deliveries.sends(&vote, 10);
        assert_eq!(deliveries.becomes(0, &vote, &Fate::Lost(Loss::SenderCrashed)), Some(10));
        deliveries.sends(&vote, 20);
        deliveries.crashes(vote.from.id);
        deliveries.sends(&vote, 30);
        assert_eq!(deliveries.becomes(1, &vote, &CARRIED), Some(30));
        assert_eq!(deliveries.becomes(7, &vote, &ARRIVED), None, "it was sent before what is seen");
    }
}
