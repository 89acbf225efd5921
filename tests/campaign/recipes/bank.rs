//! Processes move money between accounts, each time in one transaction: none is made, none is
//! lost, and each transfer is done once or not at all, as its process was told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tenure::{ErrorKind, Isolation, Json, KeyRange, KeyValue, Result, Stm, View};
use tenure_testkit::Cluster;
use tokio::time::sleep;

use crate::{
    journal::{Moment, Name, Tell, failed, say_own},
    judges::{
        bank::{Bank, Transfer},
        chronicle::Chronicle,
        outcome::Outcome,
    },
    random::Random,
    recipe::{Evidence, Recipe, Verdict},
    worker::Worker,
};

const ACCOUNTS: &str = "campaign/accounts/";
/// Each transfer has a key of its own, put by the transaction that did it.
const TRANSFERS: &str = "campaign/transfers/";
const HOW_MANY: usize = 8;
/// What is on an account that nobody has changed.
const OPENING: i64 = 100;
/// How often one asks for a transfer of which it is not known whether it was done.
const ASKED_AGAIN: usize = 5;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It asks for a transfer, perhaps again.
    Asks { id: String, transfer: Transfer },
    /// It was told so.
    Did { id: String },
    /// There was not enough on the account. What was done before would have been seen.
    TooLittle { id: String },
    /// Nobody knows whether it was done.
    Unknown { id: String, text: String },
    /// It was surely not done this time.
    Failed { id: String, kind: String },
    /// What was on all accounts at once.
    Saw { balances: Vec<i64> },
}

impl Tell for Event {
    fn moment(&self) -> Option<Moment> {
        match self {
            Self::Asks { .. } => Some(Moment::Writing),
            Self::Did { .. } => Some(Moment::Granted),
            _ => None,
        }
    }
}

pub(crate) struct MovesMoney {
    name: Name,
    stm: Stm,
    random: Random,
    asked: u64,
}

impl MovesMoney {
    /// Any level at which reads are checked keeps the money together.
    fn stm(&mut self) -> Stm {
        self.stm.clone().isolation(match self.random.within(0..3) {
            0 => Isolation::SerializableSnapshot,
            1 => Isolation::Serializable,
            _ => Isolation::RepeatableReads,
        })
    }

    fn transfer(&mut self) -> Transfer {
        let from = self.random.within(0..HOW_MANY as u64) as usize;
        let step = self.random.within(1..HOW_MANY as u64) as usize;
        let amount = self.random.within(1..60) as i64;
        Transfer { from, to: (from + step) % HOW_MANY, amount }
    }

    /// Has it done, once, though it asks more than once.
    async fn order(&mut self) {
        self.asked += 1;
        let id = format!("{}.{}", self.name, self.asked);
        let (stm, transfer) = (self.stm(), self.transfer());
        for _ in 0..ASKED_AGAIN {
            say_own(Event::Asks { id: id.clone(), transfer });
            let done = stm.run(async |view| move_money(&view, &id, transfer).await).await;
            match done {
                Ok(true) => return say_own(Event::Did { id }),
                Ok(false) => return say_own(Event::TooLittle { id }),
                Err(error) if error.may_have_been_applied() => {
                    say_own(Event::Unknown { id: id.clone(), text: error.to_string() });
                }
                Err(error) => {
                    // Others were quicker at each try.
                    if error.kind() != ErrorKind::Conflict {
                        failed("transfer", &error);
                    }
                    say_own(Event::Failed { id: id.clone(), kind: format!("{:?}", error.kind()) });
                }
            }
            sleep(self.random.millis(1..50)).await;
        }
    }

    async fn look(&mut self) {
        let (stm, way) = (self.stm(), self.random.within(0..3));
        match stm.run(async |view| balances(&view, way).await).await {
            Ok(balances) => say_own(Event::Saw { balances }),
            Err(error) if error.kind() == ErrorKind::Conflict => {}
            Err(error) => failed("look", &error),
        }
    }
}

/// Whether it is done now; if not, there was too little.
async fn move_money(view: &View, id: &str, transfer: Transfer) -> Result<bool> {
    let mark = format!("{TRANSFERS}{id}");
    let Transfer { from, to, amount } = transfer;
    let read = view.get_many([mark.clone(), account(from), account(to)]).await?;
    if read[0].is_some() {
        return Ok(true);
    }
    let (source, target) = (balance(read[1].as_deref())?, balance(read[2].as_deref())?);
    if source < amount {
        return Ok(false);
    }
    view.put(account(from), Json(source - amount))?;
    view.put(account(to), Json(target + amount))?;
    view.put(mark, Json(transfer))?;
    Ok(true)
}

