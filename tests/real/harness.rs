//! Members as processes: started, killed, frozen and stopped by a test, and ended with it however it ends.

use kontiki_core::status::RoleKind;
use kontiki_core::types::{NodeId, Term};
use kontiki_net_tokio::client::{Again, Client, ClientOptions};
use kontiki_net_tokio::protocol::{NodePhase, NodeStatus, Request, Response};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long anything may take that a test waits for. Generous: the machine may be busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether it has come.
const LOOK: Duration = Duration::from_millis(20);

/// Elections that a busy machine does not begin by itself.
pub(crate) const CALM: &str = "[raft]\nelection_timeout_min = \"400ms\"\nelection_timeout_max = \"800ms\"\nheartbeat_interval = \"80ms\"\n";

/// Runs a test by itself, with a group that ends with it, and that says where to look where it fails.
pub(crate) fn run(
    group: impl FnOnce() -> Result<Group>,
    test: impl for<'a> AsyncFnOnce(&'a mut Group) -> Result,
) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = group().expect("a group can be prepared");
    runtime.block_on(async {
        if let Err(error) = test(&mut group).await {
            panic!("{error}");
        }
    });
}

/// Says that a test cannot be done here. It goes around what captures a test's output: a skipped test shall
/// not be taken for done.
pub(crate) fn skip(why: &str) -> Result {
    use std::io::Write as _;
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    writeln!(std::io::stderr(), "SKIPPED {name}: {why}")?;
    Ok(())
}

/// Waits until there is something, and says what was waited for where there never is.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    within(PATIENCE, what, look).await
}

/// The same with another patience.
pub(crate) async fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > end {
            return Err(format!("after {patience:?} still waiting until {what}").into());
        }
        sleep(LOOK).await;
    }
}

/// The members of a group, each a process, and where their files are.
pub(crate) struct Group {
    root: Option<TempDir>,
    members: BTreeMap<NodeId, Member>,
}

/// How to start a member, and its process where it runs.
pub(crate) struct Member {
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
    pub(crate) data: PathBuf,
    /// How often it was started.
    pub(crate) lives: u32,
    log: PathBuf,
    /// Before the program's own name.
    wrapper: Vec<String>,
    arguments: Vec<String>,
    child: Option<Child>,
    frozen: bool,
}

impl Group {
    /// As many members as said, with this configuration; none runs yet.
    pub(crate) fn new(count: u64, config: &str) -> Result<Self> {
        let at: Vec<_> = (1..=count).map(free_address).collect::<Result<_>>()?;
        Self::at(&at, config, |_| Vec::new())
    }

