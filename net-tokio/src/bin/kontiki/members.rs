//! The commands status, members, logs, and operators' changes of a group.

use crate::failure::{Exit, Failure};
use crate::output::{Format, Table, json_bytes, readable};
use crate::target::{Target, host_port, node_id};
use clap::Args;
use kontiki_core::kv;
use kontiki_core::membership::Change;
use kontiki_core::status::Space;
use kontiki_core::types::{Index, LogId, Member, NodeId};
use kontiki_net_tokio::client::{Again, Client, unexpected};
use kontiki_net_tokio::protocol::{
    Answer, Ask, Content, LogEntry, MemberStatus, NodePhase, NodeStatus, Range, Request, Response, Who,
};
use kontiki_net_tokio::view::{self, EntryView, StatusView};
use serde_json::{Value, json};
use std::time::Duration;

/// The default time limit of a membership change: new members must catch up.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Args, Debug)]
pub(crate) struct Status {
    /// Ask each member of the group [default: the member given by --at, or the leader]
    #[arg(long)]
    each: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Members {}

#[derive(Args, Debug)]
pub(crate) struct Logs {
    /// The number of entries, from the end of the log
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, conflicts_with = "from")]
    last: u64,
    /// The index of the first entry
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// The index of the last entry
    #[arg(long, value_name = "INDEX", requires = "from")]
    to: Option<u64>,
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// The member's id
    #[arg(value_parser = node_id)]
    id: NodeId,
    /// The member's address
    #[arg(long, value_name = "HOST:PORT", value_parser = host_port)]
    address: String,
    /// Add it as a learner: it receives the log and does not vote
    #[arg(long, conflicts_with = "witness")]
    learner: bool,
    /// Add it as a witness: it votes and stores no commands
    #[arg(long)]
    witness: bool,
    /// Even if no majority of the voters can be reached then
    #[arg(long)]
    force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Id {
    /// The member's id
    #[arg(value_parser = node_id)]
    id: NodeId,
    /// Even if no majority of the voters can be reached then. DANGER: the group stands still until one can
    #[arg(long)]
    force: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Cancel {}

#[derive(Args, Debug)]
pub(crate) struct Transfer {
    /// The new leader [default: the member with the most complete log]
    #[arg(value_parser = node_id)]
    id: Option<NodeId>,
}

#[derive(Args, Debug)]
pub(crate) struct Snapshot {}

impl Status {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        if self.each {
            return each(target, format).await;
        }
        let status = target.client_of_one()?.status().await?;
        format.print(|| one(&status), || json!(StatusView::from(&status)));
        Ok(exit_of(&status))
    }
}

fn exit_of(status: &NodeStatus) -> Exit {
    match status.phase {
        NodePhase::Halted(_) | NodePhase::Refusing(_) => Exit::Halted,
        NodePhase::Starting(_) | NodePhase::Running | NodePhase::Stopped => Exit::Done,
    }
}

fn one(status: &NodeStatus) -> String {
    let NodeStatus { member, term, last, durable, committed, applied, .. } = status;
    let leader = match status.leader {
        Some(leader) if leader == member.id => "this one".to_owned(),
        Some(leader) => format!("member {leader}"),
        None => "unknown".to_owned(),
    };
    let snapshot = match status.snapshot {
        LogId::ZERO => "none".to_owned(),
        snapshot => format!("of all entries through {snapshot}"),
    };
    let lines = [
        ("member", format!("{member}, {} of group {}", status.kind.code(), status.cluster)),
        ("state", phase(&status.phase)),
        ("role", status.role.to_string()),
        ("term", term.to_string()),
        ("leader", leader),
        ("log", format!("through {last}, on its disk through {durable}")),
        ("committed", format!("through {committed}, applied through {applied}")),
        ("snapshot", snapshot),
        ("space", space(status.space).to_owned()),
    ];
    lines.iter().map(|(name, value)| format!("{name:<10} {value}\n")).collect()
}

fn space(space: Space) -> &'static str {
    match space {
        Space::Free => "there is some",
        Space::Full => "the disk is full: make space",
        Space::GroupFull => "no majority of the voters has space, and nothing can be committed: make space",
    }
}

fn phase(phase: &NodePhase) -> String {
    match phase {
        NodePhase::Starting(why) => format!("starting: {why}"),
        NodePhase::Running => "running".to_owned(),
        NodePhase::Refusing(why) => format!("refuses all requests: {why}"),
        NodePhase::Halted(why) => format!("halted: {why}"),
        NodePhase::Stopped => "stopped".to_owned(),
    }
}

fn log_id(id: LogId) -> Value {
    json!({ "index": id.index.get(), "term": id.term.get() })
}

