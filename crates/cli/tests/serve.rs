//! `tenure serve` is an etcd to whoever has a script for one, and says that it is none.

mod support;

use std::net::TcpListener;

use support::*;
use tenure::{Client, ErrorKind, KeyRange, Put};

#[tokio::test]
async fn a_script_written_for_etcd_starts_it_and_is_told_what_has_no_effect() {
    let flags = [
        "--name",
        "infra0",
        "--data-dir=/var/lib/etcd",
        "--initial-cluster",
        "infra0=http://127.0.0.1:2380",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--bcrypt-cost",
        "4",
        "--unsafe-no-fsync",
        "-logger=zap",
        "--log-level",
        "fatal",
        "--auth-token=simple",
        "--max-txn-ops=2",
        "--quota-backend-bytes",
        "100000",
    ];
    let served = Served::start(flags).await;
    assert_eq!(
        served.said,
        ["tenure: without effect here: --data-dir, --initial-cluster, --listen-peer-urls, \
          --bcrypt-cost, --unsafe-no-fsync, --logger"]
    );

    let client = Client::connect([&served.endpoint]).await.unwrap();
    let puts = |count| (0..count).map(|number| Put::new(format!("key/{number}"), "value"));
    client.txn().and_then(puts(2)).await.unwrap();
    let refused = client.txn().and_then(puts(3)).await.unwrap_err();
    assert!(refused.to_string().contains("too many operations"), "{refused}");
    let full = async || client.put("big", vec![0; 60_000]).await;
    full().await.unwrap();
    let refused = full().await.unwrap_err();
    assert!(refused.to_string().contains("database space exceeded"), "{refused}");

    // The command itself is one of its clients.
    let (code, keys, _) =
        run(tenure(&served.endpoint, ["get", "key/", "--prefix", "--keys-only"])).await;
    assert_eq!((code, &*keys), (0, "key/0\nkey/1\n"));
    served.running.signal("TERM");
    assert_eq!(served.running.end().await, (0, String::new()));
}

#[tokio::test]
async fn a_signal_ends_it_with_code_0_and_the_watches_that_are_open() {
    for signal in ["TERM", "INT", "HUP"] {
        let served = Served::start([]).await;
        assert_eq!(served.said, [""; 0]);
        let client = Client::connect([&served.endpoint]).await.unwrap();
        let mut watches = Vec::new();
        for _ in 0..100 {
            watches.push(client.watch(KeyRange::all()).await.unwrap());
        }
        served.running.signal(signal);
        let (code, said) = served.running.end().await;
        assert_eq!((code, &*said), (0, ""), "SIG{signal}");
        let gone = client.get("key").timeout(SOON / 20).await.unwrap_err();
        assert!(matches!(gone.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{gone}");
    }
}

#[tokio::test]
async fn the_port_is_etcds_if_none_is_named_and_one_that_is_taken_is_an_error() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = TcpListener::bind(taken).unwrap();
    let url = format!("http://{taken}");
    let (code, _, stderr) = run(tenure("", ["serve", "--listen-client-urls", &url])).await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.starts_with(&format!("tenure: cannot listen on {taken}: ")), "{stderr}");
    drop(held);

    // Somebody else may have it, on the machine of this test.
    let mut running = Running::start(tenure("", ["serve"]));
    let line = running.complaint().await;
    assert!(
        line.starts_with("tenure: serving etcd's API on http://127.0.0.1:2379: ")
            || line.starts_with("tenure: cannot listen on 127.0.0.1:2379: "),
        "{line}"
    );
}

#[tokio::test]
async fn an_address_that_other_machines_reach_needs_a_flag_of_its_own() {
    let urls = "--listen-client-urls=http://127.0.0.1:0,http://0.0.0.0:0";
    let (code, _, stderr) = run(tenure("", ["serve", urls])).await;
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("0.0.0.0:0 is not a loopback address"), "{stderr}");
    assert!(stderr.contains("(--allow-remote-unreplicated)"), "{stderr}");

    let served = Served::start([urls, "--allow-remote-unreplicated", "--name=open"]).await;
    let endpoints: Vec<_> = served.endpoint.split(", ").collect();
    assert_eq!(endpoints.len(), 3, "{endpoints:?}");
    assert!(endpoints.iter().all(|url| !url.ends_with(":0")), "{endpoints:?}");
    let remote = endpoints[2].strip_prefix("http://0.0.0.0:").unwrap();
    let client = Client::connect([format!("http://127.0.0.1:{remote}")]).await.unwrap();
    client.put("key", "value").await.unwrap();
}

#[tokio::test]
async fn what_it_cannot_be_is_refused_and_says_why() {
    for (flag, says) in [
        ("--no-such-flag=1", "--no-such-flag is not a flag of etcd 3.5"),
        // One of the command's own, which mean nothing here.
        ("--endpoints=http://127.0.0.1:2379", "--endpoints is not a flag of etcd 3.5"),
        ("--name", "--name needs a value"),
        ("--max-txn-ops=many", "--max-txn-ops=many: not a number"),
        ("--auth-token=jwt,sign-method=RS256", "simple tokens only"),
        ("--listen-client-urls=https://127.0.0.1:0", "no TLS"),
        ("--log-level=loud", "--log-level=loud: not one of debug, info, warn, error, panic"),
        ("start", "\"start\" is not a flag"),
    ] {
        let (code, _, stderr) = run(tenure("", ["serve", flag])).await;
        assert_eq!(code, 2, "{flag}: {stderr}");
        assert!(stderr.contains(says), "{flag}: {stderr}");
    }
}

#[tokio::test]
async fn etcds_levels_of_the_log_are_taken() {
    for (level, logs) in [
        ("debug", true),
        ("info", true),
        ("warn", false),
        ("error", false),
        ("panic", false),
        ("fatal", false),
    ] {
        let served = Served::start(["--log-level", level]).await;
        let logged = served.said.iter().any(|line| line.contains("INFO tenure_embed"));
        assert_eq!(logged, logs, "{level}: {:?}", served.said);
    }
    // The command's own flag before the verb is for what the line does not say.
    let listen = "--listen-client-urls=http://127.0.0.1:0";
    let mut running = Running::start(tenure("", ["--log-level", "info", "serve", listen]));
    let line = running.complaint().await;
    assert!(line.contains("INFO tenure_embed"), "{line}");
}

#[tokio::test]
async fn its_help_has_etcds_flags_and_not_those_of_a_connection() {
    for help in ["--help", "-h"] {
        let (code, text, _) = run(tenure("", ["serve", help])).await;
        assert_eq!(code, 0);
        for says in ["--listen-client-urls", "--allow-remote-unreplicated", "no replication"] {
            assert!(text.contains(says), "{text}");
        }
        assert!(!text.contains("--cacert"), "{text}");
    }
    let (_, text, _) = run(tenure("", ["--help"])).await;
    assert!(text.contains("  serve    Run an etcd server in this process"), "{text}");
}
