//! Runs the scripts of tests/data, and compares with what is written there: see [`kontiki_tests::script`].
//!
//! When the kernel's behaviour changes on purpose, `BLESS=1 cargo test -p kontiki-tests scripts` writes down
//! what it does now, and the review is the diff.

use kontiki_tests::script::play;
use std::fmt::Write as _;
use std::path::Path;

macro_rules! scripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                check(stringify!($name));
            }
        )*
    };
}

scripts! {
    election conflict_repair figure7 figure8 split_vote pre_vote check_quorum slow_disk pipelining one_member
    four_members priorities unreachable
    membership_grow_shrink joint_left_by_another_leader staged_promotion never_catches_up rolled_back_change
    m1_single_server_bug m2_two_changes m6a_removed_leader_counts_itself removed_member_does_not_disturb
    learner_must_vote witness r8_ack_before_reversion wiped_member recycled_id other_cluster e8_torn_vote
    e14_stale_timeout_now e22_candidate_hears_its_leader e23_later_term transfer read_index follower_read lease_reads
    raft_rs_lease_after_partition raft_rs_lease_during_transfer raft_rs_lease_after_restart
    openraft_lease_after_restart snapshot_install load_entries outcomes
    newcomers_in_turn newcomer_that_never_comes unreachable_majority transfer_to_silent witness_of_an_idle_group
}

#[test]
fn every_script_is_run() {
    for file in std::fs::read_dir(data()).expect("tests/data can be read") {
        let path = file.expect("an entry of tests/data can be read").path();
        let name = path.file_stem().and_then(|name| name.to_str());
        let known = name.is_some_and(|name| NAMES.contains(&name));
        assert!(known, "{} is never run: name it in scripts!", path.display());
    }
}

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// Runs a script and compares, or with BLESS=1 rewrites, what the cluster did.
fn check(name: &str) {
    let path = data().join(name).with_extension("txt");
    let written =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let played = play(&written);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, played).expect("the script can be rewritten");
    } else if written != played {
        panic!(
            "{} has another outcome ('-' as written, '+' as it is now):\n{}\nIf that is right, run\n  \
             BLESS=1 cargo test -p kontiki-tests scripts::{name}\nand review the diff.",
            path.display(),
            diff(&written, &played)
        );
    }
}

/// The lines around those that differ.
fn diff(written: &str, played: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (written.lines().collect(), played.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = (old.len().min(new.len())) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let mut show = |sign: char, lines: &[&str]| {
        for line in lines {
            let _ = writeln!(text, "{sign} {line}");
        }
    };
    show(' ', &old[same.saturating_sub(6)..same]);
    show('-', &old[same..old.len() - tail]);
    show('+', &new[same..new.len() - tail]);
    show(' ', &old[old.len() - tail..old.len().min(old.len() - tail + 3)]);
    text
}
