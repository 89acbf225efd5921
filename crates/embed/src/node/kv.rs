use prost::Message;
use tenure::wire::etcdserverpb::{
    AlarmType, CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse,
    request_op::Request,
};
use tokio::time::Instant;

use super::State;
use crate::{
    node::leases::LEASE_COST,
    refusal::{self, Refusal},
    store::writes,
    token::Token,
};

/// What raft's own envelope adds to a request.
const ENVELOPE: usize = 16;

/// Requests have been checked for what they must be, whatever the state is.
impl State {
    pub(crate) fn range(
        &mut self,
        token: &Token,
        request: &RangeRequest,
        now: Instant,
    ) -> Result<RangeResponse, Refusal> {
        let caller = self.caller(token, now)?;
        self.auth.may_range(&caller, request)?;
        let mut response = self.store.range(request)?;
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(crate) fn put(
        &mut self,
        token: &Token,
        request: PutRequest,
        now: Instant,
    ) -> Result<PutResponse, Refusal> {
        let caller = self.caller(token, now)?;
        self.fits(&request)?;
        self.has_room(cost(&request))?;
        self.auth.may_put(&caller, &request, &|lease| self.leases.keys(lease))?;
        self.is_sound()?;
        let (mut response, changes) = self.store.put(request, &|lease| self.leases.has(lease))?;
        self.agree();
        self.changed(changes);
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(crate) fn delete_range(
        &mut self,
        token: &Token,
        request: &DeleteRangeRequest,
        now: Instant,
    ) -> Result<DeleteRangeResponse, Refusal> {
        let caller = self.caller(token, now)?;
        self.fits(request)?;
        self.auth.may_delete_range(&caller, request)?;
        self.is_sound()?;
        let (mut response, changes) = self.store.delete_range(request);
        self.agree();
        self.changed(changes);
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(crate) fn txn(
        &mut self,
        token: &Token,
        request: TxnRequest,
        now: Instant,
    ) -> Result<TxnResponse, Refusal> {
        let caller = self.caller(token, now)?;
        if writes(&request) {
            self.fits(&request)?;
            self.has_room(cost_of_puts(&request.success).max(cost_of_puts(&request.failure)))?;
            self.is_sound()?;
            self.agree();
        }
        self.auth.may_txn(&caller, &request, &|lease| self.leases.keys(lease))?;
        let (mut response, changes) = self.store.txn(request, &|lease| self.leases.has(lease))?;
        self.changed(changes);
        self.sign(&mut response.header);
        Ok(response)
    }

    pub(crate) fn compact(
        &mut self,
        token: &Token,
        request: &CompactionRequest,
        now: Instant,
    ) -> Result<CompactionResponse, Refusal> {
        let caller = self.caller(token, now)?;
        self.auth.may_compact(&caller)?;
        self.is_sound()?;
        self.store.compact(request.revision)?;
        self.agree();
        Ok(CompactionResponse { header: Some(self.header()) })
    }

    fn fits(&self, request: &impl Message) -> Result<(), Refusal> {
        match request.encoded_len() + ENVELOPE > self.max_request_bytes {
            true => Err(refusal::TOO_LARGE),
            false => Ok(()),
        }
    }

    /// Whether there is room for so many bytes more; raises the alarm if not. What takes no room
    /// is always welcome.
    pub(super) fn has_room(&mut self, cost: usize) -> Result<(), Refusal> {
        if cost == 0 {
            return Ok(());
        }
        let leases = self.leases.count() * LEASE_COST;
        if self.store.size().saturating_add((leases + cost) as u64) > self.quota {
            self.alarms.raise(AlarmType::Nospace, self.member);
        }
        match self.alarms.is_up(AlarmType::Nospace) {
            true => Err(refusal::NO_SPACE),
            false => Ok(()),
        }
    }

    pub(super) fn is_sound(&self) -> Result<(), Refusal> {
        match self.alarms.is_up(AlarmType::Corrupt) {
            true => Err(refusal::CORRUPT),
            false => Ok(()),
        }
    }
}

/// What etcd reckons with for a put, beside key and value.
const PUT_OVERHEAD: usize = 256;

fn cost(put: &PutRequest) -> usize {
    PUT_OVERHEAD + put.key.len() + put.value.len()
}

fn cost_of_puts(branch: &[RequestOp]) -> usize {
    branch
        .iter()
        .map(|op| match &op.request {
            Some(Request::RequestPut(put)) => cost(put),
            Some(Request::RequestTxn(nested)) => {
                cost_of_puts(&nested.success).max(cost_of_puts(&nested.failure))
            }
            _ => 0,
        })
        .sum()
}
