//! `tenure get`, `put`, `del` and `watch`: keys, with the output of etcdctl.

use std::{
    ffi::{OsStr, OsString},
    io::{self, BufWriter, Read, StdoutLock, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use clap::Args;
use futures::TryStreamExt;
use serde_json::{Map, Value};
use tenure::{EventKind, KeyRange, KeyValue, LeaseId, Revision};

use crate::{
    bytes_text::insert,
    connect::Connection,
    exit::{self, Failure},
};

/// Read keys: a line with the key and one with the value, for each
#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    keys: Keys,

    /// Only the keys
    #[arg(long)]
    keys_only: bool,

    /// So many keys at most
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    limit: u32,

    /// As they were at this revision
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rev: i64,

    /// One JSON object for each key, a line each
    #[arg(long)]
    json: bool,
}

/// Write a key
#[derive(Args)]
pub(crate) struct Put {
    /// The key
    key: OsString,

    /// The value; `-` reads it from stdin
    value: OsString,

    /// Attach the key to this lease, in hexadecimal
    #[arg(long, value_parser = lease)]
    lease: Option<LeaseId>,
}

/// Delete keys, and print how many
#[derive(Args)]
pub(crate) struct Del {
    #[command(flatten)]
    keys: Keys,
}

/// Print changes as they happen: a line each with PUT or DELETE, key and value
#[derive(Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    keys: Keys,

    /// Begin with the changes of this revision
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    rev: i64,

    /// One JSON object for each change, a line each
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Keys {
    /// The key
    key: OsString,

    /// All keys that begin with it
    #[arg(long)]
    prefix: bool,
}

impl Keys {
    fn range(&self) -> KeyRange {
        let key = self.key.as_bytes();
        if self.prefix { KeyRange::prefix(key) } else { KeyRange::key(key) }
    }
}

impl Get {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let client = connection.connect().await?;
        let get = client.get(self.keys.range()).limit(self.limit).revision(Revision(self.rev));
        let found = if self.keys_only { get.keys_only().await? } else { get.await? };
        let mut output = Output::new();
        let written = found.kvs.iter().try_for_each(|kv| match (self.json, self.keys_only) {
            (true, _) => output.object(object(kv, !self.keys_only)),
            (false, true) => output.line(&kv.key),
            (false, false) => output.line(&kv.key).and_then(|()| output.line(&kv.value)),
        });
        output.end_with(written)
    }
}

impl Put {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let value = match self.value.as_os_str() == OsStr::new("-") {
            true => stdin()?,
            false => self.value.into_vec(),
        };
        let client = connection.connect().await?;
        let put = client.put(self.key.into_vec(), value);
        match self.lease {
            Some(lease) => put.lease(lease).await?,
            None => put.await?,
        };
        let mut output = Output::new();
        let written = output.line(b"OK");
        output.end_with(written)
    }
}

impl Del {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let client = connection.connect().await?;
        let deleted = client.delete(self.keys.range()).await?.deleted;
        let mut output = Output::new();
        let written = output.line(deleted.to_string().as_bytes());
        output.end_with(written)
    }
}

impl Watch {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let client = connection.connect().await?;
        let watch = client.watch(self.keys.range()).start_revision(Revision(self.rev));
        let mut changes = watch.await?;
        let mut output = Output::new();
        while let Some(change) = changes.try_next().await? {
            let written = change
                .events()
                .iter()
                .try_for_each(|event| output.event(event.kind, &event.kv, self.json))
                .and_then(|()| output.stdout.flush());
            if written.is_err() {
                return output.end_with(written);
            }
        }
        Ok(0)
    }
}

fn lease(hex: &str) -> Result<LeaseId, &'static str> {
    let id = i64::from_str_radix(hex, 16).ok().and_then(LeaseId::new);
    id.ok_or("a lease is a hexadecimal number other than 0")
}

fn stdin() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    match io::stdin().lock().read_to_end(&mut value) {
        Ok(_) => Ok(value),
        Err(error) => Err(Failure::new(exit::OTHER, format!("cannot read stdin: {error}"))),
    }
}

fn object(kv: &KeyValue, with_value: bool) -> Map<String, Value> {
    let mut object = Map::new();
    insert(&mut object, "key", &kv.key);
    if with_value {
        insert(&mut object, "value", &kv.value);
    }
    object.insert("create_revision".into(), kv.create_revision.0.into());
    object.insert("mod_revision".into(), kv.mod_revision.0.into());
    object.insert("version".into(), kv.version.into());
    object.insert("lease".into(), kv.lease.map(|lease| lease.to_string()).into());
    object
}

/// The standard output, as long as somebody reads it.
pub(crate) struct Output {
    stdout: BufWriter<StdoutLock<'static>>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { stdout: BufWriter::new(io::stdout().lock()) }
    }

    /// The bytes as they are, and the end of the line.
    pub(crate) fn line(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write_all(bytes)?;
        self.stdout.write_all(b"\n")
    }

    fn object(&mut self, object: Map<String, Value>) -> io::Result<()> {
        self.line(Value::from(object).to_string().as_bytes())
    }

    fn event(&mut self, kind: EventKind, kv: &KeyValue, json: bool) -> io::Result<()> {
        let what = match kind {
            EventKind::Put => "PUT",
            EventKind::Delete => "DELETE",
        };
        if !json {
            self.line(what.as_bytes())?;
            self.line(&kv.key)?;
            return self.line(&kv.value);
        }
        let mut object = match kind {
            EventKind::Put => object(kv, true),
            EventKind::Delete => {
                let mut gone = Map::new();
                insert(&mut gone, "key", &kv.key);
                gone.insert("mod_revision".into(), kv.mod_revision.0.into());
                gone
            }
        };
        object.insert("type".into(), what.into());
        self.object(object)
    }

    /// Done. A reader who has seen enough is no error.
    pub(crate) fn end_with(&mut self, written: io::Result<()>) -> Result<u8, Failure> {
        match written.and_then(|()| self.stdout.flush()) {
            Ok(()) => Ok(0),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            Err(error) => Err(Failure::new(exit::OTHER, format!("cannot write: {error}"))),
        }
    }
}
