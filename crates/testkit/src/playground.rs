use crate::{Cluster, Error, find_servers};

/// A cluster to try something on: the one `TENURE_ENDPOINTS` names (endpoints, with commas
/// between), else a single etcd that is started for it.
///
/// Dropping it ends the etcd that was started, and removes its data.
#[derive(Debug)]
pub struct Playground {
    endpoints: Vec<String>,
    _started: Option<Cluster>,
}

impl Playground {
    /// Finds or starts the cluster.
    ///
    /// # Errors
    ///
    /// No endpoints are named and no etcd is on the machine, or it does not start.
    pub async fn new() -> Result<Self, Error> {
        if let Ok(named) = std::env::var("TENURE_ENDPOINTS") {
            let endpoints = named.split(',').map(|endpoint| endpoint.trim().to_owned()).collect();
            return Ok(Self { endpoints, _started: None });
        }
        let servers = find_servers()?;
        let Some(etcd) = servers.last() else {
            return Err(Error::new("no etcd was found: run tests/run once, or set TENURE_ETCD"));
        };
        let cluster = Cluster::builder(etcd).fast(true).start().await?;
        Ok(Self { endpoints: cluster.endpoints(), _started: Some(cluster) })
    }

    /// The endpoints, for a client to connect to.
    pub fn endpoints(&self) -> Vec<String> {
        self.endpoints.clone()
    }
}