fn account(number: usize) -> String {
    format!("{ACCOUNTS}{number}")
}

fn balance(value: Option<&[u8]>) -> Result<i64> {
    value.map_or(Ok(OPENING), |value| Json::read(value).map(|Json(balance)| balance))
}

/// Reads all accounts: with one call, one after the other, or all that there are.
async fn balances(view: &View, way: u64) -> Result<Vec<i64>> {
    let accounts = (0..HOW_MANY).map(account);
    let values = match way {
        0 => view.get_many(accounts).await?,
        1 => {
            let mut values = Vec::new();
            for account in accounts {
                values.push(view.get(account).await?);
            }
            values
        }
        _ => {
            let mut found: BTreeMap<_, _> =
                view.range(KeyRange::prefix(ACCOUNTS)).await?.into_iter().collect();
            accounts.map(|account| found.remove(account.as_bytes())).collect()
        }
    };
    values.iter().map(|value| balance(value.as_deref())).collect()
}

impl Recipe for MovesMoney {
    const TEST: &'static str =
        "processes_move_money_in_transactions_while_members_and_processes_are_hurt";
    const WORKERS: usize = 10;

    fn new(Worker { name, client, random, .. }: Worker) -> Self {
        Self { name, stm: Stm::new(&client), random, asked: 0 }
    }

    async fn turn(&mut self) {
        match self.random.one_in(3) {
            true => self.look().await,
            false => self.order().await,
        }
    }

    type Observer = ();

    async fn observe(_: &Cluster) {}

    async fn judge(evidence: Evidence<'_>, (): &()) -> Result<Verdict> {
        let chronicle = Chronicle::<Event>::read(evidence.journals);
        let bank = bank(&chronicle.own, evidence).await?;
        let mut complaints = chronicle.complaints.clone();
        complaints.extend(bank.complaints());
        let Bank { asked, snapshots, done, .. } = &bank;
        let open = asked.values().filter(|(_, outcome)| *outcome == Outcome::Unknown).count();
        let doubtful = |said: &&(_, _, _)| matches!(said.2, Event::Unknown { .. });
        let doubts = chronicle.own.iter().filter(doubtful).count();
        let report = format!(
            "{} transfers were asked for, {} done, {open} left open after {doubts} doubts in all; \
             seen {} times\n",
            asked.len(),
            done.len(),
            snapshots.len(),
        );
        let report = report + &chronicle.report();
        Ok(Verdict { complaints, report, done: done.len(), seen: Vec::new() })
    }
}

/// What was asked for, and what is there.
async fn bank(said: &[(Name, u64, Event)], evidence: Evidence<'_>) -> Result<Bank> {
    let mut bank = Bank { opening: vec![OPENING; HOW_MANY], ..Bank::default() };
    for (_, _, event) in said {
        bank.hear(event);
    }
    let now = evidence.client.put("campaign/closed", "").await?.header.revision;
    let name =
        |kv: &KeyValue, prefix: &str| String::from_utf8_lossy(&kv.key[prefix.len()..]).into_owned();
    for kv in evidence.keys(TRANSFERS, now).await? {
        let Json(transfer) = Json::read(&kv.value)?;
        bank.done.insert(name(&kv, TRANSFERS), (transfer, kv.mod_revision));
    }
    bank.balances = vec![OPENING; HOW_MANY];
    for kv in evidence.keys(ACCOUNTS, now).await? {
        let number: usize = name(&kv, ACCOUNTS).parse().expect("accounts are numbers");
        bank.balances[number] = balance(Some(&kv.value))?;
    }
    Ok(bank)
}

impl Bank {
    fn hear(&mut self, event: &Event) {
        match event {
            Event::Asks { id, transfer } => {
                let unasked = (*transfer, Outcome::Unknown);
                self.asked.entry(id.clone()).or_insert(unasked);
            }
            Event::Did { id } => self.ends(id, Outcome::Settled(true)),
            Event::TooLittle { id } => self.ends(id, Outcome::Refused),
            Event::Saw { balances } => self.snapshots.push(balances.clone()),
            Event::Unknown { .. } | Event::Failed { .. } => {}
        }
    }

    fn ends(&mut self, id: &str, told: Outcome) {
        if let Some((_, outcome)) = self.asked.get_mut(id) {
            *outcome = told;
        }
    }
}
