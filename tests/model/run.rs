use prost::Message;
use tenure::wire::etcdserverpb::{
    CompactionRequest, HashKvRequest, HashKvResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, WatchCreateRequest,
};
use tonic::Code;

use super::{
    generate::{Sequence, Step},
    landmarks::resolve,
    naive::{Naive, Refusal},
    raw::{Raw, RawStream, Received},
    servers::{Kind, Limits},
    watches::Watches,
    wire::{self, Answer, SOON},
};

/// A server and the model, which have been told the same so far.
struct Run {
    limits: Limits,
    raw: Raw,
    store: Naive,
    renewals: RawStream,
    watches: Watches,
    asked: Vec<Step>,
}

/// Has a fresh server answer a sequence, as far as the limits let it, and compares each answer with
/// the model's. Returns the hash of all it has then.
pub(crate) async fn run(
    kind: &Kind,
    limits: Limits,
    sequence: &Sequence,
) -> Result<HashKvResponse, String> {
    let server = kind.start().await;
    let raw = Raw::connect(&server.endpoint).await;
    let mut run = Run {
        limits,
        store: Naive::new(limits.ties_kept),
        renewals: raw.open("/etcdserverpb.Lease/LeaseKeepAlive", &[]),
        watches: Watches::open(&raw),
        raw,
        asked: Vec::new(),
    };
    run.whole(sequence).await.map_err(|wrong| {
        let asked: Vec<String> = run.asked.iter().map(|step| format!("  {step:?}\n")).collect();
        format!("after\n{}{wrong}", asked.concat())
    })
}

impl Run {
    async fn whole(&mut self, sequence: &Sequence) -> Result<HashKvResponse, String> {
        self.watches.create_probe(&self.store).await?;
        for step in &sequence.steps {
            self.step(step.clone()).await?;
        }
        self.watch_at_the_end(&sequence.watches).await?;
        let path = "/etcdserverpb.Maintenance/HashKV";
        // Of a revision that no compaction was at: later versions remember what they had then.
        let asked = HashKvRequest { revision: self.store.revision() };
        let hash = wire::call(&self.raw, path, &asked).await?;
        hash.map_err(|refused| format!("{path}: {refused:?}"))
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        let step = resolve(step, &self.store);
        self.asked.push(step.clone());
        match &step {
            Step::Range(request) => {
                let model = self.store.range(request);
                self.ask("KV/Range", request, model).await?;
            }
            Step::Put(request) => {
                let model = self.store.put(request);
                self.ask("KV/Put", request, model).await?;
            }
            Step::Delete(request) => {
                let model = self.store.delete_range(request);
                self.ask("KV/DeleteRange", request, model).await?;
            }
            Step::Txn(request) => {
                let model = self.store.txn(request);
                self.ask("KV/Txn", request, model).await?;
            }
            Step::Compact(request) => self.compact(request).await?,
            Step::Grant(request) => {
                let model = self.store.grant(request);
                self.ask("Lease/LeaseGrant", request, model).await?;
            }
            Step::Revoke(request) => {
                let model = self.store.revoke(request);
                self.ask("Lease/LeaseRevoke", request, model).await?;
            }
            Step::Leases => {
                let model = self.store.leases();
                self.ask("Lease/LeaseLeases", &LeaseLeasesRequest {}, Ok(model)).await?;
            }
            Step::KeepAlive(request) => self.keep_alive(request).await?,
            Step::TimeToLive(request) => self.time_to_live(request).await?,
            Step::Watch(request) => self.watch(request).await?,
            Step::CancelWatch(choice) => self.watches.cancel(&self.store, *choice).await?,
        }
        Ok(())
    }

    /// Asks the server what the model has answered.
    async fn ask<A: Answer>(
        &mut self,
        method: &str,
        request: &impl Message,
        model: Result<A, Refusal>,
    ) -> Result<(), String> {
        if let Err(Refusal::DoNotAsk(_)) = model {
            self.asked.pop();
            return Ok(());
        }
        let path = format!("/etcdserverpb.{method}");
        let server = wire::call::<A>(&self.raw, &path, request).await?;
        equal(model, server)
    }

