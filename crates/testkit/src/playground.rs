use crate::{Error, TestServer};

/// A cluster to try something on: the one `TENURE_ENDPOINTS` names (endpoints, with commas
/// between), else an embedded server on a free port of 127.0.0.1.
///
/// Dropping it ends the server that was started.
#[derive(Debug)]
pub struct Playground {
    endpoints: Vec<String>,
    _started: Option<TestServer>,
}

impl Playground {
    /// Finds the cluster, or starts the server, which it says on stderr.
    ///
    /// # Errors
    ///
    /// No endpoints are named and the server does not start.
    pub async fn new() -> Result<Self, Error> {
        if let Ok(named) = std::env::var("TENURE_ENDPOINTS") {
            let endpoints = named.split(',').map(|endpoint| endpoint.trim().to_owned()).collect();
            return Ok(Self { endpoints, _started: None });
        }
        let server = TestServer::start().await?;
        let endpoints = server.endpoints();
        eprintln!(
            "(no TENURE_ENDPOINTS: an embedded server at {}: single process, no replication, data \
             in memory)",
            endpoints.join(",")
        );
        Ok(Self { endpoints, _started: Some(server) })
    }

    /// The endpoints, for a client to connect to.
    pub fn endpoints(&self) -> Vec<String> {
        self.endpoints.clone()
    }
}
