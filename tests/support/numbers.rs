//! What tests of transactions do, beside what they test.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bytes::Bytes;
use tenure::{Client, Json, Result, Stm, View};

pub(crate) async fn value(client: &Client, key: &str) -> Option<Bytes> {
    client.get(key).await.unwrap().into_kv().map(|kv| kv.value)
}

pub(crate) fn text(value: &str) -> Option<Bytes> {
    Some(Bytes::from(value.to_owned()))
}

pub(crate) fn amount(value: Option<Bytes>) -> Result<i64> {
    value.map_or(Ok(0), |value| Ok(Json::read(&value)?.0))
}

pub(crate) async fn add(view: &View, key: &str, delta: i64) -> Result<()> {
    let before = amount(view.get(key).await?)?;
    view.put(key, Json(before + delta))
}

/// Runs a transaction in whose first run, after `work` did its reads, somebody else interferes.
/// How often it was run.
pub(crate) async fn disturbed(
    stm: &Stm,
    work: impl AsyncFn(&View) -> Result<()>,
    interfere: impl AsyncFn(),
) -> u32 {
    let runs = AtomicU32::new(0);
    let ended: Result<()> = stm
        .run(async |view| {
            work(&view).await?;
            if runs.fetch_add(1, Relaxed) == 0 {
                interfere().await;
            }
            Ok(())
        })
        .await;
    ended.unwrap();
    runs.into_inner()
}
