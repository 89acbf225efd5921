use tenure_testkit::on_each_etcd;

use crate::support::{Running, Served, program, run};

#[tokio::test]
async fn etcdctl_works_on_tenure_serve() {
    on_each_etcd(async |etcd| {
        let served = Served::start(["--name=infra0", "--data-dir=unused"]).await;
        let etcdctl = etcd.etcdctl().unwrap();
        let command = |words: &str| {
            let mut command = program(&etcdctl);
            command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", &served.endpoint);
            command.args(words.split(' '));
            command
        };
        for (words, prints) in [
            ("put key value", "OK\n"),
            ("get key", "key\nvalue\n"),
            ("lock jobs echo locked", "locked\n"),
            ("del key", "1\n"),
        ] {
            let (code, stdout, stderr) = run(command(words)).await;
            assert_eq!((code, &*stdout), (0, prints), "{words}: {stderr}");
        }
        let (code, members, _) = run(command("member list")).await;
        let member = format!(", started, infra0, , {}, false\n", served.endpoint);
        assert!(code == 0 && members.ends_with(&member), "{members}");
        let mut watch = Running::start(command("watch key --rev=1"));
        for line in ["PUT", "key", "value", "DELETE", "key", ""] {
            assert_eq!(watch.line().await, line);
        }
        served.running.signal("TERM");
        assert_eq!(served.running.end().await, (0, String::new()));
        let (code, _, stderr) = run(command("get key --dial-timeout=1s")).await;
        assert_ne!(code, 0, "{stderr}");
    })
    .await;
}
