//! `tenure inspect`: who holds something, and who waits for it.

use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use tenure::{Client, Contender, Observer, PermitClaim, RwLock, Semaphore};

use crate::{
    bytes_text::{insert, shown},
    connect::Connection,
    exit::Failure,
    kv::Output,
    target::Target,
};

/// Show who holds something, and who waits for it
#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    target: Target,

    /// What it is
    #[arg(long, value_enum, default_value_t = Kind::Lock)]
    kind: Kind,

    /// One JSON object. Of a lock: `holder` (null if nobody holds it) and `waiters`, in their
    /// order; of an election `leader` and `candidates`; of what several can hold `holders` and
    /// `waiters`
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Lock,
    Election,
    Rwlock,
    Semaphore,
}

/// One line of what there is.
struct Line {
    who: Contender,
    holds: bool,
    /// How it is held: `read`, `write`, or the number of permits.
    how: Option<Value>,
}

impl Inspect {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let client = connection.connect().await?;
        let lines = self.lines(&client).await?;
        let text = if self.json { self.as_json(lines) } else { self.as_text(&lines) };
        let mut output = Output::new();
        let written = output.line(text.as_bytes());
        output.end_with(written)
    }

    async fn lines(&self, client: &Client) -> Result<Vec<Line>, Failure> {
        let first_holds = |(place, who)| Line { who, holds: place == 0, how: None };
        let target = &self.target;
        Ok(match self.kind {
            Kind::Lock => {
                let all = target.contenders(client).await?;
                all.into_iter().enumerate().map(first_holds).collect()
            }
            Kind::Election => {
                let observer = match target.raw_prefix() {
                    Some(prefix) => Observer::at(client, prefix),
                    None => Observer::new(client, target.name()),
                };
                let all = observer.candidates().await?;
                all.into_iter().enumerate().map(first_holds).collect()
            }
            Kind::Rwlock => {
                let all = match target.raw_prefix() {
                    Some(prefix) => RwLock::inspect_at(client, prefix).await?,
                    None => RwLock::inspect(client, target.name()).await?,
                };
                readers_and_writers(all)
            }
            Kind::Semaphore => {
                if target.raw_prefix().is_some() {
                    let text = "--prefix: semaphores have names only, nobody else has any";
                    return Err(Failure::usage(text));
                }
                let all = Semaphore::inspect(client, target.name()).await?;
                let line = |claim: PermitClaim| {
                    let how = Some(claim.permits.into());
                    Line { who: claim.contender, holds: claim.is_held, how }
                };
                all.into_iter().map(line).collect()
            }
        })
    }

    fn as_json(&self, lines: Vec<Line>) -> String {
        let mut object = Map::new();
        match self.target.raw_prefix() {
            Some(prefix) => insert(&mut object, "prefix", prefix),
            None => insert(&mut object, "name", self.target.name().as_bytes()),
        }
        let (holders, waiters): (Vec<Line>, Vec<Line>) =
            lines.into_iter().partition(|line| line.holds);
        let json = |lines: Vec<Line>| -> Vec<Value> {
            lines.iter().map(|line| self.line_as_json(line)).collect()
        };
        let (mut holders, waiters) = (json(holders), json(waiters));
        let (one, rest) = match self.kind {
            Kind::Lock => (Some("holder"), "waiters"),
            Kind::Election => (Some("leader"), "candidates"),
            Kind::Rwlock | Kind::Semaphore => (None, "waiters"),
        };
        match one {
            Some(one) => object.insert(one.into(), holders.pop().unwrap_or(Value::Null)),
            None => object.insert("holders".into(), holders.into()),
        };
        object.insert(rest.into(), waiters.into());
        Value::from(object).to_string()
    }

    fn line_as_json(&self, line: &Line) -> Value {
        let mut object = contender_as_json(&line.who);
        match (self.kind, &line.how) {
            (Kind::Election, _) => insert(&mut object, "value", &line.who.value),
            (Kind::Rwlock, Some(how)) => drop(object.insert("mode".into(), how.clone())),
            (Kind::Semaphore, Some(how)) => drop(object.insert("permits".into(), how.clone())),
            _ => {}
        }
        object.into()
    }

    fn as_text(&self, lines: &[Line]) -> String {
        if lines.is_empty() {
            let (verb, kind) = match self.kind {
                Kind::Lock | Kind::Rwlock => ("holds", "lock"),
                Kind::Election => ("stands in", "election"),
                Kind::Semaphore => ("holds", "semaphore"),
            };
            return format!("nobody {verb} the {kind} {}", self.target);
        }
        let now = SystemTime::now();
        let mut head = vec!["", "HOST", "PID", "NAME", "SINCE", "REVISION", "LEASE", "KEY"];
        if self.kind == Kind::Election {
            head.splice(1..5, ["VALUE"]);
        }
        let mut rows: Vec<Vec<String>> = vec![head.into_iter().map(String::from).collect()];
        let mut waiting = 0;
        for line in lines {
            waiting += u32::from(!line.holds);
            rows.push(self.row(line, waiting, now));
        }
        table(&rows)
    }

    fn row(&self, line: &Line, waiting: u32, now: SystemTime) -> Vec<String> {
        let Line { who, holds, how } = line;
        let verb = if self.kind == Kind::Election { "leads" } else { "holds" };
        let mut state = if *holds { verb.to_owned() } else { format!("waits {waiting}") };
        match how {
            Some(Value::String(mode)) => state += &format!(" ({mode})"),
            Some(permits) => state += &format!(" ({permits})"),
            None => {}
        }
        let mut row = vec![state];
        match self.kind {
            Kind::Election => row.push(shown(&who.value)),
            _ => row.extend(record(who, now)),
        }
        row.extend(place(who));
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

fn contender_as_json(contender: &Contender) -> Map<String, Value> {
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

/// Where it is in etcd.
fn place(contender: &Contender) -> [String; 3] {
    [
        contender.create_revision.to_string(),
        contender.lease.map_or_else(unknown, |lease| lease.to_string()),
        shown(&contender.key),
    ]
}

fn unknown() -> String {
    "-".to_owned()
}

/// Columns as wide as what is in them.
fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column).unwrap_or_default();
            format!("{cell:width$}")
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn moment(since: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since))
}

/// As `2026-11-22T10:20:30Z`; what no calendar knows is left as it is.
fn date(since: u64) -> String {
    // The calendar of `humantime` ends with the year 9999, and then it panics.
    const END: u64 = 253_402_300_800;
    match moment(since) {
        Some(moment) if since < END => humantime::format_rfc3339_seconds(moment).to_string(),
        _ => since.to_string(),
    }
}

/// The date, and how long ago that is by our own clock, if that makes sense.
fn since(since: u64, now: SystemTime) -> String {
    let ago = moment(since).and_then(|moment| now.duration_since(moment).ok());
    let ago = ago.map(|ago| Duration::from_secs(ago.as_secs()));
    let ago = ago.map_or_else(String::new, |ago| format!(" ({})", humantime::format_duration(ago)));
    format!("{}{ago}", date(since))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_any_date_is_shown() {
        let now = moment(1_800_000_090).unwrap();
        assert_eq!(since(1_800_000_000, now), "2027-01-15T08:00:00Z (1m 30s)");
        assert_eq!(since(1_800_000_100, now), "2027-01-15T08:01:40Z");
        assert_eq!(date(u64::MAX), u64::MAX.to_string());
        assert_eq!(date(253_402_300_800), "253402300800");
    }
}
