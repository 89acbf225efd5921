use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::accept::Door;
use super::links::Links;
use super::meter::Meter;
use super::rules::{Rules, Way};
use crate::port::Port;

/// Which clients may connect, by their address.
pub(crate) type Filter = Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>;

/// What a proxy and its tasks have in common.
pub(crate) struct Shared {
    pub(super) scheme: String,
    pub(super) port: Port,
    pub(super) runtime: Handle,
    pub(super) target: Mutex<String>,
    pub(super) door: Door,
    pub(super) filter: Mutex<Option<Filter>>,
    pub(super) rules: watch::Sender<Rules>,
    pub(super) links: Arc<Links>,
    pub(super) to_server: Meter,
    pub(super) to_client: Meter,
}

impl Shared {
    pub(crate) fn target(&self) -> String {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_target(&self, target: &str) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target.to_owned();
    }

    pub(crate) fn set_filter(&self, filter: Filter) {
        *self.filter.lock().unwrap_or_else(PoisonError::into_inner) = Some(filter);
    }

    pub(crate) fn admits(&self, client: SocketAddr) -> bool {
        let filter = self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone();
        filter.is_none_or(|admits| admits(client))
    }

    pub(crate) fn meter(&self, way: Way) -> &Meter {
        match way {
            Way::ToServer => &self.to_server,
            Way::ToClient => &self.to_client,
        }
    }
}
