use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long for a loopback, and short enough to ask a few frozen members in turn.
const PATIENCE: Duration = Duration::from_millis(500);

/// The body that a plain HTTP server answers to GET, whatever its status code.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        // Ends with a reset: thousands of questions would leave as many sockets in TIME_WAIT.
        stream.set_zero_linger()?;
        // Version 1.0: the answer comes in one piece and ends with the connection.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        body.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    timeout(PATIENCE, exchange).await?
}

/// The value of a metric without labels in a page of Prometheus' text format.
pub(crate) fn metric(page: &str, name: &str) -> Option<f64> {
    let mut lines = page.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(key, _)| *key == name).and_then(|(_, value)| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::metric;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let page = "# HELP up now\n# TYPE up gauge\nup_time 3\nup 1\nbig 1.5e+06\n";
        assert_eq!(metric(page, "up"), Some(1.0));
        assert_eq!(metric(page, "big"), Some(1.5e6));
        assert_eq!(metric(page, "down"), None);
    }
}
