use tenure_testkit::on_each_etcd;

use crate::sides::Sides;

#[tokio::test]
async fn transactions_from_stdin_print_the_same() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        sides.same("put a 1").await;
        for (txn, result) in [
            ("value(\"a\") = \"1\"\nmod(\"a\") > \"0\"\n\nput a 2\nget a\n\nput a 3\n\n", "SUCC"),
            ("value(\"a\") = \"0\"\n\nput a 4\n\nget a\nput b 5 --prev-kv\n\n", "FAIL"),
            (
                "create(\"new\") = \"0\"\nver(\"a\") > \"1\"\n\nput new x\ndel a --prev-kv\n\n\n",
                "SUCC",
            ),
            ("\nget '' --prefix\nget new --rev=2\n\n\n", "SUCC"),
            ("value(\"nothing\") != \"x\"\n\n\nget a\n\n", "FAIL"),
            ("\n\n\n", "SUCC"),
        ] {
            let printed = sides.same_with("txn", txn).await;
            assert!(printed.starts_with(result), "{txn}: {printed}");
            for format in ["json", "fields"] {
                sides.same_with(&format!("txn -w {format}"), txn).await;
            }
            let printed = sides.same_with("txn -i", txn).await;
            assert!(printed.starts_with("compares:\n"), "{printed}");
            sides.same("put a 1").await;
            sides.same("del new").await;
        }
    })
    .await;
}

#[tokio::test]
async fn transactions_that_cannot_be_fail_with_the_same_words_and_change_nothing() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::with_flags(&etcd, &["--max-txn-ops=3"]).await;
        for (txn, says) in [
            ("\nput a 1\nput a 2\n\n\n", "etcdserver: duplicate key given in txn request"),
            ("\nput a 1\ndel a --prefix\n\n\n", "etcdserver: duplicate key given"),
            ("\nput a 1\nget a --rev=99\n\n\n", "required revision is a future revision"),
            (
                "\nput a 1\nput b 1\nput c 1\nput d 1\n\n\n",
                "etcdserver: too many operations in txn request",
            ),
        ] {
            sides.fails_with("txn", txn, says).await;
        }
        assert_eq!(sides.same("get '' --prefix --keys-only").await, "");
        sides.same_with("txn", "\nput a 1\nput b 1\nput c 1\n\n\n").await;
    })
    .await;
}
