//! A replicated bank, simulated: `cargo run -p kontiki-sim --example bank`.
//!
//! The bank, its clients and its invariant are 39 lines; what every replicated state machine must have is
//! demanded without a line. `KONTIKI_SEED=7` runs one seed.

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
        let [from, to, amount] = [0, 1, 2].map(|position| usize::from(command[position]));
        let paid = self.0[from].min(amount as u8);
        self.0[from] -= paid;
        self.0[to] += paid;
        vec![paid]
    }

    fn query(&self, account: &[u8]) -> Vec<u8> {
        vec![self.0[usize::from(account[0])]]
    }

    fn snapshot(&self) -> BufferedSnapshot {
        BufferedSnapshot::new(self.0.to_vec())
    }

    fn restore(&self) -> BufferedRestore<Self> {
        BufferedRestore::new(|bytes| bytes.try_into().map(Bank).map_err(|_| BadSnapshot::new("not ten")))
    }

    fn digest(&self) -> u64 {
        fingerprint(&[&self.0])
    }
}

/// Moves up to 9 between any of so many accounts.
#[derive(Clone)]
struct Transfers(u64);

impl Workload for Transfers {
    fn command(&mut self, _client: u64, stream: &mut Stream) -> Vec<u8> {
        [self.0, self.0, 10].map(|bound| stream.below(bound) as u8).to_vec()
    }
}

fn main() {
    kontiki_sim::Test::new(Bank([20; 10]))
        .workload(Transfers(10))
        .invariant("money is conserved", |bank: &Bank| bank.0.iter().sum::<u8>() == 200)
        .seeds(0..200)
        .check();
}
