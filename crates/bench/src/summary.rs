//! Tables of medians and ratios, from the lines of many runs.

use std::{collections::BTreeMap, io::BufRead};

use anyhow::Context;
use serde_json::Value;

/// What Go's clientv3 came to on a like machine (two cores, etcd beside it, data on tmpfs): it is
/// not measured here. By work and `c`: operations a second.
const GO: [(&str, u64, f64); 11] = [
    ("handover", 2, 81.0),
    ("handover", 10, 100.0),
    ("handover", 100, 391.0),
    // Every hand-over waits for the server's next look at its unsynced watches, busy or not.
    ("handover-busy", 2, 81.0),
    ("handover-busy", 10, 100.0),
    ("handover-busy", 100, 391.0),
    ("handover-worn", 10, 100.0),
    ("handover-processes", 2, 37.0),
    ("handover-processes", 10, 96.0),
    ("increments", 4, 699.0),
    ("increments", 16, 362.0),
];
/// What the others are compared with, where it is there.
const BASES: [&str; 2] = ["etcd-client", "etcd"];

/// What may be in a line, and over which column it comes.
const COLUMNS: [(&str, &str); 19] = [
    ("ops_s", "ops/s"),
    ("p50_us", "p50 us"),
    ("p99_us", "p99 us"),
    ("cpu_us_op", "CPU us/op"),
    ("rss_kb", "RSS KiB"),
    ("n", "n"),
    ("rpcs_op", "RPCs/op"),
    ("server_us_op", "server us/op"),
    ("server_busy", "server busy"),
    ("server_mib", "server MiB"),
    ("keys_mib", "of keys"),
    ("watches_mib", "of watches"),
    ("watch_msgs_op", "watch msgs/op"),
    ("wakes_op", "wakes/op"),
    ("writes_s", "others' puts/s"),
    ("kib_each", "KiB each"),
    ("streams", "streams"),
    ("renewals_each", "renewals each"),
    ("lost", "lost"),
];

/// One peer's runs of one work with one `c`.
#[derive(Default)]
struct Runs {
    peer: String,
    tasks: u64,
    seen: BTreeMap<String, Vec<f64>>,
}

impl Runs {
    fn median(&self, name: &str) -> Option<f64> {
        let mut seen = self.seen.get(name)?.clone();
        seen.sort_by(f64::total_cmp);
        let upper = *seen.get(seen.len() / 2)?;
        let lower = *seen.get((seen.len() - 1) / 2)?;
        Some(f64::midpoint(lower, upper))
    }

    fn rounds(&self) -> usize {
        self.seen.values().map(Vec::len).max().unwrap_or(0)
    }
}

/// The runs of one work, in the order of their first lines.
struct Work {
    name: String,
    runs: Vec<Runs>,
}

pub fn run(lines: impl BufRead) -> anyhow::Result<()> {
    let mut works: Vec<Work> = Vec::new();
    for line in lines.lines() {
        let line = line?;
        if line.starts_with('{') {
            note(&mut works, &line).with_context(|| format!("not a run's line: {line}"))?;
        }
    }
    for work in &mut works {
        work.runs.sort_by_key(|runs| runs.tasks);
        work.print();
    }
    if works.iter().any(|work| GO.iter().any(|go| go.0 == work.name)) {
        println!(
            "x Go: beside the recipe of Go's clientv3 as it was measured on a like machine, not in \
             this run:\n81 / 100 / 391 hand-overs a second with 2 / 10 / 100 tasks, 37 / 96 with 2 \
             / 10 processes;\n699 / 362 increments a second with 4 / 16 tasks."
        );
    }
    Ok(())
}

fn note(works: &mut Vec<Work>, line: &str) -> anyhow::Result<()> {
    let line: BTreeMap<String, Value> = serde_json::from_str(line)?;
    let text = |name: &str| {
        let value = line.get(name).and_then(Value::as_str);
        value.map(str::to_owned).with_context(|| format!("no {name}"))
    };
    let (name, peer) = (text("w")?, text("peer")?);
    let tasks = line.get("c").and_then(Value::as_u64).context("no c")?;
    let place = works.iter().position(|work| work.name == name).unwrap_or_else(|| {
        works.push(Work { name, runs: Vec::new() });
        works.len() - 1
    });
    let runs = &mut works[place].runs;
    let place = runs.iter().position(|runs| runs.peer == peer && runs.tasks == tasks);
    let place = place.unwrap_or_else(|| {
        runs.push(Runs { peer, tasks, ..Runs::default() });
        runs.len() - 1
    });
    for (name, value) in line {
        if let Some(value) = value.as_f64() {
            runs[place].seen.entry(name).or_default().push(value);
        }
    }
    Ok(())
}

impl Work {
    fn print(&self) {
        let columns = COLUMNS
            .iter()
            .filter(|(name, _)| self.runs.iter().any(|runs| runs.median(name).is_some()));
        let columns: Vec<_> = columns.collect();
        let go = |runs: &Runs| {
            let found = GO.iter().find(|go| go.0 == self.name && go.1 == runs.tasks);
            found.map(|go| go.2)
        };
        let has_go = self.runs.iter().any(|runs| go(runs).is_some());
        let base = BASES.into_iter().find(|base| self.runs.iter().any(|runs| runs.peer == *base));
        // Where servers are compared, it is their time that counts.
        let cpu = match base {
            Some("etcd") => "server_us_op",
            _ => "cpu_us_op",
        };

        let mut table = vec![vec!["peer".to_owned(), "c".to_owned(), "runs".to_owned()]];
        table[0].extend(columns.iter().map(|(_, title)| (*title).to_owned()));
        if base.is_some() {
            table[0].extend(["ops x".to_owned(), "CPU x".to_owned()]);
        }
        if has_go {
            table[0].push("x Go".to_owned());
        }
        for runs in &self.runs {
            let mut row =
                vec![runs.peer.clone(), runs.tasks.to_string(), runs.rounds().to_string()];
            row.extend(columns.iter().map(|(name, _)| figure(runs.median(name))));
            if let Some(base) = base {
                let of_base = |name| self.same(runs, base)?.median(name);
                row.push(ratio(runs.median("ops_s"), of_base("ops_s")));
                row.push(ratio(runs.median(cpu), of_base(cpu)));
            }
            if has_go {
                row.push(ratio(runs.median("ops_s"), go(runs)));
            }
            table.push(row);
        }
        let compared = base.map(|base| format!("; x: to {base}")).unwrap_or_default();
        println!("== {}{compared}", self.name);
        print_aligned(&table);
        println!();
    }

    /// The runs of a peer with as many tasks.
    fn same(&self, runs: &Runs, peer: &str) -> Option<&Runs> {
        self.runs.iter().find(|other| other.peer == peer && other.tasks == runs.tasks)
    }
}

fn figure(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 1000.0 || value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn ratio(value: Option<f64>, base: Option<f64>) -> String {
    match (value, base) {
        (Some(value), Some(base)) if base > 0.0 => format!("{:.2}", value / base),
        _ => "-".to_owned(),
    }
}

fn print_aligned(table: &[Vec<String>]) {
    let widths: Vec<_> = (0..table[0].len())
        .map(|column| table.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    for row in table {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        println!("{line}");
    }
}