    async fn compact(&mut self, request: &CompactionRequest) -> Result<(), String> {
        if self.store.is_put_again(request.revision) && !self.limits.keeps_what_is_put_again {
            self.asked.pop();
            return Ok(());
        }
        // What a watch that is behind is told, depends on what is compacted.
        self.watches.settle(&self.store).await?;
        let model = self.store.compact(request);
        self.ask("KV/Compact", request, model).await
    }

    async fn keep_alive(&mut self, request: &LeaseKeepAliveRequest) -> Result<(), String> {
        let model = self.store.keep_alive(request);
        self.renewals.send(request.encode_to_vec());
        let server: LeaseKeepAliveResponse = match self.renewals.recv(SOON).await {
            Received::Message(bytes) => wire::decode(&bytes)?,
            other => return Err(format!("the stream of renewals: {other:?}")),
        };
        equal(Ok(model), Ok(server))
    }

    async fn time_to_live(&mut self, request: &LeaseTimeToLiveRequest) -> Result<(), String> {
        let model = self.store.time_to_live(request);
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let server: Result<LeaseTimeToLiveResponse, _> =
            wire::call(&self.raw, path, request).await?;
        let server = server.map(|mut server| {
            // It has been running down for a short while, and has no order of keys.
            if (model.ttl - 600..model.ttl).contains(&server.ttl) {
                server.ttl = model.ttl;
            }
            server.keys.sort();
            server
        });
        equal(Ok(model), server)
    }

    async fn watch(&mut self, request: &WatchCreateRequest) -> Result<(), String> {
        let (now, compacted) = (self.store.revision(), self.store.compacted());
        let start = request.start_revision;
        let of_the_past = start > 0 && start <= now;
        // With nothing left to be told of the past, nobody can tell when it has been.
        let untold = of_the_past && compacted == now;
        if untold || !self.is_told_all_from(start) {
            self.asked.pop();
            return Ok(());
        }
        self.watches.create(&self.store, request).await?;
        if of_the_past {
            self.watches.create_probe(&self.store).await?;
        }
        Ok(())
    }

    fn is_told_all_from(&self, start: i64) -> bool {
        start != self.store.compacted()
            || self.limits.tells_all_of_the_compacted
            || !self.store.is_more_than_its_keys(start)
    }

    async fn watch_at_the_end(&mut self, requests: &[WatchCreateRequest]) -> Result<(), String> {
        // So that there is an uncompacted revision for the probe.
        self.put_something().await?;
        let mut watches = Watches::open(&self.raw);
        for request in requests {
            let Step::Watch(request) = resolve(Step::Watch(request.clone()), &self.store) else {
                unreachable!("a watch stays one");
            };
            if self.is_told_all_from(request.start_revision) {
                watches.create(&self.store, &request).await?;
            }
        }
        watches.create_probe(&self.store).await?;
        watches.settle(&self.store).await?;
        // What is told of this comes after all that is wrong.
        self.put_something().await?;
        watches.settle(&self.store).await?;
        self.watches.settle(&self.store).await
    }

    async fn put_something(&mut self) -> Result<(), String> {
        self.step(Step::Put(PutRequest { key: "a".into(), ..PutRequest::default() })).await
    }
}

/// Compares them as bytes, since there is more than one zero.
fn equal<A: Answer>(
    model: Result<A, Refusal>,
    server: Result<A, (Code, String)>,
) -> Result<(), String> {
    let same = match (&model, &server) {
        (Ok(model), Ok(server)) => model.encode_to_vec() == server.encode_to_vec(),
        (Err(Refusal::ByEtcd(code, text)), Err(refused)) => {
            (*code, *text) == (refused.0, &refused.1[..])
        }
        _ => false,
    };
    if same {
        Ok(())
    } else {
        Err(format!("the model says  {model:?}\nthe server says {server:?}"))
    }
}
