//! What a client leaves behind: nothing.

use std::{fs, process::Command};

use tenure_testkit::{TestServer, eventually, on_each_server};

use crate::PATIENCE;

/// Set where the test has a process of its own: threads and files of others would be counted too.
const ALONE: &str = "TENURE_TEST_ALONE";

/// The threads and the open files of this process.
fn in_use() -> [usize; 2] {
    ["/proc/self/task", "/proc/self/fd"].map(|dir| fs::read_dir(dir).unwrap().count())
}

#[tokio::test]
async fn clients_leave_no_thread_and_no_socket_behind() {
    if std::env::var_os(ALONE).is_none() {
        let this = "resources::clients_leave_no_thread_and_no_socket_behind";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", this, "--test-threads=1", "--nocapture"]).env(ALONE, "1");
        let output = tokio::task::spawn_blocking(move || alone.output()).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    on_each_server(async |server| {
        let server = TestServer::builder(&server).fast(true).start().await.unwrap();
        let before = in_use();
        for closed in [true, false] {
            let mut clients = Vec::new();
            for number in 0..30 {
                let client = server.client().await.unwrap();
                client.put(format!("key/{number}"), "1").await.unwrap();
                let watch = client.watch("a").await.unwrap();
                clients.push((client, watch));
            }
            let [threads, files] = in_use();
            assert!(threads >= before[0] + 30 && files >= before[1] + 30, "{threads} {files}");
            if closed {
                for (client, _) in &clients {
                    client.close().await;
                }
            }
            drop(clients);
            eventually(PATIENCE, "all is given back", async || in_use() == before).await;
        }
    })
    .await;
}
