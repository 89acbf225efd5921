//! An embedded server and an etcd, and one etcdctl that says the same to both.

use std::{path::PathBuf, process::Stdio};

use futures::future::join;
use tenure_testkit::{EtcdBinary, Server, TestServer};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::{
    printed::Ids,
    support::{Running, SOON, code, program},
};

pub(crate) struct Sides {
    pub(crate) etcd: EtcdBinary,
    pub(crate) embedded: Side,
    pub(crate) real: Side,
}

/// One of them.
pub(crate) struct Side {
    etcdctl: PathBuf,
    pub(crate) server: TestServer,
    pub(crate) endpoint: String,
    ids: Ids,
    /// What `{lease}` on a command line is.
    pub(crate) lease: String,
}

/// What a command came to, without what two servers never have in common.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sides {
    pub(crate) async fn start(etcd: &EtcdBinary) -> Self {
        Self::with_flags(etcd, &[]).await
    }

    pub(crate) async fn with_flags(etcd: &EtcdBinary, flags: &[&str]) -> Self {
        let (embedded, real) = join(
            Side::start(etcd, Server::Embedded, flags),
            Side::start(etcd, Server::Etcd(etcd.clone()), flags),
        )
        .await;
        Self { etcd: etcd.clone(), embedded, real }
    }

    /// Whether flags and commands are there that came with 3.5.
    pub(crate) fn is_new(&self) -> bool {
        self.etcd.at_least(3, 5)
    }

    /// Runs the words on both, which must print the same, and succeed.
    pub(crate) async fn same(&mut self, words: &str) -> String {
        self.same_with(words, "").await
    }

    /// The same, with this on the standard input.
    pub(crate) async fn same_with(&mut self, words: &str, stdin: &str) -> String {
        let said = self.both(words, stdin).await;
        assert_eq!(said.code, 0, "{words}: {said:?}");
        said.stdout + &said.stderr
    }

    /// Runs the words on both, which must fail in the same way, and say this.
    pub(crate) async fn fails(&mut self, words: &str, says: &str) {
        self.fails_with(words, "", says).await;
    }

    /// The same, with this on the standard input.
    pub(crate) async fn fails_with(&mut self, words: &str, stdin: &str, says: &str) {
        let said = self.both(words, stdin).await;
        assert_ne!(said.code, 0, "{words}: {said:?}");
        assert!(said.stderr.contains(says), "{words}: {said:?}");
    }

    async fn both(&mut self, words: &str, stdin: &str) -> Said {
        let (embedded, real) =
            join(self.embedded.said(words, stdin), self.real.said(words, stdin)).await;
        assert_eq!(embedded, real, "{words}: embedded, and {}", self.etcd);
        embedded
    }

    /// Grants a lease on both, which is `{lease}` from now on.
    pub(crate) async fn grant(&mut self, ttl: u32) {
        join(self.embedded.grant(ttl), self.real.grant(ttl)).await;
    }

    /// Starts the words on both.
    pub(crate) fn run(&self, words: &str) -> Both {
        Both { embedded: self.embedded.run(words), real: self.real.run(words) }
    }

    /// The next lines of both, which must be the same.
    pub(crate) async fn lines(&mut self, both: &mut Both, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for _ in 0..count {
            let (embedded, real) = join(both.embedded.line(), both.real.line()).await;
            let embedded = self.embedded.plain(&embedded);
            assert_eq!(embedded, self.real.plain(&real), "after {lines:?}");
            lines.push(embedded);
        }
        lines
    }
}

impl Side {
    async fn start(etcd: &EtcdBinary, server: Server, flags: &[&str]) -> Self {
        let etcdctl = etcd.etcdctl().expect("there is an etcdctl");
        let builder = TestServer::builder(&server).fast(true).flag("--bcrypt-cost=4");
        let builder = flags.iter().fold(builder, |builder, flag| builder.flag(*flag));
        let server = builder.start().await.unwrap();
        let endpoint = server.endpoint();
        Self { etcdctl, server, endpoint, ids: Ids::default(), lease: String::new() }
    }

    /// The command of these words, with blanks between; `''` is an empty one.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = program(&self.etcdctl);
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.endpoint));
        let words = words.split(' ').map(|word| if word == "''" { "" } else { word });
        command.args(words.map(|word| word.replace("{lease}", &self.lease)));
        command
    }

    /// Runs the words to their end: code, and the bytes on stdout and stderr.
    pub(crate) async fn output(&self, words: &str, stdin: &str) -> (i32, Vec<u8>, Vec<u8>) {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let write = async move {
            // It may know what to do before it has read all.
            let _ = input.write_all(stdin.as_bytes()).await;
        };
        let (output, ()) = timeout(SOON, join(child.wait_with_output(), write)).await.expect(words);
        let output = output.unwrap();
        (code(output.status), output.stdout, output.stderr)
    }

    pub(crate) async fn said(&mut self, words: &str, stdin: &str) -> Said {
        let (code, stdout, stderr) = self.output(words, stdin).await;
        let mut plain = |bytes| self.plain(&String::from_utf8(bytes).unwrap());
        Said { code, stdout: plain(stdout), stderr: plain(stderr) }
    }

    /// What it prints if it succeeds, as it is.
    pub(crate) async fn raw(&self, words: &str) -> String {
        let (code, stdout, stderr) = self.output(words, "").await;
        assert_eq!(code, 0, "{words}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    pub(crate) fn run(&self, words: &str) -> Running {
        let mut command = self.command(words);
        command.stdin(Stdio::piped());
        Running::start(command)
    }

    fn plain(&mut self, text: &str) -> String {
        self.ids.plain(text, &self.endpoint)
    }

    async fn grant(&mut self, ttl: u32) {
        let granted = self.raw(&format!("lease grant {ttl}")).await;
        self.lease = granted.split(' ').nth(1).expect("lease ID granted ...").to_owned();
    }
}

/// The same command, running on both.
pub(crate) struct Both {
    pub(crate) embedded: Running,
    pub(crate) real: Running,
}

impl Both {
    /// Gives both these lines on their standard input.
    pub(crate) async fn tell(&mut self, lines: &str) {
        for side in [&mut self.embedded, &mut self.real] {
            let stdin = side.stdin.as_mut().unwrap();
            stdin.write_all(lines.as_bytes()).await.unwrap();
        }
    }

    /// Sends both a signal, and returns how they ended: exit code and stderr.
    pub(crate) async fn end(self, signal: &str) -> (i32, String) {
        for side in [&self.embedded, &self.real] {
            side.signal(signal);
        }
        let (embedded, real) = join(self.embedded.end(), self.real.end()).await;
        assert_eq!(embedded, real);
        embedded
    }
}
