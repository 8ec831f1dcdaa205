//! `kontiki dev`: a whole group on this machine for experiments, each member a process of its own.

use crate::failure::{Exit, Failure};
use crate::members::leader;
use crate::output::{Format, Table, note};
use clap::Args;
use kontiki_core::types::NodeId;
use kontiki_net_tokio::client::{Client, ClientOptions};
use kontiki_net_tokio::disk::{DiskOpenError, FileDisk};
use rustix::process::{Pid, getuid, test_kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// The number of members
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=9))]
    members: u64,
    /// The data directory, which is kept [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Restart a member that has ended
    #[arg(long)]
    restart: bool,
    /// Show the members' logs
    #[arg(long, short)]
    verbose: bool,
}

/// A running `kontiki dev` group, as described in the file by which other commands find it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The process that runs it.
    pid: u32,
    directory: PathBuf,
    members: Vec<Member>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Member {
    id: u64,
    address: String,
    /// The address of the admin port.
    admin: String,
    pid: u32,
}

impl Running {
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.members.iter().map(|member| member.address.clone()).collect()
    }

    /// Finds this user's running group on this machine.
    pub(crate) fn find() -> Option<Self> {
        Self::load(&well_known()).filter(Self::is_alive)
    }

    /// Returns whether the process that wrote the file still runs: a killed one leaves its file behind.
    fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid).is_ok())
    }

    /// Reads the file if it belongs to this user: another user must not direct our commands.
    fn load(path: &Path) -> Option<Self> {
        let found = fs::symlink_metadata(path).ok()?;
        let ours = found.is_file() && found.uid() == getuid().as_raw();
        if !ours {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes the file, readable by this user only, atomically.
    fn store(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension(format!("{}.new", self.pid));
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        fs::rename(&new, path)
    }

    fn get(&mut self, id: u64) -> &mut Member {
        let at = self.members.iter().position(|member| member.id == id);
        &mut self.members[at.expect("each member that is started is listed")]
    }
}

/// Returns the path of the file that describes a running group.
fn well_known() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|directory| directory.is_dir()) {
        Some(directory) => directory.join("kontiki-dev.json"),
        None => {
            let user = getuid().as_raw();
            std::env::temp_dir().join(format!("kontiki-dev-{user}.json"))
        }
    }
}

/// The events of a group.
enum Event {
    Ended(u64, Option<ExitStatus>),
    Stop,
}

/// The running members, and the parameters to start one.
struct Group {
    running: Running,
    peers: String,
    /// The token of the admin port.
    token: String,
    verbose: bool,
    /// A member ends when its standard input closes, so none outlives this process, however that ends.
    alive: BTreeMap<u64, ChildStdin>,
    ended: mpsc::UnboundedSender<Event>,
}

impl Dev {
    pub(crate) async fn run(self, format: Format) -> Result<Exit, Failure> {
        let (directory, temporary) = match &self.data {
            Some(directory) => (directory.clone(), false),
            None => (std::env::temp_dir().join(format!("kontiki-dev-{}", std::process::id())), true),
        };
        // Commands without an address find one group, so only one can run.
        let _place = Place::take(&well_known())?;
        let made = DirBuilder::new().recursive(!temporary).mode(0o700).create(&directory);
        made.map_err(|error| system("make", &directory, error))?;
        let ended = self.serve(&directory, format).await;
        if temporary {
            match in_use(&directory, self.members) {
                Some(id) => note(&format!(
                    "Member {id} was started by hand and still runs: stop it, and then delete {}",
                    directory.display()
                )),
                None => {
                    fs::remove_dir_all(&directory).map_err(|error| system("remove", &directory, error))?;
                }
            }
        }
        ended
    }

