//! The number of permits: written down by whoever comes first.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use bytes::Bytes;
use tenure_core::Revision;

use super::refused;
use crate::{
    client::{Client, room_key, room_of},
    error::{Error, ErrorKind, Result},
    ops::{Compare, Get, OpResponse, Put, Txn},
    recipes::claim::persist,
};

/// What one handle says the number is.
#[derive(Clone)]
pub(super) struct Limit {
    declared: u32,
    /// The number as it was found last; 0 until what is written down was found to be the same as
    /// what is declared. From then on it is followed, whatever it becomes.
    known: Arc<AtomicU32>,
}

impl Limit {
    pub(super) fn declared(permits: u32) -> Self {
        Self { declared: permits, known: Arc::default() }
    }

    fn known(&self) -> Option<u32> {
        Some(self.known.load(Ordering::Acquire)).filter(|permits| *permits > 0)
    }

    fn found(&self, permits: u32) {
        self.known.store(permits, Ordering::Release);
    }

    /// What is known to be wrong without asking.
    pub(super) fn check(&self, wanted: u32) -> Result<()> {
        match wanted {
            _ if self.declared == 0 => Err(refused("it must have one permit at least")),
            0 => Err(refused("no permit is asked for")),
            _ if self.known().is_none() => enough(wanted, self.declared),
            _ => Ok(()),
        }
    }

    /// Writes the number down, or finds that others say the same; and that there are so many.
    pub(super) async fn agree(self, client: Client, key: Bytes, wanted: u32) -> Result<()> {
        match self.known() {
            None => self.write_down(&client, key).await,
            Some(known) if wanted <= known => Ok(()),
            Some(_) => {
                let permits = read(&client, key).await?.unwrap_or(self.declared);
                self.found(permits);
                enough(wanted, permits)
            }
        }
    }

    async fn write_down(&self, client: &Client, key: Bytes) -> Result<()> {
        let put = Put::new(key.clone(), self.declared.to_string());
        let txn = Txn::new().when([Compare::missing(key.clone())]);
        let txn = txn.and_then([put]).or_else([Get::new(key)]);
        // A second copy changes nothing, whenever it comes.
        let answer = persist(client, &txn, &AtomicBool::new(false), |_| true).await?;
        let found = match answer.succeeded {
            true => self.declared,
            false => {
                let found = answer.responses.into_iter().next().and_then(OpResponse::into_get);
                let found = found.and_then(|get| get.into_kv());
                parse(&found.ok_or_else(crate::ops::other_kind)?.value)?
            }
        };
        if found != self.declared {
            let ours = self.declared;
            return Err(refused(format!("it has {found} permits, and not {ours}: all must agree")));
        }
        self.found(found);
        Ok(())
    }

    pub(super) async fn resize(&self, client: &Client, key: Bytes, permits: u32) -> Result<u32> {
        if permits == 0 {
            return Err(refused("it must have one permit at least"));
        }
        loop {
            let found = client.get(key.clone()).await?.into_kv();
            let since = found.as_ref().map_or(Revision::NONE, |kv| kv.mod_revision);
            let before = found.map_or(Ok(self.declared), |kv| parse(&kv.value))?;
            let answer = client
                .txn()
                .when([Compare::mod_revision(key.clone()).equal(since)])
                .and_then([Put::new(key.clone(), permits.to_string())])
                .await?;
            if answer.succeeded {
                self.found(permits);
                return Ok(before);
            }
        }
    }
}

fn enough(wanted: u32, permits: u32) -> Result<()> {
    if wanted > permits {
        return Err(refused(format!("{wanted} permits are asked for, and there are {permits}")));
    }
    Ok(())
}

pub(super) fn key(prefix: &Bytes) -> Bytes {
    room_key(prefix)
}

pub(super) async fn read(client: &Client, key: Bytes) -> Result<Option<u32>> {
    client.get(key).await?.into_kv().map(|kv| parse(&kv.value)).transpose()
}

fn parse(value: &[u8]) -> Result<u32> {
    let permits = room_of(value).and_then(|permits| u32::try_from(permits).ok());
    permits.ok_or_else(|| {
        let text = "the number of permits is written as something else than a number";
        Error::new(ErrorKind::Protocol, "semaphore", text)
    })
}
