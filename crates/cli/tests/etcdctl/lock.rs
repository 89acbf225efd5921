use tenure_testkit::{eventually, on_each_etcd};

use crate::{
    sides::{Side, Sides},
    support::SOON,
};

/// Waits until there are so many keys below this on a side.
async fn queued(side: &Side, prefix: &str, count: usize) {
    eventually(SOON, &format!("{count} keys below {prefix}"), async || {
        let keys = side.raw(&format!("get {prefix} --prefix --keys-only")).await;
        keys.lines().filter(|line| !line.is_empty()).count() == count
    })
    .await;
}

#[tokio::test]
async fn a_lock_passes_from_one_to_the_next() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        let mut first = sides.run("lock jobs");
        let key = sides.lines(&mut first, 1).await.remove(0);
        assert!(key.starts_with("jobs/<id "), "{key}");
        let mut second = sides.run("lock jobs");
        for side in [&sides.embedded, &sides.real] {
            queued(side, "jobs/", 2).await;
        }
        sides.same("put outside value").await;
        assert_eq!(first.end("TERM").await.0, 0);
        let next = sides.lines(&mut second, 1).await.remove(0);
        assert!(next.starts_with("jobs/<id ") && next != key, "{next}");
        assert_eq!(second.end("INT").await.0, 0);
        for side in [&sides.embedded, &sides.real] {
            queued(side, "jobs/", 0).await;
        }
        assert_eq!(sides.same("lock jobs echo done --ttl=5").await, "done");
    })
    .await;
}

#[tokio::test]
async fn a_leader_is_followed_by_the_next_and_observed() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        let mut first = sides.run("elect boss one");
        let leads = sides.lines(&mut first, 2).await;
        assert_eq!(leads[1], "one");
        let mut observers = sides.run("elect boss --listen");
        assert_eq!(sides.lines(&mut observers, 2).await, leads);
        let mut second = sides.run("elect boss two");
        for side in [&sides.embedded, &sides.real] {
            queued(side, "boss/", 2).await;
        }
        assert_eq!(first.end("TERM").await.0, 0);
        let leads = sides.lines(&mut second, 2).await;
        assert_eq!(leads[1], "two");
        assert_eq!(sides.lines(&mut observers, 2).await, leads);
        assert_eq!(second.end("TERM").await.0, 0);
    })
    .await;
}
