//! The bodies of requests to the admin port, and its pages of the log.

use crate::protocol::{Content, LogEntry, Range};
use crate::view::EntryView;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use kontiki_core::membership::Change;
use kontiki_core::types::{Incarnation, Index, LogId, Member, NodeId};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// The most entries of the log in one answer.
pub(super) const MAX_ENTRIES: u64 = 1000;
/// The number of entries by default.
const USUAL_ENTRIES: u64 = 20;
/// The most bytes of commands in one answer; one larger command is still sent, alone.
const MAX_SHOWN_BYTES: usize = 8 << 20;

/// The body of `POST /commit` as JSON.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CommandBody {
    command_base64: String,
}

impl CommandBody {
    pub(super) fn bytes(&self) -> Result<Vec<u8>, String> {
        BASE64.decode(&self.command_base64).map_err(|error| format!("command_base64: {error}"))
    }
}

/// The body of `POST /transfer`.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferBody {
    #[serde(default)]
    pub(super) to: Option<NodeId>,
}

/// The body of `POST /members`: one of five verbs, the expected membership, and whether to force the change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MembersBody {
    add: Option<Newcomer>,
    remove: Option<NodeId>,
    promote: Option<NodeId>,
    demote: Option<NodeId>,
    #[serde(default)]
    cancel: bool,
    pub(super) expected: Option<LogId>,
    #[serde(default)]
    pub(super) force: bool,
}

/// A new member.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Newcomer {
    pub(super) id: NodeId,
    #[serde(default, deserialize_with = "incarnation")]
    pub(super) incarnation: Option<Incarnation>,
    pub(super) address: String,
    #[serde(default, rename = "as")]
    kind: NewMemberKind,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum NewMemberKind {
    #[default]
    Voter,
    Learner,
    Witness,
}

/// A membership verb.
pub(super) enum Verb {
    Add(Newcomer),
    Change(Change),
    Cancel,
}

impl MembersBody {
    pub(super) fn verb(&mut self) -> Result<Verb, String> {
        let verbs = [
            self.add.take().map(Verb::Add),
            self.remove.map(|id| Verb::Change(Change::Remove(id))),
            self.promote.map(|id| Verb::Change(Change::Promote(id))),
            self.demote.map(|id| Verb::Change(Change::Demote(id))),
            self.cancel.then_some(Verb::Cancel),
        ];
        let mut verbs = verbs.into_iter().flatten();
        match (verbs.next(), verbs.next()) {
            (Some(Verb::Cancel), None) if self.force || self.expected.is_some() => {
                Err("`cancel` takes neither `force` nor `expected`".to_owned())
            }
            (Some(verb), None) => Ok(verb),
            _ => Err("give one of `add`, `remove`, `promote`, `demote` and `cancel`".to_owned()),
        }
    }
}

impl Newcomer {
    pub(super) fn change(&self, incarnation: Incarnation) -> Change {
        let member = Member::new(self.id, incarnation);
        match self.kind {
            NewMemberKind::Voter => Change::AddVoter(member),
            NewMemberKind::Learner => Change::AddLearner(member),
            NewMemberKind::Witness => Change::AddWitness(member),
        }
    }
}

/// Accepts a string of digits, or a number.
fn incarnation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Incarnation>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    let number = match Option::<Either>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Either::Number(number)) => number,
        Some(Either::Text(text)) => text.parse().map_err(serde::de::Error::custom)?,
    };
    Ok(Some(Incarnation(number)))
}

/// The query of `GET /logs`: `n=K`, or `from=I&to=J`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogsQuery {
    n: Option<u64>,
    from: Option<u64>,
    to: Option<u64>,
}

