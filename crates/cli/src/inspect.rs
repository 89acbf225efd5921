//! `tenure inspect`: who holds a lock, and who waits for it.

use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::{Map, Value, json};
use tenure::Contender;

use crate::{
    bytes_text::{insert, shown},
    connect::Connection,
    exit::Failure,
    kv::Output,
    target::Target,
};

/// Show who holds a lock, and who waits for it
#[derive(Args)]
pub(crate) struct Inspect {
    #[command(flatten)]
    target: Target,

    /// One JSON object: `holder` (null if nobody holds it) and `waiters`, in their order
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(crate) async fn run(self, connection: &Connection) -> Result<u8, Failure> {
        let client = connection.connect().await?;
        let contenders = self.target.contenders(&client).await?;
        let text = if self.json { self.as_json(&contenders) } else { self.as_text(&contenders) };
        let mut output = Output::new();
        let written = output.line(text.as_bytes());
        output.end_with(written)
    }

    fn as_json(&self, contenders: &[Contender]) -> String {
        let mut object = Map::new();
        match self.target.raw_prefix() {
            Some(prefix) => insert(&mut object, "prefix", prefix),
            None => insert(&mut object, "name", self.target.name().as_bytes()),
        }
        let mut all: Vec<Value> = contenders.iter().map(contender_as_json).collect();
        let waiters = all.split_off(all.len().min(1));
        object.insert("holder".into(), all.pop().unwrap_or(Value::Null));
        object.insert("waiters".into(), waiters.into());
        Value::from(object).to_string()
    }

    fn as_text(&self, contenders: &[Contender]) -> String {
        if contenders.is_empty() {
            return format!("nobody holds the lock {}", self.target);
        }
        let now = SystemTime::now();
        let head = ["", "HOST", "PID", "NAME", "SINCE", "REVISION", "LEASE", "KEY"];
        let mut rows = vec![head.map(String::from)];
        rows.extend(contenders.iter().enumerate().map(|(place, who)| row(place, who, now)));
        table(&rows)
    }
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

fn contender_as_json(contender: &Contender) -> Value {
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
    object.into()
}

fn row(place: usize, contender: &Contender, now: SystemTime) -> [String; 8] {
    let unknown = || "-".to_owned();
    let holder = contender.holder.as_ref();
    let known = |text: &str| match text {
        "" => unknown(),
        text => shown(text.as_bytes()),
    };
    [
        if place == 0 { "holds".to_owned() } else { format!("waits {place}") },
        holder.map_or_else(unknown, |holder| known(&holder.host)),
        holder.map_or_else(unknown, |holder| holder.pid.to_string()),
        holder.map_or_else(unknown, |holder| known(&holder.name)),
        holder.map_or_else(unknown, |holder| since(holder.since, now)),
        contender.create_revision.to_string(),
        contender.lease.map_or_else(unknown, |lease| lease.to_string()),
        shown(&contender.key),
    ]
}

/// Columns as wide as what is in them.
fn table(rows: &[[String; 8]]) -> String {
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
