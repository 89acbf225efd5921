//! What the server counted.

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Order;

/// The counters of one moment.
pub struct Counters(String);

impl Counters {
    pub async fn read(order: &Order) -> anyhow::Result<Self> {
        let address = order.endpoint.trim_start_matches("http://");
        let mut stream = TcpStream::connect(address).await.context("the server's metrics")?;
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(Self(page))
    }

    /// The sum of all of this name that have these labels.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let lines = self.0.lines().filter(|line| line.starts_with(name));
        let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Processor time in seconds, to a hundredth.
    pub fn cpu(&self) -> f64 {
        self.sum("process_cpu_seconds_total", &[])
    }

    /// Calls that are one question and one answer.
    pub fn calls(&self) -> f64 {
        self.sum("grpc_server_started_total", &[r#"grpc_type="unary""#])
    }

    /// What clients said on their streams of this method.
    pub fn told(&self, method: &str) -> f64 {
        self.sum("grpc_server_msg_received_total", &[&format!(r#"grpc_method="{method}""#)])
    }

    /// Events that watches were told of, each watch by itself.
    pub fn events(&self) -> f64 {
        self.sum("etcd_debugging_mvcc_events_total", &[])
    }

    /// How many streams of this method were opened.
    pub fn streams(&self, method: &str) -> f64 {
        self.sum("grpc_server_started_total", &[&format!(r#"grpc_method="{method}""#)])
    }
}