/// Asks each member for its own status, concurrently; a member that does not answer is listed with the error.
async fn each(target: &Target, format: Format) -> Result<Exit, Failure> {
    let client = target.client()?;
    let members = list(&client).await?;
    let patience = target.timeout.unwrap_or(Duration::from_secs(2));
    let asked = members.into_iter().map(|member| {
        let own = member.address.as_ref().map(|address| client.at(address).with_deadline(patience));
        let asked = tokio::spawn(async move {
            match own {
                Some(own) => own.status().await.map_err(|error| error.to_string()),
                None => Err("its address is unknown".to_owned()),
            }
        });
        (member, asked)
    });
    let mut answers = Vec::new();
    for (member, asked) in asked.collect::<Vec<_>>() {
        answers.push((member, asked.await.unwrap_or_else(|error| Err(error.to_string()))));
    }
    let human = || {
        let mut table =
            Table::new(["ID", "ADDRESS", "ROLE", "TERM", "LEADER", "LAST", "COMMITTED", "APPLIED", "STATE"]);
        for (MemberStatus { member, address, .. }, answer) in &answers {
            let (id, address) = (member.id.to_string(), address.clone().unwrap_or_default());
            let dash = || "-".to_owned();
            table.row(match answer {
                Ok(status) => [
                    id,
                    address,
                    status.role.to_string(),
                    status.term.to_string(),
                    status.leader.map_or_else(dash, |leader| leader.to_string()),
                    status.last.to_string(),
                    status.committed.to_string(),
                    status.applied.to_string(),
                    phase(&status.phase),
                ],
                Err(_) => {
                    [id, address, dash(), dash(), dash(), dash(), dash(), dash(), "no answer".to_owned()]
                }
            });
        }
        table.render()
    };
    let json = || {
        let members = answers.iter().map(|(MemberStatus { member, address, .. }, answer)| {
            let (status, error) = match answer {
                Ok(status) => (Some(StatusView::from(status)), None),
                Err(error) => (None, Some(error)),
            };
            json!({ "id": member.id.get(), "address": address, "status": status, "error": error })
        });
        json!({ "members": members.collect::<Vec<_>>() })
    };
    format.print(human, json);
    Ok(if answers.iter().all(|(_, answer)| answer.is_ok()) { Exit::Done } else { Exit::Unreachable })
}

/// Prints the members as the leader sees them.
async fn list(client: &Client) -> Result<Vec<MemberStatus>, Failure> {
    match client.ask(Request::Members, Again::Safe).await? {
        Response::Members(members) => Ok(members),
        other => Err(unexpected(&other).into()),
    }
}

impl Members {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let members = list(&target.client()?).await?;
        let human = || {
            let mut table =
                Table::new(["ID", "ADDRESS", "KIND", "LEADER", "LAST CONTACT", "MATCH", "LAG", "PAUSED"]);
            for member in &members {
                let dash = || "-".to_owned();
                table.row([
                    member.member.id.to_string(),
                    member.address.clone().unwrap_or_else(|| "unknown".to_owned()),
                    member.kind.code().to_owned(),
                    if member.leads { "yes".to_owned() } else { String::new() },
                    member.last_contact_ms.map_or_else(|| "never".to_owned(), ago),
                    member.matched.map_or_else(dash, |matched| matched.to_string()),
                    member.lag.map_or_else(dash, |lag| lag.to_string()),
                    member.paused.map_or_else(String::new, |reason| reason.to_string()),
                ]);
            }
            table.render()
        };
        format.print(human, || json!({ "members": view::members(&members) }));
        Ok(Exit::Done)
    }
}

fn ago(millis: u64) -> String {
    match millis {
        0 => "now".to_owned(),
        1..10_000 => format!("{millis} ms ago"),
        10_000..600_000 => format!("{} s ago", millis / 1_000),
        _ => format!("{} min ago", millis / 60_000),
    }
}

impl Logs {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let range = match (self.from, self.to) {
            (None, _) => Range::Last(self.last),
            (Some(from), to) => {
                let after = Index::new(from.saturating_sub(1).min(Index::MAX.get()));
                Range::Between(after, to.map_or(Index::MAX, |to| Index::new(to.min(Index::MAX.get()))))
            }
        };
        let entries = match target.client_of_one()?.ask(Request::logs(range), Again::Safe).await? {
            Response::Answer(Answer::Entries(entries)) => entries,
            other => return Err(unexpected(&other).into()),
        };
        let human = || {
            let mut table = Table::new(["INDEX", "TERM", "COMMITTED", "CONTENT"]);
            for LogEntry { id, committed, content } in &entries {
                let committed = if *committed { "yes" } else { "not yet" }.to_owned();
                table.row([id.index.to_string(), id.term.to_string(), committed, content_text(content)]);
            }
            table.render()
        };
        format.print(human, || json!({ "entries": entries.iter().map(entry_json).collect::<Vec<_>>() }));
        Ok(Exit::Done)
    }
}

fn content_text(content: &Content) -> String {
    match content {
        Content::Blank => "a leader began".to_owned(),
        Content::Command(command) => match kv::Command::decode(command) {
            Ok(kv::Command::Put { key, value }) => format!("put {} = {}", readable(key), readable(value)),
            Ok(kv::Command::Delete { key }) => format!("delete {}", readable(key)),
            Ok(kv::Command::CompareAndSwap { key, expected: Some(expected), value }) => {
                format!("cas {}: {} = {}", readable(key), readable(expected), readable(value))
            }
            Ok(kv::Command::CompareAndSwap { key, expected: None, value }) => {
                format!("cas {}: nothing = {}", readable(key), readable(value))
            }
            Err(kv::Malformed) => format!("a command of {} bytes", command.len()),
        },
        Content::Session => "a client's session".to_owned(),
        Content::Members(members) => format!("members: {members}"),
        Content::Withheld => "a witness does not hold it".to_owned(),
        Content::Lost => "lost on this disk; it will be repaired from other members".to_owned(),
    }
}

