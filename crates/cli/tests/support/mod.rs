//! What the tests of the command have in common.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use tenure::{Client, Contender, Mutex};
use tenure_testkit::{Cluster, EtcdBinary, eventually};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Long for anything that should happen; only a failure takes it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) async fn start(etcd: &EtcdBinary) -> (Cluster, Client) {
    let cluster = Cluster::builder(etcd).fast(true).start().await.unwrap();
    let client = Client::connect(cluster.endpoints()).await.unwrap();
    (cluster, client)
}

/// A program whose environment says nothing about etcd.
pub(crate) fn program(path: impl AsRef<Path>) -> Command {
    let mut command = Command::new(path.as_ref());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["TENURE_", "ETCDCTL_", "ETCD_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// `tenure`, with these words on its command line. It starts with no signal ignored, whatever
/// started the tests: what runs in a shell's background ignores some.
pub(crate) fn tenure<'a>(endpoint: &str, words: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = program("env");
    command.args(["--default-signal", env!("CARGO_BIN_EXE_tenure")]);
    command.env("TENURE_ENDPOINTS", endpoint).args(words);
    command
}

/// Runs it to its end: exit code, stdout and stderr.
pub(crate) async fn run(mut command: Command) -> (i32, String, String) {
    let output = timeout(SOON, command.output()).await.expect("it ends").unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (code(status), text(stdout), text(stderr))
}

pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("it died: {status}"))
}

/// `tenure serve`, on a free port.
pub(crate) struct Served {
    pub(crate) running: Running,
    pub(crate) endpoint: String,
    /// What it said before it served.
    pub(crate) said: Vec<String>,
}

impl Served {
    pub(crate) async fn start<'a>(flags: impl IntoIterator<Item = &'a str>) -> Self {
        let words = ["serve", "--listen-client-urls=http://127.0.0.1:0"].into_iter().chain(flags);
        let mut running = Running::start(tenure("", words));
        let mut said = Vec::new();
        loop {
            let line = running.complaint().await;
            if let Some(endpoint) = line.strip_prefix("tenure: serving etcd's API on ") {
                let (endpoint, nature) = endpoint.split_once(": ").unwrap();
                assert_eq!(nature, "single process, no replication, data in memory");
                return Self { running, endpoint: endpoint.to_owned(), said };
            }
            said.push(line);
        }
    }
}

/// A command that runs while the test does something to it.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: BufReader<ChildStderr>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdin, stdout, stderr }
    }

    /// The next line of its stdout.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(SOON, self.stdout.next_line()).await.expect("it prints a line");
        line.unwrap().expect("it prints a line")
    }

    /// The next line of its stderr.
    pub(crate) async fn complaint(&mut self) -> String {
        let mut line = String::new();
        timeout(SOON, self.stderr.read_line(&mut line)).await.expect("it says something").unwrap();
        assert!(line.ends_with('\n'), "it ended with {line:?}");
        line.trim_end().to_owned()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Sends it a signal, by its name.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its exit code and its stderr, once it has ended.
    pub(crate) async fn end(mut self) -> (i32, String) {
        let status = timeout(SOON, self.child.wait()).await.expect("it ends").unwrap();
        let mut stderr = String::new();
        // What it started may have it open for longer.
        let _ = timeout(Duration::from_secs(1), self.stderr.read_to_string(&mut stderr)).await;
        (code(status), stderr)
    }
}

pub(crate) fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let kill = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
    assert!(kill.success(), "kill -s {name} {pid}");
}

/// The processes of a group that are not dead.
pub(crate) fn alive(group: &str) -> BTreeSet<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (pid_and_name, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        (fields.nth(1)? == group && state != "Z").then(|| pid_and_name.to_owned())
    });
    processes.collect()
}

/// A process's state, as /proc tells it.
pub(crate) fn state(pid: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Waits until so many hold and wait.
pub(crate) async fn contenders(client: &Client, name: &str, count: usize) -> Vec<Contender> {
    eventually(SOON, &format!("{count} contenders for {name}"), async || {
        let all = Mutex::inspect(client, name).await.unwrap();
        (all.len() == count).then_some(all)
    })
    .await
}

/// Nothing of any lock is in etcd, as of now.
pub(crate) async fn nothing_is_left(client: &Client) {
    let left = client.get(tenure::KeyRange::all()).keys_only().await.unwrap();
    assert_eq!(left.kvs, [], "something is left");
}
