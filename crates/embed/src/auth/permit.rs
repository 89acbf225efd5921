//! Which request needs which right.

use tenure::wire::etcdserverpb::{
    AlarmRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    alarm_request::AlarmAction, request_op::Request,
};
use tokio::time::Instant;

use super::{
    Auth, Caller,
    refusals::{self, untranslated},
    rights::Right,
};
use crate::refusal::Refusal;

impl Caller {
    /// Empty for nobody, as in etcd.
    pub(super) fn name(&self) -> &str {
        self.user.as_deref().unwrap_or_default()
    }
}

impl Auth {
    pub(crate) fn may_range(&self, caller: &Caller, range: &RangeRequest) -> Result<(), Refusal> {
        self.has(caller, Right::Read, &range.key, &range.range_end)
    }

    /// Who attaches a key to a lease can keep it, and let it go, with whatever else the lease
    /// holds: so that must be writable, too.
    pub(crate) fn may_put<K>(
        &self,
        caller: &Caller,
        put: &PutRequest,
        keys_of_lease: &impl Fn(i64) -> K,
    ) -> Result<(), Refusal>
    where
        K: IntoIterator<Item: AsRef<[u8]>>,
    {
        self.has(caller, Right::Write, &put.key, b"")?;
        if put.lease != 0 {
            self.has_each(caller, Right::Write, || keys_of_lease(put.lease))?;
        }
        match put.prev_kv {
            true => self.has(caller, Right::Read, &put.key, b""),
            false => Ok(()),
        }
    }

    pub(crate) fn may_delete_range(
        &self,
        caller: &Caller,
        delete: &DeleteRangeRequest,
    ) -> Result<(), Refusal> {
        self.has(caller, Right::Write, &delete.key, &delete.range_end)?;
        match delete.prev_kv {
            true => self.has(caller, Right::Read, &delete.key, &delete.range_end),
            false => Ok(()),
        }
    }

    /// Whichever branch will run: what a user may not see must not decide what it is told.
    pub(crate) fn may_txn<K>(
        &self,
        caller: &Caller,
        txn: &TxnRequest,
        keys_of_lease: &impl Fn(i64) -> K,
    ) -> Result<(), Refusal>
    where
        K: IntoIterator<Item: AsRef<[u8]>>,
    {
        for Compare { key, range_end, .. } in &txn.compare {
            self.has(caller, Right::Read, key, range_end)?;
        }
        for RequestOp { request } in txn.success.iter().chain(&txn.failure) {
            match request {
                Some(Request::RequestRange(range)) => self.may_range(caller, range)?,
                Some(Request::RequestPut(put)) => self.may_put(caller, put, keys_of_lease)?,
                Some(Request::RequestDeleteRange(delete)) => {
                    self.may_delete_range(caller, delete)?;
                }
                Some(Request::RequestTxn(nested)) => {
                    self.may_txn(caller, nested, keys_of_lease)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    pub(crate) fn may_compact(&self, caller: &Caller) -> Result<(), Refusal> {
        self.may_administer(caller)
    }

    /// Key and range end as they came: a watch without key begins at the first there can be.
    pub(crate) fn may_watch(
        &self,
        caller: &Caller,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), Refusal> {
        let key = if key.is_empty() { b"\0" } else { key };
        self.has(caller, Right::Read, key, range_end)
    }

    pub(crate) fn may_grant_lease(&self, caller: &Caller) -> Result<(), Refusal> {
        self.is_somebody(caller)
    }

    /// With all the keys of the lease.
    pub(crate) fn may_revoke_lease(
        &self,
        caller: &Caller,
        keys: impl IntoIterator<Item: AsRef<[u8]>>,
    ) -> Result<(), Refusal> {
        self.is_somebody(caller)?;
        self.has_each(caller, Right::Write, || keys)
    }

    /// With all the keys of the lease.
    pub(crate) fn may_keep_alive(
        &self,
        caller: &Caller,
        keys: impl IntoIterator<Item: AsRef<[u8]>>,
    ) -> Result<(), Refusal> {
        self.may_revoke_lease(caller, keys)
    }

    /// With the keys that it will be shown; with those of all leases, for their list.
    pub(crate) fn may_see_lease(
        &self,
        caller: &Caller,
        keys: impl IntoIterator<Item: AsRef<[u8]>>,
    ) -> Result<(), Refusal> {
        self.is_somebody(caller)?;
        self.has_each(caller, Right::Read, || keys)
    }

    pub(crate) fn may_list_members(&self, caller: &Caller) -> Result<(), Refusal> {
        self.is_somebody(caller)
    }

    /// Any user may look at alarms.
    pub(crate) fn may_alarm(&self, caller: &Caller, alarm: &AlarmRequest) -> Result<(), Refusal> {
        self.is_somebody(caller)?;
        match alarm.action == AlarmAction::Get as i32 {
            true => Ok(()),
            false => self.may_administer(caller),
        }
    }

    /// Whether it is a user with the root role. Needed to change members, users and roles, and for
    /// Status, MoveLeader and Downgrade.
    pub(crate) fn may_administer(&self, caller: &Caller) -> Result<(), Refusal> {
        self.is_somebody(caller)?;
        if !self.enabled {
            return Ok(());
        }
        let user = self.users.get(caller.name()).ok_or(refusals::USER_NOT_FOUND)?;
        match user.is_root() {
            true => Ok(()),
            false => Err(refusals::PERMISSION_DENIED),
        }
    }

    /// For Defragment, Hash, HashKV and Snapshot, which refuse in words of their own, a bad token
    /// too.
    pub(crate) fn may_maintain(
        &mut self,
        token: Option<&str>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let caller = self.caller(token, now);
        caller.and_then(|caller| self.may_administer(&caller)).map_err(untranslated)
    }

    fn is_somebody(&self, caller: &Caller) -> Result<(), Refusal> {
        match self.enabled && caller.user.is_none() {
            true => Err(refusals::USER_EMPTY),
            false => Ok(()),
        }
    }

    fn has(
        &self,
        caller: &Caller,
        right: Right,
        key: &[u8],
        range_end: &[u8],
    ) -> Result<(), Refusal> {
        self.is_somebody(caller)?;
        if !self.enabled {
            return Ok(());
        }
        if caller.revision < self.revision {
            return Err(refusals::AUTH_OLD_REVISION);
        }
        let user = self.users.get(caller.name()).ok_or(refusals::PERMISSION_DENIED)?;
        match user.is_root() || user.rights.cover(right, key, range_end) {
            true => Ok(()),
            false => Err(refusals::PERMISSION_DENIED),
        }
    }

    /// Asks for no keys if it need not.
    fn has_each<K>(
        &self,
        caller: &Caller,
        right: Right,
        keys: impl FnOnce() -> K,
    ) -> Result<(), Refusal>
    where
        K: IntoIterator<Item: AsRef<[u8]>>,
    {
        if self.may_administer(caller).is_ok() {
            return Ok(());
        }
        keys().into_iter().try_for_each(|key| self.has(caller, right, key.as_ref(), b""))
    }
}
