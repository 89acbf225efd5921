use tenure_testkit::on_each_etcd;

use crate::sides::Sides;

const DENIED: &str = "permission denied";
const FAILED: &str = "etcdserver: authentication failed, invalid user ID or password";

/// Users and roles: alice reads what is public, bob does jobs, too.
async fn populate(sides: &mut Sides) {
    for words in [
        "role add reader",
        "role add writer",
        "role grant-permission reader read pub/ --prefix=true",
        "role grant-permission writer readwrite jobs/1",
        "role grant-permission writer write a c",
        "role grant-permission writer read x --from-key",
        "user add root:secret",
        "user add alice:a1",
        "user add bob --new-user-password=b1",
        "user grant-role root root",
        "user grant-role alice reader",
        "user grant-role bob writer",
        "user grant-role bob reader",
    ] {
        sides.same(words).await;
    }
    sides.same_with("user add carol --interactive=false", "c1\n").await;
}

#[tokio::test]
async fn users_and_roles_print_the_same() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        populate(&mut sides).await;
        for words in [
            "role list",
            "role get reader",
            "role get writer",
            "user list",
            "user get bob",
            "user get carol",
        ] {
            for format in ["simple", "json"] {
                sides.same(&format!("{words} -w {format}")).await;
            }
        }
        sides.same("role get writer -w fields").await;
        sides.same("user get bob --detail").await;
        for (words, says) in [
            ("role add reader", "etcdserver: role name already exists"),
            ("role get nobody", "etcdserver: role name not found"),
            ("role grant-permission nobody read y", "etcdserver: role name not found"),
            ("role grant-permission writer bad y", ""),
            ("role revoke-permission writer b", "permission is not granted to the role"),
            ("role delete nobody", "etcdserver: role name not found"),
            ("user add alice:a2", "etcdserver: user name already exists"),
            ("user add :x", "empty user name is not allowed"),
            ("user grant-role alice nobody", "etcdserver: role name not found"),
            ("user grant-role nobody reader", "etcdserver: user name not found"),
            ("user revoke-role alice writer", "etcdserver: role is not granted to the user"),
            ("user delete nobody", "etcdserver: user name not found"),
        ] {
            sides.fails(words, says).await;
        }
        for words in [
            "role revoke-permission writer a c",
            "role revoke-permission writer x --from-key",
            "role revoke-permission reader pub/ --prefix",
            "role get writer",
            "role get reader",
            "role delete reader",
            "user revoke-role bob writer",
            "user get bob",
            "user delete alice",
            "user list",
        ] {
            sides.same(words).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_does_more_than_their_roles_let_them() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        sides.fails("auth enable", "etcdserver: root user does not exist").await;
        populate(&mut sides).await;
        assert_eq!(sides.same("auth enable").await, "Authentication Enabled");
        if sides.is_new() {
            sides.same("--user=root:secret auth status").await;
        }
        for words in [
            "--user=root:secret put pub/x 1",
            "--user=root --password=secret put secret 1",
            "--user=alice:a1 get pub/x",
            "--user=alice:a1 get pub/ --prefix",
            "--user=bob:b1 put jobs/1 v",
            "--user=bob:b1 get jobs/1",
            "--user=bob:b1 put b v",
            "--user=bob:b1 get x --from-key",
            "--user=bob:b1 del jobs/1",
            "--user=bob:b1 get pub/x",
            "--user=alice:a1 user get alice",
            "--user=alice:a1 role get reader",
            "--user=alice:a1 lease grant 10 -w fields",
            "--user=alice:a1 endpoint health",
            "--user=root:secret endpoint health",
        ] {
            sides.same(words).await;
        }
        for (words, says) in [
            ("get pub/x", "etcdserver: user name is empty"),
            ("put pub/x 2", "etcdserver: user name is empty"),
            ("--user=alice:wrong get pub/x", FAILED),
            ("--user=nobody:a1 get pub/x", FAILED),
            ("--user=alice:a1 put pub/x 2", DENIED),
            ("--user=alice:a1 get pub --prefix", DENIED),
            ("--user=alice:a1 get secret", DENIED),
            ("--user=bob:b1 put jobs/2 v", DENIED),
            ("--user=bob:b1 get b", DENIED),
            ("--user=bob:b1 del a d", DENIED),
            ("--user=carol:c1 get pub/x", DENIED),
            ("--user=alice:a1 user list", DENIED),
            ("--user=alice:a1 user add dave:d1", DENIED),
            ("--user=alice:a1 user get bob", DENIED),
            ("--user=alice:a1 role get writer", DENIED),
            ("--user=alice:a1 auth disable", DENIED),
            ("--user=alice:a1 defrag", DENIED),
            ("--user=alice:a1 endpoint hashkv", DENIED),
            ("--user=root:secret user delete root", "etcdserver: invalid auth management"),
        ] {
            sides.fails(words, says).await;
        }
        let reading = "value(\"secret\") = \"1\"\n\nput jobs/1 x\n\n\n";
        sides.fails_with("--user=bob:b1 txn", reading, DENIED).await;
        sides.same_with("--user=root:secret txn", reading).await;
        let writing = "\nput jobs/1 x\nget pub/x\n\n\n";
        sides.same_with("--user=bob:b1 txn", writing).await;
    })
    .await;
}

#[tokio::test]
async fn passwords_and_roles_change_while_auth_is_on() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        populate(&mut sides).await;
        sides.same("auth enable").await;
        sides.same_with("--user=root:secret user passwd bob --interactive=false", "new\n").await;
        sides.fails("--user=bob:b1 put jobs/1 v", FAILED).await;
        sides.same("--user=bob:new put jobs/1 v").await;
        sides.same("--user=root:secret user revoke-role bob writer").await;
        sides.fails("--user=bob:new put jobs/1 v", DENIED).await;
        sides.same("--user=bob:new get pub/x").await;
        sides.same("--user=root:secret role revoke-permission reader pub/ --prefix").await;
        sides.fails("--user=bob:new get pub/x", DENIED).await;
        sides.same("--user=root:secret user delete alice").await;
        sides.fails("--user=alice:a1 get pub/x", FAILED).await;
        sides.same("--user=root:secret auth disable").await;
        assert_eq!(sides.same("get jobs/1").await, "jobs/1\nv");
    })
    .await;
}