    async fn serve(&self, directory: &Path, format: Format) -> Result<Exit, Failure> {
        let directory = directory.canonicalize().map_err(|error| system("use", directory, error))?;
        let remembered = directory.join("dev.json");
        let members = self.addresses(Running::load(&remembered));
        let members = members.map_err(|error| Failure::new(Exit::Unreachable, "no_port", error))?;
        let peers: Vec<_> =
            members.iter().map(|member| format!("{}={}", member.id, member.address)).collect();
        let token = token_of(&directory).map_err(|error| system("write", &directory.join(TOKEN), error))?;
        let (ended, mut events) = mpsc::unbounded_channel();
        let mut group = Group {
            running: Running { pid: std::process::id(), directory, members },
            peers: peers.join(","),
            token,
            verbose: self.verbose,
            alive: BTreeMap::new(),
            ended: ended.clone(),
        };
        stop_at_signals(ended)?;
        for id in 1..=self.members {
            group.start(id)?;
        }
        let known = well_known();
        for path in [&known, &remembered] {
            group.running.store(path).map_err(|error| system("write", path, error))?;
        }
        let outcome = self.watch(&mut group, &mut events, format).await;
        group.stop(&mut events).await;
        let _ = fs::remove_file(&known);
        outcome
    }

    /// Returns the members with their addresses: the earlier ones if the directory has them and they are
    /// free, otherwise any free ones.
    fn addresses(&self, remembered: Option<Running>) -> io::Result<Vec<Member>> {
        let remembered = remembered.map(|running| running.members).unwrap_or_default();
        // All are bound before any is released, so that none is used twice.
        let mut held = Vec::new();
        let mut hold = |before: Option<&String>| {
            let listener = match before.map(TcpListener::bind) {
                Some(Ok(listener)) => listener,
                _ => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
            };
            let address = listener.local_addr()?.to_string();
            held.push(listener);
            Ok::<_, io::Error>(address)
        };
        let mut members = Vec::new();
        for id in 1..=self.members {
            let before = remembered.iter().find(|member| member.id == id);
            let address = hold(before.map(|member| &member.address))?;
            let admin = hold(before.map(|member| &member.admin))?;
            members.push(Member { id, address, admin, pid: 0 });
        }
        Ok(members)
    }

    /// Runs until it is stopped.
    async fn watch(
        &self,
        group: &mut Group,
        events: &mut mpsc::UnboundedReceiver<Event>,
        format: Format,
    ) -> Result<Exit, Failure> {
        let client = Client::new(group.running.addresses(), None, ClientOptions::default())?;
        let first = tokio::select! {
            // Nothing has been printed yet: a member that ends now could not start.
            event = events.recv() => return match event {
                Some(Event::Ended(id, status)) => Err(group.failed_to_start(id, status)),
                Some(Event::Stop) | None => Ok(Exit::Done),
            },
            leads = wait_for_leader(&client) => leads,
        };
        group.introduce(first, format);
        let mut announced = Some(first);
        loop {
            tokio::select! {
                event = events.recv() => {
                    let Some(Event::Ended(id, status)) = event else {
                        return Ok(Exit::Done);
                    };
                    group.mourn(id, status, self.restart);
                    if self.restart {
                        // With a delay, so that a member that cannot start does not keep the machine busy.
                        sleep(Duration::from_secs(1)).await;
                        group.start(id)?;
                        let _ = group.running.store(&well_known());
                    }
                    // The leader is printed even if it is the same member as before.
                    announced = None;
                }
                leads = wait_for_another_leader(&client, announced) => {
                    note(&format!("Member {leads} leads."));
                    announced = Some(leads);
                }
            }
        }
    }
}

