//! The contract of hosts that users write themselves, on the simulator's parts.

#[expect(dead_code, reason = "an example has a main function of its own")]
#[path = "../examples/own_host.rs"]
mod own_host;

use kontiki_sim::contract::{Breach, Party};

#[test]
fn a_host_that_syncs_first_keeps_the_contract() {
    let committed: usize = (0..10).map(|seed| own_host::run(seed, false).expect("it is kept")).sum();
    assert!(committed > 100, "{committed}");
}

#[test]
fn a_host_that_reports_its_writes_before_they_are_synced_is_found() {
    let found = (0..10).find_map(|seed| own_host::run(seed, true).err()).expect("some seed shows it");
    let breach = found.downcast_ref::<Breach>().unwrap_or_else(|| panic!("another error: {found}"));
    assert_eq!(
        (breach.party, breach.rule),
        (Party::Host, "what was reported as durable is there after a crash")
    );
    assert!(breach.detail.contains("finds ") && breach.detail.contains("had reported "), "{breach}");
}
