use tenure_testkit::on_each_etcd;

use crate::sides::Sides;

const FORMATS: [&str; 3] = ["simple", "json", "fields"];

#[tokio::test]
async fn leases_print_the_same_from_grant_to_revocation() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        sides.grant(1000).await;
        assert_eq!(sides.same("lease list").await, "found 1 leases\n<id 1>");
        for format in FORMATS {
            for words in ["lease keep-alive --once {lease}", "lease list"] {
                sides.same(&format!("{words} -w {format}")).await;
            }
        }
        sides.same("put key value --lease={lease}").await;
        for words in ["lease timetolive {lease}", "lease timetolive {lease} --keys"] {
            sides.same(words).await;
            sides.same(&format!("{words} -w json")).await;
        }
        sides.same("lease revoke {lease}").await;
        assert_eq!(sides.same("get key").await, "");
        for format in ["simple", "json"] {
            sides.same(&format!("lease timetolive {{lease}} -w {format}")).await;
        }
        let unknown = "etcdserver: requested lease not found";
        sides.fails("lease revoke {lease}", unknown).await;
        sides.fails("lease keep-alive --once {lease}", unknown).await;
        let expired = sides.same("lease keep-alive {lease}").await;
        assert!(expired.ends_with("expired or revoked."), "{expired}");
        for format in FORMATS {
            sides.same(&format!("lease grant 1000 -w {format}")).await;
        }
        sides.same("lease grant 0").await;
        sides.fails("lease grant 9000000001", "etcdserver: too large lease TTL").await;
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_nobody_renews_ends_and_one_that_is_renewed_does_not() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        sides.grant(1).await;
        let mut keepers = sides.run("lease keep-alive {lease}");
        sides.same("put kept value --lease={lease}").await;
        sides.lines(&mut keepers, 1).await;

        sides.grant(1).await;
        sides.same("put left value --lease={lease}").await;
        // It ends with its lease.
        let mut watches = sides.run("watch left --rev=3");
        let lines = sides.lines(&mut watches, 6).await;
        assert_eq!(lines, ["PUT", "left", "value", "DELETE", "left", ""]);
        sides.lines(&mut keepers, 1).await;
        assert_eq!(sides.same("get kept").await, "kept\nvalue");
        assert_eq!(sides.same("get left").await, "");
    })
    .await;
}