impl Group {
    fn start(&mut self, id: u64) -> Result<(), Failure> {
        let directory = self.running.directory.clone();
        let failed = |error: io::Error| {
            Failure::new(Exit::Unreachable, "start", format!("cannot start member {id}: {error}"))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(self.arguments(id)).arg("--exit-with-stdin").stdin(Stdio::piped()).stdout(Stdio::null());
        // Ctrl-C is for this process, which then stops the members.
        command.process_group(0).kill_on_drop(true);
        if !self.verbose {
            let log = File::options().create(true).append(true).open(log(&directory, id));
            command.stderr(log.map_err(failed)?);
        }
        let mut child = command.spawn().map_err(failed)?;
        self.running.get(id).pid = child.id().unwrap_or_default();
        self.alive.extend(child.stdin.take().map(|stdin| (id, stdin)));
        let ended = self.ended.clone();
        tokio::spawn(async move {
            let status = child.wait().await.ok();
            // The receiver may have ended.
            let _ = ended.send(Event::Ended(id, status));
        });
        Ok(())
    }

    /// Returns the arguments of a member's `kontiki serve`.
    fn arguments(&self, id: u64) -> Vec<String> {
        let Running { directory, members, .. } = &self.running;
        let member = members.iter().find(|member| member.id == id);
        let (address, admin) = member.map(|member| (&*member.address, &*member.admin)).unwrap_or_default();
        let data = directory.join(id.to_string()).display().to_string();
        let token = directory.join(TOKEN).display().to_string();
        let id = id.to_string();
        let arguments = ["serve", "--id", &id, "--data", &data, "--listen", address, "--peers", &self.peers];
        [&arguments[..], &["--admin", admin, "--admin-token-file", &token]]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// Prints the members, and commands to try.
    fn introduce(&self, leads: NodeId, format: Format) {
        let human = || {
            let mut table = Table::new(["MEMBER", "ADDRESS", "PROCESS", "STATUS PAGE", ""]);
            for Member { id, address, admin, pid } in &self.running.members {
                let leads = if *id == leads.get() { "leads" } else { "" };
                let page = format!("http://{admin}/status");
                table.row([id.to_string(), address.clone(), pid.to_string(), page, leads.to_owned()]);
            }
            let leader = self.running.members.iter().find(|member| member.id == leads.get());
            let pid = leader.map(|leader| leader.pid).unwrap_or_default();
            let me = me();
            let then = match self.running.members.len() {
                1 | 2 => String::new(),
                _ => {
                    let (kill, put) = (format!("kill -9 {pid}"), format!("{me} put colour blue"));
                    let width = put.len();
                    format!(
                        "  {kill:width$}   # the leader is gone\n  {put}   # succeeds all the same\n  {me} status --each\n"
                    )
                }
            };
            format!(
                "A group of {} runs on this machine, until you type Ctrl-C here.\n\n{}\nTheir data and logs are in {}\n\
                 Each has a status page; they ask for the token {}\n\n\
                 Type in another terminal:\n\n  {me} put colour red\n  {me} get colour\n{then}",
                self.running.members.len(),
                table.render(),
                self.running.directory.display(),
                self.token,
            )
        };
        format.print(human, || json!({ "running": self.running, "leader": leads.get() }));
    }

    /// Prints that a member has ended, and how to restart it.
    fn mourn(&mut self, id: u64, status: Option<ExitStatus>, restart: bool) {
        self.alive.remove(&id);
        let pid = self.running.get(id).pid;
        note(&format!("\nMember {id} (process {pid}) {}.", ending(status)));
        note(&match restart {
            true => "It is started again.".to_owned(),
            false => {
                format!(
                    "To start it again, in another terminal:\n  {} {}",
                    me(),
                    self.arguments(id).join(" ")
                )
            }
        });
    }

    fn failed_to_start(&self, id: u64, status: Option<ExitStatus>) -> Failure {
        let path = log(&self.running.directory, id);
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        let message = format!("member {id} {} before there was a leader; it said:\n  {last}", ending(status));
        Failure::new(Exit::Unreachable, "start", message)
    }

    /// Stops all members, and waits until they have ended.
    async fn stop(&mut self, events: &mut mpsc::UnboundedReceiver<Event>) {
        let mut left = self.alive.len();
        self.alive.clear();
        let until = Instant::now() + Duration::from_secs(10);
        while left > 0 {
            match timeout_at(until, events.recv()).await {
                Ok(Some(Event::Ended(..))) => left -= 1,
                Ok(Some(Event::Stop)) => {}
                // They are killed when this process ends.
                Ok(None) | Err(_) => return,
            }
        }
    }
}

fn stop_at_signals(events: mpsc::UnboundedSender<Event>) -> Result<(), Failure> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signal = signal(kind).map_err(|error| {
            Failure::new(Exit::Unreachable, "system", format!("no signals are to be had: {error}"))
        })?;
        let events = events.clone();
        tokio::spawn(
            async move { while signal.recv().await.is_some() && events.send(Event::Stop).is_ok() {} },
        );
    }
    Ok(())
}

