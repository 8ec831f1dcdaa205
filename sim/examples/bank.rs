//! A replicated bank, simulated: `cargo run -p kontiki-sim --example bank`.
//!
//! The bank, its clients and its invariant are the 40 lines below; what every replicated state machine must
//! have is demanded without a line. `KONTIKI_SEED=7` runs one seed.

use kontiki_core::machine::{BadSnapshot, BufferedRestore, BufferedSnapshot, StateMachine, fingerprint};
use kontiki_core::types::LogId;
use kontiki_sim::stream::Stream;
use kontiki_sim::test::Workload;

/// Ten accounts.
#[derive(Clone)]
struct Bank([u8; 10]);

impl StateMachine for Bank {
    type Snapshot = BufferedSnapshot;
    type Restore = BufferedRestore<Self>;

    fn apply(&mut self, _at: LogId, command: &[u8]) -> Vec<u8> {
        let [from, to, amount] = [0, 1, 2].map(|byte| command[byte]);
        let pays = self.0[from as usize] >= amount;
        if pays {
            self.0[from as usize] -= amount;
            self.0[to as usize] += amount;
        }
        vec![pays.into()]
    }

    fn query(&self, query: &[u8]) -> Vec<u8> {
        vec![self.0[query[0] as usize]]
    }

    fn snapshot(&self) -> BufferedSnapshot {
        BufferedSnapshot::new(self.0.to_vec())
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| {
            bytes.try_into().map(Bank).map_err(|_| BadSnapshot::new("not ten accounts"))
        })
    }

    fn digest(&self) -> u64 {
        fingerprint(&[&self.0])
    }
}

/// Moves up to 9 from any account to any other, and asks what is in one.
#[derive(Clone)]
struct Transfers;

impl Workload for Transfers {
    fn command(&mut self, stream: &mut Stream) -> Vec<u8> {
        [10, 10, 10].map(|bound| stream.below(bound) as u8).to_vec()
    }

    fn query(&mut self, stream: &mut Stream) -> Option<Vec<u8>> {
        Some(vec![stream.below(10) as u8])
    }
}

fn main() {
    kontiki_sim::Test::new(Bank([20; 10]))
        .workload(Transfers)
        .invariant("money is conserved", |bank: &Bank| {
            bank.0.iter().map(|it| u32::from(*it)).sum::<u32>() == 200
        })
        .seeds(0..200)
        .check();
}
