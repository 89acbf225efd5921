//! Who holds, and who waits: of locks, elections and semaphores.

use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tenure::{Client, Contender, DoubleBarrier, Observer, PermitClaim, RwLock, Semaphore};

use super::{
    dates::{date, since},
    table::table,
};
use crate::{
    bytes_text::{insert, shown},
    exit::Failure,
    target::Target,
};

/// What they contend for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prize {
    Lock,
    Election,
    Rwlock,
    Semaphore,
    DoubleBarrier,
}

/// All who are there, in their order.
pub(super) struct Contenders {
    prize: Prize,
    lines: Vec<Line>,
}

/// One of them.
struct Line {
    who: Contender,
    holds: bool,
    /// How it is held: `read`, `write`, or the number of permits.
    how: Option<Value>,
}

impl Contenders {
    pub(super) async fn read(
        prize: Prize,
        client: &Client,
        target: &Target,
    ) -> Result<Self, Failure> {
        let first_holds = |(place, who)| Line { who, holds: place == 0, how: None };
        let lines = match prize {
            Prize::Lock => {
                let all = target.contenders(client).await?;
                all.into_iter().enumerate().map(first_holds).collect()
            }
            Prize::Election => {
                let observer = match target.raw_prefix() {
                    Some(prefix) => Observer::at(client, prefix),
                    None => Observer::new(client, target.name()),
                };
                let all = observer.candidates().await?;
                all.into_iter().enumerate().map(first_holds).collect()
            }
            Prize::Rwlock => readers_and_writers(match target.raw_prefix() {
                Some(prefix) => RwLock::inspect_at(client, prefix).await?,
                None => RwLock::inspect(client, target.name()).await?,
            }),
            Prize::Semaphore => {
                let all = Semaphore::inspect(client, target.only_name("a semaphore")?).await?;
                let line = |claim: PermitClaim| {
                    let how = Some(claim.permits.into());
                    Line { who: claim.contender, holds: claim.is_held, how }
                };
                all.into_iter().map(line).collect()
            }
            Prize::DoubleBarrier => {
                let all = match target.raw_prefix() {
                    Some(key) => DoubleBarrier::inspect_at(client, key).await?,
                    None => DoubleBarrier::inspect(client, target.name()).await?,
                };
                let lines = all.into_iter();
                lines.map(|it| Line { who: it.contender, holds: it.is_in, how: None }).collect()
            }
        };
        Ok(Self { prize, lines })
    }

    pub(super) fn add_to(&self, object: &mut Map<String, Value>) {
        let json = |holds: bool| -> Vec<Value> {
            let lines = self.lines.iter().filter(|line| line.holds == holds);
            lines.map(|line| self.line_as_json(line)).collect()
        };
        let (mut holders, waiters) = (json(true), json(false));
        let (one, rest) = match self.prize {
            Prize::Lock => (Some("holder"), "waiters"),
            Prize::Election => (Some("leader"), "candidates"),
            Prize::Rwlock | Prize::Semaphore | Prize::DoubleBarrier => (None, "waiters"),
        };
        match one {
            Some(one) => object.insert(one.into(), holders.pop().unwrap_or(Value::Null)),
            None => object.insert("holders".into(), holders.into()),
        };
        object.insert(rest.into(), waiters.into());
    }

    fn line_as_json(&self, line: &Line) -> Value {
        let mut object = as_json(&line.who);
        match (self.prize, &line.how) {
            (Prize::Election, _) => insert(&mut object, "value", &line.who.value),
            (Prize::Rwlock, Some(how)) => drop(object.insert("mode".into(), how.clone())),
            (Prize::Semaphore, Some(how)) => drop(object.insert("permits".into(), how.clone())),
            _ => {}
        }
        object.into()
    }