async fn wait_for_leader(client: &Client) -> NodeId {
    loop {
        if let Some(leader) = leader(client).await {
            return leader;
        }
    }
}

/// Waits until another member leads, after a transfer or an election.
async fn wait_for_another_leader(client: &Client, before: Option<NodeId>) -> NodeId {
    loop {
        if let Some(leader) = leader(client).await.filter(|leader| Some(*leader) != before) {
            return leader;
        }
        sleep(Duration::from_millis(250)).await;
    }
}

/// Returns the first member whose directory another process has open: one started by hand, as `kontiki dev`
/// suggests.
fn in_use(directory: &Path, members: u64) -> Option<u64> {
    (1..=members).find(|id| {
        let directory = directory.join(id.to_string());
        directory.is_dir() && matches!(FileDisk::open(&directory), Err(DiskOpenError::Taken { .. }))
    })
}

/// The lock of the one group that commands find without an address. The system releases it with the process.
struct Place {
    path: PathBuf,
    _lock: File,
}

impl Place {
    fn take(known: &Path) -> Result<Self, Failure> {
        let path = known.with_extension("lock");
        let failed = |error: io::Error| system("lock", &path, error);
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = open().map_err(failed)?;
        match lock.try_lock() {
            // The last owner deleted the file after it was opened here: other processes lock another file.
            Ok(()) if !is_at(&lock, &path) => Self::take(known),
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let running = Running::find();
                let which = running.map(|it| format!(" (process {}, in {})", it.pid, it.directory.display()));
                Err(Failure::new(
                    Exit::Not,
                    "already_runs",
                    format!(
                        "a group runs on this machine already{}, and commands go to it: stop it first, or give this one its own \
                         XDG_RUNTIME_DIR",
                        which.unwrap_or_default()
                    ),
                ))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// Returns whether the open file is the one at this path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(open), Ok(named)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (open.dev(), open.ino()) == (named.dev(), named.ino())
}

impl Drop for Place {
    fn drop(&mut self) {
        // The lock ends with the open file. The next owner takes over the file of a killed process.
        let _ = fs::remove_file(&self.path);
    }
}

fn ending(status: Option<ExitStatus>) -> String {
    let Some(status) = status else {
        return "has ended".to_owned();
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was ended by signal {signal}"),
        (None, Some(code)) => format!("has ended with exit code {code}"),
        (None, None) => "has ended".to_owned(),
    }
}

fn log(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("member-{id}.log"))
}

/// The admin token of this group: drawn once, and kept in a file readable by this user only.
fn token_of(directory: &Path) -> io::Result<String> {
    let path = directory.join(TOKEN);
    match fs::read_to_string(&path) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let token = format!("{:016x}{:016x}", getrandom::u64()?, getrandom::u64()?);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            writeln!(file, "{token}")?;
            Ok(token)
        }
        Err(error) => Err(error),
    }
}

const TOKEN: &str = "admin-token";

/// Returns the name this program was called by.
fn me() -> String {
    std::env::args().next().unwrap_or_else(|| "kontiki".to_owned())
}

fn system(what: &str, path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Unreachable, "system", format!("cannot {what} {}: {error}", path.display()))
}