/// Returns an entry as JSON, with the command of the key-value store decoded.
fn entry_json(entry: &LogEntry) -> Value {
    let mut shown = json!(EntryView::from(entry));
    if let Content::Command(command) = &entry.content {
        shown["command"] = command_json(command);
    }
    shown
}

fn command_json(command: &[u8]) -> Value {
    match kv::Command::decode(command) {
        Ok(kv::Command::Put { key, value }) => {
            json!({ "put": json_bytes(key), "value": json_bytes(value) })
        }
        Ok(kv::Command::Delete { key }) => json!({ "delete": json_bytes(key) }),
        Ok(kv::Command::CompareAndSwap { key, expected, value }) => {
            json!({ "cas": json_bytes(key), "expected": expected.map(json_bytes), "value": json_bytes(value) })
        }
        Err(kv::Malformed) => Value::Null,
    }
}

impl Add {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let client = target.client_with(PATIENCE)?;
        let member = self.newcomer(&client).await?;
        let change = match (self.learner, self.witness) {
            (true, _) => Change::AddLearner(member),
            (false, true) => Change::AddWitness(member),
            (false, false) => Change::AddVoter(member),
        };
        let newcomer = vec![(self.id, self.address)];
        reconfigure(&client, (change, self.force), newcomer, "added", format).await
    }

    /// The member at the address must be the expected one: only it knows its incarnation.
    async fn newcomer(&self, client: &Client) -> Result<Member, Failure> {
        let asked = client.at(&self.address).ask(Request::Identify, Again::Safe).await?;
        let Response::Identity(Who { member, .. }) = asked else {
            return Err(unexpected(&asked).into());
        };
        if member.id != self.id {
            let message = format!(
                "the address {} belongs to member {}, not member {}",
                self.address, member.id, self.id
            );
            return Err(Failure::new(Exit::Not, "other_member", message));
        }
        Ok(member)
    }
}

impl Id {
    pub(crate) async fn change(
        self,
        change: impl Fn(NodeId) -> Change,
        done: &str,
        target: &Target,
        format: Format,
    ) -> Result<Exit, Failure> {
        let change = (change(self.id), self.force);
        reconfigure(&target.client_with(PATIENCE)?, change, Vec::new(), done, format).await
    }
}

impl Cancel {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        match target.client()?.ask(Ask::CancelChange, Again::Unsafe).await? {
            Response::Answer(Answer::Cancelled) => {}
            other => return Err(unexpected(&other).into()),
        }
        let human = || "the change is cancelled: its new members stay learners\n".to_owned();
        format.print(human, || json!({ "cancelled": true }));
        Ok(Exit::Done)
    }
}

async fn reconfigure(
    client: &Client,
    (change, force): (Change, bool),
    addresses: Vec<(NodeId, String)>,
    done: &str,
    format: Format,
) -> Result<Exit, Failure> {
    let id = change.subject();
    let ask = Ask::Reconfigure { expected: None, changes: vec![change], force };
    match client.ask(Request::Ask { ask, addresses }, Again::Unsafe).await? {
        Response::Answer(Answer::Reconfigured(at)) => {
            let human = || format!("member {id} is {done}, by entry {at}\n");
            format.print(human, || json!({ "id": id.get(), "done": done, "entry": log_id(at) }));
            Ok(Exit::Done)
        }
        other => Err(unexpected(&other).into()),
    }
}

impl Transfer {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        let client = target.client()?;
        match client.ask(Ask::Transfer { to: self.id }, Again::Unsafe).await? {
            Response::Answer(Answer::Transferred) => {}
            other => return Err(unexpected(&other).into()),
        }
        let leader = leader(&client).await;
        let human = || match leader {
            Some(leader) => format!("member {leader} leads\n"),
            None => "done\n".to_owned(),
        };
        format.print(human, || json!({ "transferred": true, "leader": leader.map(NodeId::get) }));
        Ok(Exit::Done)
    }
}

/// Returns the leader, if there is one within a moment.
pub(crate) async fn leader(client: &Client) -> Option<NodeId> {
    let found = async {
        loop {
            if let Ok(NodeStatus { leader: Some(leader), .. }) = client.status().await {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), found).await.ok()
}

impl Snapshot {
    pub(crate) async fn run(self, target: &Target, format: Format) -> Result<Exit, Failure> {
        match target.client_of_one()?.ask(Ask::Snapshot, Again::Unsafe).await? {
            Response::Answer(Answer::Snapshot(id)) => {
                let human = || format!("there is a snapshot of all entries through {id}\n");
                format.print(human, || json!({ "snapshot": log_id(id) }));
                Ok(Exit::Done)
            }
            other => Err(unexpected(&other).into()),
        }
    }
}
