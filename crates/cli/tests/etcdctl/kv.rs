use prost::Message;
use tenure::wire::etcdserverpb::{PutResponse, RangeResponse};
use tenure_testkit::on_each_etcd;

use crate::sides::Sides;

/// Some keys with a past.
async fn fill(sides: &mut Sides) {
    for words in [
        "put a 1",
        "put b 2",
        "put c 3",
        "put b 0",
        "put ab -- -4",
        "put empty ''",
        "put key/1 x",
        "put key/2 y",
        "put a 7",
    ] {
        assert_eq!(sides.same(words).await, "OK");
    }
}

#[tokio::test]
async fn puts_and_deletes_print_the_same() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        fill(&mut sides).await;
        for format in ["simple", "json", "fields"] {
            for words in ["put a 8", "put a 9 --prev-kv", "put a --ignore-value", "del nothing"] {
                sides.same(&format!("{words} -w {format}")).await;
            }
            for words in ["del b --prev-kv", "del key/ --prefix --prev-kv", "del a c --prev-kv"] {
                sides.same(&format!("{words} -w {format}")).await;
                fill(&mut sides).await;
            }
            sides.same(&format!("del c --from-key -w {format}")).await;
            sides.same(&format!("del '' --prefix -w {format}")).await;
            fill(&mut sides).await;
        }
        sides.same_with("put a", "from\nstdin\n").await;
        assert!(sides.same("get a").await.contains("from\nstdin"));
        sides.grant(100).await;
        sides.same("put a leased --lease={lease}").await;
        sides.same("put a still --ignore-lease").await;
        let fields = sides.same("get a -w fields").await;
        assert!(fields.contains("\"Value\" : \"still\"\n\"Lease\" : <id"), "{fields}");
    })
    .await;
}

#[tokio::test]
async fn every_flag_of_get_prints_the_same() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        fill(&mut sides).await;
        let ranges = ["a", "a c", "b --from-key", "key/ --prefix", "'' --prefix", "nothing"];
        let flags = [
            "",
            "--limit=2",
            "--order=DESCEND",
            "--sort-by=CREATE",
            "--sort-by=MODIFY --order=DESCEND",
            "--sort-by=VALUE --order=ASCEND --limit=1",
            "--sort-by=VERSION --order=DESCEND",
            "--sort-by=KEY",
            "--rev=4",
            "--keys-only",
            "--consistency=s",
            "--consistency=l",
            "--hex",
            "--print-value-only",
        ];
        for (number, range) in ranges.into_iter().enumerate() {
            for (turn, flags) in flags.into_iter().enumerate() {
                // Each range with each flag, and each flag in each format.
                let format = match flags {
                    "--print-value-only" => "simple",
                    _ => ["simple", "json", "fields"][(number + turn) % 3],
                };
                let words = format!("get {range} {flags} -w {format}").replace("  ", " ");
                sides.same(&words).await;
            }
        }
        if sides.is_new() {
            sides.same("get a c --count-only -w fields").await;
        }
        assert!(sides.same("get '' --prefix --hex -w json").await.starts_with('{'));
    })
    .await;
}

#[tokio::test]
async fn protobuf_is_the_same_but_for_ids() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        fill(&mut sides).await;
        let mut puts = Vec::new();
        let mut ranges = Vec::new();
        for side in [&sides.embedded, &sides.real] {
            let put = side.output("put a 9 --prev-kv -w protobuf", "").await.1;
            let mut put = PutResponse::decode(&*put).unwrap();
            let range = side.output("get '' --prefix -w protobuf", "").await.1;
            let mut range = RangeResponse::decode(&*range).unwrap();
            for header in [&mut put.header, &mut range.header] {
                let header = header.as_mut().unwrap();
                assert!(header.cluster_id != 0 && header.member_id != 0, "{header:?}");
                (header.cluster_id, header.member_id) = (0, 0);
            }
            puts.push(put);
            ranges.push(range);
        }
        assert_eq!(puts[0], puts[1]);
        assert_eq!(ranges[0], ranges[1]);
        assert_eq!(ranges[0].count, 7);
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_asked_fails_with_the_same_words() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        fill(&mut sides).await;
        for (words, says) in [
            ("put '' value", "etcdserver: key is not provided"),
            ("put nothing --ignore-value", "etcdserver: key not found"),
            ("put a x --lease=1234", "etcdserver: requested lease not found"),
            ("get a --rev=1000", "etcdserver: mvcc: required revision is a future revision"),
            ("get a --order=UP", "bad sort order"),
            ("get a -w table", ""),
            ("compaction 1000", "etcdserver: mvcc: required revision is a future revision"),
        ] {
            sides.fails(words, says).await;
        }
        let limit = 1536 * 1024;
        sides.same_with("put big", &"x".repeat(limit - 100)).await;
        let too_large = "request is too large";
        sides.fails_with("put big", &"x".repeat(limit), too_large).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_compacted_is_gone_in_the_same_way() {
    on_each_etcd(async |etcd| {
        let mut sides = Sides::start(&etcd).await;
        fill(&mut sides).await;
        assert_eq!(sides.same("compaction 5").await, "compacted revision 5");
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        for words in ["compaction 5", "compaction 3", "get a --rev=4"] {
            sides.fails(words, compacted).await;
        }
        sides.same("get a --rev=5 -w json").await;
        sides.same("compaction 8 --physical").await;
        sides.same("get '' --prefix --rev=8").await;
        sides.same("get '' --prefix").await;
    })
    .await;
}
