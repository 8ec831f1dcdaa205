//! Every bug that a simulation has found: the scenario that showed it, kept as it was drawn.

use kontiki_sim::report::Report;
use kontiki_sim::scenario::Scenario;
use std::fs;
use std::path::Path;

/// The scenario file in tests/regressions, and what was wrong.
const FOUND: [(&str, &str); 14] = [
    ("votes-limited.json", "requests for votes were dropped when too many answers waited for the disk"),
    ("equal-index-hint.json", "a conflict hint at the very index that was refused was taken for stale"),
    (
        "membership-in-doubt.json",
        "the world wiped the only voter of a membership that a stopped leader had in doubt",
    ),
    ("cut-not-durable.json", "a disk counted as whole before the cut of what it had lost was durable"),
    ("membership-in-a-snapshot.json", "a membership that a snapshot told of counted as lost with its entry"),
    ("readable-again.json", "a membership that could be read again counted as lost"),
    ("taken-back-for-another-leader.json", "a leader was asked for copies that its successor had taken back"),
    ("torn-header-too-short.json", "a batch was lost of which the torn header behind it did not tell"),
    (
        "more-terms-than-named.json",
        "a member did not start, of which more terms were lost than a header names",
    ),
    (
        "step-of-two-terms.json",
        "what a step wrote before it entered a later term was not acknowledged in time",
    ),
    (
        "unfinished-and-damaged.json",
        "an unfinished batch that was damaged was to be told from a finished one",
    ),
    ("beaten-candidate-stands-again.json", "a candidate that could not win kept another from standing"),
    ("window-after-each-refusal.json", "each refusal of a late append was followed by a whole window"),
    ("served-clients-make-way.json", "a healed cluster was written to without end"),
];

fn played(file: &str) -> Report {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let scenario: Scenario = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
    kontiki_sim::run(&scenario).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A session expires before a slow client can use it, whatever it is told, as long as the others write.
#[test]
fn clients_that_have_been_served_make_way() {
    let commits = played("served-clients-make-way.json").counters.commits;
    assert!((8_192..8_300).contains(&commits), "{commits} commits");
}

#[test]
fn what_was_found_stays_mended() {
    for (file, bug) in FOUND {
        let report = played(file);
        assert_eq!(report.failure, None, "{bug}: cargo sim replay tests/regressions/{file} --trace");
    }
}

#[test]
fn every_scenario_in_the_folder_is_named_here() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let files = fs::read_dir(dir).expect("a folder").map(|file| file.expect("a file").file_name());
    let unnamed: Vec<_> = files.filter(|name| FOUND.iter().all(|(file, _)| name != file)).collect();
    assert!(unnamed.is_empty(), "{unnamed:?} should be listed in FOUND, with what was wrong");
}
