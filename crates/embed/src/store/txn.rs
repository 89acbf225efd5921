use std::collections::VecDeque;

use tenure::wire::etcdserverpb::{
    RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
    request_op::Request, response_op::Response,
};

use super::{Change, HasLease, Store, header};
use crate::refusal::{self, Refusal};

/// Which branch each txn takes: the outermost, and then the nested ones of the branches that run,
/// in the order in which they stand.
type Path = VecDeque<bool>;

impl Store {
    pub(crate) fn txn(
        &mut self,
        request: TxnRequest,
        has_lease: HasLease<'_>,
    ) -> Result<(TxnResponse, Vec<Change>), Refusal> {
        // All of it is decided, and refused, on the state before anything of it ran.
        let (mut path, mut running) = (Path::new(), Vec::new());
        self.decide(&request, &mut path, &mut running);
        self.can_run(&running, has_lease)?;
        let mut changes = Vec::new();
        let mut response = self.run(request, &mut path, &mut changes)?;
        self.commit(&changes);
        response.header = header(self.revision);
        Ok((response, changes))
    }

    /// Chooses branches, and gathers the operations that will run.
    fn decide<'a>(&self, txn: &'a TxnRequest, path: &mut Path, running: &mut Vec<&'a Request>) {
        let succeeds = self.holds(&txn.compare);
        path.push_back(succeeds);
        let branch = if succeeds { &txn.success } else { &txn.failure };
        for request in branch.iter().filter_map(|op| op.request.as_ref()) {
            match request {
                Request::RequestTxn(nested) => self.decide(nested, path, running),
                other => running.push(other),
            }
        }
    }

    /// Puts are refused before reads are, wherever they stand.
    fn can_run(&self, running: &[&Request], has_lease: HasLease<'_>) -> Result<(), Refusal> {
        for request in running {
            let Request::RequestPut(put) = request else { continue };
            self.keeps_something(put)?;
            if put.lease != 0 && !has_lease(put.lease) {
                return Err(refusal::LEASE_NOT_FOUND);
            }
        }
        running.iter().try_for_each(|request| match request {
            Request::RequestRange(range) => self.can_read(range),
            _ => Ok(()),
        })
    }

    fn can_read(&self, range: &RangeRequest) -> Result<(), Refusal> {
        match range.revision {
            0 => Ok(()),
            revision if revision > self.revision => Err(refusal::FUTURE_REVISION),
            revision if revision < self.compacted => Err(refusal::COMPACTED),
            _ => Ok(()),
        }
    }

    fn run(
        &mut self,
        txn: TxnRequest,
        path: &mut Path,
        changes: &mut Vec<Change>,
    ) -> Result<TxnResponse, Refusal> {
        let succeeded = path.pop_front().unwrap_or_default();
        let branch = if succeeded { txn.success } else { txn.failure };
        let mut responses = Vec::with_capacity(branch.len());
        for op in branch {
            responses.push(self.run_op(op, path, changes)?);
        }
        Ok(TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses })
    }

    fn run_op(
        &mut self,
        op: RequestOp,
        path: &mut Path,
        changes: &mut Vec<Change>,
    ) -> Result<ResponseOp, Refusal> {
        let response = match op.request {
            Some(Request::RequestRange(range)) => {
                Some(Response::ResponseRange(self.read(&range, changes)?))
            }
            Some(Request::RequestPut(put)) => Some(Response::ResponsePut(self.write(put, changes))),
            Some(Request::RequestDeleteRange(delete)) => {
                Some(Response::ResponseDeleteRange(self.erase(&delete, changes)))
            }
            Some(Request::RequestTxn(nested)) => {
                Some(Response::ResponseTxn(self.run(nested, path, changes)?))
            }
            None => None,
        };
        Ok(ResponseOp { response })
    }
}

/// Whether it may write, whichever of its branches runs.
pub(crate) fn writes(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => true,
        Some(Request::RequestTxn(nested)) => writes(nested),
        _ => false,
    })
}
