//! What a test can do to the server, and what a client sees of it. In virtual time.

use std::{net::SocketAddr, time::Duration};

use futures::StreamExt;
use tenure::{Client, Code, ErrorKind, EtcdError, Get, LeaseState, Revision};
use tenure_embed::{Alarm, Call, Data, Embedded, Fault};
use tokio::{
    task::LocalSet,
    time::{Instant, sleep, timeout},
};

const SOON: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);

/// A server and a client on one thread with paused time.
fn virtually(test: impl AsyncFn(Embedded, Client)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let server = Embedded::builder().in_process().start().await.unwrap();
        let client = server.connect().local().connect().await.unwrap();
        test(server, client).await;
    });
}

async fn value(client: &Client, key: &'static str) -> Option<String> {
    let kv = client.get(key).await.unwrap().into_kv();
    kv.map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

#[test]
fn a_write_whose_answer_is_lost_was_applied_and_the_client_cannot_know() {
    virtually(async |server, client| {
        let lost = server.inject(Fault::lose_answer().on(Call::Put).times(1));
        let error = client.put("k", "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate);
        assert!(lost.is_spent());
        assert_eq!(value(&client, "k").await.as_deref(), Some("v"));
        client.put("k", "w").await.unwrap();
    });
}

#[test]
fn a_write_whose_request_is_lost_was_not_applied_and_the_client_cannot_know() {
    virtually(async |server, client| {
        server.inject(Fault::lose_request().on(Call::Put).times(1)).forget();
        let error = client.put("k", "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate);
        assert_eq!(value(&client, "k").await, None);
    });
}

#[test]
fn a_call_is_refused_as_often_as_it_is_told() {
    virtually(async |server, client| {
        let refused = Fault::refuse(Code::ResourceExhausted, "etcdserver: too many requests");
        server.inject(refused.clone().on(Call::Put).times(1)).forget();
        let error = client.put("k", "v").await.unwrap_err();
        assert_eq!(error.etcd_error(), Some(EtcdError::TooManyRequests));
        client.put("k", "v").await.unwrap();
        // While the handle lives.
        let while_held = server.inject(refused.on(Call::Put));
        client.put("k", "v").await.unwrap_err();
        client.put("k", "v").await.unwrap_err();
        drop(while_held);
        client.put("k", "v").await.unwrap();
    });
}

#[test]
fn a_call_is_late_and_a_call_is_never_answered() {
    virtually(async |server, client| {
        let begun = Instant::now();
        let late = server.inject(Fault::delay(Duration::from_secs(3)).on(Call::Put));
        client.put("k", "v").await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 3);
        drop(late);
        // Nobody waits so long for it, and it happens all the same.
        server.inject(Fault::delay(MINUTE).on(Call::Put).times(1)).forget();
        let before = server.revision();
        client.put("k", "v").await.unwrap_err();
        assert_eq!(server.revision(), before);
        sleep(MINUTE).await;
        assert!(server.revision() > before);
        for (fault, applied) in [(Fault::ignore(), false), (Fault::silence(), true)] {
            let before = server.revision();
            server.inject(fault.on(Call::Put).times(1)).forget();
            let error = client.put("k", "v").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Indeterminate);
            assert_eq!(server.revision() > before, applied);
        }
    });
}

#[test]
fn a_watch_outlives_cut_connections_and_cut_streams() {
    virtually(async |server, client| {
        let mut watch = client.watch("k").await.unwrap();
        for round in 0..6 {
            match round % 2 {
                0 => server.cut_connections(),
                _ => server.cut_streams(),
            }
            let put = loop {
                // Its connection may have been the one that broke.
                match client.put("k", round.to_string()).await {
                    Ok(put) => break put.header.revision,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Indeterminate),
                }
            };
            let mut seen = Revision(0);
            while seen < put {
                let response = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
                seen = response.events().last().map_or(seen, |event| event.kv.mod_revision);
            }
        }
    });
}

#[test]
fn silent_streams_tell_later_what_happened_meanwhile() {
    virtually(async |server, client| {
        let mut watch = client.watch("k").await.unwrap();
        server.silence_streams(true);
        client.put("k", "v").await.unwrap();
        assert!(timeout(Duration::from_millis(500), watch.next()).await.is_err());
        server.silence_streams(false);
        let response = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(response.events().len(), 1);
    });
}

#[test]
fn a_kept_lease_in_silence_is_lost_before_it_ends() {
    virtually(async |server, client| {
        let ttl = Duration::from_secs(15);
        let lease = client.lease_grant(ttl).await.unwrap().id;
        let kept = client.lease_keep_alive(lease).await.unwrap();
        let mut states = kept.states();
        server.silence_streams(true);
        let begun = Instant::now();
        while !matches!(states.next().await, Some(LeaseState::Lost { .. }) | None) {}
        assert!(begun.elapsed() < ttl, "{:?}", begun.elapsed());
    });
}

#[test]
fn who_is_refused_a_connection_knows_that_nothing_was_sent() {
    virtually(async |server, client| {
        client.put("k", "v").await.unwrap();
        server.refuse_connections().await;
        // The first may be under way on the connection that breaks.
        client.put("k", "v").await.unwrap_err();
        let error = client.put("k", "w").await.unwrap_err();
        assert_ne!(error.kind(), ErrorKind::Indeterminate, "{error}");
        server.accept_connections().await.unwrap();
        assert_eq!(value(&client, "k").await.as_deref(), Some("v"));
    });
}

