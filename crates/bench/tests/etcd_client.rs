//! The crate etcd-client, which nobody here wrote, works on the embedded server.

use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, Compare, CompareOp, ConnectOptions,
    DeleteOptions, Error, EventType, GetOptions, KeyValue, LeaseTimeToLiveOptions, LockOptions,
    Permission, ProclaimOptions, PutOptions, ResignOptions, SortOrder, SortTarget, Txn, TxnOp,
    TxnOpResponse, WatchOptions, WatchStream,
};
use tenure_embed::Embedded;
use tokio::time::timeout;

/// Long for anything that should happen; only a failure takes it.
const SOON: Duration = Duration::from_secs(20);

async fn start() -> (Embedded, Client) {
    let server = Embedded::builder().fast().start().await.unwrap();
    let client = Client::connect(server.endpoints(), None).await.unwrap();
    (server, client)
}

async fn signed_in(server: &Embedded, user: &str, password: &str) -> Result<Client, Error> {
    let options = ConnectOptions::new().with_user(user, password);
    Client::connect(server.endpoints(), Some(options)).await
}

fn texts(kvs: &[KeyValue]) -> Vec<(&str, &str)> {
    kvs.iter().map(|kv| (kv.key_str().unwrap(), kv.value_str().unwrap())).collect()
}