    /// The same at these addresses, each member behind a command that runs it, which may be none.
    pub(crate) fn at(
        at: &[SocketAddr],
        config: &str,
        wrapper: impl Fn(NodeId) -> Vec<String>,
    ) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("kontiki-real-").tempdir()?;
        fs::write(root.path().join("config.toml"), config)?;
        let peers: Vec<_> = (1..).zip(at).map(|(id, address)| format!("{id}={address}")).collect();
        let how = ["--peers".to_owned(), peers.join(",")];
        let mut group = Self { root: Some(root), members: BTreeMap::new() };
        for (number, address) in (1..).zip(at) {
            group.prepare(number, *address, wrapper(id(number)), &how);
        }
        Ok(group)
    }

    /// One more member, which is to join the group by the address of another.
    pub(crate) fn newcomer(&mut self, number: u64, seed: NodeId) -> Result<NodeId> {
        let how = ["--join".to_owned(), self.member(seed).address.to_string()];
        self.prepare(number, free_address(number)?, Vec::new(), &how);
        Ok(id(number))
    }

    fn prepare(&mut self, number: u64, address: SocketAddr, wrapper: Vec<String>, how: &[String]) {
        let (id, root) = (id(number), self.root().to_owned());
        let data = root.join(number.to_string());
        let mut arguments: Vec<String> =
            ["serve", "--allow-insecure", "--exit-with-stdin", "--log", "info"].map(str::to_owned).into();
        for (name, value) in [
            ("--id", number.to_string()),
            ("--data", data.display().to_string()),
            ("--listen", address.to_string()),
            ("--config", root.join("config.toml").display().to_string()),
        ] {
            arguments.extend([name.to_owned(), value]);
        }
        arguments.extend_from_slice(how);
        let log = root.join(format!("{number}.log"));
        let member =
            Member { id, address, data, lives: 0, log, wrapper, arguments, child: None, frozen: false };
        self.members.insert(id, member);
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.as_ref().expect("it is there until the group is dropped").path()
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    pub(crate) fn member(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("a member of this group")
    }

    pub(crate) fn start_all(&mut self) -> Result {
        self.members.values_mut().try_for_each(Member::start)
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.members.values().map(|member| member.address.to_string()).collect()
    }

    /// A client of the group.
    pub(crate) fn client(&self, options: ClientOptions) -> Client {
        Client::new(self.addresses(), None, options).expect("there are members")
    }

    /// A client of one member alone.
    pub(crate) fn at_member(&self, id: NodeId) -> Client {
        let deadline = Duration::from_secs(10);
        self.client(ClientOptions { deadline, ..ClientOptions::default() })
            .at(self.members[&id].address.to_string())
    }

    /// How a member is; nothing where it does not say at once.
    pub(crate) async fn status(&self, id: NodeId) -> Option<NodeStatus> {
        if !self.members[&id].is_running() {
            return None;
        }
        let asked = self.at_member(id).with_deadline(Duration::from_secs(1));
        match asked.ask(Request::Status, Again::Unsafe).await {
            Ok(Response::Status(status)) => Some(status),
            _ => None,
        }
    }

    /// How those are that run.
    pub(crate) async fn statuses(&self) -> Vec<NodeStatus> {
        let mut all = Vec::new();
        for &id in self.members.keys() {
            all.extend(self.status(id).await);
        }
        all
    }

    /// Waits until there is something, and not for ever where a member has ended by itself.
    async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
        until(what, async || match self.members.values().find(|member| member.has_ended()) {
            Some(member) => Some(Err(format!("member {} has ended by itself", member.id).into())),
            None => look().await.map(Ok),
        })
        .await?
    }

    /// The latest term of any member.
    pub(crate) async fn latest_term(&self) -> Result<Term> {
        self.until("a member says its term", async || {
            self.statuses().await.iter().map(|status| status.term).max()
        })
        .await
    }

    /// Who leads in the latest term; once there is one, and a majority follows it.
    pub(crate) async fn leader(&self) -> Result<NodeId> {
        let majority = self.members.values().filter(|member| member.lives > 0).count() / 2 + 1;
        self.until("there is a leader that a majority follows", async || {
            let all = self.statuses().await;
            let leader =
                all.iter().filter(|status| status.role == RoleKind::Leader).max_by_key(|it| it.term)?;
            let follow =
                all.iter().filter(|it| (it.term, it.leader) == (leader.term, Some(leader.member.id)));
            (follow.count() >= majority).then_some(leader.member.id)
        })
        .await
    }

    /// Waits until a member has applied what is committed now.
    pub(crate) async fn caught_up(&self, id: NodeId) -> Result {
        let leader = self.leader().await?;
        let committed =
            self.until("the leader says how far it is", async || self.status(leader).await).await?.committed;
        self.until("the one that was away has caught up", async || {
            let status = self.status(id).await?;
            (status.phase == NodePhase::Running && status.applied >= committed).then_some(())
        })
        .await
    }

    /// Waits until all run, have one leader, and have applied one log to its end; where that is.
    pub(crate) async fn settled(&self) -> Result<NodeStatus> {
        self.until("all members have applied the same log", async || {
            let all = self.statuses().await;
            let one = all.iter().find(|status| status.role == RoleKind::Leader)?;
            let alike = |it: &NodeStatus| {
                let same = (it.term, it.leader, it.last) == (one.term, Some(one.member.id), one.last);
                same && it.phase == NodePhase::Running
                    && it.committed == it.last.index
                    && it.applied == it.committed
            };
            (all.len() == self.members.len() && all.iter().all(alike)).then(|| one.clone())
        })
        .await
    }
}

/// Where a test has failed, says what the members said last, where everything is, and how to run the test
/// again.
impl Drop for Group {
    fn drop(&mut self) {
        self.members.values_mut().for_each(|member| drop(member.end(Signal::KILL)));
        let failed = std::thread::panicking();
        if failed {
            for member in self.members.values() {
                let text = fs::read_to_string(&member.log).unwrap_or_default();
                let lines: Vec<_> = text.lines().collect();
                let last = &lines[lines.len().saturating_sub(15)..];
                eprintln!("member {}, its last words:\n  {}", member.id, last.join("\n  "));
            }
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            eprintln!("again: cargo test -p kontiki-tests --test real {name} -- --exact --nocapture");
        }
        if let Some(root) = self.root.take() {
            if std::env::var_os("KEEP").is_some() {
                eprintln!("the members' files are kept in {}", root.keep().display());
            } else if failed {
                eprintln!("their files were in {}: KEEP=1 keeps them", root.path().display());
            }
        }
    }
}

