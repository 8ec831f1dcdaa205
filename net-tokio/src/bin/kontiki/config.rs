//! The configuration file: TOML, with every option of a node by its name, and durations with units.

use crate::failure::Failure;
use kontiki_net_tokio::node::NodeOptions;
use std::fs;
use std::path::Path;
use toml::{Table, Value};

/// Reads the options of a file; the others have their defaults.
pub(crate) fn load(path: &Path) -> Result<NodeOptions, Failure> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("cannot read the configuration {shown}: {error}")))?;
    parse(&text).map_err(|error| Failure::usage(format!("{shown}: {error}")))
}

fn parse(text: &str) -> Result<NodeOptions, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    for key in SET_ELSEWHERE {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        let there =
            table.get(section).and_then(Value::as_table).is_some_and(|table| table.contains_key(name));
        if there {
            return Err(format!("{key} is not set here, but on the command line"));
        }
    }
    table.try_into().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())
}

/// The options that have a flag on the command line.
const SET_ELSEWHERE: &[&str] = &["transport.listen"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn options_are_read_by_their_names_and_times_as_people_write_them() {
        let options = parse(
            "[raft]\nelection_timeout_min = \"500ms\"\nelection_timeout_max = \"1s\"\nlease_reads = true\n\
             [replica]\nforward = false\n[wal]\nsegment_bytes = 1048576\n[transport]\nidle_timeout = \"1m\"\n",
        )
        .unwrap();
        assert_eq!(options.raft.election_timeout_min, Duration::from_millis(500));
        assert_eq!(options.raft.election_timeout_max, Duration::from_secs(1));
        assert!(options.raft.lease_reads && !options.replica.forward);
        assert_eq!(options.wal.segment_bytes, 1 << 20);
        assert_eq!(options.transport.idle_timeout, Duration::from_secs(60));
        assert_eq!(options.sessions, NodeOptions::default().sessions);
    }

    #[test]
    fn what_is_unknown_or_of_the_wrong_kind_or_set_elsewhere_is_refused() {
        for (text, expected) in [
            ("[raft]\nelection_timeout = \"1s\"\n", "election_timeout"),
            ("[raft]\npre_vote = 3\n", "pre_vote"),
            ("[raft]\nheartbeat_interval = \"soon\"\n", "heartbeat_interval"),
            ("[raft]\nelection_timeout_min = \"500\"\n", "\"500\": a time needs a unit: write it as 500ms"),
            ("[raft]\nelection_timeout_min = 500\n", "expected a time as text, such as \"500ms\""),
            ("[transport]\nkeep_alive = 1\n", "expected a time as text"),
            ("[replica]\nforward_timeout = true\n", "expected a time as text"),
            ("[transport]\nlisten = \"127.0.0.1:1\"\n", "on the command line"),
            ("raft\n", "expected"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