    pub(super) fn as_text(&self, target: &Target) -> String {
        if self.lines.is_empty() {
            let (verb, kind) = match self.prize {
                Prize::Lock | Prize::Rwlock => ("holds", "lock"),
                Prize::Election => ("stands in", "election"),
                Prize::Semaphore => ("holds", "semaphore"),
                Prize::DoubleBarrier => ("is at", "double barrier"),
            };
            return format!("nobody {verb} the {kind} {target}");
        }
        let now = SystemTime::now();
        let mut head = vec!["", "HOST", "PID", "NAME", "SINCE", "REVISION", "LEASE", "KEY"];
        if self.prize == Prize::Election {
            head.splice(1..5, ["VALUE"]);
        }
        let mut rows: Vec<Vec<String>> = vec![head.into_iter().map(String::from).collect()];
        let mut waiting = 0;
        for line in &self.lines {
            waiting += u32::from(!line.holds);
            rows.push(self.row(line, waiting, now));
        }
        table(&rows)
    }

    fn row(&self, line: &Line, waiting: u32, now: SystemTime) -> Vec<String> {
        let Line { who, holds, how } = line;
        let verb = match self.prize {
            Prize::Election => "leads",
            Prize::DoubleBarrier => "is in",
            _ => "holds",
        };
        let mut state = if *holds { verb.to_owned() } else { format!("waits {waiting}") };
        match how {
            Some(Value::String(mode)) => state += &format!(" ({mode})"),
            Some(permits) => state += &format!(" ({permits})"),
            None => {}
        }
        let mut row = vec![state];
        match self.prize {
            Prize::Election => row.push(shown(&who.value)),
            _ => row.extend(record(who, now)),
        }
        row.extend([
            who.create_revision.to_string(),
            who.lease.map_or_else(unknown, |lease| lease.to_string()),
            shown(&who.key),
        ]);
        row
    }
}

/// A writer has a reader's key, too, which is left out here. It holds if nobody is older, and a
/// reader if no writer is.
fn readers_and_writers(all: Vec<Contender>) -> Vec<Line> {
    // The last segment but one says what a key is for.
    let writes =
        |who: &Contender| who.key.rsplit(|byte| *byte == b'/').nth(1) == Some(b"write".as_slice());
    let place = |who: &Contender| (who.lease, who.create_revision);
    let writers: Vec<_> = all.iter().filter(|who| writes(who)).map(place).collect();
    let one_each = all.into_iter().filter(|who| writes(who) || !writers.contains(&place(who)));
    let mut ahead = (0, 0);
    let lines = one_each.map(|who| {
        let (older, older_writers) = ahead;
        let (how, holds) =
            if writes(&who) { ("write", older == 0) } else { ("read", older_writers == 0) };
        ahead = (older + 1, older_writers + u32::from(writes(&who)));
        Line { who, holds, how: Some(how.into()) }
    });
    lines.collect()
}

/// Who it is, in half a line.
pub(crate) fn describe(contender: &Contender) -> String {
    match &contender.holder {
        Some(holder) => {
            let name = match holder.name.is_empty() {
                true => String::new(),
                false => format!(" ({})", shown(holder.name.as_bytes())),
            };
            let host = shown(holder.host.as_bytes());
            format!("{host} pid {}{name} since {}", holder.pid, date(holder.since))
        }
        None => format!("somebody with the key {}", shown(&contender.key)),
    }
}

pub(super) fn as_json(contender: &Contender) -> Map<String, Value> {
    let mut object = Map::new();
    insert(&mut object, "key", &contender.key);
    let lease = contender.lease.map(|lease| lease.to_string());
    object.insert("lease".into(), lease.into());
    object.insert("create_revision".into(), contender.create_revision.0.into());
    if let Some(holder) = &contender.holder {
        object.insert("host".into(), json!(holder.host));
        object.insert("pid".into(), json!(holder.pid));
        object.insert("name".into(), json!(holder.name));
        object.insert("since".into(), json!(date(holder.since)));
    }
    object
}

/// What somebody says of itself.
fn record(contender: &Contender, now: SystemTime) -> [String; 4] {
    let holder = contender.holder.as_ref();
    let known = |text: &str| match text {
        "" => unknown(),
        text => shown(text.as_bytes()),
    };
    [
        holder.map_or_else(unknown, |holder| known(&holder.host)),
        holder.map_or_else(unknown, |holder| holder.pid.to_string()),
        holder.map_or_else(unknown, |holder| known(&holder.name)),
        holder.map_or_else(unknown, |holder| since(holder.since, now)),
    ]
}

fn unknown() -> String {
    "-".to_owned()
}
