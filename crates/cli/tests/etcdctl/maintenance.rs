use tenure_testkit::on_each_etcd;

use crate::sides::Sides;

#[tokio::test]
async fn a_member_is_healthy_and_has_the_same_hash() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        for words in ["put a 1", "put b 2", "put a 3", "del b", "put c 4"] {
            sides.same(words).await;
        }
        for words in [
            "endpoint health",
            "endpoint health --cluster",
            "endpoint health -w json",
            "endpoint hashkv",
            "endpoint hashkv --cluster",
            "endpoint hashkv --rev=3 -w json",
            "endpoint hashkv -w fields",
            "defrag",
            "defrag --cluster",
            "alarm list",
            "alarm disarm",
            "endpoint health",
        ] {
            sides.same(words).await;
        }
        let future = "etcdserver: mvcc: required revision is a future revision";
        sides.fails("endpoint hashkv --rev=1000", future).await;
    })
    .await;
}

#[tokio::test]
async fn a_compaction_leaves_it_the_same_hash() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        for words in ["put a 1", "put b 2", "put a 3", "del b", "put c 4", "put c 5"] {
            sides.same(words).await;
        }
        sides.same("compaction 6 --physical").await;
        sides.same("endpoint hashkv -w json").await;
        sides.same("endpoint hashkv --rev=7 -w json").await;
        sides.same("put a 6").await;
        sides.same("del c").await;
        sides.same("endpoint hashkv -w json").await;
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        sides.fails("endpoint hashkv --rev=5", compacted).await;
    })
    .await;
}

#[tokio::test]
async fn the_status_says_what_it_is() {
    on_each_etcd(async |etcd| {
        let sides = Sides::start(&etcd).await;
        for words in ["endpoint status", "endpoint status --cluster"] {
            let line = sides.embedded.raw(words).await;
            let fields: Vec<_> = line.trim_end().split(", ").collect();
            assert_eq!(fields[0], sides.embedded.endpoint);
            assert!(fields[2].starts_with("3.5.") && fields[2].contains("embedded"), "{line}");
            // It leads, is no learner, and is in its second term.
            assert_eq!(fields[4..7], ["true", "false", "2"], "{line}");
        }
        let json = sides.embedded.raw("endpoint status -w json").await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let status = &json[0]["Status"];
        assert_eq!(status["leader"], status["header"]["member_id"]);
        assert_eq!(status["header"]["revision"], 1);
        assert!(status["raftIndex"].as_u64() > Some(0) && status["dbSize"].as_u64() > Some(0));
        let table = sides.embedded.raw("endpoint status -w table").await;
        assert!(table.contains(&sides.embedded.endpoint), "{table}");
    })
    .await;
}

#[tokio::test]
async fn it_has_one_member_and_takes_no_other() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        let line = sides.embedded.raw("member list").await;
        let fields: Vec<_> = line.trim_end().split(", ").collect();
        assert_eq!(fields[1..], ["started", "embedded", "", &sides.embedded.endpoint, "false"]);
        for (words, says) in [
            ("member add other --peer-urls=http://127.0.0.1:1", "not enough started members"),
            ("member add other --peer-urls=http://127.0.0.1:1 --learner", "etcdserver: "),
            ("snapshot save snapshot.db", "its data are in memory"),
        ] {
            let said = sides.embedded.said(words, "").await;
            assert_ne!(said.code, 0, "{words}: {said:?}");
            assert!(said.stderr.contains(says), "{words}: {said:?}");
        }
        for (words, says) in [
            ("member remove 1", "etcdserver: member not found"),
            ("member promote 1", "etcdserver: member not found"),
            ("member update 1 --peer-urls=http://127.0.0.1:1", "etcdserver: member not found"),
            ("move-leader 1", "etcdserver: bad leader transferee"),
        ] {
            sides.fails(words, says).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_full_database_raises_an_alarm_until_it_is_disarmed() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::with_flags(&etcd, &["--quota-backend-bytes=8388608"]).await;
        let full = "etcdserver: mvcc: database space exceeded";
        // They do not count alike: etcd's database has pages.
        for side in [&mut sides.embedded, &mut sides.real] {
            let value = "x".repeat(1_000_000);
            loop {
                let said = side.said("put big", &value).await;
                if said.code != 0 {
                    assert!(said.stderr.contains(full), "{said:?}");
                    break;
                }
            }
        }
        assert!(sides.same("alarm list").await.contains("alarm:NOSPACE"));
        sides.fails("put small 1", full).await;
        sides.fails_with("txn", "\nput small 1\n\n\n", full).await;
        sides.fails("lease grant 10", full).await;
        // Since 3.5 that is no health.
        match sides.is_new() {
            true => sides.fails("endpoint health", "").await,
            false => drop(sides.same("endpoint health").await),
        }
        sides.same("get small").await;
        assert_eq!(sides.same("del big").await, "1");
        for side in [&sides.embedded, &sides.real] {
            let status = side.raw("get x -w json").await;
            let status: serde_json::Value = serde_json::from_str(&status).unwrap();
            side.raw(&format!("compaction {} --physical", status["header"]["revision"])).await;
        }
        sides.same("defrag").await;
        sides.fails("put small 1", full).await;
        sides.same("alarm disarm").await;
        sides.same("put small 1").await;
        assert_eq!(sides.same("alarm list").await, "");
        sides.same("endpoint health").await;
    })
    .await;
}
