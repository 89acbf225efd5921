//! The number of permits: written down by whoever comes first.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tenure_core::Revision;

use super::refused;
use crate::{
    client::{Client, room_key, room_of},
    error::{Error, ErrorKind, Result},
    ops::{Compare, Get, OpResponse, Put},
};

/// What one handle says the number is.
#[derive(Clone)]
pub(super) struct Limit {
    permits: u32,
    /// What is written down was the same. From then on it is followed, whatever it becomes.
    agreed: Arc<AtomicBool>,
}

impl Limit {
    pub(super) fn declared(permits: u32) -> Self {
        Self { permits, agreed: Arc::default() }
    }

    pub(super) fn check(&self, wanted: u32) -> Result<()> {
        let Self { permits, .. } = self;
        match wanted {
            _ if *permits == 0 => Err(refused("it must have one permit at least")),
            0 => Err(refused("no permit is asked for")),
            _ if wanted > *permits => {
                Err(refused(format!("{wanted} permits are asked for, and there are {permits}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes the number down, or finds that others say the same.
    pub(super) async fn agree(self, client: Client, key: Bytes) -> Result<()> {
        if self.agreed.load(Ordering::Acquire) {
            return Ok(());
        }
        let found = loop {
            let written = client
                .txn()
                .when([Compare::missing(key.clone())])
                .and_then([Put::new(key.clone(), self.permits.to_string())])
                .or_else([Get::new(key.clone())])
                .await;
            match written {
                Ok(answer) if answer.succeeded => break self.permits,
                Ok(answer) => {
                    let found = answer.responses.into_iter().next().and_then(OpResponse::into_get);
                    let found = found.and_then(|get| get.into_kv());
                    break parse(&found.ok_or_else(crate::ops::other_kind)?.value)?;
                }
                // A second copy changes nothing.
                Err(error) if error.may_have_been_applied() || error.is_retryable() => {
                    tracing::debug!(%error, "the number of permits is asked for again");
                }
                Err(error) => return Err(error),
            }
        };
        if found != self.permits {
            let ours = self.permits;
            return Err(refused(format!("it has {found} permits, and not {ours}: all must agree")));
        }
        self.agreed.store(true, Ordering::Release);
        Ok(())
    }

    pub(super) async fn resize(&self, client: &Client, key: Bytes, permits: u32) -> Result<u32> {
        if permits == 0 {
            return Err(refused("it must have one permit at least"));
        }
        loop {
            let found = client.get(key.clone()).await?.into_kv();
            let since = found.as_ref().map_or(Revision::NONE, |kv| kv.mod_revision);
            let before = found.map_or(Ok(self.permits), |kv| parse(&kv.value))?;
            let answer = client
                .txn()
                .when([Compare::mod_revision(key.clone()).equal(since)])
                .and_then([Put::new(key.clone(), permits.to_string())])
                .await?;
            if answer.succeeded {
                self.agreed.store(true, Ordering::Release);
                return Ok(before);
            }
        }
    }
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