fn refusal<T>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::GRpcStatus(status)) => status.message().to_owned(),
        Err(other) => panic!("it failed otherwise: {other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[tokio::test]
async fn keys_are_put_read_deleted_and_compacted() {
    let (_server, mut client) = start().await;
    for (key, value) in [("a/1", "x"), ("a/2", "y"), ("a/3", "z"), ("b", "-")] {
        client.put(key, value, None).await.unwrap();
    }
    let again = PutOptions::new().with_prev_key();
    let put = client.put("a/1", "w", Some(again)).await.unwrap();
    assert_eq!(put.prev_key().unwrap().value_str().unwrap(), "x");
    assert_eq!(put.header().unwrap().revision(), 6);

    let prefix = GetOptions::new().with_prefix();
    let sorted = prefix.clone().with_sort(SortTarget::Value, SortOrder::Descend).with_limit(2);
    let found = client.get("a/", Some(sorted)).await.unwrap();
    assert_eq!(texts(found.kvs()), [("a/3", "z"), ("a/2", "y")]);
    assert!(found.more() && found.count() == 3);
    let past = client.get("a/1", Some(GetOptions::new().with_revision(2))).await.unwrap();
    assert_eq!(texts(past.kvs()), [("a/1", "x")]);
    let counted = client.get("a/", Some(prefix.clone().with_count_only())).await.unwrap();
    assert!(counted.kvs().is_empty() && counted.count() == 3);
    let late = prefix.with_min_create_revision(4).with_keys_only();
    assert_eq!(texts(client.get("a/", Some(late)).await.unwrap().kvs()), [("a/3", "")]);

    let all = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("a/", Some(all)).await.unwrap();
    assert_eq!(deleted.deleted(), 3);
    assert_eq!(texts(deleted.prev_kvs()), [("a/1", "w"), ("a/2", "y"), ("a/3", "z")]);

    client.compact(6, None).await.unwrap();
    let compacted = client.get("a/1", Some(GetOptions::new().with_revision(2))).await;
    assert_eq!(refusal(compacted), "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(refusal(client.put("", "x", None).await), "etcdserver: key is not provided");
}

#[tokio::test]
async fn transactions_choose_a_branch_and_nest() {
    let (_server, mut client) = start().await;
    client.put("a", "1", None).await.unwrap();
    let inner = Txn::new()
        .when([Compare::version("new", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("new", "x", None)]);
    let txn = Txn::new()
        .when([
            Compare::value("a", CompareOp::Equal, "1"),
            Compare::create_revision("a", CompareOp::Greater, 0),
        ])
        .and_then([TxnOp::get("a", None), TxnOp::put("a", "2", None), TxnOp::txn(inner)])
        .or_else([TxnOp::delete("a", None)]);
    let done = client.txn(txn.clone()).await.unwrap();
    assert!(done.succeeded());
    let [TxnOpResponse::Get(read), TxnOpResponse::Put(_), TxnOpResponse::Txn(nested)] =
        &done.op_responses()[..]
    else {
        panic!("{done:?}");
    };
    assert_eq!(texts(read.kvs()), [("a", "1")]);
    assert!(nested.succeeded());
    let other = client.txn(txn).await.unwrap();
    assert!(!other.succeeded());
    assert!(
        matches!(&other.op_responses()[..], [TxnOpResponse::Delete(gone)] if gone.deleted() == 1)
    );

    let twice = Txn::new().and_then([TxnOp::put("a", "1", None), TxnOp::put("a", "2", None)]);
    let duplicate = "etcdserver: duplicate key given in txn request";
    assert_eq!(refusal(client.txn(twice).await), duplicate);
}

/// The kind, the key and the value before of each event, until there are so many.
async fn events(watch: &mut WatchStream, count: usize) -> Vec<(EventType, String, Option<String>)> {
    let mut told = Vec::new();
    while told.len() < count {
        let response = timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
        assert!(!response.canceled(), "{response:?}");
        told.extend(response.events().iter().map(|event| {
            let before = event.prev_kv().map(|kv| kv.value_str().unwrap().to_owned());
            (event.event_type(), event.kv().unwrap().key_str().unwrap().to_owned(), before)
        }));
    }
    told
}

#[tokio::test]
async fn watches_tell_what_was_and_what_comes_until_they_are_cancelled() {
    let (_server, mut client) = start().await;
    client.put("a", "1", None).await.unwrap();
    client.delete("a", None).await.unwrap();
    let from = WatchOptions::new().with_prefix().with_start_revision(2).with_prev_key();
    let mut watch = client.watch("a", Some(from)).await.unwrap();
    let (put, delete) = (EventType::Put, EventType::Delete);
    let past = [(put, "a".into(), None), (delete, "a".into(), Some("1".into()))];
    assert_eq!(events(&mut watch, 2).await, past);
    client.put("ab", "2", None).await.unwrap();
    assert_eq!(events(&mut watch, 1).await, [(put, "ab".into(), None)]);

    watch.watch("b", Some(WatchOptions::new().with_watch_id(7))).await.unwrap();
    let created = timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
    assert!(created.created() && created.watch_id() == 7);
    watch.request_progress().await.unwrap();
    let progress = timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
    assert!(progress.events().is_empty());
    assert_eq!(progress.header().unwrap().revision(), 4);
    watch.cancel(7).await.unwrap();
    let canceled = timeout(SOON, watch.message()).await.unwrap().unwrap().unwrap();
    assert!(canceled.canceled() && canceled.watch_id() == 7);

    client.compact(4, None).await.unwrap();
    let lost = WatchOptions::new().with_start_revision(2);
    let mut lost = client.watch("a", Some(lost)).await.unwrap();
    let refused = timeout(SOON, async {
        loop {
            let response = lost.message().await.unwrap().unwrap();
            if response.canceled() {
                return response.compact_revision();
            }
        }
    });
    assert_eq!(refused.await.unwrap(), 4);
}

#[tokio::test]
async fn leases_live_as_long_as_they_are_renewed() {
    let (_server, mut client) = start().await;
    let lease = client.lease_grant(100, None).await.unwrap().id();
    client.put("key", "value", Some(PutOptions::new().with_lease(lease))).await.unwrap();
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.unwrap();
    for _ in 0..3 {
        keeper.keep_alive().await.unwrap();
        let answer = timeout(SOON, answers.message()).await.unwrap().unwrap().unwrap();
        assert_eq!((answer.id(), answer.ttl()), (lease, 100));
    }
    let keys = LeaseTimeToLiveOptions::new().with_keys();
    let lives = client.lease_time_to_live(lease, Some(keys)).await.unwrap();
    assert_eq!((lives.granted_ttl(), lives.keys()), (100, &[b"key".to_vec()][..]));
    assert_eq!(client.leases().await.unwrap().leases()[0].id(), lease);
    client.lease_revoke(lease).await.unwrap();
    assert_eq!(client.get("key", None).await.unwrap().count(), 0);
    let unknown = "etcdserver: requested lease not found";
    assert_eq!(refusal(client.lease_revoke(lease).await), unknown);

    // And no longer.
    let short = client.lease_grant(1, None).await.unwrap().id();
    let with_lease = PutOptions::new().with_lease(short);
    let put = client.put("short", "value", Some(with_lease)).await.unwrap();
    let since = WatchOptions::new().with_start_revision(put.header().unwrap().revision());
    let mut watch = client.watch("short", Some(since)).await.unwrap();
    let told = events(&mut watch, 2).await;
    assert_eq!(told[1], (EventType::Delete, "short".into(), None));
    assert!(client.leases().await.unwrap().leases().is_empty());
}

#[tokio::test]
async fn a_lock_passes_on_when_it_is_unlocked_or_its_lease_ends() {
    let (server, mut client) = start().await;
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(client.lease_grant(100, None).await.unwrap().id());
    }
    let locker = client.lock_client();
    let lock = |lease| {
        let mut client = locker.clone();
        let options = LockOptions::new().with_lease(lease);
        async move { client.lock("jobs", Some(options)).await.unwrap().key().to_vec() }
    };
    let first = lock(leases[0]).await;
    assert_eq!(first, format!("jobs/{:x}", leases[0]).as_bytes());
    let second = tokio::spawn(lock(leases[1]));
    queued(&mut client, "jobs/", 2).await;
    let third = tokio::spawn(lock(leases[2]));
    queued(&mut client, "jobs/", 3).await;
    client.unlock(first).await.unwrap();
    let second = timeout(SOON, second).await.unwrap().unwrap();
    assert_eq!(second, format!("jobs/{:x}", leases[1]).as_bytes());
    assert!(server.expire_lease(tenure::LeaseId::new(leases[1]).unwrap()));
    let third = timeout(SOON, third).await.unwrap().unwrap();
    client.unlock(third).await.unwrap();
    queued(&mut client, "jobs/", 0).await;
}

/// Waits until there are so many keys with this prefix.
async fn queued(client: &mut Client, prefix: &str, count: i64) {
    let counted = GetOptions::new().with_prefix().with_count_only();
    let waited = timeout(SOON, async {
        while client.get(prefix, Some(counted.clone())).await.unwrap().count() != count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("never {count} keys with {prefix}"));
}

#[tokio::test]
async fn an_election_has_one_leader_who_is_observed_and_resigns() {
    let (_server, mut client) = start().await;
    let lease = client.lease_grant(100, None).await.unwrap().id();
    assert_eq!(refusal(client.leader("boss").await), "election: no leader");
    let mut observed = client.observe("boss").await.unwrap();
    let campaign = client.campaign("boss", "one", lease).await.unwrap();
    let leader = campaign.leader().unwrap().clone();
    assert_eq!((leader.name(), leader.lease()), (&b"boss"[..], lease));
    let mut next = async || {
        let told = timeout(SOON, observed.message()).await.unwrap().unwrap().unwrap();
        told.kv().unwrap().value_str().unwrap().to_owned()
    };
    assert_eq!(next().await, "one");
    let proclaim = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("two", Some(proclaim.clone())).await.unwrap();
    assert_eq!(next().await, "two");
    let leads = client.leader("boss").await.unwrap();
    assert_eq!(leads.kv().unwrap().key(), leader.key());

    let rival = client.lease_grant(100, None).await.unwrap().id();
    let mut challenger = client.election_client();
    let waits = tokio::spawn(async move { challenger.campaign("boss", "three", rival).await });
    queued(&mut client, "boss/", 2).await;
    client.resign(Some(ResignOptions::new().with_leader(leader))).await.unwrap();
    timeout(SOON, waits).await.unwrap().unwrap().unwrap();
    assert_eq!(next().await, "three");
    assert_eq!(refusal(client.proclaim("four", Some(proclaim)).await), "election: not leader");
}

#[tokio::test]
async fn users_may_do_what_their_roles_let_them() {
    let (server, mut client) = start().await;
    client.put("open", "1", None).await.unwrap();
    client.user_add("root", "secret", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("alice", "a1", None).await.unwrap();
    client.role_add("reader").await.unwrap();
    let reads = Permission::read("pub/").with_prefix();
    client.role_grant_permission("reader", reads).await.unwrap();
    client.user_grant_role("alice", "reader").await.unwrap();
    assert_eq!(client.user_get("alice").await.unwrap().roles(), ["reader"]);
    let permissions = client.role_get("reader").await.unwrap().permissions();
    assert_eq!(permissions.iter().map(Permission::key).collect::<Vec<_>>(), [b"pub/"]);
    client.auth_enable().await.unwrap();

    assert_eq!(refusal(client.get("open", None).await), "etcdserver: user name is empty");
    let wrong = refusal(signed_in(&server, "alice", "a2").await);
    assert_eq!(wrong, "etcdserver: authentication failed, invalid user ID or password");
    let mut root = signed_in(&server, "root", "secret").await.unwrap();
    let mut alice = signed_in(&server, "alice", "a1").await.unwrap();
    root.put("pub/x", "1", None).await.unwrap();
    assert_eq!(alice.get("pub/x", None).await.unwrap().count(), 1);
    let denied = "etcdserver: permission denied";
    assert_eq!(refusal(alice.put("pub/x", "2", None).await), denied);
    assert_eq!(refusal(alice.get("open", None).await), denied);
    assert_eq!(refusal(alice.user_list().await), denied);

    root.user_change_password("alice", "a2").await.unwrap();
    let mut alice = signed_in(&server, "alice", "a2").await.unwrap();
    assert_eq!(alice.get("pub/x", None).await.unwrap().count(), 1);
    root.user_revoke_role("alice", "reader").await.unwrap();
    root.user_delete("alice").await.unwrap();
    root.auth_disable().await.unwrap();
    client.put("open", "2", None).await.unwrap();
}

#[tokio::test]
async fn maintenance_tells_what_it_is() {
    let (server, mut client) = start().await;
    client.put("a", "1", None).await.unwrap();
    let status = client.status().await.unwrap();
    assert!(status.version().starts_with("3.5."), "{}", status.version());
    assert!(status.leader() != 0 && status.db_size() > 0 && !status.is_learner());
    let members = client.member_list().await.unwrap();
    assert_eq!(members.members()[0].client_urls(), server.endpoints());
    assert_eq!(members.members()[0].id(), status.leader());
    client.defragment().await.unwrap();
    assert_eq!(client.hash_kv(0).await.unwrap().hash(), client.hash().await.unwrap().hash());

    server.raise_alarm(tenure_embed::Alarm::NoSpace);
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    assert_eq!(alarms.alarms()[0].alarm(), AlarmType::Nospace);
    let full = "etcdserver: mvcc: database space exceeded";
    assert_eq!(refusal(client.put("a", "2", None).await), full);
    let mut of_member = AlarmOptions::new();
    of_member.with_member(status.leader());
    let disarmed = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member)).await;
    assert_eq!(disarmed.unwrap().alarms().len(), 1);
    client.put("a", "2", None).await.unwrap();

    let mut snapshot = client.snapshot().await;
    let refused = match &mut snapshot {
        Ok(stream) => refusal(stream.message().await),
        Err(Error::GRpcStatus(status)) => status.message().to_owned(),
        Err(other) => panic!("{other}"),
    };
    assert!(refused.contains("its data are in memory"), "{refused}");
    let another = refusal(client.member_add(["http://127.0.0.1:1"], None).await);
    assert!(another.contains("not enough started members"), "{another}");
}
