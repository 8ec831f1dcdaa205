//! An inventory that books an order twice: `cargo run -p kontiki-sim --example inventory` finds it.
//!
//! A client without a session that gets no answer sends its order again, and the inventory takes it for
//! another one. With `--sessions` the second copy has no effect, and every seed holds.

use kontiki_core::machine::{BadSnapshot, BufferedRestore, BufferedSnapshot, StateMachine, fingerprint};
use kontiki_core::types::LogId;
use kontiki_sim::stream::Stream;
use kontiki_sim::test::{Test, Workload};
use std::collections::BTreeMap;

/// How many items each order got.
#[derive(Clone, Default)]
pub(crate) struct Inventory(BTreeMap<u64, u8>);

impl Inventory {
    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(order, items)| [&order.to_le_bytes()[..], &[*items]].concat()).collect()
    }
}

impl StateMachine for Inventory {
    type Snapshot = BufferedSnapshot;
    type Restore = BufferedRestore<Self>;

    fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
        let Ok(order) = command.try_into() else { return b"no order".to_vec() };
        *self.0.entry(u64::from_le_bytes(order)).or_default() += 1;
        b"booked".to_vec()
    }

    fn query(&self, _query: &[u8]) -> Vec<u8> {
        self.bytes()
    }

    fn snapshot(&self) -> BufferedSnapshot {
        BufferedSnapshot::new(self.bytes())
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| {
            let order = |chunk: &[u8]| Some((u64::from_le_bytes(*chunk.first_chunk()?), *chunk.get(8)?));
            let orders: Option<_> = bytes.chunks(9).map(order).collect();
            orders.map(Inventory).ok_or_else(|| BadSnapshot::new("an order has nine bytes"))
        })
    }

    fn digest(&self) -> u64 {
        fingerprint(&[&self.bytes()])
    }
}

/// Orders of one item each, no two of them under the same number.
#[derive(Clone)]
pub(crate) struct Orders {
    with_sessions: bool,
}

impl Workload for Orders {
    fn command(&mut self, _client: u64, stream: &mut Stream) -> Vec<u8> {
        stream.number().to_le_bytes().to_vec()
    }

    fn uses_sessions(&self) -> bool {
        self.with_sessions
    }

    fn describe(&self, command: &[u8]) -> String {
        format!("order {:02x?}", &command[..4])
    }
}

/// The test, of clients with sessions or without.
pub(crate) fn test(with_sessions: bool) -> Test<Inventory, Orders> {
    Test::new(Inventory::default())
        .workload(Orders { with_sessions })
        .invariant("no order is booked twice", |inventory: &Inventory| {
            inventory.0.values().all(|items| *items == 1)
        })
        .seeds(0..40)
}

fn main() {
    test(std::env::args().any(|argument| argument == "--sessions")).check();
}