impl Member {
    /// Starts it, where it does not run.
    pub(crate) fn start(&mut self) -> Result {
        if self.child.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut words = self.wrapper.iter().map(String::as_str).chain([program()?]);
        let mut command = Command::new(words.next().ok_or("a program")?);
        command.args(words).args(&self.arguments).stdout(log.try_clone()?).stderr(log);
        // The process ends when its input does, which is when this one is gone: even where that was killed
        // itself.
        command.stdin(Stdio::piped()).process_group(0);
        self.child = Some(command.spawn()?);
        self.lives += 1;
        Ok(())
    }

    /// Whether its process has ended and was not waited for yet.
    fn has_ended(&self) -> bool {
        let Some(child) = &self.child else { return false };
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        // Behind the program's name, which is in brackets.
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
    }

    fn is_running(&self) -> bool {
        self.child.is_some() && !self.frozen
    }

    /// One more argument for the lives to come.
    pub(crate) fn with(&mut self, argument: impl Into<String>) {
        self.arguments.push(argument.into());
    }

    fn signal(&self, signal: Signal) -> Result {
        let child = self.child.as_ref().ok_or("it does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).ok_or("a process has a number")?;
        Ok(kill_process(pid, signal)?)
    }

    fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        self.frozen = false;
        Ok(self.child.take().ok_or("it does not run")?.wait()?)
    }

    /// SIGKILL: it sends nothing and writes nothing any more.
    pub(crate) fn kill(&mut self) -> Result {
        self.end(Signal::KILL).map(drop)
    }

    /// SIGTERM: it goes in its own time.
    pub(crate) async fn stop(&mut self) -> Result {
        self.signal(Signal::TERM)?;
        let id = self.id;
        let child = self.child.as_mut().ok_or("it does not run")?;
        let status = until(&format!("member {id} stops"), async || child.try_wait().ok().flatten()).await?;
        self.child = None;
        if status.success() {
            Ok(())
        } else {
            Err(format!("member {id} was told to stop, and: {status}").into())
        }
    }

    /// SIGSTOP: it does nothing, and its connections stand.
    pub(crate) fn freeze(&mut self) -> Result {
        self.frozen = true;
        self.signal(Signal::STOP)
    }

    pub(crate) fn thaw(&mut self) -> Result {
        self.frozen = false;
        self.signal(Signal::CONT)
    }

    /// The most memory that its present life had in use at once, in bytes.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        let child = self.child.as_ref().ok_or("it does not run")?;
        let text = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("VmHWM")?;
        Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
    }
}

pub(crate) fn id(number: u64) -> NodeId {
    NodeId::new(number).expect("members count from one")
}

/// A port that is free now, at an address of this process and this member alone. A process that dials a
/// port without a listener takes a port of 127.0.0.1 itself: so it cannot take that of a member that is down.
pub(crate) fn free_address(member: u64) -> Result<SocketAddr> {
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(127, high, low, u8::try_from(member)?));
    Ok(TcpListener::bind((ip, 0))?.local_addr()?)
}

/// Where the program `kontiki` is: beside this one, built where it is missing or older than its sources.
pub(crate) fn program() -> Result<&'static str> {
    static PROGRAM: OnceLock<std::result::Result<String, String>> = OnceLock::new();
    let found = PROGRAM.get_or_init(|| find_program().map_err(|error| error.to_string()));
    found.as_ref().map(String::as_str).map_err(|error| error.as_str().into())
}

fn find_program() -> Result<String> {
    let own = std::env::current_exe()?;
    let profile = own.ancestors().skip(1).find(|path| !path.ends_with("deps")).ok_or("a directory")?;
    let path = profile.join("kontiki");
    let built = fs::metadata(&path).and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("the tests are in a workspace")?;
    if built < newest(&workspace.join("core/src"))?.max(newest(&workspace.join("net-tokio/src"))?) {
        let target = profile.parent().ok_or("a directory")?;
        let name = profile.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
        let profile = if name == "debug" { "dev" } else { name };
        let arguments = ["build", "-p", "kontiki-net-tokio", "--bin", "kontiki", "--profile", profile];
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(workspace).args(arguments).env("CARGO_TARGET_DIR", target);
        if !build.status().is_ok_and(|status| status.success()) {
            return Err(format!("there is no {}: cargo {}", path.display(), arguments.join(" ")).into());
        }
    }
    Ok(path.to_str().ok_or("a path in Unicode")?.to_owned())
}

/// When anything in a directory was last changed.
fn newest(directory: &Path) -> Result<SystemTime> {
    let mut latest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let changed = if entry.file_type()?.is_dir() {
            newest(&entry.path())?
        } else {
            entry.metadata()?.modified()?
        };
        latest = latest.max(changed);
    }
    Ok(latest)
}
