//! Jobs that nobody works on any more: back to the end of the queue, or to the dead letters.
//!
//! Whoever looks for work sees to it, so that it needs nobody else.

use std::{collections::HashSet, sync::atomic::AtomicBool};

use bytes::Bytes;
use tenure_core::{KeyRange, Revision};

use super::{
    append::Spot,
    layout::{Discipline, by_clock, failures_of, name_of, priority_of},
    work::Work,
};
use crate::{
    error::{Error, Result},
    ops::{Compare, Count, Delete, Get, Op, OpResponse, Put, Txn},
    recipes::claim::persist,
};

impl Work {
    fn is_dead(&self, failures: u32) -> bool {
        self.max_attempts.is_some_and(|most| failures >= most)
    }

    /// What moves a job away in the transaction that deletes its worker's key. Where that alone
    /// cannot say what the end of the queue is, nothing: the job is an orphan then.
    pub(super) fn moving_back(&self, job: &[u8], value: &Bytes, failures: u32) -> Vec<Op> {
        let layout = self.layout();
        let delete = Op::from(Delete::new(layout.run(job)));
        if self.is_dead(failures) {
            return vec![delete, Put::new(layout.dead(job), value.clone()).into()];
        }
        match layout.discipline {
            Discipline::Priority => vec![],
            Discipline::Fifo => {
                let key = layout.item(&by_clock(failures));
                let put = Op::from(Put::new(key.clone(), value.clone()));
                vec![Txn::new().when([Compare::missing(key)]).and_then([delete, put]).into()]
            }
        }
    }

    /// Sees to all jobs whose worker is gone, and says whether there was one.
    pub(super) async fn rescue(&self) -> Result<bool> {
        let layout = self.layout();
        let reads = [Get::new(layout.runs()).keys_only(), Get::new(layout.workers()).keys_only()];
        let answer = self.client().txn().and_then(reads).await?;
        let mut read = answer.responses.into_iter().filter_map(OpResponse::into_get);
        let (Some(runs), Some(workers)) = (read.next(), read.next()) else {
            return Err(crate::ops::other_kind());
        };
        let workers = workers.kvs.iter().filter_map(|kv| layout.job_of_worker(&kv.key));
        let alive: HashSet<_> = workers.collect();
        let mut rescued = false;
        for run in runs.kvs {
            match layout.job_of_run(&run.key) {
                Some(job) if !alive.contains(&job) => {
                    rescued |= self.rescue_one(&job, run.mod_revision).await?;
                }
                _ => {}
            }
        }
        Ok(rescued)
    }

    async fn rescue_one(&self, job: &Bytes, since: Revision) -> Result<bool> {
        let run = self.client().get(self.layout().run(job)).await?.into_kv();
        match run.filter(|run| run.mod_revision == since) {
            Some(run) => self.requeue(job, since, &run.value).await,
            // Somebody was faster.
            None => Ok(false),
        }
    }

    /// Moves a job, which runs since then, away, if nobody works on it. Done twice it does nothing
    /// more.
    pub(super) async fn requeue(
        &self,
        job: &Bytes,
        since: Revision,
        value: &Bytes,
    ) -> Result<bool> {
        let failures = failures_of(name_of(job)).saturating_add(1);
        if self.is_dead(failures) {
            let letter = Put::new(self.layout().dead(job), value.clone());
            let answer = self.move_orphan(job, since, letter, Spot::default()).await?;
            return Ok(matches!(answer, Moved::To(_)));
        }
        let mut end = self.end(priority_of(name_of(job))).await;
        loop {
            let spot = end.spot(self.layout(), failures);
            let put = Put::new(spot.key.clone(), value.clone());
            match self.move_orphan(job, since, put, spot).await? {
                Moved::To(revision) => {
                    end.appended(revision);
                    tracing::info!(job = ?name_of(job), failures, "a job goes back to its queue");
                    return Ok(true);
                }
                Moved::NotOurs => return Ok(false),
                Moved::EndElsewhere(read) => end.moved(read)?,
            }
        }
    }

    async fn move_orphan(
        &self,
        job: &Bytes,
        since: Revision,
        put: Put,
        spot: Spot,
    ) -> Result<Moved> {
        let run = self.layout().run(job);
        let worker = KeyRange::prefix(self.layout().worker(job));
        let Spot { when, also, look, .. } = spot;
        let orphan =
            [Compare::mod_revision(run.clone()).equal(since), Compare::missing(worker.clone())];
        let txn = Txn::new()
            .when(orphan.into_iter().chain(when))
            .and_then([Op::from(Delete::new(run.clone())), Op::from(put)])
            .and_then(also)
            .or_else([Op::from(Get::new(run).keys_only()), Op::from(Count::new(worker))])
            .or_else(look);
        let (client, life) = (self.client(), self.session().life());
        let lives = |_: &Error| life.is_held(client.now());
        let answer = persist(client, &txn, &AtomicBool::new(false), lives).await?;
        if answer.succeeded {
            return Ok(Moved::To(answer.header.revision));
        }
        let mut read = answer.responses.into_iter();
        let mut next = || read.next().and_then(OpResponse::into_get);
        let (Some(run), Some(worker)) = (next(), next()) else {
            return Err(crate::ops::other_kind());
        };
        let is_there = run.kv().is_some_and(|run| run.mod_revision == since);
        if is_there && worker.count == 0 {
            Ok(Moved::EndElsewhere(read.collect()))
        } else {
            Ok(Moved::NotOurs)
        }
    }
}

/// What became of a job without a worker.
enum Moved {
    To(Revision),
    /// It has a worker, or is not there any more.
    NotOurs,
    EndElsewhere(Vec<OpResponse>),
}