/// Returns the entries that the query asks for.
pub(super) fn range(query: Result<Query<LogsQuery>, QueryRejection>) -> Result<Range, String> {
    let Query(LogsQuery { n, from, to }) =
        query.map_err(|rejection| format!("give `n=K`, or `from=I&to=J`: {}", rejection.body_text()))?;
    let checked = |count: u64| match count {
        0 => Err("ask for one entry at least".to_owned()),
        count if count > MAX_ENTRIES => Err(format!("ask for at most {MAX_ENTRIES} entries at a time")),
        count => Ok(count),
    };
    match (n, from, to) {
        (n, None, None) => checked(n.unwrap_or(USUAL_ENTRIES)).map(Range::Last),
        (None, Some(from), Some(to)) if from == 0 || to < from || to > Index::MAX.get() => {
            Err("`from` is 1 or more, and `to` no less".to_owned())
        }
        (None, Some(from), Some(to)) => {
            checked(to - from + 1)?;
            Ok(Range::Between(Index::new(from - 1), Index::new(to)))
        }
        _ => Err("give `n=K`, or both of `from=I&to=J`".to_owned()),
    }
}

/// Returns log entries as JSON; `next` is the index to continue from if not all entries fit.
pub(super) fn entries(entries: &[LogEntry]) -> Value {
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for it in entries {
        let length = if let Content::Command(command) = &it.content { command.len() } else { 0 };
        if !shown.is_empty() && bytes + length > MAX_SHOWN_BYTES {
            break;
        }
        bytes += length;
        shown.push(EntryView::from(it));
    }
    let next = entries.get(shown.len()).map(|it| it.id.index);
    json!({ "entries": shown, "next": next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::types::Payload;

    #[test]
    fn a_range_is_bounded_and_never_everything_by_mistake() {
        let range = |query: &str| {
            let uri = format!("/logs?{query}").parse().expect("a URI");
            range(Query::try_from_uri(&uri))
        };
        assert_eq!(range(""), Ok(Range::Last(20)));
        assert_eq!(range("n=1000"), Ok(Range::Last(1000)));
        assert_eq!(range("from=1&to=1"), Ok(Range::Between(Index::ZERO, Index::new(1))));
        assert_eq!(range("to=1005&from=6"), Ok(Range::Between(Index::new(5), Index::new(1005))));
        for wrong in [
            "n=0",
            "n=1001",
            "n=-1",
            "n=",
            "n",
            "n=1&n=2",
            "n=99999999999999999999",
            "m=1",
            "from=1",
            "to=3",
            "from=0&to=3",
            "from=4&to=3",
            "from=1&to=1001",
            "from=1&to=18446744073709551615",
            "from=18446744073709551615&to=18446744073709551615",
            "n=1&from=1&to=2",
        ] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn large_commands_are_shown_bit_by_bit() {
        let command = Payload::from(&vec![0; MAX_SHOWN_BYTES][..]);
        let entry = |index| LogEntry {
            id: LogId::new(1, index),
            committed: true,
            content: Content::Command(command.clone()),
        };
        let shown = entries(&[entry(4), entry(5)]);
        assert_eq!((shown["entries"].as_array().map(Vec::len), &shown["next"]), (Some(1), &json!(5)));
        assert_eq!(entries(&[entry(4)])["next"], Value::Null);
    }

    #[test]
    fn incarnations_are_strings_or_numbers_or_absent() {
        let read = |incarnation: &str| {
            let body =
                format!("{{\"add\":{{\"id\":4{incarnation},\"address\":\"a:1\",\"as\":\"learner\"}}}}");
            let mut body: MembersBody = serde_json::from_str(&body).map_err(|error| error.to_string())?;
            match body.verb()? {
                Verb::Add(newcomer) => Ok(newcomer.incarnation),
                Verb::Change(_) | Verb::Cancel => Err("another verb".to_owned()),
            }
        };
        assert_eq!(read(""), Ok(None));
        assert_eq!(read(",\"incarnation\":7"), Ok(Some(Incarnation(7))));
        assert_eq!(read(",\"incarnation\":\"18446744073709551615\""), Ok(Some(Incarnation(u64::MAX))));
        assert!(read(",\"incarnation\":\"x\"").is_err() && read(",\"incarnation\":-1").is_err());
    }
}
