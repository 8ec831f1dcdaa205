//! Our own storage, and storage that is not to be trusted, under the conformance kit.

use kontiki_sim::conformance;

#[test]
fn our_log_keeps_every_promise() {
    let passed = conformance::disk(Ok).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{passed:?}");
    assert!(passed.points > 3_000, "{passed:?}");
}
