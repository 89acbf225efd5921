use tenure_testkit::{eventually, on_each_etcd};

use crate::{
    sides::{Side, Sides},
    support::SOON,
};

async fn mirrored(from: &Side, to: &Side) {
    for words in ["put m/1 one", "put m/2 two", "put other x"] {
        from.raw(words).await;
    }
    let destination = to.endpoint.trim_start_matches("http://");
    let _mirror = from.run(&format!("make-mirror --prefix=m/ --dest-prefix=copy/ {destination}"));
    let copy = async |expected: &str| {
        eventually(SOON, expected, async || to.raw("get copy --prefix").await == expected).await;
    };
    copy("copy/1\none\ncopy/2\ntwo\n").await;
    from.raw("put m/3 three").await;
    from.raw("del m/1").await;
    copy("copy/2\ntwo\ncopy/3\nthree\n").await;
    // One transaction is one there, too.
    let txn = "\nput m/2 2\nput m/4 4\n\n\n";
    assert_eq!(from.output("txn", txn).await.0, 0);
    copy("copy/2\n2\ncopy/3\nthree\ncopy/4\n4\n").await;
    assert_eq!(to.raw("get other").await, "");
}

#[tokio::test]
async fn keys_are_mirrored_to_an_etcd_and_back() {
    on_each_etcd(async |etcd| {
        let Sides { embedded, real, .. } = Sides::start(&etcd).await;
        mirrored(&embedded, &real).await;
        for side in [&embedded, &real] {
            side.raw("del '' --prefix").await;
        }
        mirrored(&real, &embedded).await;
    })
    .await;
}