#[test]
fn a_lease_ends_when_told_and_a_frozen_one_does_not_end_at_all() {
    virtually(async |server, client| {
        let now = client.lease_grant(MINUTE).await.unwrap().id;
        client.put("now", "").lease(now).await.unwrap();
        assert!(server.expire_lease(now) && !server.expire_lease(now));
        assert_eq!(value(&client, "now").await, None);

        let never = client.lease_grant(MINUTE).await.unwrap().id;
        client.put("never", "").lease(never).await.unwrap();
        assert!(server.freeze_lease(never));
        sleep(10 * MINUTE).await;
        assert!(value(&client, "never").await.is_some());
        client.lease_keep_alive_once(never).await.unwrap();
        sleep(MINUTE).await;
        assert_eq!(value(&client, "never").await, None);
    });
}

#[test]
fn a_compaction_ends_watches_from_before_it() {
    virtually(async |server, client| {
        for _ in 0..3 {
            client.put("k", "v").await.unwrap();
        }
        server.compact(Revision(4)).unwrap();
        assert!(server.compact(Revision(4)).is_err() && server.compact(Revision(9)).is_err());
        let mut watch = client.watch("k").start_revision(Revision(2)).open();
        let error = timeout(SOON, watch.next()).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compacted);
    });
}

#[test]
fn an_alarm_refuses_writes_until_it_is_lifted() {
    virtually(async |server, client| {
        for (alarm, why) in
            [(Alarm::NoSpace, EtcdError::NoSpace), (Alarm::Corrupt, EtcdError::Corrupt)]
        {
            server.raise_alarm(alarm);
            let error = client.put("k", "v").await.unwrap_err();
            assert_eq!(error.etcd_error(), Some(why));
            client.get("k").await.unwrap();
            server.lift_alarm(alarm);
            client.put("k", "v").await.unwrap();
        }
    });
}

#[test]
fn without_a_leader_only_serializable_reads_are_answered_and_no_lease_ends() {
    virtually(async |server, client| {
        let lease = client.lease_grant(MINUTE).await.unwrap().id;
        client.put("leased", "").lease(lease).await.unwrap();
        sleep(MINUTE / 2).await;
        server.lose_leader();

        let begun = Instant::now();
        let error = client.put("k", "v").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate);
        assert_eq!(begun.elapsed().as_secs(), 7);
        client.execute(Get::new("k").serializable()).await.unwrap();
        sleep(10 * MINUTE).await;

        server.change_leader();
        assert!(value(&client, "leased").await.is_some());
        // It has its whole time again.
        let left = client.lease_time_to_live(lease).await.unwrap();
        assert_eq!(left.remaining.unwrap().as_secs(), 60);
        sleep(MINUTE).await;
        assert_eq!(value(&client, "leased").await, None);
    });
}

#[test]
fn a_restart_keeps_all_or_nothing() {
    virtually(async |server, client| {
        client.put("k", "v").await.unwrap();
        let lease = client.lease_grant(MINUTE).await.unwrap().id;
        let before = client.put("leased", "").lease(lease).await.unwrap().header;
        sleep(MINUTE / 2).await;
        server.restart(Data::Kept);
        let kept = client.get("k").await.unwrap();
        assert_eq!(kept.header.cluster_id, before.cluster_id);
        assert_eq!(kept.header.revision, before.revision);
        sleep(MINUTE - Duration::from_secs(1)).await;
        assert!(value(&client, "leased").await.is_some());

        server.restart(Data::Lost);
        let lost = client.get("k").await.unwrap();
        assert!(lost.kvs.is_empty() && lost.header.revision == Revision(1));
        assert_ne!(lost.header.cluster_id, before.cluster_id);
    });
}

#[test]
fn a_tap_keeps_what_was_asked_and_answered() {
    virtually(async |server, client| {
        let tap = server.tap(2);
        client.get("k").await.unwrap();
        client.put("k", "v").await.unwrap();
        client.execute(Get::new("k").revision(Revision(9))).await.unwrap_err();
        assert_eq!(tap.missed(), 1);
        let calls = tap.take();
        let paths: Vec<&str> = calls.iter().map(|call| &call.path[..]).collect();
        assert_eq!(paths, [Call::Put.path(), Call::Range.path()]);
        assert_eq!(calls[0].revision, Some(Revision(2)));
        assert!(calls[0].request.windows(1).any(|byte| byte == b"k"));
        let refused = calls[1].answer.clone().unwrap().unwrap_err();
        assert_eq!(refused.0, Code::OutOfRange);
        assert_eq!(calls[1].revision, None);
    });
}

#[tokio::test]
async fn only_this_machine_is_let_in_unless_told_otherwise() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    let error = Embedded::builder().listen(everywhere).start().await.unwrap_err();
    assert!(error.to_string().contains("allow_remote_unreplicated"), "{error}");
    Embedded::builder().listen(everywhere).allow_remote_unreplicated().start().await.unwrap();
}

#[tokio::test]
async fn a_port_is_free_when_the_server_has_stopped_and_taken_again_after_a_refusal() {
    let server = Embedded::start().await.unwrap();
    let endpoint = server.endpoints().remove(0);
    let address: SocketAddr = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    let client = Client::connect([&endpoint]).await.unwrap();
    client.put("k", "v").await.unwrap();
    server.refuse_connections().await;
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());
    server.accept_connections().await.unwrap();
    assert_eq!(value(&client, "k").await.as_deref(), Some("v"));
    server.stop().await;
    Embedded::builder().listen(address).start().await.unwrap();
}
