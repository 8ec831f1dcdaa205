//! `docs/from-go-raft.md` maps features to tests: each test exists, and none of this target's is missing.

use crate::harness::Result;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace").to_owned()
}

/// Returns everything between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns whether this is the name of a test in that file: a function with the attribute, or a listed
/// script.
fn is_test(file: &str, name: &str) -> bool {
    let lines: Vec<_> = file.lines().map(str::trim).collect();
    let begins = |line: &str| {
        let function = line.trim_start_matches("async ").strip_prefix("fn ");
        function.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
    };
    let is_marked = |at: usize| {
        let before = lines[..at].iter().rev().take_while(|line| line.starts_with(['#', '/']));
        before.into_iter().any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
    };
    let listed = file.split_once("\nscripts! {").and_then(|(_, rest)| rest.split_once('}'));
    lines.iter().enumerate().any(|(at, line)| begins(line) && is_marked(at))
        || listed.is_some_and(|(names, _)| names.split_whitespace().any(|listed| listed == name))
}

/// The rows of the tables, without their heads.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Go library"))
}

#[test]
fn every_test_that_the_table_names_exists() -> Result {
    let table = fs::read_to_string(root().join("docs/from-go-raft.md"))?;
    let mut named = 0;
    for (path, name) in quoted(&table).filter_map(|quoted| quoted.split_once("::")).filter(is_path) {
        let file = fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))?;
        assert!(is_test(&file, name), "docs/from-go-raft.md names {path}::{name}, and there is no such test");
        named += 1;
    }
    for patch in quoted(&table).filter(|quoted| quoted.ends_with(".patch")) {
        assert!(root().join("tests/planted").join(patch).is_file(), "docs/from-go-raft.md names {patch}");
    }
    assert!(named > 100, "only {named} tests are named: are they written as `path::name`?");
    Ok(())
}

fn is_path((path, _): &(&str, &str)) -> bool {
    path.ends_with(".rs")
}

#[test]
fn every_row_of_the_table_names_a_test() -> Result {
    let table = fs::read_to_string(root().join("docs/from-go-raft.md"))?;
    for row in rows(&table) {
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
        assert!(last.contains(".rs::"), "nothing shows this: {row}");
    }
    for number in 1..=23 {
        let row = format!("| {number} |");
        assert!(table.contains(&row), "scenario {number} is left out");
    }
    Ok(())
}

#[test]
fn every_test_of_this_target_is_in_the_table() -> Result {
    let table = fs::read_to_string(root().join("docs/from-go-raft.md"))?;
    for module in ["elections", "commits", "crashes", "life"] {
        let path = format!("net-tokio/tests/go_compat/{module}.rs");
        let file = fs::read_to_string(root().join(&path))?;
        let functions = file.lines().filter_map(|line| line.trim_start_matches("async ").strip_prefix("fn "));
        let names = functions.filter_map(|rest| rest.split_once('(')).map(|(name, _)| name);
        for name in names.filter(|name| is_test(&file, name)) {
            let quoted = format!("`{path}::{name}`");
            assert!(table.contains(&quoted), "docs/from-go-raft.md does not say what {path}::{name} shows");
        }
    }
    Ok(())
}

#[test]
fn what_is_no_test_is_told_from_one() {
    let file = "#[test]\nfn one() {}\n/// Two.\n#[tokio::test]\nasync fn two() {}\nfn three() {}\n\nscripts! {\n    four five\n}\n";
    assert!(["one", "two", "four", "five"].iter().all(|name| is_test(file, name)));
    assert!(["three", "on", "ones", "six"].iter().all(|name| !is_test(file, name)));
}
